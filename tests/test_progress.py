import io
import sys
import time

import pytest

from pipeline import progress
from pipeline.progress import Progress, duration, line
from pipeline.records.tally import Tally


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (180, "3 min"),
        (5390, "1 h 30 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_before_anything_is_done() -> None:
    assert line(Tally(), 40, 0.0) == "videos 0/40 · clips 0 kept 0 rejected 0 failed"


def test_a_line_in_the_middle_and_at_the_end() -> None:
    tally = Tally()
    tally.videos.update(ok=8, failed=2)
    tally.clips.update(kept=30, rejected=15, failed=5)
    tally.decoded_s = 500.0
    text = line(tally, 40, 100.0)
    assert text == "videos 10/40 · clips 30 kept 15 rejected 5 failed · 0.5 clips/s · 5.0x realtime · 5 min left"
    assert "left" not in line(tally, 10, 100.0)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, read: object) -> str:
    monkeypatch.setattr(progress, "TERMINAL_EVERY_S", 0.01)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.01)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(read, 3):  # type: ignore[arg-type]
        deadline = time.monotonic() + 5
        while stream.getvalue().count("videos") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    return stream.getvalue()


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown(monkeypatch, io.StringIO(), Tally)
    assert text.count("videos 0/3") >= 2
    assert text.endswith("failed\n")
    assert "\r" not in text


def test_a_terminal_gets_one_line_that_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown(monkeypatch, _Terminal(), Tally)
    assert text.count("videos 0/3") >= 2
    assert "\n" not in text
    assert text.endswith("\r\033[K")


def test_counts_that_cannot_be_read_for_a_moment_do_not_end_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))

    def read() -> Tally:
        if next(calls) < 2:
            raise RuntimeError("the cluster is busy")
        return Tally()

    assert "videos 0/3" in _shown(monkeypatch, io.StringIO(), read)
