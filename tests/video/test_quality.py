import cv2
import numpy as np
import pytest

from pipeline.settings import QualitySettings
from pipeline.video.quality import MotionPair, Quality, flow_speed, measure, sharpness
from pipeline.video.split import rejection
from tests.footage import texture


def flat(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def stripes(width: int = 320, height: int = 180) -> np.ndarray:
    """Columns of 0 and 255 in turn: luma mean 127.5, deviation 127.5."""
    return np.repeat(np.tile(np.array([0, 255], np.uint8), (height, width // 2))[:, :, None], 3, axis=2)


@pytest.mark.parametrize("level", [0, 16, 100, 255])
def test_a_flat_picture(level: int) -> None:
    quality = measure([flat(level)], [])
    assert quality == Quality(brightness=level, contrast=0.0, sharpness=0.0, motion=0.0)


def test_brightness_is_luma_not_the_mean_of_the_channels() -> None:
    green = flat(0)
    green[:, :, 1] = 255
    assert measure([green], []).brightness == pytest.approx(0.587 * 255, abs=1)


def test_several_pictures_are_averaged() -> None:
    assert measure([flat(10), flat(30)], []).brightness == pytest.approx(20)


def test_stripes_have_the_known_contrast_and_sharpness() -> None:
    quality = measure([stripes()], [])
    assert quality.brightness == pytest.approx(127.5)
    assert quality.contrast == pytest.approx(127.5)
    # the 4-neighbour Laplacian of the stripes is 2 * (+-255), and its variance the square of that
    assert quality.sharpness == pytest.approx((2 * 255) ** 2)


def test_sharpness_compares_across_sizes_and_falls_with_blur() -> None:
    gray = cv2.cvtColor(cv2.resize(texture(1), (1280, 720), interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
    half = cv2.resize(gray, (640, 360), interpolation=cv2.INTER_AREA)
    assert sharpness(gray) == pytest.approx(sharpness(half), rel=0.15)
    assert sharpness(cv2.GaussianBlur(gray, (0, 0), 12)) < 0.1 * sharpness(gray)


@pytest.mark.parametrize(("width", "height"), [(512, 288), (288, 512), (640, 360), (511, 509)])
def test_sharpness_is_that_of_area_means(width: int, height: int) -> None:
    luma = cv2.cvtColor(cv2.resize(texture(1), (width, height), interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
    scale = 320 / max(width, height)
    small = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert sharpness(luma) == pytest.approx(cv2.Laplacian(small, cv2.CV_64F).var(), rel=0.02)


def moved(dx: int, dy: int) -> tuple[np.ndarray, np.ndarray]:
    """Two gray thumbnails (72 x 128) of a soft texture that moved by (dx, dy) pixels."""
    noise = np.random.default_rng(0).uniform(0, 255, (120, 180)).astype(np.float32)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), np.zeros(0), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return wide[20:92, 20:148].copy(), wide[20 - dy : 92 - dy, 20 - dx : 148 - dx].copy()


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (3, 0), (0, 2), (-3, 4), (9, 0)])
@pytest.mark.parametrize("gap_s", [0.04, 0.1, 1.0])
def test_motion_is_the_speed_that_a_texture_moved_with(dx: int, dy: int, gap_s: float) -> None:
    before, after = moved(dx, dy)
    speed = 100 * np.hypot(dx, dy) / 128 / gap_s  # percent of the longer side per second
    assert flow_speed(MotionPair(before, after, gap_s)) == pytest.approx(speed, rel=0.15, abs=0.02 / gap_s)


def test_motion_of_several_pairs_is_averaged_and_none_is_no_motion() -> None:
    still, fast = MotionPair(*moved(0, 0), 0.1), MotionPair(*moved(3, 0), 0.1)
    both = measure([flat(1)], [still, fast]).motion
    assert both == pytest.approx(flow_speed(fast) / 2, rel=0.05)
    assert measure([flat(1)], []).motion == 0


GOOD = {"brightness": 120.0, "contrast": 60.0, "sharpness": 500.0, "motion": 5.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"brightness": 29.9}, "too_dark"),
        ({"brightness": 30.0}, None),
        ({"brightness": 240.0}, None),
        ({"brightness": 240.1}, "too_bright"),
        ({"contrast": 19.9}, "low_contrast"),
        ({"contrast": 20.0}, None),
        ({"sharpness": 114.9}, "blurry"),
        ({"sharpness": 115.0}, None),
        ({"motion": 0.099}, "static"),
        ({"motion": 0.1}, None),
        ({"brightness": 0.0, "motion": 0.0}, "too_dark"),
    ],
)
def test_the_limits_belong_to_the_good_side(change: dict[str, float], reason: str | None) -> None:
    assert rejection(Quality(**{**GOOD, **change}), QualitySettings()) == reason
