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
        self._last_s = -1.0
        self._last_was_decoded = False

    @property
    def broken(self) -> bool:
        """Was the last frame left out?"""
        return not self._last_was_decoded

    def enter(self, pts: int) -> None:
        """The next frame is shown at `pts` (ticks). Where time stamps jump back, time goes on after the last frame."""
        if self._zero_s is None:
            self._zero_s = pts * self._reader.tick_s
        elif self.time_s(pts) <= self._last_s:
            self._zero_s = pts * self._reader.tick_s - (self._last_s + 1 / self._reader.info.fps)

    def time_s(self, pts: int) -> float:
        return pts * self._reader.tick_s - (self._zero_s or 0.0)

    def show(
        self, pts: int, thumb: np.ndarray | None, duration: int, starts_shot: bool | None = None
    ) -> Iterator[Clip]:
        """The next frame: when it is shown and for how long (ticks), its thumbnail if it was decoded, and whether a
        shot starts with it if that is known; else it is decided from the thumbnails."""
        self.enter(pts)
        self._last_s = self.time_s(pts)
        self._end_s = self._last_s + (duration * self._reader.tick_s or 1 / self._reader.info.fps)
        self._last_was_decoded = thumb is not None
        self._undecided.append(self._last_s)
        yield from self._decide(self._detector.push(thumb, starts_shot))

    def finish(self) -> Iterator[Clip]:
        """All frames were shown. Raises BadVideo if there was none."""
        yield from self._decide(self._detector.flush())
        self._reader.end(self._end_s)

    def _decide(self, answers: list[bool]) -> Iterator[Clip]:
        for starts_shot in answers:
            yield from self._maker.frame(self._undecided.popleft(), starts_shot, self._reader.info)
