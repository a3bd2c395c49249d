"""Small videos whose frames carry their number as a row of black and white blocks, and the readers of it."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import av.container
import numpy as np

from pipeline.video.clips import Span
from pipeline.video.decode import VideoReader
from pipeline.video.decord_module import load_decord

WIDTH, HEIGHT, BLOCK = 192, 128, 16
RATE = 48000
CLICK_EVERY_S = 0.5
Frame = tuple[float, np.ndarray]


@cache
def picture(number: int) -> np.ndarray:
    """Luma of frame `number`: its bits in the first 32 lines, moving waves below."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    luma = 120 + 60 * np.sin((x + 3 * number) / 17.0) + 40 * np.cos((y - 2 * number) / 11.0)
    for bit in range(WIDTH // BLOCK):
        luma[:32, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    return luma.astype(np.uint8)


def number_of(luma: np.ndarray) -> int:
    """The number that a decoded frame carries."""
    height, width = luma.shape
    middles = [int((bit + 0.5) * width * BLOCK / WIDTH) for bit in range(WIDTH // BLOCK)]
    row = luma[height // 8, middles]
    return sum(1 << bit for bit, value in enumerate(row.tolist()) if value > 125)


def make(
    path: Path,
    codec: str = "libx264",
    *,
    count: int = 120,
    fps: int = 25,
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    audio: str | None = None,
    colour: tuple[int, int, int, int] | None = None,
    pixel_aspect: Fraction | None = None,
) -> str:
    """Write `count` numbered frames; times_ms: when each is shown (variable frame rate); audio: an encoder's name."""
    time_base = Fraction(1, 1000) if times_ms else Fraction(1, fps)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        context = stream.codec_context
        context.time_base = time_base
        if pixel_aspect:
            context.sample_aspect_ratio = pixel_aspect
        if colour:
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = colour
        sound = out.add_stream(audio, rate=RATE, layout="stereo") if audio else None
        for number in range(count):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, value in zip(frame.planes, (picture(number), 128, 128), strict=True):
                np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] = (
                    value
                )
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = times_ms[number] if times_ms else number, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if isinstance(sound, av.AudioStream):
            _write_clicks(out, sound, count / fps)
    return str(path)


def _write_clicks(out: av.container.OutputContainer, stream: av.AudioStream, duration_s: float) -> None:
    wave = np.zeros((2, int(duration_s * RATE)), np.float32)
    for start in range(0, wave.shape[1], int(CLICK_EVERY_S * RATE)):
        wave[:, start : start + 240] = np.sin(np.arange(240) * 0.6) * 0.9
    for at in range(0, wave.shape[1], 960):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, at : at + 960]), "fltp", "stereo")
        frame.rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def patch_box(path: str, kind: bytes, offset: int, data: bytes) -> None:
    """Overwrite part of the first box of a kind; offset counts from behind the box's name."""
    content = bytearray(Path(path).read_bytes())
    at = content.index(kind) + 4 + offset
    content[at : at + len(data)] = data
    Path(path).write_bytes(bytes(content))


def rotate(path: str, matrix: tuple[int, ...]) -> None:
    """Give the (first) track of an MP4 file this display matrix."""
    patch_box(path, b"tkhd", 40, struct.pack(">9i", *matrix))


def spans_at(path: str, cuts: Sequence[int]) -> list[Span]:
    """Spans that tile a video, cut at these frame numbers; times as the splitter gives them."""
    with VideoReader(path, max_megapixels=36) as reader:
        times = [frame.time_s for frame in reader.frames()]
        edges = [*times, reader.end_s]
    marks = [0, *cuts, len(times)]
    return [Span(edges[a], edges[b], b - a) for a, b in pairwise(marks)]


def frames(path: str) -> list[Frame]:
    """Time (s; by their number where the container has none) and pixels (all planes) of every frame, by PyAV."""
    with av.open(path) as container:
        rate = float(container.streams.video[0].average_rate or 25)
        shown = enumerate(container.decode(video=0))
        return [(number / rate if f.time is None else f.time, f.to_ndarray()) for number, f in shown]


def numbers(path: str) -> list[int]:
    """The numbers of all frames, by PyAV."""
    with av.open(path) as container:
        return [number_of(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def numbers_by_decord(path: str) -> list[int]:
    """The numbers of all frames, by decord."""
    reader = load_decord().VideoReader(path)
    return [number_of(reader[index].asnumpy()[:, :, 1]) for index in range(len(reader))]


def clicks(path: str) -> tuple[list[float], float]:
    """When clicks begin (s), and how long the sound is (s), by PyAV."""
    parts, end_s = [], 0.0
    with av.open(path) as container:
        rate = container.streams.audio[0].rate
        for frame in container.decode(audio=0):
            start = round(float(frame.time or 0) * rate)
            values = np.abs(frame.to_ndarray().astype(np.float64)).reshape(len(frame.layout.channels), -1).max(axis=0)
            parts.append((start, values))
            end_s = (start + values.size) / rate
    wave = np.zeros(max(start + values.size for start, values in parts))
    for start, values in parts:
        wave[max(0, start) : start + values.size] = values[max(0, -start) :]
    loud = np.flatnonzero(wave > 0.3 * wave.max())
    starts = loud[np.insert(np.diff(loud) > rate * 0.1, 0, True)]
    return [float(start) / rate for start in starts], end_s
