"""What a benchmark ran on, and what a process took of it."""

import contextlib
import os
import platform
import resource
from datetime import UTC, datetime
from pathlib import Path

import av


def describe() -> str:
    """The date, the machine and the versions, for a table's head."""
    processor = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
    python = platform.python_version()
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {processor}, Python {python}, PyAV {av.__version__}"


def cpu_s() -> float:
    """CPU time of this process so far, all threads (seconds)."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


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
