"""Keep pictures while frames go by, so that a clip's frames can be picked once its span is known."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.video.quality import MotionPair

MOTION_GAP_S = 0.1  # frames closer than this may be repeats of one picture (animation on twos, doubled frame rates)


@dataclass(frozen=True)
class Sample:
    """A picture (BGR uint8, height x width x 3) shown at time_s, with the motion that led to it if known."""

    time_s: float
    picture: np.ndarray
    motion: MotionPair | None


class Sampler:
    """Pictures at even distances, thinned out as a clip grows, but never so far that the shortest clip has none.

    A picture is made (scaled, converted) only when it is kept, so the cost is a few a second whatever the frame rate.
    """

    def __init__(self, per_clip: int, min_clip_s: float):
        self._per_clip = per_clip
        # finer than the pictures wanted of the shortest clip, so that there is a choice
        self._first_gap_s = self._gap_s = min_clip_s / per_clip / 1.5
        self._max_gap_s = min_clip_s / 2
        self._samples: list[Sample] = []
        self._recent: deque[tuple[float, np.ndarray]] = deque()

    def offer(self, time_s: float, gray: np.ndarray, picture: Callable[[], np.ndarray]) -> None:
        """Take the next frame: its time (s), its gray thumbnail (uint8), and a way to make its picture."""
        while len(self._recent) > 1 and self._recent[1][0] <= time_s - MOTION_GAP_S:
            self._recent.popleft()
        if not self._samples or time_s >= self._samples[-1].time_s + self._gap_s:
            self._samples.append(Sample(time_s, picture(), self._motion_to(time_s, gray)))
            if len(self._samples) > 6 * self._per_clip and self._gap_s <= self._max_gap_s / 2:
                self._samples, self._gap_s = self._samples[::2], self._gap_s * 2
        self._recent.append((time_s, gray))

    def _motion_to(self, time_s: float, gray: np.ndarray) -> MotionPair | None:
        if not self._recent:
            return None
        before_s, before = self._recent[0]
        return MotionPair(before, gray, time_s - before_s)

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        """The samples in [start_s, end_s); what came later stays for the next clip, what came earlier is gone.

        Motion that reaches back before start_s belongs to another shot and is removed.
        """
        inside = [sample for sample in self._samples if start_s <= sample.time_s < end_s]
        self._samples = [sample for sample in self._samples if sample.time_s >= end_s]
        self._gap_s = self._first_gap_s
        return [_within(sample, start_s) for sample in inside]


def _within(sample: Sample, start_s: float) -> Sample:
    if sample.motion is None or sample.time_s - sample.motion.gap_s >= start_s - 1e-6:
        return sample
    return Sample(sample.time_s, sample.picture, None)


def pick(samples: list[Sample], count: int, start_s: float, end_s: float) -> list[Sample]:
    """`count` samples, or all if there are fewer, in order of time: each as near as can be to the middle of one of
    `count` equal parts of the span."""
    if len(samples) <= count:
        return samples
    part_s, chosen = (end_s - start_s) / count, []
    for i in range(count):
        target_s = start_s + part_s * (i + 0.5)
        free = range(chosen[-1] + 1 if chosen else 0, len(samples) - (count - i) + 1)
        chosen.append(min(free, key=lambda j: abs(samples[j].time_s - target_s)))
    return [samples[j] for j in chosen]


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """BGR uint8 picture (height, width, 3) -> JPEG bytes. quality: 1-100."""
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"cannot encode a picture of shape {picture.shape} as JPEG")
    return data.tobytes()
