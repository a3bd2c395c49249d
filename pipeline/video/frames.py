"""Keep pictures while frames go by, so that a clip's frames can be picked once its span is known."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.video.quality import MotionPair

MOTION_GAP_S = 0.1  # frames closer than this may be repeats of one picture (animation on twos, doubled frame rates)
CHOICE = 6  # so many times the pictures wanted of a clip are kept of a shot to choose from (factor)
MAX_SHOTS = 4  # ... and this many times that of all whose clip is not known yet (factor)
Picture = Callable[[], np.ndarray]  # makes a frame's picture: BGR uint8 (height, width, 3)


@dataclass
class Sample:
    """A frame shown at time_s, how to make its picture, and the motion to it, or from it, within its shot."""

    time_s: float
    picture: Picture
    motion: MotionPair | None


@dataclass
class _Kept:
    """A frame whose shot is not known yet: its gray thumbnail, the motion to and from it."""

    time_s: float
    picture: Picture
    gray: np.ndarray
    before: MotionPair | None
    after: MotionPair | None = None

    def within(self, start_s: float, end_s: float) -> Sample:
        """Motion that reaches out of [start_s, end_s) belongs to another shot, too, and is none of this one."""
        motion = None
        if self.before is not None and self.time_s - self.before.gap_s >= start_s - 1e-6:
            motion = self.before
        elif self.after is not None and self.time_s + self.after.gap_s < end_s:
            motion = self.after
        return Sample(self.time_s, self.picture, motion)


class Sampler:
    """Frames at even distances, thinned out as a clip grows, but never so far that the shortest clip has none.

    A picture is made (scaled, converted) only when it is picked, so the cost is a few a clip whatever the frame rate.

    gaps: frames will be missing (the sparse pass decodes some stretches only): the first picture of a stretch or shot
    then has the motion that leads from it, as there is none that leads to it.
    coarse: after the first pictures of a shot, fewer: where few frames are decoded, one costs as much as decoding does.
    """

    def __init__(
        self, per_clip: int, min_clip_s: float, max_clip_s: float, *, gaps: bool = False, coarse: bool = False
    ):
        self._per_clip, self._max_clip_s, self._gaps = per_clip, max_clip_s, gaps
        # finer than the pictures wanted of the shortest clip, so that there is a choice
        self._first_gap_s = min_clip_s / per_clip / 1.5
        self._max_gap_s = min_clip_s / 2
        self.stretch_s = (per_clip - 1) * self._first_gap_s  # so much of a shot has as many pictures as are wanted (s)
        # the first of a shot are closer: where frames are left out, the next one that comes may be that much later
        self.least_gap_s = self._first_gap_s / 2 if gaps else self._first_gap_s
        if coarse:
            self._first_gap_s = min(2 * self._first_gap_s, self._max_gap_s, max_clip_s / 2 / per_clip)
        self._gap_s = self._first_gap_s
        self._new_gap_s = 0.0  # the same for what shows something new
        self._samples: list[_Kept] = []
        self._shot = 0  # index of the first sample since the last that showed something new
        self._recent: deque[tuple[float, np.ndarray]] = deque()
        self._awaits_after = False  # the last sample has no motion from it yet

    def offer(self, time_s: float, gray: np.ndarray, picture: Picture, *, new: bool = False) -> None:
        """Take the next frame: its time (s), its gray thumbnail (uint8), and a way to make its picture.

        new: it shows something new, so it is kept even if the last picture is close (but not if all are new).
        """
        while len(self._recent) > 1 and self._recent[1][0] <= time_s - MOTION_GAP_S:
            self._recent.popleft()
        if self._awaits_after and time_s >= self._samples[-1].time_s + MOTION_GAP_S:
            last = self._samples[-1]
            last.after = MotionPair(last.gray, gray, time_s - last.time_s)
            self._awaits_after = False
        since_s = time_s - self._samples[-1].time_s if self._samples else math.inf
        new = new and since_s >= self._new_gap_s
        few = len(self._samples) - self._shot < self._per_clip
        gap_s = min(self._gap_s, max(self.least_gap_s, self._new_gap_s)) if few else self._gap_s
        if new or since_s >= gap_s - 1e-9:
            if new:
                self._shot, self._gap_s = len(self._samples), max(self._first_gap_s, self._new_gap_s)
            self._samples.append(_Kept(time_s, picture, gray, self._motion_to(time_s, gray)))
            self._awaits_after = self._gaps
            self._keep_few()
        self._recent.append((time_s, gray))

    def count(self, start_s: float, end_s: float) -> int:
        """Samples in [start_s, end_s)."""
        return sum(start_s <= sample.time_s < end_s for sample in self._samples)

    def _motion_to(self, time_s: float, gray: np.ndarray) -> MotionPair | None:
        if not self._recent:
            return None
        before_s, before = self._recent[0]
        return MotionPair(before, gray, time_s - before_s)

    def _keep_few(self) -> None:
        """Keep samples farther apart where there are too many, of this shot or of all."""
        many = CHOICE * self._per_clip
        num_clips = (self._samples[-1].time_s - self._samples[self._shot].time_s) / self._max_clip_s
        if len(self._samples) - self._shot > many * max(1.0, num_clips) and self._gap_s <= self._max_gap_s / 2:
            self._thin_out(self._shot)
            self._gap_s *= 2
        elif self._shot and len(self._samples) > MAX_SHOTS * many and self._new_gap_s <= self._max_gap_s / 2:
            self._thin_out(0)  # it is no news any more that something new is to be seen
            self._gap_s = self._new_gap_s = max(self._first_gap_s, 2 * self._new_gap_s)

    def _thin_out(self, first: int) -> None:
        """Every second sample goes, from index `first` on."""
        last = self._samples[-1]
        self._samples[first:] = self._samples[first::2]
        self._shot = min(self._shot, len(self._samples) - 1)
        self._awaits_after = self._awaits_after and self._samples[-1] is last

    def skip(self) -> None:
        """Frames are missing before the next one: motion is not measured across them."""
        self._recent.clear()
        self._awaits_after = False

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        """The samples in [start_s, end_s); what came later stays for the next clip, what came earlier is gone."""
        inside = [sample.within(start_s, end_s) for sample in self._samples if start_s <= sample.time_s < end_s]
        later = [sample for sample in self._samples if sample.time_s >= end_s]
        self._shot = max(0, self._shot - (len(self._samples) - len(later)))
        self._samples = later
        self._awaits_after = self._awaits_after and bool(self._samples)
        self._gap_s, self._new_gap_s = self._first_gap_s, 0.0
        return inside


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
