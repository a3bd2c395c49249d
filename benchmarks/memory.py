"""Peak memory of this process, without what its parent held."""

import contextlib
import resource
from pathlib import Path


def peak_mb() -> float:
    """Peak resident memory (MB, 10^6 bytes).

    Linux counts into ru_maxrss what the parent held when it started this process, so the kernel's own mark is read
    where there is one.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
