"""decord, imported so that it can live in one process with torch.

While it is imported, decord2 loads every library of the nvidia-* packages into the global symbol table. One of them,
NVBLAS, then takes the place of the BLAS that torch calls on the CPU: the next convolution ends in a segmentation fault.
The CPU decoder needs none of them, so they are hidden during the import.
"""

import importlib
import sys
from types import ModuleType


def load_decord() -> ModuleType:
    """The decord module. To be used instead of `import decord`, everywhere."""
    if "decord" in sys.modules:
        return sys.modules["decord"]
    shown = sys.modules.get("nvidia")
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # find_spec then answers that there is none
    try:
        return importlib.import_module("decord")
    finally:
        del sys.modules["nvidia"]
        if shown is not None:
            sys.modules["nvidia"] = shown
