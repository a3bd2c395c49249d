import cv2
import numpy as np
import pytest

from pipeline.models.pictures import decode, unit
from tests.footage import texture


def test_decode_gives_rgb() -> None:
    red = np.zeros((16, 24, 3), np.uint8)
    red[:, :, 2] = 255  # BGR
    picture = decode(cv2.imencode(".jpg", red)[1].tobytes())
    assert picture.shape == (16, 24, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture.reshape(-1, 3).mean(axis=0) - (255, 0, 0)).max() < 4


@pytest.mark.parametrize("data", [b"", b"x", b"\xff\xd8\xff\xe0", bytes(1000), b"not a picture" * 50])
def test_what_is_no_picture_raises(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable JPEG"):
        decode(data)


def test_half_a_jpeg_never_passes_as_a_whole_one() -> None:
    data = cv2.imencode(".jpg", texture(1))[1].tobytes()
    with pytest.raises(ValueError, match="not a readable JPEG"):
        decode(data[: len(data) // 2])


def test_unit_is_the_direction_of_the_mean_of_directions() -> None:
    vector = unit(np.array([[3.0, 0.0], [0.0, 0.5]]))
    assert vector.dtype == np.float32
    assert vector == pytest.approx([0.5**0.5, 0.5**0.5])
    assert unit(np.array([[0.0, 7.0]])) == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_unit_has_unit_length(seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(seed + 1, 512)).astype(np.float32) * 10.0**seed
    assert np.linalg.norm(unit(vectors)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((1, 4)),
        np.array([[1.0, 0.0], [-1.0, 0.0]]),
        np.full((2, 3), np.nan),
        np.array([[1.0, 0], [0, 0]]),
        np.zeros((0, 4)),
        np.full((1, 4), np.inf),
    ],
    ids=["zero", "opposite", "nan", "one zero", "none", "infinite"],
)
def test_vectors_without_a_direction_raise(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no direction"):
        unit(vectors)
