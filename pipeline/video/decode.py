"""Open a video and read its frames in presentation order, each with its exact time."""

import math
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

import av
import av.container
import av.error
import av.logging
import av.stream

from pipeline.errors import BadVideo

# A broken file is reported as a row, not as decoder chatter on stderr. None rather than a level: with any level PyAV
# takes the interpreter's lock for each error, and closing a codec that has threads of its own then waits for ever.
av.logging.set_level(None)

MAX_DAMAGED_PACKETS = 200  # after so many undecodable packets in a row the rest is not worth waiting for
PLAYLISTS = {"concat", "hls", "dash"}  # formats that open other files, which a forged video must not
EARLY_END_S = 1.0  # a video that ends this much, and 1 %, before its declared duration is truncated


@dataclass(frozen=True)
class VideoInfo:
    """What the container declares. width and height (px) are as displayed: after rotation and pixel aspect ratio.

    A display matrix is known with the first frame only, so a rotated video's sides are swapped from then on.
    """

    duration_s: float | None
    fps: float
    width: int
    height: int
    video_codec: str
    pixel_format: str
    audio_codec: str | None
    num_bytes: int | None


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame and when it is shown: time_s counts from the first frame of the video, so clip 0 starts at 0."""

    time_s: float
    damaged: bool
    image: av.VideoFrame

    @property
    def quarter_turns(self) -> int:
        """Counter-clockwise quarter turns (0-3) that a player applies to show this frame upright."""
        return quarter_turns(self.image)


def quarter_turns(image: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns (0-3) that a player applies to show this image upright."""
    return round(image.rotation / 90) % 4


