"""The dense pass: what it leaves out changes nothing."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from pipeline.video import dense, images
from tests.video.test_sparse import GRADUAL, STARTS, dissolve, montage, run, shot, write


def looked_at(path: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[tuple[float, float, str | None]]]:
    """The number of thumbnails, and the clips as start and end (s) and reason."""
    seen = []
    original = dense.Images.thumbnail
    with monkeypatch.context() as patch:
        patch.setattr(dense.Images, "thumbnail", lambda self, image: seen.append(1) or original(self, image))
        clips, _ = run(path, "dense")
    return len(seen), [(clip.span.start_s, clip.span.end_s, clip.reason) for clip in clips]


def flashes() -> list[np.ndarray]:
    frames = shot(3, 60, 0.2) + shot(4, 60, 0.2)
    for at in (10, 59, 90, 91):
        frames[at] = np.full_like(frames[at], 250)
    return frames


SHORT = [picture for seed in range(8) for picture in shot(seed, 1 + seed, 0)]


@pytest.mark.parametrize("frames", [montage(), flashes(), SHORT], ids=["cuts", "flash", "short"])
def test_the_clips_are_those_of_comparing_every_frame(
    frames: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "video.mp4", frames)
    fewer, clips = looked_at(path, monkeypatch)
    monkeypatch.setattr(dense, "STRIDE_S", 0.0)
    every, expected = looked_at(path, monkeypatch)
    assert every == len(frames)
    assert fewer <= every
    assert clips == expected


def test_quiet_shots_are_compared_eight_times_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = shot(1, 240, 0.1) + shot(2, 240, 0.1)
    count, clips = looked_at(write(tmp_path / "video.mp4", frames), monkeypatch)
    assert [round(end_s * 24) for _, end_s, _ in clips] == [240, 480]
    assert count < 0.38 * len(frames)  # a third, and what is around the cut


def test_transitions_are_found_though_frames_are_left_out(tmp_path: Path) -> None:
    clips, _ = run(write(tmp_path / "video.mp4", dissolve()), "dense")
    assert [clip.reason == "transition" for clip in clips] == [False, True, False]
    assert round(clips[1].span.start_s * 24) == pytest.approx(GRADUAL[0], abs=4)


@pytest.mark.parametrize("detector", ["dense", "sparse"])
def test_it_does_not_matter_how_many_are_decoded_at_once(
    detector: Literal["dense", "sparse"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "video.mp4", montage() + dissolve())
    found = []
    for handful in (1, 5, 8):
        monkeypatch.setattr(images, "HANDFUL", handful)
        clips, _ = run(path, detector)
        found.append([(clip.span, clip.reason, len(clip.frames)) for clip in clips])
    assert len(found[0]) > len(STARTS)
    assert found[1:] == found[:1] * 2


def test_cuts_are_exact_whatever_the_stride(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "video.mp4", montage())
    for stride_s in (0.05, 0.2, 0.25, 0.6):
        monkeypatch.setattr(dense, "STRIDE_S", stride_s)
        clips, _ = run(path, "dense")
        assert list(np.cumsum([clip.span.num_frames for clip in clips])[:-1]) == STARTS
