"""Splitting Big Buck Bunny: CPU time, memory and cuts, next to a plain decode and to PySceneDetect. Writes a table.

    python -m benchmarks.split [--video FILE]

Each row is a process of its own with one decoder thread: CPU seconds of the work (imports excluded), peak memory of the
whole process. Cuts are counted that lie within 2 frames of one that PySceneDetect's ContentDetector finds.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.footage import big_buck_bunny
from benchmarks.memory import peak_mb

RESULTS = Path(__file__).parent / "results-split.md"
NEAR_FRAMES = 2
METHODS = {
    "decode": "every frame decoded, nothing else",
    "split": "this project: cuts, quality, frames",
    "content": "PySceneDetect ContentDetector: cuts",
    "adaptive": "PySceneDetect AdaptiveDetector: cuts",
}


def work(method: str, path: str) -> Callable[[], list[int]]:
    """What is measured, giving the frames at which shots start; imports happen here, before the clock starts."""
    if method == "decode":
        return lambda: _decode(path)
    if method == "split":
        return _split(path)
    import scenedetect

    detector = scenedetect.ContentDetector if method == "content" else scenedetect.AdaptiveDetector
    return lambda: [s.frame_num for s, _ in scenedetect.detect(path, detector(), show_progress=False)[1:]]


def _decode(path: str) -> list[int]:
    import av

    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return []


def _split(path: str) -> Callable[[], list[int]]:
    from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
    from pipeline.video.split import Clip, split

    def run() -> list[int]:
        parts = split(path, shots=SplitSettings(), frames=FrameSettings(), quality=QualitySettings())
        counts = [part.span.num_frames for part in parts if isinstance(part, Clip)]
        return [sum(counts[:i]) for i in range(1, len(counts))]

    return run


def child(method: str, path: str) -> None:
    """Run in a process of its own; prints the measurement as JSON."""
    run = work(method, path)
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    cuts = run()
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - wall
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall, "peak_mb": peak_mb(), "cuts": cuts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="another film (default: Big Buck Bunny, fetched once)")
    parser.add_argument("--child", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    video = arguments.video or big_buck_bunny()
    if arguments.child:
        return child(arguments.child, str(video))
    command = [sys.executable, "-m", "benchmarks.split", "--video", str(video), "--child"]
    measured = {m: json.loads(subprocess.check_output([*command, m]).splitlines()[-1]) for m in METHODS}
    known = measured["content"]["cuts"]
    lines = [
        f"# Splitting {video.name}",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} x {platform.machine()}, `make bench`.",
        "",
        f"| | CPU s | of one decode | wall s | peak RSS MB | of {len(known)} content cuts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method, got in measured.items():
        found = sum(any(abs(cut - frame) <= NEAR_FRAMES for frame in got["cuts"]) for cut in known)
        ratio = got["cpu_s"] / measured["decode"]["cpu_s"]
        lines.append(
            f"| {METHODS[method]} | {got['cpu_s']:.1f} | {ratio:.2f} | {got['wall_s']:.1f} | {got['peak_mb']:.0f} "
            f"| {found if got['cuts'] else ''} |"
        )
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return None


if __name__ == "__main__":
    main()
