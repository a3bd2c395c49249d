"""ResNet50 (He et al., CVPR 2016) with torchvision's ImageNet weights, which are loaded, not shipped."""

from functools import cached_property

import cv2
import numpy as np

from pipeline.errors import UserError, one_line
from pipeline.models.forward import in_slices

SIDE_PX = 224
MEAN, SCALE = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)  # in parts of full brightness


class ResNet50:
    """Loaded once, then called with batches of frames.

    weights: a local file with a state dict, or None for torchvision's cache or download. device: `cpu` or `cuda`.
    Raises UserError when the weights cannot be had.
    """

    name = "resnet50"

    def __init__(self, weights: str | None = None, *, device: str = "cpu", threads: int = 1):
        import torch
        from torchvision.models import ResNet50_Weights, resnet50

        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        network = resnet50(weights=None)
        try:
            if weights is None:
                state = ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=False)
            else:
                state = torch.load(weights, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except Exception as error:  # no file, no network, another network's weights: each raises its own
            where = weights or "torchvision's download"
            raise UserError(f"resnet50: no weights from {where}: {one_line(error)} (--weights names a file)") from error
        self._network = network.eval().to(device)

    @cached_property
    def classes(self) -> list[str]:
        """The 1000 ImageNet class names."""
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return _IMAGENET_CATEGORIES

    def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any size -> class probabilities, float32 (n, 1000)."""
        with self._torch.inference_mode():
            return in_slices(lambda some: self._network(self._prepare(some)).softmax(1).cpu().numpy(), pictures)

    def _prepare(self, pictures: list[np.ndarray]):
        # the whole frame, not its middle: what happens at the edge of a wide frame counts too
        small = [cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for picture in pictures]
        batch = (np.stack(small).astype(np.float32) / 255 - MEAN) / SCALE
        return self._torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))).to(self._device)
