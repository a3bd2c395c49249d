"""Find hard cuts while frames go by, with a look-ahead of two frames."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

THUMB_SIZE_PX = (96, 54)  # width, height: enough to tell shots apart, small enough to cost next to nothing
FULL_FROM_LIMITED = np.clip(np.round((np.arange(256) - 16.0) * 255 / 219), 0, 255).astype(np.uint8)  # luma 16-235
COLOUR_BINS = [8, 4, 8]  # of hue, saturation, value
UNLIKE_CHANGE = 25.0  # frames seconds apart that differ by less are taken for one shot (levels, 0-255)
UNLIKE_COLOURS = 0.2  # ... or whose colours differ by less than this fraction of the pixels
SAME = 0.5  # between frames that differ by less than this there is no cut that lasts (fraction of split.min_change)
NEIGHBOURS = 2  # frames on each side that a cut must stand out from


@dataclass(frozen=True)
class CutThresholds:
    """min_change: mean HSV difference to the frame before, less that of the frames around (0-255 levels);
    min_ratio: the difference as a multiple of its neighbours' mean."""

    min_change: float
    min_ratio: float


def thumbnail(planes: tuple[np.ndarray, np.ndarray, np.ndarray], *, full_range: bool) -> np.ndarray:
    """Y, U, V planes (uint8, any subsampling) of one frame -> HSV thumbnail, uint8 (54, 96, 3).

    Shrinking the planes before the colour conversion costs a tenth of converting the full frame.
    """
    luma, blue, red = (_shrink(planes[0], 2), _shrink(planes[1], 1), _shrink(planes[2], 1))
    if not full_range:
        luma = cv2.LUT(luma, FULL_FROM_LIMITED)
    small = cv2.merge((luma, red, blue))
    return cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_YCrCb2BGR), cv2.COLOR_BGR2HSV)


def _shrink(plane: np.ndarray, samples: int) -> np.ndarray:
    """A plane at the thumbnail's size. Each pixel is the mean of samples x samples single ones in large planes, which
    costs a tenth of the mean of all; small ones have noise as large as their detail, so there nearly all count.

    One sample is enough for colour; of luma, single pixels would let fine texture that moves look like a change.
    """
    height, width = plane.shape
    if width < 2 * THUMB_SIZE_PX[0] or height < 2 * THUMB_SIZE_PX[1]:
        return cv2.resize(plane, THUMB_SIZE_PX, interpolation=cv2.INTER_AREA)
    large = width >= 2 * samples * THUMB_SIZE_PX[0] and height >= 2 * samples * THUMB_SIZE_PX[1]
    samples = samples if large else 2
    sampled_px = samples * THUMB_SIZE_PX[0], samples * THUMB_SIZE_PX[1]
    plane = cv2.resize(plane, sampled_px, interpolation=cv2.INTER_NEAREST if large else cv2.INTER_LINEAR)
    return plane if samples == 1 else cv2.resize(plane, THUMB_SIZE_PX, interpolation=cv2.INTER_AREA)


def change(previous: np.ndarray, current: np.ndarray) -> float:
    """Mean absolute difference of two HSV thumbnails, 0-255 levels."""
    return cv2.norm(previous, current, cv2.NORM_L1) / previous.size


def changes(thumbs: Sequence[np.ndarray]) -> list[float]:
    """The change from each thumbnail to the next, 0-255 levels."""
    return [change(a, b) for a, b in pairwise(thumbs)]


def colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fraction (0-1) of the pixels whose colours two HSV thumbnails do not have in common, wherever they stand.

    Histogram intersection (Swain & Ballard, IJCV 1991): unlike `change`, it hardly notices how the camera moved.
    """
    first, second = (cv2.calcHist([t], [0, 1, 2], None, COLOUR_BINS, [0, 180, 0, 256, 0, 256]) for t in (a, b))
    return 1 - float(np.minimum(first, second).sum()) / (a.shape[0] * a.shape[1])


def unlike(a: np.ndarray, b: np.ndarray, colours: float = UNLIKE_COLOURS) -> bool:
    """May two frames that are seconds apart be of different shots? (HSV thumbnails; colours: fraction of the pixels)"""
    return change(a, b) >= UNLIKE_CHANGE and colour_distance(a, b) >= colours


class CutDetector:
    """Adaptive hard-cut detection: a cut is a change that is large, stands out from the frames around it, and lasts.

    So a fast pan (every frame changes) and a flash of a frame or two (the old picture comes back) are no cuts. The
    method is PySceneDetect's AdaptiveDetector (rolling average of the content value), on a thumbnail of its own.
    """

    def __init__(self, thresholds: CutThresholds):
        self._thresholds = thresholds
        self._frames: deque[_Frame] = deque(maxlen=2 * NEIGHBOURS + 2)
        self._undecided = 0

    def push(self, thumb: np.ndarray | None, verdict: bool | None = None) -> list[bool]:
        """Take the next frame's thumbnail; answer, oldest first, for frames now decided: does a shot start there?

        thumb: None for a frame that was not decoded. verdict: the answer for this frame, where the caller knows it.
        """
        value = None if self._frames else 0.0
        if thumb is not None and self._frames and (previous := self._frames[-1].thumb) is not None:
            value = change(previous, thumb)
        self._frames.append(_Frame(thumb, value, verdict))
        self._undecided += 1
        return [self._decide()] if self._undecided > NEIGHBOURS else []

    def flush(self) -> list[bool]:
        """The answers still owed after the last frame."""
        return [self._decide() for _ in range(self._undecided)]

    def _decide(self) -> bool:
        frames = list(self._frames)
        at = len(frames) - self._undecided
        self._undecided -= 1
        if frames[at].verdict is not None:
            return bool(frames[at].verdict)
        changes = [frame.change for frame in frames]
        if not is_cut(changes[at], changes[max(0, at - NEIGHBOURS) : at], changes[at + 1 :], self._thresholds):
            return False
        before, after = frames[max(0, at - 1 - NEIGHBOURS) : at], frames[at : at + 1 + NEIGHBOURS]
        return not is_flash([f.thumb for f in before], [f.thumb for f in after])


@dataclass(frozen=True)
class _Frame:
    thumb: np.ndarray | None
    change: float | None
    verdict: bool | None


def is_cut(
    value: float | None, before: Sequence[float | None], after: Sequence[float | None], thresholds: CutThresholds
) -> bool:
    """Does the change `value` stand out from the changes just before and after it (0-255 levels; None: unknown)?

    It must exceed the busier side by min_change, so that a pan that starts abruptly is no cut, and the mean of both
    sides by min_ratio.
    """
    if value is None or value < thresholds.min_change:  # nearly always so
        return False
    sides = [[c for c in side if c is not None] for side in (before, after)]
    near = sides[0] + sides[1]
    if not near:
        return False
    busier = max(sum(side) / len(side) for side in sides if side)
    return value - busier >= thresholds.min_change and value >= thresholds.min_ratio * sum(near) / len(near)


def is_flash(before: Sequence[np.ndarray | None], after: Sequence[np.ndarray | None]) -> bool:
    """Do frames around a change resemble each other across it, so that it only began or ended a flash?

    before, after: thumbnails in order of time, of up to three frames each; None where not decoded.
    """
    old, new = before[-1], after[0]
    if old is None or new is None:
        return False
    pairs = [(old, thumb) for thumb in after[1:]] + [(thumb, new) for thumb in before[:-1]]
    limit = change(old, new) / 2
    return any(a is not None and b is not None and change(a, b) < limit for a, b in pairs)
