from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from pipeline.errors import UserError
from pipeline.models.resnet import ResNet50
from pipeline.models.summarizers import ClipFrames, LabelUnion, make_summarizer
from pipeline.stages.summarize import spans


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


def test_the_embedded_model_names_what_a_real_clip_shows(clips_folder: Path) -> None:
    with av.open(str(clips_folder / "bikes.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][40:130:40]
    (said,) = make_summarizer("efficientnet", weights=None, top_k=3, device="cpu")([clip(*frames)])
    labels = said.split(", ")
    assert len(set(labels)) == len(labels) >= 3
    assert {"streetcar", "limousine", "minivan", "cab"} & set(labels)


def test_resnet_takes_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnet50(weights=None)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    pictures = [np.random.default_rng(i).integers(0, 255, (90, 160, 3), np.uint8) for i in range(2)]
    scores = ResNet50(str(tmp_path / "w.pt")).probabilities(pictures)
    assert scores.shape == (2, 1000)
    assert scores.sum(1) == pytest.approx([1, 1], abs=1e-4)
    (tmp_path / "bad.pt").write_text("none")
    for name in ("bad.pt", "missing.pt"):
        with pytest.raises(UserError, match="resnet50: no weights from"):
            ResNet50(str(tmp_path / name))


@pytest.mark.parametrize(
    ("duration_s", "found"),
    [
        (70.0, [(0, 30), (30, 60), (60, 70)]),
        (60.0, [(0, 30), (30, 60)]),
        (60.04, [(0, 30), (30, 60.04)]),  # one frame is no clip
        (0.04, [(0, 0.04)]),
    ],
)
def test_spans(duration_s: float, found: list[tuple[float, float]]) -> None:
    assert spans(duration_s, 25.0, 30.0) == found
