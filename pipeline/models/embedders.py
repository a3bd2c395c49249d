"""Clip embeddings: the mean over a clip's frames, of unit length, so that a dot product is the cosine."""

from typing import Protocol

import numpy as np

from pipeline.models.efficientnet import EfficientNet
from pipeline.models.pictures import decode, unit
from pipeline.settings import EmbedSettings


class Embedder(Protocol):
    """name goes into the table; the call takes the JPEG frames of each clip and gives one float32 vector a clip."""

    name: str

    def __call__(self, clips: list[list[bytes]]) -> list[np.ndarray]: ...


class EfficientNetEmbedder:
    """1280-d pooled features of the embedded classifier."""

    def __init__(self, threads: int = 1):
        self._model = EfficientNet(threads)
        self.name = self._model.name

    def __call__(self, clips: list[list[bytes]]) -> list[np.ndarray]:
        """One forward for all frames of all clips. Raises ValueError for an unreadable frame."""
        features = self._model.features([decode(frame) for frames in clips for frame in frames])
        return _by_clip(features, clips)


class ClipEmbedder:
    """CLIP image features (Radford et al., ICML 2021): 512-d for openai/clip-vit-base-patch32."""

    def __init__(self, model: str, threads: int = 1):
        import torch
        from transformers import CLIPImageProcessor, CLIPModel

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = CLIPModel.from_pretrained(model).eval()
        self._processor = CLIPImageProcessor.from_pretrained(model)
        self.name = model

    def __call__(self, clips: list[list[bytes]]) -> list[np.ndarray]:
        """One forward for all frames of all clips. Raises ValueError for an unreadable frame."""
        pictures = [decode(frame) for frames in clips for frame in frames]
        inputs = self._processor(images=pictures, return_tensors="pt")
        with self._torch.inference_mode():
            features = self._model.get_image_features(pixel_values=inputs["pixel_values"])
        return _by_clip(features.pooler_output.numpy(), clips)  # type: ignore[union-attr]


def make_embedder(settings: EmbedSettings, threads: int = 1) -> Embedder:
    """The embedder that the settings name, loaded."""
    if settings.embedder == "clip":
        return ClipEmbedder(settings.clip_model, threads)
    return EfficientNetEmbedder(threads)


def _by_clip(features: np.ndarray, clips: list[list[bytes]]) -> list[np.ndarray]:
    return [unit(of_clip) for of_clip in np.split(features, np.cumsum([len(frames) for frames in clips])[:-1])]
