"""Encode clips whole: for sources that cannot be copied, and where the settings ask for another rate or size."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

import av
import av.error

from pipeline.settings import ClipFileSettings
from pipeline.video.clipfile import ClipFile, ClipWriter, Job, Shape, failed
from pipeline.video.decode import TimedFrame, VideoReader, message
from pipeline.video.encode import BT709, Look, VideoEncoder, display_matrix, is_full_range
from pipeline.video.h264 import H264
from pipeline.video.hevc import Hevc
from pipeline.video.mp4 import Colour, Matrix
from pipeline.video.nal import Codec
from pipeline.video.sound import MAX_LAG_S, Sound

CODECS: dict[str, Codec] = {"h264": H264(), "hevc": Hevc()}


def reencode(
    source: str | BinaryIO, jobs: list[Job], settings: ClipFileSettings, *, max_megapixels: float, threads: int = 1
) -> Iterator[ClipFile]:
    """Write the clips (sorted by start) in one decode pass, each as soon as its pictures and its sound are there.

    Frames that cannot be decoded are missing; a clip without any is yielded with `error`.
    Raises BadVideo when the video cannot be opened or holds no frame, OSError when a file cannot be written.
    """
    sound: Sound | None = None
    with VideoReader(
        source, max_megapixels=max_megapixels, threads=threads, on_audio=lambda packet: sound and sound.push(packet)
    ) as reader:
        sound = Sound(reader.audio_stream, settings.audio_kbps)
        run = _Run(reader, sound, jobs, settings, threads)
        try:
            for frame in reader.frames():
                yield from run.push(frame)
            yield from run.finish(None, reader.ended_early)
        finally:
            run.close()


@dataclass
class _Clip:
    job: Job
    writer: ClipWriter
    encoder: VideoEncoder
    start: int  # ticks from the first frame of the video
    end: int
    rate: Fraction | None
    held: av.VideoFrame | None = None  # with a constant rate: the picture that is being shown
    count: int = 0
    error: str | None = None

    def push(self, frame: av.VideoFrame, tick: int, time_base: Fraction) -> None:
        """Take the picture shown from tick on."""
        try:
            if self.rate is None:
                self._encode(frame, tick - self.start)
            else:
                self._repeat((tick - self.start) * time_base)
                self.held = frame
        except av.error.FFmpegError as error:
            self.error = f"encoding failed: {message(error)}"

    def finish(self, time_base: Fraction) -> int:
        """Encode what is left; returns the end of the clip in ticks of its own file."""
        end = self.end - self.start
        try:
            if self.rate is not None:
                self._repeat(end * time_base)
                end = self.count
            self.writer.add(self.encoder.flush(), self.encoder.parameter_sets, copied=False)
        except av.error.FFmpegError as error:
            self.error = f"encoding failed: {message(error)}"
        return end

    def _repeat(self, until_s: Fraction) -> None:
        """Show the picture held at every tick of the constant rate before until_s."""
        while self.held is not None and self.rate is not None and self.count < until_s * self.rate:
            self._encode(self.held, self.count)
            self.count += 1

    def _encode(self, frame: av.VideoFrame, pts: int) -> None:
        self.writer.add(self.encoder.push(frame, pts), self.encoder.parameter_sets, copied=False)


class _Run:
    """The clips under way in one pass."""

    def __init__(self, reader: VideoReader, sound: Sound, jobs: list[Job], settings: ClipFileSettings, threads: int):
        self._reader, self._sound, self._settings, self._threads = reader, sound, settings, threads
        self._time_base = reader.stream.time_base or Fraction(1, av.time_base)
        self._waiting, self._clips = list(jobs), list[_Clip]()
        self._zero_s = Fraction(0)  # of the file's clock, which sound goes by
        self._codec = CODECS[settings.codec]
        self._shape: Shape | None = None

    def push(self, frame: TimedFrame) -> Iterator[ClipFile]:
        if self._shape is None:
            self._zero_s = (frame.image.pts or 0) * self._time_base
            self._shape = output_shape(frame.image, self._reader.stream, self._settings)
        tick = self._ticks(frame.time_s)
        yield from self.finish(tick)
        while self._waiting and self._ticks(self._waiting[0].span.start_s) <= tick:
            job = self._waiting.pop(0)
            if tick < self._ticks(job.span.end_s):
                yield from self._start(job, self._shape)
            else:
                yield failed(job, "no frame could be decoded")
        for clip in self._clips:
            if clip.start <= tick < clip.end and not clip.error:
                clip.push(frame.image, tick, self._time_base)

    def finish(self, position: int | None, ended_early: str | None = None) -> Iterator[ClipFile]:
        """Write the clips that are complete. position: the frame that comes next (ticks), None at the end."""
        still = []
        for clip in self._clips:
            end_s = self._zero_s + clip.end * self._time_base
            shown_s = end_s + MAX_LAG_S if position is None else self._zero_s + position * self._time_base
            if shown_s >= end_s and self._sound.has(end_s, shown_s):
                yield self._save(clip)
            else:
                still.append(clip)
        self._clips = still
        if position is None:
            yield from (failed(job, ended_early or "the video ends before") for job in self._waiting)
            self._waiting = []
        else:
            self._sound.forget(self._zero_s + min([clip.start for clip in still], default=position) * self._time_base)

    def close(self) -> None:
        for clip in self._clips:
            clip.writer.close()

    def _start(self, job: Job, shape: Shape) -> Iterator[ClipFile]:
        try:
            encoder = VideoEncoder(self._codec, shape.look, self._settings, threads=self._threads)
        except av.error.FFmpegError as error:
            yield failed(job, f"the encoder refuses the video: {message(error)}")
            return
        rate = shape.look.rate if self._settings.fps else None
        writer = ClipWriter(job, self._codec, shape)
        start, end = self._ticks(job.span.start_s), self._ticks(job.span.end_s)
        self._clips.append(_Clip(job, writer, encoder, start, end, rate))

    def _save(self, clip: _Clip) -> ClipFile:
        end = clip.finish(self._time_base)
        if clip.error or not clip.writer.num_frames:
            clip.writer.close()
            return failed(clip.job, clip.error or "no frame could be decoded")
        start_s, end_s = (self._zero_s + tick * self._time_base for tick in (clip.start, clip.end))
        return clip.writer.save(end, self._sound.track(start_s, end_s))

    def _ticks(self, time_s: float) -> int:
        return round(Fraction(time_s) / self._time_base)


def output_shape(frame: av.VideoFrame, stream: av.VideoStream, settings: ClipFileSettings) -> Shape:
    """How clips look that are encoded whole: 8-bit 4:2:0, even sides, colour description and rotation as the source."""
    look = Look.of(frame, stream)
    scale = min(1.0, (settings.max_side_px or 1 << 16) / max(frame.width, frame.height))
    full_range = is_full_range(frame) and not frame.format.is_rgb
    colour = look.colour._replace(full_range=full_range)
    if frame.format.is_rgb:
        colour = Colour(BT709, colour.transfer, BT709, full_range=False)
    rate = Fraction(settings.fps).limit_denominator(1001) if settings.fps else None
    look = replace(
        look,
        width=max(2, round(frame.width * scale / 2 - 0.25) * 2),
        height=max(2, round(frame.height * scale / 2 - 0.25) * 2),
        pixel_format="yuvj420p" if full_range else "yuv420p",
        time_base=1 / rate if rate else look.time_base,
        rate=rate or look.rate,
        colour=colour,
        profile=None,
    )
    aspect = stream.sample_aspect_ratio or look.pixel_aspect
    return Shape(look, aspect, _moved(display_matrix(frame), scale))


def _moved(matrix: Matrix, scale: float) -> Matrix:
    """The display matrix for a picture of another size: only its translation (16.16 px) depends on that."""
    return (*matrix[:6], round(matrix[6] * scale), round(matrix[7] * scale), matrix[8])
