"""What splitting costs and how well it finds cuts, next to one plain decode of every frame.

Each figure comes from a process of its own: CPU seconds of the work (imports and loading a network excluded), wall
time, peak memory of the whole process. On a machine that others share, one second of work may take two a minute later,
so what is compared with the plain decode runs in slices that alternate with those of a decode, and of several such
rounds the one with the median ratio counts; wall time and memory are of a run before that, undisturbed. Shots are
scored at 2 frames: on Big Buck Bunny and its re-encoded excerpts against the cuts that PySceneDetect's two detectors
agree on, on the montage against the exact truth. What a detector finds inside a known dissolve or fade counts neither
way; `gradual` says how many of those it told as such. PySceneDetect knows only cuts: where both of its detectors see
one and the other tells a transition, it counts as found.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import footage
from benchmarks.footage import Truth
from benchmarks.machine import cpu_s, peak_mb

TOLERANCE_FRAMES = 2
LABELS = {
    "decode": "every frame decoded, nothing else",
    "sparse": "sparse: cuts, quality, frames",
    "dense": "dense: cuts, quality, frames",
    "transnetv2": "TransNetV2: cuts, quality, frames",
    "ContentDetector": "PySceneDetect Content: cuts only",
    "AdaptiveDetector": "PySceneDetect Adaptive: cuts only",
}
IN_SLICES = ("decode", "sparse")  # the others are no goal, and take long: once each
SLICES = 20  # into so many is each of them cut (count)
ROUNDS, ROUNDS_LONG = 5, 3  # of the others, and of Big Buck Bunny, where chance weighs less
PEERS = ["ContentDetector", "AdaptiveDetector"]
USUAL = ["decode", "sparse", "dense", *PEERS]
EVERY = [*USUAL, "transnetv2"]
COLUMNS = "| CPU s | of one decode | wall s | peak RSS MB | precision | recall | F1 | gradual |"


@dataclass(frozen=True)
class Measured:
    """cuts: frames at which shots start by a hard cut; gradual: transitions told as such, (first, last) frame."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    cuts: list[int] | None
    gradual: list[tuple[int, int]]


Found = tuple[list[int] | None, list[tuple[int, int]]]


def tables() -> dict[str, Callable[[], Iterator[str]]]:
    """Name -> what measures it, line by line."""
    bbb = footage.big_buck_bunny
    plans: dict[str, tuple[Callable[[], tuple[Path, Truth]], list[str], int]] = {
        "Big Buck Bunny, 596 s, 720p": (lambda: (bbb(), Truth(footage.agreed_cuts(bbb()), [])), USUAL, ROUNDS_LONG)
    }
    for encoding in ("x264", "x264-fixed-gop", "hevc", "vp9", "av1", "x264-1080p", "mjpeg"):
        methods = EVERY if encoding == "x264" else USUAL
        plans[f"Excerpt, 50 s, {encoding}"] = (lambda encoding=encoding: footage.variant(encoding), methods, ROUNDS)
    for encoding in ("x264", "x264-fixed-gop", "hevc", "vp9"):
        methods = EVERY if encoding == "x264" else ["decode", "sparse"]
        plans[f"Montage, 180 s, {encoding}"] = (lambda encoding=encoding: footage.montage(encoding), methods, ROUNDS)
    return {name: lambda name=name, plan=plan: _table(name, *plan) for name, plan in plans.items()}


