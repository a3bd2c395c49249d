"""Find hard cuts while frames go by, with a look-ahead of two frames."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

THUMB_SIZE_PX = (128, 72)  # width, height: enough to tell shots apart, small enough to cost next to nothing
NEIGHBOURS = 2  # frames on each side that a cut must stand out from


@dataclass(frozen=True)
class CutThresholds:
    """min_change: mean HSV difference to the frame before (0-255 levels); min_ratio: that over its neighbours' mean."""

    min_change: float
    min_ratio: float


def thumbnail(planes: tuple[np.ndarray, np.ndarray, np.ndarray], *, full_range: bool) -> np.ndarray:
    """Y, U, V planes (uint8, any subsampling) of one frame -> HSV thumbnail, uint8 (72, 128, 3).

    Shrinking the planes before the colour conversion costs a tenth of converting the full frame.
    """
    luma, blue, red = (_shrink(plane) for plane in planes)
    if not full_range:
        luma = cv2.convertScaleAbs(cv2.subtract(luma, np.full_like(luma, 16)), alpha=255 / 219)
    return cv2.cvtColor(cv2.cvtColor(cv2.merge((luma, red, blue)), cv2.COLOR_YCrCb2BGR), cv2.COLOR_BGR2HSV)


def _shrink(plane: np.ndarray) -> np.ndarray:
    """Every n-th pixel first, then the mean of at least 2x2 of those: finds the same cuts as the mean of all pixels."""
    step = max(1, min(plane.shape[1] // (2 * THUMB_SIZE_PX[0]), plane.shape[0] // (2 * THUMB_SIZE_PX[1])))
    return cv2.resize(np.ascontiguousarray(plane[::step, ::step]), THUMB_SIZE_PX, interpolation=cv2.INTER_AREA)


def change(previous: np.ndarray, current: np.ndarray) -> float:
    """Mean absolute difference of two HSV thumbnails, 0-255 levels."""
    return float(np.mean(cv2.absdiff(previous, current)))


class CutDetector:
    """Adaptive hard-cut detection: a cut is a change that is large and stands out from the frames around it.

    So a fast pan (every frame changes) and a one-frame flash (two changes side by side) are no cuts. The method is
    PySceneDetect's AdaptiveDetector (rolling average of the content value), on a thumbnail of its own.
    """

    def __init__(self, thresholds: CutThresholds):
        self._thresholds = thresholds
        self._thumbs: deque[np.ndarray] = deque(maxlen=2 * NEIGHBOURS + 1)
        self._changes: deque[float] = deque(maxlen=2 * NEIGHBOURS + 1)
        self._undecided = 0

    def push(self, thumb: np.ndarray) -> list[bool]:
        """Take the next frame's thumbnail; answer, oldest first, for frames now decided: does a shot start there?"""
        self._changes.append(change(self._thumbs[-1], thumb) if self._thumbs else 0.0)
        self._thumbs.append(thumb)
        self._undecided += 1
        return [self._decide()] if self._undecided > NEIGHBOURS else []

    def flush(self) -> list[bool]:
        """The answers still owed after the last frame."""
        return [self._decide() for _ in range(self._undecided)]

    def _decide(self) -> bool:
        at = len(self._changes) - self._undecided
        self._undecided -= 1
        value = self._changes[at]
        around = [c for i, c in enumerate(self._changes) if i != at and abs(i - at) <= NEIGHBOURS]
        if value < self._thresholds.min_change or not around:
            return False
        return value >= self._thresholds.min_ratio * (sum(around) / len(around)) and not self._is_flash(at)

    def _is_flash(self, at: int) -> bool:
        """One frame differs, the one at `at` or the one before it: what was there before is back right after."""
        pairs = [(at - 1, at + 1), (at - 2, at)]
        known = [(before, after) for before, after in pairs if before >= 0 and after < len(self._thumbs)]
        return any(2 * change(self._thumbs[before], self._thumbs[after]) < self._changes[at] for before, after in known)
