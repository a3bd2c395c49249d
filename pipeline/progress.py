"""What a person sees while a run goes: one line that moves on a terminal, a line a minute elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from pipeline.records.tally import Tally
from pipeline.schema import FAILED

TERMINAL_EVERY_S = 1.0
LOG_EVERY_S = 60.0
Show = Callable[[Tally, int, float], str]


def line(tally: Tally, num_videos: int, elapsed_s: float) -> str:
    """Videos, clips, rate and time left, e.g. `videos 12/40 · clips 80 kept 33 rejected 2 failed · 3.1 clips/s`."""
    done, settled = sum(tally.videos.values()), sum(tally.clips.values())
    parts = [f"videos {done}/{num_videos}"]
    parts.append("clips " + " ".join(f"{tally.clips[verdict]} {verdict}" for verdict in ("kept", "rejected", "failed")))
    if settled and elapsed_s > 0:
        parts.append(f"{settled / elapsed_s:.1f} clips/s")
    if tally.decoded_s and elapsed_s > 0:
        parts.append(f"{tally.decoded_s / elapsed_s:.1f}x realtime")
    if 0 < done < num_videos:
        parts.append(f"{duration((num_videos - done) * elapsed_s / done)} left")
    return " · ".join(parts)


def counting(noun: str) -> Show:
    """A line for what is either done or failed, e.g. `samples 12/40 · 1 failed · 3.1 a second · 9 s left`."""

    def show(tally: Tally, total: int, elapsed_s: float) -> str:
        done = sum(tally.clips.values())
        parts = [f"{noun} {done}/{total}", f"{tally.clips[FAILED]} failed"]
        if done and elapsed_s > 0:
            parts.append(f"{done / elapsed_s:.1f} a second")
            parts.append(f"{duration((total - done) * elapsed_s / done)} left")
        return " · ".join(parts)

    return show


def duration(seconds: float) -> str:
    """42 s, 3 min, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """A context manager that shows a line while the work inside it goes on.

    read: the counts so far. total: of what is counted. show: (counts, total, elapsed seconds) -> the line.
    """

    def __init__(self, read: Callable[[], Tally], total: int, show: Show = line):
        self._read, self._total, self._text = read, total, show
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _show(self) -> None:
        while not self._stop.wait(TERMINAL_EVERY_S if self._terminal else LOG_EVERY_S):
            try:
                text = self._text(self._read(), self._total, time.monotonic() - self._began)
            except Exception:  # the run is ending, or the cluster is busy: the next line may come
                continue
            start, end = ("\r\033[K", "") if self._terminal else ("", "\n")
            print(f"{start}{text}", end=end, file=sys.stderr, flush=True)
