"""How many pictures a network is given at once, so that its memory does not grow with what it is asked."""

from collections.abc import Callable

import numpy as np

AT_ONCE = 16  # pictures; of EfficientNet-Lite0 some 300 MB on a CPU, and no slower than more


def in_slices(forward: Callable[[list[np.ndarray]], np.ndarray], pictures: list[np.ndarray]) -> np.ndarray:
    """What forward (n pictures -> n rows) gives for all pictures, some at a time."""
    return np.concatenate([forward(pictures[i : i + AT_ONCE]) for i in range(0, len(pictures), AT_ONCE)])
