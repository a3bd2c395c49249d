"""The frames of a video in order of time, decoded or not, on their way from a pass to the clip maker."""

from collections import deque
from collections.abc import Iterator

import numpy as np

from pipeline.video.decode import VideoReader
from pipeline.video.measured import Clip, ClipMaker
from pipeline.video.shots import CutDetector


class Timeline:
    """Ticks -> seconds since the first frame; thumbnails -> cuts, where frames next to each other were decoded."""

    def __init__(self, reader: VideoReader, maker: ClipMaker, detector: CutDetector):
        self._reader, self._maker, self._detector = reader, maker, detector
        self._undecided: deque[float] = deque()
        self._zero_s: float | None = None  # the time stamp at which the video starts; moves where time stamps jump back
        self._end_s: float | None = None
        self._last_s = -1.0  # when the last frame was shown
        self._last_was_decoded = False
        self.shot_start_s = 0.0  # the last frame that is known to start a shot

    @property
    def has_gap(self) -> bool:
        """Was the last frame left out?"""
        return not self._last_was_decoded

    def enter(self, pts: int) -> None:
        """The next group begins at `pts` (ticks). Where time stamps jump back, time goes on after the last frame."""
        if self._zero_s is None:
            self._zero_s = pts * self._reader.tick_s
        elif self.time_s(pts) <= self._last_s:
            self._zero_s = pts * self._reader.tick_s - (self._last_s + 1 / self._reader.info.fps)

    def time_s(self, pts: int) -> float:
        return pts * self._reader.tick_s - (self._zero_s or 0.0)

    def next_s(self, pts: int | None) -> float:
        """When the next frame is shown, whatever its time stamp (s): as in VideoReader.frames."""
        time_s = -1.0 if pts is None else self.time_s(pts)
        return time_s if time_s > self._last_s else self._last_s + 1 / self._reader.info.fps

    def ticks(self, time_s: float) -> int:
        """The pts (ticks) of a time (s), rounded."""
        return round((time_s + (self._zero_s or 0.0)) / self._reader.tick_s)

    def ticks_in(self, length_s: float) -> int:
        """Ticks in so many seconds, at least one."""
        return max(1, round(length_s / self._reader.tick_s))

    def show(
        self, time_s: float, thumb: np.ndarray | None, duration: int, starts_shot: bool | None = None
    ) -> Iterator[Clip]:
        """The next frame: when it is shown (s) and for how long (ticks), its thumbnail if it was decoded, and whether a
        shot starts with it if that is known; else it is decided from the thumbnails."""
        self._last_s = time_s
        self._end_s = self._last_s + (duration * self._reader.tick_s or 1 / self._reader.info.fps)
        self._last_was_decoded = thumb is not None
        if starts_shot:
            self.shot_start_s = self._last_s
        self._undecided.append(self._last_s)
        yield from self._decide(self._detector.push(thumb, starts_shot))

    def finish(self) -> Iterator[Clip]:
        """All frames were shown. Raises BadVideo if there was none."""
        yield from self._decide(self._detector.flush())
        self._reader.end(self._end_s)

    def _decide(self, answers: list[bool]) -> Iterator[Clip]:
        for starts_shot in answers:
            time_s = self._undecided.popleft()
            if starts_shot:
                self.shot_start_s = max(self.shot_start_s, time_s)
            yield from self._maker.frame(time_s, starts_shot, self._reader.info)
