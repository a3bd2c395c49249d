"""ResNet50 (He et al., CVPR 2016) with torchvision's ImageNet weights, which are loaded, not shipped."""

import numpy as np

from pipeline.errors import UserError, one_line
from pipeline.models.imagenet import ImageNetClassifier

MEAN, SCALE = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)  # in parts of full brightness


class ResNet50(ImageNetClassifier):
    """Loaded once, then called with batches of frames.

    weights: a local file with a state dict, or None for torchvision's cache or download. device: `cpu` or `cuda`.
    Raises UserError when the weights cannot be had.
    """

    name = "resnet50"

    def __init__(self, weights: str | None = None, *, device: str = "cpu", threads: int = 1):
        import torch
        from torchvision.models import ResNet50_Weights, resnet50

        super().__init__(device, threads)
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

    def _normalized(self, levels: np.ndarray) -> np.ndarray:
        return (levels / 255 - MEAN) / SCALE
