"""Cut H.264 and HEVC without encoding what need not be: GOPs are copied, only pictures around a cut are encoded.

At a clip's start, a GOP that begins before it is decoded and the clip's share of it encoded. At a clip's end, a GOP
needs less than that: the pictures up to the end are copied as long as decode order and presentation order agree, so
that no copied picture needs one that is left out; only the few behind (B-frames and what they lean on) are encoded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.container
import av.error

from pipeline.settings import ClipFileSettings
from pipeline.video.clipfile import ClipFile, ClipWriter, Job, Shape
from pipeline.video.encode import Encoded, VideoEncoder
from pipeline.video.h264 import unused_id
from pipeline.video.nal import Bitstream, Codec, Splice
from pipeline.video.sound import MAX_LAG_S, Sound

MAX_GOP_FRAMES = 3000  # a longer GOP is not held (2 minutes at 25 fps)
MAX_GOP_BYTES = 128 << 20


@dataclass(frozen=True)
class Unfit:
    """A clip that cannot be cut smartly, and why."""

    job: Job
    reason: str


@dataclass(frozen=True)
class _Picture:
    pts: int
    packet: av.Packet
    units: list[bytes]
    starts_gop: bool
    fault: str | None  # why it cannot be copied

    @property
    def is_shown(self) -> bool:
        return not self.packet.is_discard  # an edit list of the source hides the others


@dataclass
class _Gop:
    """Pictures in decode order, from a key picture to the next. fault: why they cannot be cut.

    An open GOP has leading pictures: they follow the key picture, are shown before it and lean on the GOP before.
    """

    pictures: list[_Picture] = field(default_factory=list)
    next_key: list[_Picture] = field(default_factory=list)  # that of the next GOP and its leading pictures
    num_bytes: int = 0
    fault: str | None = None
    start: int | None = None  # when the key picture is shown (ticks)

    @property
    def end(self) -> int | None:
        """When the next GOP's key picture is shown; None at the end of the file."""
        return self.next_key[0].pts if self.next_key else None

    def add(self, picture: _Picture) -> None:
        self.start = picture.pts if self.start is None else self.start
        self.num_bytes += picture.packet.size
        self.fault = self.fault or picture.fault
        if len(self.pictures) >= MAX_GOP_FRAMES or self.num_bytes > MAX_GOP_BYTES:
            self.fault = f"a GOP of more than {MAX_GOP_FRAMES} frames or {MAX_GOP_BYTES >> 20} MiB"
        if self.fault:
            self.pictures.clear()
        else:
            self.pictures.append(picture)

    @property
    def own(self) -> list[_Picture]:
        """Without the leading pictures: those that are shown from `start` on."""
        return [picture for picture in self.pictures if self.start is not None and picture.pts >= self.start]

    def close(self, next_key: list[_Picture]) -> None:
        self.next_key = next_key
        if self.fault is None and not self.pictures[0].starts_gop:
            self.fault = "no key frame in front"
        if self.end is not None and any(picture.pts >= self.end for picture in self.pictures):
            self.fault = "GOPs overlap in time"


def _copyable(pictures: list[_Picture], end: int) -> int:
    """How many of these pictures can be copied into a clip that ends at `end`: the longest run from the first one on
    that is also a run in presentation order, so that none of them leans on a picture that is left out."""
    count, latest = 0, pictures[0].pts
    order = sorted(picture.pts for picture in pictures)
    for number, (picture, shown) in enumerate(zip(pictures, order, strict=True), 1):
        latest = max(latest, picture.pts)
        if not picture.is_shown or latest >= end:
            break
        if latest == shown:  # the latest of n pictures is the n-th to be shown: they are the first n
            count = number
    return count


