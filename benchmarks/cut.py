"""Cutting clips: smart cut against encoding all of them, in CPU time, memory and exactness.

The spans are all those of `pipeline.video.split` at default settings. Each way of cutting runs in a process of its own
with one thread; its CPU time (getrusage) and peak resident memory are what the kernel says of it, start included. A
clip's first and last frame count as exact when PyAV and decord decode the span's number of frames and both of these
look more like the right frame of the source than like its neighbours.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np

from benchmarks import footage
from benchmarks.machine import cpu_s, peak_mb
from pipeline.settings import ClipFileSettings, FrameSettings, QualitySettings, SplitSettings
from pipeline.video.clips import Span
from pipeline.video.cut import Job, write_clips
from pipeline.video.decode import VideoReader
from pipeline.video.decord_module import load_decord
from pipeline.video.split import Clip, split

WAYS = {
    "smart cut": ClipFileSettings(),
    "all encoded, x264 veryfast": ClipFileSettings(mode="reencode", preset="veryfast"),
    "all encoded, x264 medium": ClipFileSettings(mode="reencode", preset="medium"),
}
NEIGHBOURS = 2  # frames on each side that a frame is compared with
STEP = 4  # every so many pixels are compared


@dataclass
class Result:
    """What one way of cutting cost, and how right it was."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    num_bytes: int
    num_copied: int
    num_exact: int


def tables() -> dict[str, Callable[[], Iterator[str]]]:
    """Name -> what measures it, line by line."""
    return {"Cutting Big Buck Bunny": _table}


def _table() -> Iterator[str]:
    video = str(footage.big_buck_bunny())
    parts = split(video, shots=SplitSettings(), frames=FrameSettings(), quality=QualitySettings())
    spans = [part.span for part in parts if isinstance(part, Clip)]
    frames, looks = sum(span.num_frames for span in spans), _looks(video, spans)
    results = {name: _measure(name, video, spans, looks) for name in WAYS}
    base = results["all encoded, x264 medium"].cpu_s
    length = f"{len(spans)} clips, {frames} frames, {spans[-1].end_s:.0f} s"
    yield f"### Cutting Big Buck Bunny: {length}; one thread, CRF {ClipFileSettings().crf:g}\n"
    yield "| | CPU s | of medium | wall s | peak RSS MB | MB written | frames copied | first and last frame exact |"
    yield "| --- " * 8 + "|"
    for name, result in results.items():
        yield (
            f"| {name} | {result.cpu_s:.1f} | {result.cpu_s / base:.3f} | {result.wall_s:.0f} | {result.peak_mb:.0f} | "
            f"{result.num_bytes / 1e6:.1f} | {result.num_copied / frames:.0%} | {result.num_exact}/{len(spans)} |"
        )


def _looks(video: str, spans: list[Span]) -> dict[int, np.ndarray]:
    """Small pictures of the source's frames around every first and last frame, by frame number."""
    firsts = np.cumsum([0, *(span.num_frames for span in spans)])
    edges = {int(first) for first in firsts[:-1]} | {int(first) - 1 for first in firsts[1:]}
    wanted = {edge + step for edge in edges for step in range(-NEIGHBOURS, NEIGHBOURS + 1)}
    with VideoReader(video, max_megapixels=36) as reader:
        frames = islice(enumerate(reader.frames()), max(wanted) + 1)
        return {number: _look(frame.image) for number, frame in frames if number in wanted}


def _look(image: av.VideoFrame) -> np.ndarray:
    plane = image.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    return luma[::STEP, ::STEP].astype(np.int16)


def _measure(name: str, video: str, spans: list[Span], looks: dict[int, np.ndarray]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.cut", name, video, json.dumps(spans), folder]
        subprocess.run(command, check=True)
        wall_s = time.monotonic() - start_s
        used_s, most_mb, clips = json.loads(Path(folder, "done.json").read_text())
        first, num_exact = 0, 0
        for number, span in enumerate(spans):
            num_exact += _is_exact(os.path.join(folder, f"{number}.mp4"), first, span.num_frames, looks)
            first += span.num_frames
    num_bytes, num_copied = (sum(clip[i] for clip in clips) for i in range(2))
    return Result(used_s, wall_s, most_mb, num_bytes, num_copied, num_exact)


def _work(name: str, video: str, spans: str, folder: str) -> None:
    jobs = [Job(Span(*span), os.path.join(folder, f"{number}.mp4")) for number, span in enumerate(json.loads(spans))]
    clips = [(clip.num_bytes, clip.num_copied) for clip in write_clips(video, jobs, WAYS[name])]
    Path(folder, "done.json").write_text(json.dumps([cpu_s(), peak_mb(), clips]))


def _is_exact(path: str, first: int, count: int, looks: dict[int, np.ndarray]) -> bool:
    reader = load_decord().VideoReader(path)
    by_decord = [reader[0].asnumpy(), reader[len(reader) - 1].asnumpy()]
    with av.open(path) as container:
        frames = [frame for number, frame in enumerate(container.decode(video=0)) if number in (0, count - 1, count)]
    if len(reader) != count or len(frames) != len({0, count - 1}):
        return False
    for frame, pixels, number in zip((frames[0], frames[-1]), by_decord, (first, first + count - 1), strict=True):
        green = pixels[::STEP, ::STEP, 1].astype(np.int16)
        ours = frame.to_ndarray(format="rgb24")[::STEP, ::STEP, 1].astype(np.int16)
        if np.abs(green - ours).mean() > 2 or not _is_nearest(_look(frame), number, looks):
            return False
    return True


def _is_nearest(look: np.ndarray, number: int, looks: dict[int, np.ndarray]) -> bool:
    around = [number + step for step in range(-NEIGHBOURS, NEIGHBOURS + 1) if number + step in looks]
    distance = {near: float(np.abs(look - looks[near]).mean()) for near in around}
    return distance[number] <= min(distance.values()) + 0.01  # still pictures are equal to their neighbours


if __name__ == "__main__":
    _work(*sys.argv[1:])
