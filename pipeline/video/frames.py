"""Keep pictures while frames go by, so that a clip's frames can be picked once its span is known."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.video.quality import MotionPair

MOTION_GAP_S = 0.1  # frames closer than this may be repeats of one picture (animation on twos, doubled frame rates)


@dataclass
class Sample:
    """A picture (BGR uint8, height x width x 3) shown at time_s, its gray thumbnail, whether it shows something
    new, and the motion to and from it."""

    time_s: float
    picture: np.ndarray
    gray: np.ndarray
    new: bool
    before: MotionPair | None
    after: MotionPair | None = None

    def motion(self, start_s: float, end_s: float) -> MotionPair | None:
        """The motion inside [start_s, end_s): what reaches into another shot is none of this one."""
        if self.before is not None and self.time_s - self.before.gap_s >= start_s - 1e-6:
            return self.before
        if self.after is not None and self.time_s + self.after.gap_s < end_s:
            return self.after
        return None


class Sampler:
    """Pictures at even distances, thinned out as a clip grows: never more than six for each picture wanted.

    A picture is made (scaled, converted) only when it is kept, so the cost is a few a second whatever the frame rate.
    Frames may be missing (the sparse pass decodes some stretches only), and a cut may be found only later: so a picture
    has the motion that led to it and, for the first of a stretch or shot, that from it.

    gap_s: the least distance of two pictures (seconds).
    """

    def __init__(self, per_clip: int, gap_s: float):
        self._per_clip = per_clip
        self._first_gap_s = self._gap_s = gap_s
        self._samples: list[Sample] = []
        self._recent: deque[tuple[float, np.ndarray]] = deque()
        self._awaits_after = False  # the last sample has no motion from it yet

    def offer(self, time_s: float, gray: np.ndarray, picture: Callable[[], np.ndarray], *, new: bool = False) -> None:
        """Take the next frame: its time (s), its gray thumbnail (uint8), and a way to make its picture.

        new: it shows something new, so it is kept even if the last picture is close.
        """
        if self._awaits_after and time_s >= self._samples[-1].time_s + MOTION_GAP_S:
            last = self._samples[-1]
            last.after = MotionPair(last.gray, gray, time_s - last.time_s)
            self._awaits_after = False
        if not self._samples or new or time_s >= self._samples[-1].time_s + self._gap_s:
            before = MotionPair(self._recent[0][1], gray, time_s - self._recent[0][0]) if self._recent else None
            self._samples.append(Sample(time_s, picture(), gray, new, before))
            self._awaits_after = True
            if len(self._samples) > 6 * self._per_clip:
                self._thin_out()
        self._recent.append((time_s, gray))
        while len(self._recent) > 1 and self._recent[1][0] <= time_s - MOTION_GAP_S:
            self._recent.popleft()

    def _thin_out(self) -> None:
        """Every second picture goes, except those that may be the only one of their shot."""
        last = self._samples[-1]
        self._samples = [sample for i, sample in enumerate(self._samples) if i % 2 == 0 or sample.new]
        self._awaits_after = self._samples[-1] is last
        self._gap_s *= 2

    def skip(self) -> None:
        """Frames are missing before the next one: motion is not measured across them."""
        self._recent.clear()
        self._awaits_after = False

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        """The samples in [start_s, end_s); what came later stays for the next clip, what came earlier is gone."""
        inside = [sample for sample in self._samples if start_s <= sample.time_s < end_s]
        self._samples = [sample for sample in self._samples if sample.time_s >= end_s]
        self._awaits_after = self._awaits_after and bool(self._samples)
        self._gap_s = self._first_gap_s
        return inside


def pick(samples: list[Sample], count: int, start_s: float, end_s: float) -> list[Sample]:
    """Up to `count` samples, each nearest to the middle of one of `count` equal parts of the span, in order of time."""
    part_s = (end_s - start_s) / count
    targets = [start_s + part_s * (i + 0.5) for i in range(count)]
    nearest = {min(range(len(samples)), key=lambda i: abs(samples[i].time_s - target)) for target in targets}
    return [samples[i] for i in sorted(nearest)]


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """BGR uint8 picture (height, width, 3) -> JPEG bytes. quality: 1-100."""
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"cannot encode a picture of shape {picture.shape} as JPEG")
    return data.tobytes()
