"""Read single frames anywhere in a video, with decord: by seeking, so an hour costs no more than its chosen frames."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.errors import BadVideo, one_line
from pipeline.video.decode import VideoReader
from pipeline.video.decord_module import load_decord


class FrameSampler:
    """A local video file. Raises BadVideo when it cannot be read, with the reasons that `curate` gives.

    times_s: when each frame is shown, float64 (n,), from 0. duration_s, fps (mean), width, height (px, as displayed).
    """

    def __init__(self, path: str, *, max_megapixels: float):
        with VideoReader(path, max_megapixels=max_megapixels) as reader:  # decord's own errors say nothing to a user
            next(reader.frames())
            self.width, self.height = reader.info.width, reader.info.height
        try:
            self._reader: Any = load_decord().VideoReader(path, num_threads=1)
            shown = self._reader.get_frame_timestamp(range(len(self._reader))).astype(np.float64)
        except Exception as error:  # decord raises RuntimeError, AssertionError and errors of its own
            raise BadVideo(f"not a readable video: {one_line(error)}") from error
        self.times_s = np.maximum.accumulate(shown[:, 0] - shown[0, 0])
        self.duration_s = max(float(shown[-1, 1] - shown[0, 0]), float(self.times_s[-1]) + 1e-3)
        self.fps = len(self.times_s) / self.duration_s

    def shown_at(self, times_s: Sequence[float]) -> list[int]:
        """The index of the frame that is on screen at each of the times (seconds)."""
        return np.clip(np.searchsorted(self.times_s, np.asarray(times_s) + 1e-6, "right") - 1, 0, None).tolist()

    def picture(self, index: int, width: int, height: int) -> np.ndarray:
        """A frame as RGB uint8 (height, width, 3). Raises BadVideo when it cannot be decoded."""
        try:
            picture = self._reader[index].asnumpy()
        except Exception as error:
            raise BadVideo(f"frame {index} cannot be decoded: {one_line(error)}") from error
        smaller = width * height < picture.shape[0] * picture.shape[1]
        return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
