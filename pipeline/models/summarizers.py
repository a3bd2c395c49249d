"""What `summarize` asks about a clip: any class that is made with a device (`cpu`, `cuda`) and called with clips.

`--model FILE.py:CLASS` names one of your own; the README's section on it has a worked example. A captioner (BLIP) looks
at `clip.frames`; a transcriber (Whisper) opens `clip.video_path` and reads the sound from start_sec to end_sec.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.models.imagenet import ImageNetClassifier


@dataclass(frozen=True)
class ClipFrames:
    """A clip of a video, or a picture that counts as one.

    video_path: where it is, a path or URI. frames: RGB uint8 (height, width, 3) each, in order of time.
    start_sec, end_sec: seconds.
    """

    video_path: str
    start_sec: float
    end_sec: float
    frames: list[np.ndarray]


BUILT_IN = ("efficientnet", "resnet50")
Summarizer = Callable[[list[ClipFrames]], Sequence[str]]


class LabelUnion:
    """The top_k labels of each frame, all of a clip's together, likeliest first: `limousine, streetcar, minivan`."""

    def __init__(self, classifier: "ImageNetClassifier", top_k: int):
        self._classifier, self._top_k = classifier, top_k

    def __call__(self, clips: list[ClipFrames]) -> list[str]:
        """The network sees each clip alone: scores differ by the pictures beside them, in their last bits, and which
        clips come together is a matter of timing."""
        return [self._union(self._classifier.probabilities(clip.frames)) for clip in clips]

    def _union(self, scores: np.ndarray) -> str:
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._top_k]
        union = np.unique(best)
        return ", ".join(
            self._classifier.classes[i] for i in union[np.argsort(-scores[:, union].max(0), kind="stable")]
        )


def make_summarizer(model: str, *, weights: str | None, top_k: int, device: str) -> Summarizer:
    """A model of BUILT_IN, loaded. Raises UserError when there is none, or its weights cannot be had."""
    if model == "efficientnet":
        from pipeline.models.efficientnet import EfficientNet

        return LabelUnion(EfficientNet(device=device), top_k)
    if model == "resnet50":
        from pipeline.models.resnet import ResNet50

        return LabelUnion(ResNet50(weights, device=device), top_k)
    raise UserError(f"--model {model}: it is {', '.join(BUILT_IN)}, or FILE.py:CLASS")