class VideoReader:
    """One sequential pass over a video, in bounded memory. Use as a context manager.

    source: a local path or a seekable binary file object.
    max_megapixels: larger frames are refused before any is decoded (a forged header must not cost memory).
    threads: decoder threads; 1 is best where many videos are decoded at once.
    on_audio: is handed the packets of the first audio stream as they come by, so that one pass serves both.
    Raises BadVideo on opening: missing, not a regular file, empty, no video, no video stream, absurd size, truncated.
    """

    def __init__(
        self,
        source: str | BinaryIO,
        *,
        max_megapixels: float,
        threads: int = 1,
        on_audio: Callable[[av.Packet], None] | None = None,
    ):
        self._max_pixels = int(max_megapixels * 1e6)
        num_bytes = _num_bytes(source)
        self._container = open_container(source)
        try:
            self.stream = video_stream(self._container)
            self.audio_stream = next(iter(self._container.streams.audio), None)
            self._on_audio = on_audio
            self._tick_s = float(self.stream.time_base or 1 / av.time_base)
            self.info = self._describe(num_bytes)
            self._refuse_truncated(num_bytes)
        except BaseException:
            self._container.close()
            raise
        self._demuxer = self._demux()
        self._peeked: list[av.Packet] = []
        self._threads = threads
        self._set_up(self.stream.codec_context)
        self.end_s = 0.0  # end of the last frame read so far
        self.ended_early: str | None = None  # why the frames stopped before the declared end, once they have
        self._allowed_s, self._stop_at_s = math.inf, math.inf

    def allow(self, seconds: float) -> None:
        """Stop reading, as at an early end, when this much time (wall seconds) has gone by from now on."""
        self._allowed_s, self._stop_at_s = seconds, time.monotonic() + seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here does not count for `allow`."""
        before = time.monotonic()
        yield
        self._stop_at_s += time.monotonic() - before

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self._container.close()

    def frames(self, handful: Callable[[av.VideoFrame], int] | None = None) -> Iterator[TimedFrame]:
        """Every frame in presentation order. Damaged packets are passed over; the next frame is marked `damaged`.

        handful: how many frames like this one may be decoded before the first of them is handed out; by default, one.
        Raises BadVideo when not one frame can be decoded. Afterwards `ended_early` says why the end was not reached.
        """
        nominal_s = 1.0 / self.info.fps
        first_s, last_s = 0.0, None
        for frame, damaged in self._decode(handful):
            self.refuse_oversized(frame)
            shown_s = None if frame.pts is None else frame.pts * self._tick_s
            if last_s is None:
                first_s = last_s = shown_s or 0.0
            else:
                last_s = shown_s if shown_s is not None and shown_s > last_s else last_s + nominal_s
            duration_s = frame.duration * self._tick_s if frame.duration else nominal_s
            self.end_s = last_s - first_s + duration_s
            timed = TimedFrame(last_s - first_s, damaged or frame.is_corrupt, frame)
            if last_s == first_s:
                self.turned(frame)
            yield timed
        self.end(None if last_s is None else self.end_s)

    def packets(self) -> Iterator[av.Packet]:
        """Every packet of the video stream in decode order, then an empty one; `ended_early` says if reading failed."""
        yield from self._peeked
        self._peeked = []
        while True:
            if time.monotonic() > self._stop_at_s:
                self.ended_early = f"not done after {self._allowed_s:g} s (split.max_seconds_per_video)"
                return
            try:
                packet = next(self._demuxer)
            except StopIteration:
                return
            except IndexError:  # PyAV stumbles over a stream that appears later on; its packet is none of ours
                self._demuxer = self._demux()
                continue
            except (av.error.FFmpegError, OSError) as error:
                self.ended_early = f"reading stopped: {message(error)}"
                return
            if self._on_audio and packet.stream is not self.stream:
                self._on_audio(packet)
                continue
            yield packet

    def _demux(self) -> Iterator[av.Packet]:
        heard = [self.audio_stream] if self._on_audio and self.audio_stream is not None else []
        return self._container.demux(self.stream, *heard)

    def peek(self, count: int) -> list[av.Packet]:
        """The first `count` packets with data (fewer in a short video), without taking them from `packets`."""
        self._peeked = list(islice(self.packets(), count))
        return [packet for packet in self._peeked if packet.size]

    def end(self, end_s: float | None) -> None:
        """All was read; the last frame ends at end_s. Raises BadVideo if there was no frame (None)."""
        if end_s is None:
            raise BadVideo(f"no frame could be decoded{f': {self.ended_early}' if self.ended_early else ''}")
        self.end_s = end_s
        self._check_end()

    def undecodable_end(self, num_packets: int) -> None:
        """No frame came from the last num_packets, so they are missing at the end, unless something else ended it."""
        if num_packets and self.ended_early is None:
            self.ended_early = f"the last {num_packets} packets cannot be decoded"

    def turned(self, frame: av.VideoFrame) -> int:
        """Quarter turns of the first frame; a video that they lay on its side has its width and height swapped."""
        turns = quarter_turns(frame)
        if turns % 2:
            self.info = replace(self.info, width=self.info.height, height=self.info.width)
        return turns

    def refuse_oversized(self, frame: av.VideoFrame) -> None:
        """A frame may be larger than the container declares."""
        self._refuse_oversized(frame.width, frame.height)

    @property
    def decoder(self) -> av.VideoCodecContext:
        """The decoder that `frames` uses, for a caller that feeds it `packets` itself."""
        return self.stream.codec_context

    @property
    def tick_s(self) -> float:
        """Seconds in one unit of a packet's or frame's pts."""
        return self._tick_s

    def _decode(self, handful: Callable[[av.VideoFrame], int] | None) -> Iterator[tuple[av.VideoFrame, bool]]:
        packets, count = self.packets(), 1
        damaged_in_a_row, damaged = 0, False
        while decoded := deque(self._decode_packet(packet) for packet in islice(packets, count)):
            while decoded:
                frames = decoded.popleft()
                if isinstance(frames, av.error.FFmpegError):
                    damaged_in_a_row, damaged = damaged_in_a_row + 1, True
                    if damaged_in_a_row > MAX_DAMAGED_PACKETS:
                        self.ended_early = f"decoding stopped: {message(frames)}"
                        return
                    continue
                for frame in frames:
                    yield frame, damaged
                    damaged_in_a_row, damaged = 0, False
                    count = handful(frame) if handful and not decoded else count
        self.undecodable_end(damaged_in_a_row)

    def _decode_packet(self, packet: av.Packet) -> list[av.VideoFrame] | av.error.FFmpegError:
        try:
            return self.stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            return error

    def second_decoder(self, source: str | BinaryIO) -> av.VideoCodecContext:
        """Another decoder for the same stream, with all that the container tells a decoder (rotation, frame delay).

        source: what this reader was opened with; a file object is left at the position where it was.
        """
        position = None if isinstance(source, str) else source.tell()
        with open_container(source) as container:
            stream = container.streams[self.stream.index]
            assert isinstance(stream, av.VideoStream)
            context = stream.codec_context
        if position is not None and not isinstance(source, str):
            source.seek(position)
        self._set_up(context)
        return context

    def _set_up(self, context: av.VideoCodecContext) -> None:
        context.thread_count = self._threads
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(self._max_pixels)}

    def _check_end(self) -> None:
        declared_s = self.info.duration_s
        if self.ended_early:
            self.ended_early += _decoded(self.end_s, declared_s)
        else:
            self.ended_early = early_end(self.end_s, declared_s)

    def _describe(self, num_bytes: int | None) -> VideoInfo:
        stream, context = self.stream, self.stream.codec_context
        width, height = context.width, context.height
        if width <= 0 or height <= 0:
            raise BadVideo("the video stream has no frame size")
        self._refuse_oversized(width, height)
        if stream.sample_aspect_ratio:
            width = max(1, round(width * float(stream.sample_aspect_ratio)))
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else 25.0
        audio = next(iter(self._container.streams.audio), None)
        return VideoInfo(
            duration_s=self._declared_duration_s(),
            fps=fps if 0.01 < fps < 10_000 else 25.0,
            width=width,
            height=height,
            video_codec=context.name,
            pixel_format=context.pix_fmt or "",
            audio_codec=audio.codec_context.name if audio is not None and audio.codec_context else None,
            num_bytes=num_bytes,
        )

    def _declared_duration_s(self) -> float | None:
        if self.stream.duration:
            return self.stream.duration * self._tick_s
        ends_s = seconds_of(self.stream.metadata.get("DURATION", ""))  # in Matroska and WebM each stream has its own
        if ends_s is None and self._container.duration and not self._container.streams.audio:
            ends_s = self._container.duration / av.time_base
        return None if ends_s is None else max(0.0, ends_s - (self.stream.start_time or 0) * self._tick_s)

    def _refuse_oversized(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise BadVideo(
                f"frames of {width}x{height} px ({width * height / 1e6:.0f} megapixels) are over the limit of "
                f"{self._max_pixels / 1e6:g} (split.max_megapixels)"
            )

    def _refuse_truncated(self, num_bytes: int | None) -> None:
        """MP4 keeps an index of every packet: when it points past the end of the file, the file was cut off."""
        index = self.stream.index_entries
        if not num_bytes or not len(index):
            return
        needed = max(index[i].pos + index[i].size for i in range(max(0, len(index) - 32), len(index)))
        if needed > num_bytes:
            raise BadVideo(f"truncated: the file has {num_bytes} bytes, its index needs at least {needed}")


def early_end(end_s: float, declared_s: float | None) -> str | None:
    """Why a video whose last frame ends at end_s does not reach its declared duration, if so."""
    if declared_s is None or declared_s - end_s <= max(EARLY_END_S, 0.01 * declared_s):
        return None
    return f"the file ends early{_decoded(end_s, declared_s)}"


def _decoded(end_s: float, declared_s: float | None) -> str:
    of_s = f" of {declared_s:.1f} s" if declared_s else ""
    return f" (decoded {end_s:.1f} s{of_s})"


def seconds_of(clock: str) -> float | None:
    """`01:02:03.5` in seconds; None for what is no such time."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", clock)
    return 3600.0 * int(found[1]) + 60.0 * int(found[2]) + float(found[3]) if found else None


