"""What networks with the classes of ImageNet have in common: their names, and how pictures are put to them."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from pipeline.models.forward import in_slices

SIDE_PX = 224


class ImageNetClassifier:
    """Loaded once, then called with batches of frames. A subclass sets `_network` (in evaluation mode, on the device)
    and says how levels are normalized."""

    def __init__(self, device: str, threads: int):
        import torch

        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        self._network: Any = None

    @cached_property
    def classes(self) -> list[str]:
        """The 1000 ImageNet class names."""
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return _IMAGENET_CATEGORIES

    def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any size -> class probabilities, float32 (n, 1000)."""
        return self._forward(lambda batch: self._network(batch).softmax(1), pictures)

    def _forward(self, ask: Callable[[Any], Any], pictures: list[np.ndarray]) -> np.ndarray:
        with self._torch.inference_mode():
            return in_slices(lambda some: ask(self._prepare(some)).cpu().numpy(), pictures)

    def _prepare(self, pictures: list[np.ndarray]) -> Any:
        # the whole frame, not its middle: what happens at the edge of a wide frame counts too
        small = [cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for picture in pictures]
        batch = self._normalized(np.stack(small).astype(np.float32))
        return self._torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))).to(self._device)

    def _normalized(self, levels: np.ndarray) -> np.ndarray:
        """float32 (n, SIDE_PX, SIDE_PX, 3), 0-255 -> what the network was trained on."""
        raise NotImplementedError
