"""The operators of `summarize`, without a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import BadVideo
from pipeline.models.summarizers import ClipFrames
from pipeline.settings import SummarizeSettings
from pipeline.stages import summarize
from pipeline.stages.summarize import CLIPS, ReadClips, Summarize, few_frames, spans
from pipeline.video.frames import jpeg
from tests import footage


class FakeLedger:
    """Notes what it is told; refuses a video that `deaths` workers had open."""

    def __init__(self, deaths: int = 0):
        self.deaths, self.open, self.ended = deaths, [], []

    def begin(self, video_id: str) -> None:
        if self.deaths >= 2:
            raise BadVideo("workers died 2 times while it was open")
        self.open.append(video_id)

    def end(self, video_id: str, status: str, duration_s: float | None) -> None:
        self.ended.append((video_id, status))

    def settled(self, rows: Any) -> None: ...

    @contextmanager
    def busy(self, stage: str, rows: int) -> Iterator[None]:
        yield


def read(path: Path, ledger: FakeLedger, **settings: float) -> list[dict[str, Any]]:
    ref = {"video_id": "v", "uri": str(path), "path": str(path), "row_group": None, "row": None, "problem": None}
    given = SummarizeSettings(output="r.jsonl", **settings)  # type: ignore[arg-type]
    tables = ReadClips(given, ledger)(pa.Table.from_pylist([{**ref, "order": 7}]))  # type: ignore[arg-type]
    return [row for table in tables for row in table.to_pylist()]


def test_every_video_ends_in_a_row_of_its_own(plain_video: Path) -> None:
    ledger = FakeLedger()
    rows = read(plain_video, ledger, clip_s=1.0, frame_every_sec=0.5)
    assert [(row["order"], row["clip_index"], row["start_sec"], row["error"]) for row in rows] == [
        (7, 0, 0.0, None),
        (7, 1, 1.0, None),
        (7, None, None, None),
    ]
    assert [len(row["frames"] or ()) for row in rows] == [2, 2, 0]
    assert (ledger.open, ledger.ended) == (["v"], [("v", "done")])


def test_a_video_that_kills_its_workers_is_refused(plain_video: Path) -> None:
    (row,) = read(plain_video, FakeLedger(deaths=2))
    assert row["error"] == "workers died 2 times while it was open"


def test_a_file_cut_in_half_keeps_its_clips_and_says_so(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "t.mkv", footage.shot(1, 250))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ledger = FakeLedger()
    *clips, last = read(path, ledger, clip_s=2.0)
    assert len(clips) >= 2
    assert all(clip["frames"] and clip["error"] is None for clip in clips)
    assert last["error"].startswith("the file ends early (decoded ")
    assert ledger.ended == [("v", "failed")]


@pytest.mark.parametrize(
    ("duration_s", "fps", "found"),
    [
        (70.0, 25.0, [(0, 30), (30, 60), (60, 70)]),
        (60.0, 25.0, [(0, 30), (30, 60)]),
        (60.04, 25.0, [(0, 30), (30, 60.04)]),  # one frame is no clip
        (0.04, 25.0, [(0, 0.04)]),
        (100.0, 0.01, [(0, 30), (30, 60), (60, 90), (90, 100)]),  # but where one stands for minutes, they are clips
        (60.2, 5.0, [(0, 30), (30, 60), (60, 60.2)]),
    ],
)
def test_spans(duration_s: float, fps: float, found: list[tuple[float, float]]) -> None:
    assert spans(duration_s, fps, 30.0) == found


def clips(*num_frames: int | None) -> pa.Table:
    """Clips with so many frames each; None: the row that a video ends with."""
    frame = jpeg(np.zeros((8, 8, 3), np.uint8), 90)
    rows = []
    for index, count in enumerate(num_frames):
        row = {**dict.fromkeys(CLIPS.names), "order": 0, "video_path": "a.mp4"}
        if count is not None:
            row.update(clip_index=index, start_sec=30.0 * index, end_sec=30.0 * index + 30, frames=[frame] * count)
        rows.append(row)
    return pa.Table.from_pylist(rows, CLIPS)


def said(model: Any, table: pa.Table) -> list[tuple[str | None, str | None]]:
    stage = Summarize(lambda device: model, "cpu", FakeLedger())  # type: ignore[arg-type]
    return [(row["summary"], row["error"]) for row in stage(table).to_pylist()]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("\ud800", "UnicodeEncodeError: "),
        (None, "TypeError: the model gave 1 answers for 1 clips, or some that are no text"),
        (b"bytes", "TypeError: "),
        (ValueError("\udc80 is not mine"), "ValueError: ? is not mine"),
    ],
)
def test_an_answer_that_is_no_text_is_a_row_with_a_reason(answer: Any, error: str) -> None:
    def model(clips: Sequence[ClipFrames]) -> list[Any]:
        if isinstance(answer, Exception) and clips[0].start_sec == 30:
            raise answer
        return [answer if clip.start_sec == 30 else "fine" for clip in clips]

    found = said(model, clips(1, 1, None))
    assert found[0] == ("fine", None)
    assert found[1][0] is None
    assert found[1][1] is not None
    assert found[1][1].startswith(error)
    assert found[2] == (None, None)


def test_few_frames_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarize, "MAX_FRAMES_AT_ONCE", 5)
    calls: list[list[int]] = []

    def model(clips: Sequence[ClipFrames]) -> list[str]:
        calls.append([len(clip.frames) for clip in clips])
        return [f"{len(clip.frames)}" for clip in clips]

    found = said(model, clips(2, 3, None, 1, 7, 1))
    assert [summary for summary, _ in found] == ["2", "3", None, "1", "7", "1"]
    assert calls == [[2, 3], [1], [7], [1]]
    assert list(few_frames([])) == list(few_frames([0, 0])) == []
