"""The dense pass: decode every frame, and compare as many as it takes.

Every STRIDE_S a frame is compared with the last such. Only where the two differ somewhat, those halfway between them
are, and so on down to neighbours: a cut changes the picture for good, so none can hide between two that are the same.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.settings import FrameSettings, SplitSettings
from pipeline.video.decode import TimedFrame, VideoReader
from pipeline.video.images import Images
from pipeline.video.measured import Clip, ClipMaker
from pipeline.video.shots import NEIGHBOURS, SAME, CutDetector, CutThresholds, change

STRIDE_S = 0.125  # as far as that are frames apart that are compared in any case (seconds)


def dense_clips(reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings) -> Iterator[Clip]:
    """The clips of a video by the dense pass: the reference that the sparse pass is measured against."""
    return _DensePass(reader, maker, shots, frames).clips()


@dataclass
class _Run:
    """Frames in order, at most `length`, and the HSV thumbnails of those that were looked at, by index."""

    length: int = 0
    frames: list[TimedFrame] = field(default_factory=list)
    thumbs: dict[int, np.ndarray] = field(default_factory=dict)


class _DensePass:
    """Frames wait in runs of one stride: which of a run are compared is known with the run after it."""

    def __init__(self, reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings):
        self._reader, self._maker = reader, maker
        self._images = Images(frames.max_side_px, decodes_all=True)
        self._detector = CutDetector(CutThresholds(shots.min_change, shots.min_change_ratio))
        self._same = SAME * shots.min_change
        self._undecided: deque[float] = deque()  # times (s) of frames that the detector has not answered for
        self._before, self._run = _Run(), _Run()
        self._owed = 0  # so many of the next frames are neighbours of a change (count)

    def clips(self) -> Iterator[Clip]:
        for frame in self._reader.frames(self._images.handful):
            if frame.damaged:
                self._maker.damaged(frame.time_s)
            run = self._run
            run.length = run.length or self._stride(frame)
            run.frames.append(frame)
            if self._owed:
                self._owed -= 1
                self._look(len(run.frames) - 1)
            if len(run.frames) < run.length:
                continue
            self._compare()
            yield from self._hand_on(self._before)
            self._before, self._run = run, _Run()
        if self._run.frames:
            self._compare()
        yield from self._hand_on(self._before)
        yield from self._hand_on(self._run)
        yield from self._decide(self._detector.flush())

    def _stride(self, frame: TimedFrame) -> int:
        """So many frames make a run; fewer where frames are large, as two runs are held."""
        return max(1, min(self._images.num_held(frame.image), round(STRIDE_S * self._reader.info.fps)))

    def _compare(self) -> None:
        """Look at the last frame of the run, and closer where the picture changed since the last of the run before."""
        last = len(self._run.frames) - 1
        if self._before.frames:
            self._narrow(-1, last)
        else:
            for i in range(last + 1):
                self._look(i)

    def _narrow(self, first: int, last: int) -> None:
        """Halve [first, last] down to where the picture changes, and look at the neighbours there, too."""
        if change(self._look(first), self._look(last)) < self._same:
            return
        if last - first > 1:
            middle = (first + last) // 2
            self._narrow(first, middle)
            self._narrow(middle, last)
            return
        until = last + NEIGHBOURS + 1
        for i in range(max(first - NEIGHBOURS, -len(self._before.frames)), min(until, len(self._run.frames))):
            self._look(i)
        self._owed = max(self._owed, until - len(self._run.frames))

    def _look(self, index: int) -> np.ndarray:
        """The thumbnail of a frame of the run, or of the one before it (from -1 down)."""
        run = self._run if index >= 0 else self._before
        index %= len(run.frames)
        if index not in run.thumbs:
            run.thumbs[index] = self._images.thumbnail(run.frames[index].image)
        return run.thumbs[index]

    def _hand_on(self, run: _Run) -> Iterator[Clip]:
        """A run's frames, in order; those that were looked at are offered as pictures, too."""
        for i, frame in enumerate(run.frames):
            self._undecided.append(frame.time_s)
            thumb = run.thumbs.get(i)
            if thumb is not None:
                picture = self._images.later(frame.image, frame.quarter_turns, self._reader)
                self._maker.sample(frame.time_s, thumb[:, :, 2], picture)
            yield from self._decide(self._detector.push(thumb, None if thumb is not None else False))

    def _decide(self, answers: list[bool]) -> Iterator[Clip]:
        for starts_shot in answers:
            yield from self._maker.frame(self._undecided.popleft(), starts_shot, self._reader.info)
