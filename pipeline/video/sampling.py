"""Read single frames anywhere in a video, with decord: by seeking, so an hour costs no more than its chosen frames."""

import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.errors import BadVideo, one_line
from pipeline.video.decode import TimedFrame, VideoReader, early_end
from pipeline.video.decord_module import load_decord

OPTION = " (split.max_megapixels)"  # of curate's: nothing else that samples frames has it
DECORDS_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+?:\d+: ")  # the clock and the source line, which differ each time


class FrameSampler:
    """A local video file. Raises BadVideo when it cannot be read, with the reasons that `curate` gives.

    times_s: when each frame is shown, float64 (n,), from 0. duration_s, fps (mean), width, height (px, as displayed).
    ended_early: why there are no frames up to the declared end, else None.
    """

    def __init__(self, path: str, *, max_megapixels: float):
        self._path, self._max_megapixels = path, max_megapixels
        try:
            with VideoReader(path, max_megapixels=max_megapixels) as reader:  # decord's own errors say nothing to users
                next(reader.frames())  # from then on a turned video's sides are right
                self.width, self.height = reader.info.width, reader.info.height
        except BadVideo as error:
            raise BadVideo(str(error).replace(OPTION, "")) from error
        try:
            decord: Any = load_decord()
            decord.logging.set_level(decord.logging.QUIET)  # a broken file is reported as a row
            self._reader = decord.VideoReader(path, num_threads=1)
            shown = self._reader.get_frame_timestamp(range(len(self._reader))).astype(np.float64)
        except Exception as error:  # decord raises RuntimeError, AssertionError and errors of its own
            raise BadVideo(f"not a readable video: {decords_reason(error)}") from error
        self.times_s = np.maximum.accumulate(shown[:, 0] - shown[0, 0])
        self.duration_s = max(float(shown[-1, 1] - shown[0, 0]), float(self.times_s[-1]) + 1e-3)
        self.fps = len(self.times_s) / self.duration_s
        self.ended_early = early_end(self.duration_s, reader.info.duration_s)
        self._pass: _DamagedPass | None = None

    def shown_at(self, times_s: Sequence[float]) -> list[int]:
        """The index of the frame that is on screen at each of the times (seconds)."""
        return np.clip(np.searchsorted(self.times_s, np.asarray(times_s) + 1e-6, "right") - 1, 0, None).tolist()

    def picture(self, index: int, width: int, height: int) -> np.ndarray:
        """A frame as RGB uint8 (height, width, 3); where it is damaged, the nearest that is not. Raises BadVideo when
        none can be decoded from there on."""
        picture = self._decode(index)
        smaller = width * height < picture.shape[0] * picture.shape[1]
        return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)

    def _decode(self, index: int) -> np.ndarray:
        if self._pass is None:
            try:
                picture = self._reader[index].asnumpy()
                if picture.shape == (self.height, self.width, 3):  # of a damaged file it may give four channels
                    return picture
            except Exception:  # decord reads ahead and gives up at a damaged packet
                pass
            self._pass = _DamagedPass(self._path, self._max_megapixels)  # from here on: what decord gives is chance
        return self._pass.nearest(float(self.times_s[index]))


class _DamagedPass:
    """The frames of a damaged video by their times: read from its beginning as `curate` does, past what is damaged."""

    def __init__(self, path: str, max_megapixels: float):
        self._path, self._max_megapixels = path, max_megapixels
        self._begin()

    def _begin(self) -> None:
        self._reader = VideoReader(self._path, max_megapixels=self._max_megapixels)
        self._frames = self._reader.frames()
        self._shown: TimedFrame = next(self._frames)
        self._next: TimedFrame | None = next(self._frames, None)

    def nearest(self, time_s: float) -> np.ndarray:
        """RGB uint8 (height, width, 3), upright. Raises BadVideo behind the last frame that can be decoded."""
        if time_s < self._shown.time_s:
            self._begin()
        while self._next is not None and self._next.time_s <= time_s:
            self._shown, self._next = self._next, next(self._frames, None)
        frame = self._shown
        if self._next is not None and self._next.time_s - time_s < time_s - frame.time_s:
            frame = self._next
        elif self._next is None and self._reader.ended_early and time_s >= self._reader.end_s:
            raise BadVideo(self._reader.ended_early)
        return np.ascontiguousarray(np.rot90(frame.image.to_ndarray(format="rgb24"), frame.quarter_turns))


def decords_reason(error: Exception) -> str:
    """What decord says, without where and when in its own source: equal errors have equal reasons."""
    return DECORDS_PLACE.sub("", one_line(error, 1000))[:200]
