"""The real small models on real frames."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.models import standins
from pipeline.models.embedders import ClipEmbedder, EfficientNetEmbedder, make_embedder
from pipeline.models.labels import Labeller
from pipeline.models.nsfw import NsfwClassifier
from pipeline.settings import EmbedSettings
from tests.footage import frames_of

Clips = list[list[bytes]]


@pytest.fixture(scope="module")
def clips(clips_folder: Path) -> Clips:
    """Three clips with 3, 1 and 2 frames."""
    bikes, bunny = (frames_of(clips_folder / f"{name}.mp4", 60) for name in ("bikes", "bigbuckbunny"))
    return [bikes[:3], bikes[4:5], bunny[:2]]


@pytest.fixture(scope="module")
def nsfw() -> NsfwClassifier:
    return NsfwClassifier()


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return Labeller(top_k=3)


@pytest.fixture(scope="module")
def efficientnet() -> EfficientNetEmbedder:
    return EfficientNetEmbedder()


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> ClipEmbedder:
    return ClipEmbedder(str(standins.build_clip(tmp_path_factory.mktemp("clip"))))


@pytest.fixture(params=["nsfw", "labeller", "efficientnet", "clip_model"])
def model(request: pytest.FixtureRequest) -> Callable[[Clips], Sequence[Any]]:
    return request.getfixturevalue(request.param)


def as_numbers(results: Sequence[Any]) -> list[Any]:
    return [result["label_scores"] if isinstance(result, dict) else result for result in results]


def test_a_clips_result_does_not_hang_on_its_batch(model: Callable[[Clips], Sequence[Any]], clips: Clips) -> None:
    together = as_numbers(model(clips))
    assert len(together) == 3
    alone = [as_numbers(model([clip]))[0] for clip in clips]
    backwards = as_numbers(model(clips[::-1]))[::-1]
    for a, b, c in zip(together, alone, backwards, strict=True):
        assert np.asarray(a) == pytest.approx(np.asarray(b), abs=2e-4)
        assert np.asarray(a) == pytest.approx(np.asarray(c), abs=2e-4)


@pytest.mark.parametrize("bad", [b"", b"no jpeg", bytes(500)])
def test_an_unreadable_frame_raises(model: Callable[[Clips], Sequence[Any]], clips: Clips, bad: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable JPEG"):
        model([clips[0], [bad]])


def test_a_cut_off_frame_raises(model: Callable[[Clips], Sequence[Any]], clips: Clips) -> None:
    with pytest.raises(ValueError, match="not a readable JPEG"):
        model([[clips[0][0][:2000]]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_clip_without_frames_raises_and_never_passes(nsfw: NsfwClassifier, clips: Clips) -> None:
    with pytest.raises(ValueError, match="no frames"):
        nsfw([clips[0], []])


def test_embeddings_have_unit_length(
    efficientnet: EfficientNetEmbedder, clip_model: ClipEmbedder, clips: Clips
) -> None:
    for embedder, size in ((efficientnet, 1280), (clip_model, 512)):
        for vector in embedder(clips):
            assert vector.shape == (size,)
            assert vector.dtype == np.float32
            assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_the_same_film_is_nearer_than_another(efficientnet: EfficientNetEmbedder, clips_folder: Path) -> None:
    early, late = ([frame] for frame in frames_of(clips_folder / "bigbuckbunny.mp4", 60)[:2])
    other = frames_of(clips_folder / "carphone_pristine.mp4", 60)[:1]
    a, b, c = efficientnet([early, late, other])
    assert a @ b > a @ c + 0.1


def test_nsfw_scores_are_the_highest_of_the_frames(nsfw: NsfwClassifier, clips: Clips) -> None:
    each = [nsfw([[frame]])[0] for frame in clips[0]]
    assert nsfw([clips[0]])[0] == pytest.approx(max(each), abs=1e-5)
    assert all(0 <= score < 0.5 for score in nsfw(clips))


def test_labels_of_a_street(labeller: Labeller, clips: Clips) -> None:
    answer = labeller(clips)[0]
    scores = answer["label_scores"]
    assert isinstance(scores, list)
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    street = {"streetcar", "limousine", "mountain bike", "bicycle-built-for-two", "traffic light", "cab"}
    assert isinstance(answer["labels"], list)
    assert answer["label"] == answer["labels"][0]
    assert street & set(answer["labels"])


def test_make_embedder() -> None:
    assert isinstance(make_embedder(EmbedSettings()), EfficientNetEmbedder)
    assert make_embedder(EmbedSettings()).name == "efficientnet-lite0"


def test_decord_in_the_same_process_leaves_torch_alone() -> None:
    """A plain `import decord` ends this in a segmentation fault where nvidia-* packages are installed."""
    program = """
import numpy as np
from pipeline.video.decord_module import load_decord
from pipeline.models.efficientnet import EfficientNet
load_decord()
print(EfficientNet().probabilities([np.zeros((240, 320, 3), np.uint8)]).sum())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) == pytest.approx(1, abs=1e-3)
