"""Names what a clip shows, with the embedded ImageNet classifier."""

import numpy as np

from pipeline.models.efficientnet import EfficientNet
from pipeline.models.pictures import decode


class Labeller:
    """frames of clips -> the clips' labels, likeliest first."""

    def __init__(self, top_k: int, threads: int = 1):
        self._model = EfficientNet(threads)
        self._top_k = top_k
        self.name = f"labels:{self._model.name}"

    def __call__(self, clips: list[list[bytes]]) -> list[dict[str, object]]:
        """JPEG frames of each clip -> the fields of the labels task. Raises ValueError for an unreadable frame."""
        counts = [len(frames) for frames in clips]
        scores = self._model.probabilities([decode(frame) for frames in clips for frame in frames])
        answers = []
        for of_clip in np.split(scores, np.cumsum(counts)[:-1]):
            mean = of_clip.mean(axis=0)
            best = np.argsort(mean)[::-1][: self._top_k]
            labels = [self._model.classes[i] for i in best]
            answers.append(
                {"label": labels[0], "labels": labels, "label_scores": [round(float(mean[i]), 4) for i in best]}
            )
        return answers