@dataclass
class _Clip:
    job: Job
    start: int
    end: int
    writer: ClipWriter
    splice: Splice
    is_running: bool = False  # the GOP before was copied to its end
    fault: str | None = None

    def copy(self, gop: _Gop, parameter_sets: list[bytes]) -> int | None:
        """Copy what can be copied of a GOP; returns from when on (ticks) its pictures are still to be encoded."""
        pictures = gop.pictures if self.is_running else gop.own
        count = _copyable(pictures, self.end) if gop.start is not None and gop.start >= self.start else 0
        copies = []
        for number, picture in enumerate(pictures[:count]):
            if number == 0 and not self.is_running:
                units = self.splice.first(picture.units, at_start=not self.writer.num_frames)
            else:
                units = self.splice.next(picture.units)
            copies.append(Encoded(picture.pts - self.start, units))
        self.writer.add(copies, parameter_sets, copied=True)
        goes_on = gop.end is not None and self.end > gop.end
        self.is_running = count == len(pictures) and goes_on
        if self.is_running:
            return None  # leading pictures of the next GOP come along with it
        return max(self.start, 1 + max((picture.pts for picture in pictures[:count]), default=self.start - 1))


class SmartCutter:
    """One pass over the packets of a source that is fit for it. Memory: the longest GOP, and the encoder's."""

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        codec: Codec,
        shape: Shape,
        settings: ClipFileSettings,
        threads: int = 1,
    ):
        """Raises ValueError when the stream has no parameter sets."""
        self._container, self._stream, self._codec, self._shape = container, stream, codec, shape
        self._settings, self._threads = settings, threads
        self._bitstream = Bitstream(codec, stream.codec_context.extradata)
        self._known = set(self._bitstream.parameter_sets)
        self._parameter_id = 0
        if codec.name == "h264":
            free = unused_id(self._known)
            if free is None:
                raise ValueError("all parameter set numbers are in use")
            self._parameter_id = free
        self._sound = Sound(next(iter(container.streams.audio), None), settings.audio_kbps)
        stream.codec_context.thread_count = threads
        self._tick = shape.look.time_base
        self._clips: list[_Clip] = []

    def run(self, jobs: list[Job], first_pts: int) -> Iterator[ClipFile | Unfit]:
        """One answer for each job (sorted by start), as soon as it is complete.

        first_pts: time of the video's first picture, from which spans count (ticks). Raises OSError on writing.
        """
        self._clips = [self._open(job, first_pts) for job in jobs]
        try:
            for gop in self._gops():
                self._take(gop)
                yield from self._finish(gop.end)
                if not self._clips:
                    return
            yield from self._finish(None)
        finally:
            for clip in self._clips:
                clip.writer.close()

    def _open(self, job: Job, first_pts: int) -> _Clip:
        start, end = (first_pts + round(Fraction(time_s) / self._tick) for time_s in job.span[:2])
        splice = self._codec.splice(self._bitstream.parameter_sets)
        return _Clip(job, start, end, ClipWriter(job, self._codec, self._shape), splice)

    def _gops(self) -> Iterator[_Gop]:
        """The GOPs, each with the key picture behind it."""
        gop, key = _Gop(), list[_Picture]()
        for picture in self._pictures():
            if key and not picture.starts_gop and picture.pts < key[0].pts:
                key.append(picture)
                continue
            if key:
                gop, closed = self._next(gop, key)
                yield from closed
                key = []
            if picture.starts_gop:
                key = [picture]
            else:
                gop.add(picture)
        if key:
            gop, closed = self._next(gop, key)
            yield from closed
        if gop.start is not None:
            gop.close([])
            yield gop

    def _next(self, gop: _Gop, key: list[_Picture]) -> tuple[_Gop, list[_Gop]]:
        """The GOP that begins with this key picture, and the one that it ends; or the same, where it ends none."""
        closed = []
        if gop.start is not None and self._codec.can_drop([picture.units for picture in key[1:]]):
            gop.close(key)
            closed, gop = [gop], _Gop()
        for picture in key:
            gop.add(picture)
        return gop, closed

    def _pictures(self) -> Iterator[_Picture]:
        """The video packets; sound is put aside. A file that breaks off ends here, and its last clips fall short."""
        audio = self._sound.stream
        packets = self._container.demux(self._stream, *([audio] if audio else []))
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError, OSError):
                return
            if packet.stream is not self._stream:
                self._sound.push(packet)
            elif packet.size:
                yield self._picture(packet)

    def _picture(self, packet: av.Packet) -> _Picture:
        """A packet without what an MP4 file keeps elsewhere: access unit delimiters, and the known parameter sets."""
        fault = None if packet.pts is not None else "a frame without a time stamp"
        kept, starts_gop = [], False
        try:
            for unit in self._bitstream.units(bytes(packet)):
                kind = self._codec.kind(unit)
                if kind in self._codec.parameter_types:
                    fault = fault if unit in self._known else "the parameter sets change"
                elif kind != self._codec.delimiter_type:
                    kept.append(unit)
            starts_gop = self._codec.starts_gop(kept)
        except ValueError as error:
            fault = f"a damaged frame: {error}"
        if packet.has_sidedata("new_extradata"):
            fault = "the parameter sets change"
        return _Picture(packet.pts or 0, packet, kept, starts_gop, fault)

    def _take(self, gop: _Gop) -> None:
        """Copy and encode what the clips need of one GOP."""
        wanted: list[tuple[_Clip, set[int]]] = []
        for clip in self._clips:
            if clip.fault or (gop.end is not None and gop.end <= clip.start):
                continue
            if gop.start is None or gop.start >= clip.end:
                continue
            if gop.fault:
                clip.fault = gop.fault
                continue
            try:
                from_pts = clip.copy(gop, self._bitstream.parameter_sets)
            except ValueError as error:
                clip.fault = f"a key frame cannot begin a clip: {error}"
                continue
            if from_pts is not None:
                shown = {p.pts for p in (*gop.own, *gop.next_key[1:]) if p.is_shown}
                rest = {pts for pts in shown if from_pts <= pts < clip.end}
                wanted += [(clip, rest)] if rest else []
        if wanted:
            self._encode(gop, wanted)

    def _encode(self, gop: _Gop, wanted: list[tuple[_Clip, set[int]]]) -> None:
        try:
            encoders: list[VideoEncoder | None] = [None] * len(wanted)
            for frame in self._decoded(gop, set().union(*(times for _, times in wanted))):
                for number, (clip, times) in enumerate(wanted):
                    pts = frame.pts
                    if pts not in times or clip.fault:
                        continue
                    if frame.interlaced_frame:
                        clip.fault = "interlaced"
                        continue
                    encoder = encoders[number] = encoders[number] or self._encoder()
                    clip.writer.add(encoder.push(frame, pts - clip.start), encoder.parameter_sets, copied=False)
                    if pts == max(times):
                        clip.writer.add(encoder.flush(), encoder.parameter_sets, copied=False)
        except av.error.FFmpegError as error:
            for clip, _ in wanted:
                clip.fault = f"a frame at a cut could not be encoded: {error.strerror}"

    def _encoder(self) -> VideoEncoder:
        return VideoEncoder(
            self._codec, self._shape.look, self._settings, parameter_id=self._parameter_id, threads=self._threads
        )

    def _decoded(self, gop: _Gop, wanted: set[int]) -> Iterator[av.VideoFrame]:
        """The frames of a GOP in presentation order, up to the last wanted one; what nobody needs is left out."""
        context = self._stream.codec_context
        context.flush_buffers()
        pictures = [*gop.own, *gop.next_key]
        last = max(number for number, picture in enumerate(pictures) if picture.pts in wanted)
        for picture in pictures[: last + 1]:
            if picture.pts in wanted or self._codec.is_reference(picture.units):
                yield from context.decode(picture.packet)
        yield from context.decode(None)
        context.flush_buffers()

    def _finish(self, position: int | None) -> Iterator[ClipFile | Unfit]:
        """The clips whose pictures and sound are complete. position: how far the pictures have come (ticks)."""
        still = []
        for clip in self._clips:
            end_s = clip.end * self._tick
            shown_s = end_s + MAX_LAG_S if position is None else position * self._tick
            if clip.fault or (shown_s >= end_s and self._sound.has(end_s, shown_s)):
                yield self._result(clip)
            else:
                still.append(clip)
        self._clips = still
        if still:
            self._sound.forget(min(clip.start for clip in still) * self._tick)

    def _result(self, clip: _Clip) -> ClipFile | Unfit:
        writer, span = clip.writer, clip.job.span
        fault = clip.fault
        if not fault and (writer.num_frames != span.num_frames or writer.first_pts != 0):
            fault = f"the packets hold {writer.num_frames} of the span's {span.num_frames} frames"
        if fault:
            writer.close()
            return Unfit(clip.job, fault)
        sound = self._sound.track(clip.start * self._tick, clip.end * self._tick)
        return writer.save(clip.end - clip.start, sound)
