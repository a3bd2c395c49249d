from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from pipeline.errors import UserError
from pipeline.models.efficientnet import EfficientNet
from pipeline.models.forward import in_slices
from pipeline.models.resnet import ResNet50
from pipeline.models.summarizers import ClipFrames, LabelUnion, make_summarizer


def clip(*frames: np.ndarray) -> ClipFrames:
    return ClipFrames("a.mp4", 0.0, 30.0, list(frames))


class Classifier:
    """Three classes; a frame's level says how likely each is."""

    classes = ["ant", "bee", "cat"]

    def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.roll([0.7, 0.2, 0.1], int(picture.flat[0])) for picture in pictures]).astype(np.float32)


def test_the_union_of_each_frames_labels_likeliest_first() -> None:
    first, second = (np.full((2, 2, 3), level, np.uint8) for level in (0, 2))
    model = LabelUnion(Classifier(), top_k=1)  # type: ignore[arg-type]
    assert model([clip(first, first), clip(second, first)]) == ["ant", "ant, cat"]
    assert LabelUnion(Classifier(), top_k=2)([clip(first)]) == ["ant, bee"]  # type: ignore[arg-type]


def test_a_clips_labels_do_not_hang_on_the_clips_that_come_with_it() -> None:
    class Swayed(Classifier):
        """The more pictures at once, the likelier the next class: what networks do in their last bits."""

        def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
            return np.roll(super().probabilities(pictures), len(pictures), axis=1)

    black = np.zeros((2, 2, 3), np.uint8)
    model = LabelUnion(Swayed(), top_k=1)  # type: ignore[arg-type]
    clips = [clip(black), clip(black, black), clip(black)]
    assert model(clips) == [label for alone in clips for label in model([alone])] == ["bee", "cat", "bee"]


def test_the_embedded_model_names_what_a_real_clip_shows(clips_folder: Path) -> None:
    with av.open(str(clips_folder / "bikes.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][40:130:40]
    (said,) = make_summarizer("efficientnet", weights=None, top_k=3, device="cpu")([clip(*frames)])
    labels = said.split(", ")
    assert len(set(labels)) == len(labels) >= 3
    assert {"streetcar", "limousine", "minivan", "cab"} & set(labels)


def sizes_of_forwards(model: Any, forward: str) -> list[int]:
    """How many pictures the network was given at once, when asked about 20; the network gives noughts."""
    seen: list[int] = []

    def give_noughts(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(len(tensor))
        return torch.zeros(len(tensor), 1000, *((1, 1) if forward == "extract_features" else ()))

    model._network = give_noughts if forward == "__call__" else SimpleNamespace(extract_features=give_noughts)
    ask = model.features if forward == "extract_features" else model.probabilities
    assert ask([np.zeros((9, 16, 3), np.uint8)] * 20).shape == (20, 1000)
    return seen


@pytest.mark.parametrize("forward", ["__call__", "extract_features"])
def test_a_networks_memory_does_not_grow_with_what_it_is_asked(forward: str) -> None:
    assert sizes_of_forwards(EfficientNet(), forward) == [16, 4]


def test_slices_are_together_what_one_forward_gives() -> None:
    pictures = [np.full((2, 2, 3), level, np.uint8) for level in range(37)]
    means = in_slices(lambda some: np.array([picture.mean() for picture in some]), pictures)
    assert means.tolist() == list(range(37))


def test_resnet_takes_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnet50(weights=None)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    pictures = [np.random.default_rng(i).integers(0, 255, (90, 160, 3), np.uint8) for i in range(2)]
    model = ResNet50(str(tmp_path / "w.pt"))
    scores = model.probabilities(pictures)
    assert scores.shape == (2, 1000)
    assert scores.sum(1) == pytest.approx([1, 1], abs=1e-4)
    assert sizes_of_forwards(model, "__call__") == [16, 4]
    (tmp_path / "bad.pt").write_text("none")
    for name in ("bad.pt", "missing.pt"):
        with pytest.raises(UserError, match="resnet50: no weights from"):
            ResNet50(str(tmp_path / name))
