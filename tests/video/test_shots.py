import itertools

import numpy as np
import pytest

from pipeline.settings import SplitSettings
from pipeline.video.shots import THUMB_SIZE_PX, CutDetector, CutThresholds, change, thumbnail
from tests.footage import shot, texture

THRESHOLDS = CutThresholds(SplitSettings().min_change, SplitSettings().min_change_ratio)


def thumb(picture: np.ndarray) -> np.ndarray:
    """An RGB picture as the detector sees it."""
    import cv2

    yuv = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)
    return thumbnail((yuv[:, :, 0], yuv[:, :, 2], yuv[:, :, 1]), full_range=True)


def cuts(pictures: list[np.ndarray]) -> list[int]:
    detector = CutDetector(THRESHOLDS)
    answers: list[bool] = []
    for picture in pictures:
        answers += detector.push(thumb(picture))
    answers += detector.flush()
    assert len(answers) == len(pictures)
    return [i for i, starts in enumerate(answers) if starts]


@pytest.mark.parametrize("lengths", [[20, 20], [3, 30], [30, 3], [10, 4, 4, 10], [1, 20], [2, 20], [20, 1], [20, 2]])
def test_a_hard_cut_is_found_at_its_frame(lengths: list[int]) -> None:
    pictures = [picture for seed, n in enumerate(lengths) for picture in shot(seed, n, step_px=1)]
    assert cuts(pictures) == list(np.cumsum(lengths[:-1]))


@pytest.mark.parametrize("at", [1, 2, 10, 17])
@pytest.mark.parametrize("flash", ["white", "black", "picture"])
def test_a_flash_of_one_frame_is_no_cut(at: int, flash: str) -> None:
    pictures = shot(1, 20, step_px=1)
    flashes = {"white": np.full_like(pictures[0], 255), "black": np.zeros_like(pictures[0]), "picture": texture(9)}
    pictures[at] = flashes[flash]
    assert cuts(pictures) == []


def test_a_cut_beside_a_flash_is_still_found() -> None:
    pictures = [*shot(1, 20, step_px=1), *shot(2, 20, step_px=1)]
    pictures[10] = np.full_like(pictures[0], 255)
    assert cuts(pictures) == [20]


@pytest.mark.parametrize("step", [10, 40, 80])
def test_a_fast_pan_is_no_cut(step: int) -> None:
    pictures = shot(1, 30, step_px=step)
    assert min(change(thumb(a), thumb(b)) for a, b in itertools.pairwise(pictures)) > 15
    assert cuts(pictures) == []


def test_a_pan_that_starts_and_stops_suddenly_is_no_cut() -> None:
    pan = shot(1, 20, step_px=40)
    assert cuts([*[pan[0]] * 10, *pan, *[pan[-1]] * 10]) == []


def test_a_fade_is_no_cut() -> None:
    a, b = texture(1).astype(float), texture(2).astype(float)
    assert cuts([(a * (1 - t) + b * t).astype(np.uint8) for t in np.linspace(0, 1, 25)]) == []


@pytest.mark.parametrize("count", [0, 1, 2])
def test_very_short_videos(count: int) -> None:
    assert cuts([texture(1)] * count) == []


def test_a_small_change_is_no_cut() -> None:
    picture = texture(1)
    assert cuts([*[picture] * 5, *[np.clip(picture.astype(int) + 8, 0, 255).astype(np.uint8)] * 5]) == []


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (128, 72), (640, 360), (360, 640), (1920, 1080)])
@pytest.mark.parametrize("subsampling", [1, 2])
def test_thumbnails_of_any_size_have_the_right_colour(size: tuple[int, int], subsampling: int) -> None:
    width, height = size
    small = -(-height // subsampling), -(-width // subsampling)
    planes = np.full((height, width), 76, np.uint8), np.full(small, 85, np.uint8), np.full(small, 255, np.uint8)
    seen = thumbnail(planes, full_range=True)  # full-range red
    assert seen.shape == (THUMB_SIZE_PX[1], THUMB_SIZE_PX[0], 3)
    hue, saturation, value = seen.reshape(-1, 3).mean(axis=0)
    assert min(hue, 180 - hue) < 2
    assert saturation > 250
    assert value > 250


def test_limited_range_is_stretched() -> None:
    grey = np.full((8, 8), 128, np.uint8)
    for luma, value in ((16, 0), (235, 255), (0, 0), (255, 255), (125, 127)):
        planes = np.full((16, 16), luma, np.uint8), grey, grey
        assert abs(int(thumbnail(planes, full_range=False)[0, 0, 2]) - value) <= 1
