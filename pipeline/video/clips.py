"""Shots become clips: a shot longer than the maximum is windowed, all of it, at frame boundaries."""

import math
from bisect import bisect_right
from collections import deque
from typing import NamedTuple


class Span(NamedTuple):
    """Half-open presentation time [start_s, end_s) in seconds, and the number of frames in it."""

    start_s: float
    end_s: float
    num_frames: int


class Windower:
    """Turns frame times and cuts, as they come, into spans that tile the video without gap or overlap.

    A shot of at most max_s is one span. A longer one is windowed at max_s; what is left at its end never becomes
    shorter than min_s, because the last two windows then share their time. A shot shorter than min_s is still a span:
    whether it is too short to keep is for the verdict to say, so that no footage disappears. Memory: the frame times of
    at most max_s + min_s seconds.
    """

    def __init__(self, min_s: float, max_s: float):
        self._min_s, self._max_s = min_s, max_s
        self._times: deque[float] = deque()

    @property
    def start_s(self) -> float:
        """Where the next span will start (s)."""
        return self._times[0] if self._times else 0.0

    def push(self, time_s: float, starts_shot: bool) -> list[Span]:
        """Take the next frame's time (s) and whether a shot starts with it; return the spans that are now complete."""
        spans = self._close(time_s) if starts_shot and self._times else []
        self._times.append(time_s)
        if not spans and time_s - self._times[0] > self._max_s:
            at = self._window_end()
            if time_s - self._times[at] >= self._min_s:
                spans = [self._take(at, self._times[at])]
        return spans

    def flush(self, end_s: float) -> list[Span]:
        """The spans still open when the video ends at end_s."""
        return self._close(end_s) if self._times else []

    def _window_end(self) -> int:
        """Index of the last frame at which the first window may end; at least one frame stays in it."""
        return max(1, bisect_right(self._times, self._times[0] + self._max_s) - 1)

    def _close(self, end_s: float) -> list[Span]:
        spans = []
        while end_s - self._times[0] > self._max_s and len(self._times) > 1:
            left_s = end_s - self._times[0]
            if left_s <= self._max_s + self._min_s:
                middle_s = self._times[0] + left_s / 2
                at = min(range(1, self._window_end() + 1), key=lambda i: abs(self._times[i] - middle_s))
            else:
                at = self._window_end()
            spans.append(self._take(at, self._times[at]))
        spans.append(self._take(len(self._times), end_s))
        return spans

    def _take(self, count: int, end_s: float) -> Span:
        span = Span(self._times[0], end_s, count)
        for _ in range(count):
            self._times.popleft()
        return span


def window_starts(shot_s: float, end_s: float, min_s: float, max_s: float, *, ends: bool) -> list[float]:
    """Where Windower will start the clips of a shot, to within a frame, before its frames have come (seconds).

    The shot starts at shot_s and goes on at least until end_s. ends: it ends there.
    """
    starts = [shot_s + max_s * i for i in range(max(1, math.ceil((end_s - shot_s) / max_s)))]
    if ends and len(starts) > 1 and end_s - starts[-1] < min_s:
        starts[-1] = (starts[-2] + end_s) / 2
    return starts