def _table(name: str, make: Callable[[], tuple[Path, Truth]], methods: list[str], rounds: int) -> Iterator[str]:
    path, truth = make()
    gradual = f", {len(truth.gradual)} gradual transitions" if truth.gradual else ""
    yield f"### {name}: {len(truth.cuts)} cuts{gradual}\n"
    yield f"| {COLUMNS}"
    yield "| --- " * 9 + "|"
    got = {method: _measure(method, path) for method in methods}
    alone = {method: got[method] for method in IN_SLICES}
    compared = [_in_slices(alone, path) for _ in range(rounds)]
    compared.sort(key=lambda cpu_s: cpu_s["sparse"] / cpu_s["decode"])
    for method, spent_s in compared[rounds // 2].items():
        got[method] = replace(got[method], cpu_s=spent_s)
    for method in methods:
        yield _row(method, got[method], got["decode"].cpu_s, truth)


def _row(method: str, got: Measured, decode_s: float, truth: Truth) -> str:
    scores, gradual = "| | ", ""
    if got.cuts is not None:
        inside = [cut for cut in truth.cuts if any(a <= cut < b for a, b in got.gradual) and not truth.gradual]
        scores = " | ".join(f"{value:.3f}" for value in score(sorted({*got.cuts, *inside}), truth))
    if truth.gradual and method in ("sparse", "dense", "transnetv2"):
        told = sum(any(a < last and first < b for a, b in got.gradual) for first, last in truth.gradual)
        wrong = sum(not any(a < last and first < b for first, last in truth.gradual) for a, b in got.gradual)
        gradual = f"{told} of {len(truth.gradual)}, {wrong} wrong"
    return (
        f"| {LABELS[method]} | {got.cpu_s:.1f} | {got.cpu_s / decode_s:.2f} | {got.wall_s:.1f} | {got.peak_mb:.0f} | "
        f"{scores} | {gradual} |"
    )


def score(cuts: list[int], truth: Truth) -> tuple[float, float, float]:
    """Precision, recall and F1 at TOLERANCE_FRAMES."""
    near = TOLERANCE_FRAMES
    cuts = [cut for cut in cuts if not any(a - near <= cut <= b + near for a, b in truth.gradual)]
    right = sum(any(abs(cut - known) <= near for known in truth.cuts) for cut in cuts)
    found = sum(any(abs(cut - known) <= near for cut in cuts) for known in truth.cuts)
    precision, recall = right / max(1, len(cuts)), found / max(1, len(truth.cuts))
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def _measure(method: str, path: Path) -> Measured:
    return _result(_start(method, path))


def _in_slices(alone: dict[str, Measured], path: Path) -> dict[str, float]:
    """CPU seconds of methods that run in turns, a slice of each, so that all have the same share of good and bad times.

    alone: what each took by itself, from which its slices follow.
    """
    children = {method: _start(method, path, "stopped") for method in alone}
    waiting, spent_s = deque(alone), {}
    try:
        for child in children.values():
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), "a measurement ended before it began"
        while waiting:
            method = waiting.popleft()
            child = children[method]
            child.send_signal(signal.SIGCONT)
            try:
                child.wait(alone[method].wall_s / SLICES)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGSTOP)
                waiting.append(method)
            else:
                spent_s[method] = _result(child).cpu_s
    finally:
        for child in children.values():  # one that is stopped would stay for ever
            child.kill()
    return spent_s


def _start(method: str, path: Path, *how: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.split", method, str(path), *how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _result(child: subprocess.Popen) -> Measured:
    """What a child measured, once it is done. Raises CalledProcessError if it failed."""
    printed, _ = child.communicate()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
    return Measured(**json.loads(printed.splitlines()[-1]))


def _child(method: str, path: str, how: str = "") -> None:
    """Run in a process of its own: print the measurement as JSON. how: `stopped` waits for SIGCONT before it begins."""
    run = _work(method, path)
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    start_s, wall_s = cpu_s(), time.perf_counter()
    cuts, gradual = run()
    measured = {"cpu_s": cpu_s() - start_s, "wall_s": time.perf_counter() - wall_s, "peak_mb": peak_mb()}
    print(json.dumps({**measured, "cuts": cuts, "gradual": gradual}))


def _work(method: str, path: str) -> Callable[[], Found]:
    """What is measured; imports happen here, before the clock starts."""
    if method == "decode":
        return lambda: _decode(path)
    if method in PEERS:
        import scenedetect

        detector = getattr(scenedetect, method)
        return lambda: ([s.frame_num for s, _ in scenedetect.detect(path, detector(), show_progress=False)[1:]], [])
    return _split(method, path)


def _decode(path: str) -> Found:
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass
    return None, []


def _split(detector: str, path: str) -> Callable[[], Found]:
    from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
    from pipeline.video import split
    from pipeline.video.clips import Windower
    from pipeline.video.threads import share

    share(1)
    starts: list[bool] = []  # of each frame: does a span start there for another reason than its length?
    push = Windower.push

    def noted(windower: Windower, time_s: float, starts_shot: bool) -> list:
        starts.append(starts_shot)
        return push(windower, time_s, starts_shot)

    Windower.push = noted  # type: ignore[method-assign]
    if detector == "transnetv2":
        split.ShotNetwork()  # loads what it needs

    def run() -> Found:
        settings = SplitSettings(detector=detector)  # type: ignore[arg-type]
        at, gradual = 0, []
        for clip in split.split(path, shots=settings, frames=FrameSettings(), quality=QualitySettings()):
            if isinstance(clip, split.Clip):
                if clip.reason == "transition":
                    gradual.append((at, at + clip.span.num_frames))
                at += clip.span.num_frames
        edges = {edge for transition in gradual for edge in transition}
        return [number for number, first in enumerate(starts) if first and number and number not in edges], gradual

    return run


if __name__ == "__main__":
    _child(*sys.argv[1:])
