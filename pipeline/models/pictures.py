"""JPEG frames as arrays."""

import cv2
import numpy as np


def decode(jpeg: bytes) -> np.ndarray:
    """JPEG bytes -> RGB uint8 (height, width, 3). Raises ValueError for anything else."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) if jpeg else None
    if picture is None:
        raise ValueError("a frame is not a readable JPEG")
    return picture


def unit(vectors: np.ndarray) -> np.ndarray:
    """Mean of vectors (n, d), each first brought to unit length, itself of unit length: float32 (d,)."""
    each = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = each.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError("the embedding has no direction")
    return (mean / length).astype(np.float32)