def _num_bytes(source: str | BinaryIO) -> int | None:
    if isinstance(source, str):
        try:
            status = os.stat(source)
        except FileNotFoundError as error:
            raise BadVideo("no such file") from error
        except OSError as error:
            raise BadVideo(message(error)) from error
        if not stat.S_ISREG(status.st_mode):
            raise BadVideo("not a regular file")
        size = status.st_size
    else:
        source.seek(0, os.SEEK_END)
        size = source.tell()
        source.seek(0)
    if size == 0:
        raise BadVideo("the file is empty")
    return size


def open_container(source: str | BinaryIO) -> av.container.InputContainer:
    """The container of a path, or of a file object from its beginning. Raises BadVideo when it is none."""
    if not isinstance(source, str):
        source.seek(0)  # it may have been read before
    try:
        # "file:" keeps ffmpeg from reading a name such as "a:b.mp4" as a protocol
        container = av.open(f"file:{source}" if isinstance(source, str) else source, "r", metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadVideo(f"not a readable video: {message(error)}") from error
    if not PLAYLISTS.isdisjoint(container.format.name.split(",")):
        container.close()
        raise BadVideo(f"not a readable video: a playlist ({container.format.name}) of other files")
    return container


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:  # cover art is no video
            if stream.codec_context is None:
                raise BadVideo("the video codec is not supported")
            return stream
    raise BadVideo("no video stream")


def message(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
