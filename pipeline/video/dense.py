"""The dense pass: decode every frame, and compare as many as it takes.

Every STRIDE_S a frame is compared with the last such. Only where the two differ somewhat, the frames between and around
them are compared one by one: a cut changes the picture for good, so none can hide between two that are the same.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.settings import FrameSettings, SplitSettings
from pipeline.video.decode import TimedFrame, VideoReader
from pipeline.video.images import MAX_WAITING_BYTES, Images
from pipeline.video.measured import Clip, ClipMaker
from pipeline.video.shots import SAME, CutDetector, CutThresholds, change

STRIDE_S = 0.125  # as far as that are frames apart that are compared in any case (seconds)
MAX_STRIDE = 6  # ... and so many frames at most (count)


def dense_clips(reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings) -> Iterator[Clip]:
    """The clips of a video by the dense pass: the reference that the sparse pass is measured against."""
    return _DensePass(reader, maker, shots, frames).clips()


@dataclass
class _Run:
    """Frames in order, and the HSV thumbnail of the last once there are as many as a stride has (`length`, which the
    first frame tells)."""

    length: int = 0
    frames: list[TimedFrame] = field(default_factory=list)
    last: np.ndarray | None = None


class _DensePass:
    """Frames wait in runs of one stride: whether all of a run are compared is known with the run after it."""

    def __init__(self, reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings):
        self._reader, self._maker = reader, maker
        self._images = Images(frames.max_side_px)
        self._detector = CutDetector(CutThresholds(shots.min_change, shots.min_change_ratio))
        self._same = SAME * shots.min_change
        self._undecided: deque[float] = deque()  # times (s) of frames that the detector has not answered for
        self._changed = (True, True)  # did the picture change within the waiting run, and within the one before it?

    def clips(self) -> Iterator[Clip]:
        run, waiting = _Run(), _Run()
        for frame in self._reader.frames():
            run.frames.append(frame)
            if frame.damaged:
                self._maker.damaged(frame.time_s)
            run.length = run.length or self._stride(frame)
            if len(run.frames) < run.length:
                continue
            run.last = self._images.thumbnail(frame.image)
            changed = waiting.last is None or change(waiting.last, run.last) >= self._same
            yield from self._hand_on(waiting, changed)
            waiting, run = run, _Run()
        yield from self._hand_on(waiting, True)
        yield from self._hand_on(run, True)
        yield from self._decide(self._detector.flush())

    def _stride(self, frame: TimedFrame) -> int:
        """So many frames make a run; fewer where frames are large, as two runs are held."""
        held = MAX_WAITING_BYTES // (2 * sum(plane.buffer_size for plane in frame.image.planes))
        return max(1, min(MAX_STRIDE, held, round(STRIDE_S * self._reader.info.fps)))

    def _hand_on(self, run: _Run, changes_after: bool) -> Iterator[Clip]:
        """A run's frames, in order; those compared are offered as pictures, too.

        changes_after: does the picture change within the next run?
        """
        compare_all = changes_after or any(self._changed)
        for frame in run.frames:
            is_last = frame is run.frames[-1]
            self._undecided.append(frame.time_s)
            if not (compare_all or is_last):
                yield from self._decide(self._detector.push(None, False))
                continue
            thumb = run.last if is_last and run.last is not None else self._images.thumbnail(frame.image)
            picture = self._images.later(frame.image, frame.quarter_turns, self._reader)
            self._maker.sample(frame.time_s, thumb[:, :, 2], picture)
            yield from self._decide(self._detector.push(thumb))
        self._changed = (changes_after, self._changed[0])

    def _decide(self, answers: list[bool]) -> Iterator[Clip]:
        for starts_shot in answers:
            yield from self._maker.frame(self._undecided.popleft(), starts_shot, self._reader.info)
