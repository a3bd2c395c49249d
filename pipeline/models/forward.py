"""How many pictures a network is given at once, so that its memory does not grow with what it is asked."""

from collections.abc import Callable
from typing import Any

import numpy as np

AT_ONCE = 16  # pictures; of EfficientNet-Lite0 some 300 MB on a CPU, and no slower than more


def in_slices(forward: Callable[[list], np.ndarray], pictures: list[Any], at_once: int = AT_ONCE) -> np.ndarray:
    """What forward (n pictures -> n rows) gives for all pictures, so many at a time."""
    return np.concatenate([forward(pictures[i : i + at_once]) for i in range(0, len(pictures), at_once)])
