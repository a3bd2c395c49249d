"""How many threads work on one video: the one place that says so.

A machine is kept busy by videos, not by threads: Ray runs as many split tasks as there are cores
(resources.split_tasks, cpus_per_split), and each decodes one video after the other on resources.decode_threads threads,
by default one. So 2 and 64 cores are equally full, and nothing fights for them. A decoder with threads of its own also
decodes ahead of what the sparse pass wants, and holds a frame for each thread. Where a few long videos must be done
soon, on more cores than videos, give decode_threads and cpus_per_split the same larger number.

Decoders, encoders and networks are given that number where they are made. OpenCV has one pool for a whole process,
as large as the machine, unless it is told otherwise: so it is told here. Nor shall each process look for OpenCL, which
nothing here uses.
"""

import cv2


def share(threads: int) -> None:
    """Make OpenCV use this many threads in this process (count)."""
    cv2.setNumThreads(threads)
    cv2.ocl.setUseOpenCL(False)
