import json
from pathlib import Path
from typing import Any

from pipeline.records.summaries import Results, errors_beside
from pipeline.sources import Found, VideoRef

FOUND = Found([VideoRef(name, f"{name}.mp4", f"{name}.mp4") for name in "abc"])


def row(order: int, index: int | None, summary: str | None = None, error: str | None = None) -> dict[str, Any]:
    start = None if index is None else 30.0 * index
    row = {"order": order, "video_path": f"{'abc'[order]}.mp4", "clip_index": index, "start_sec": start}
    return {**row, "end_sec": start, "summary": summary, "error": error}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().decode().splitlines()]


def test_rows_come_in_any_order_and_are_written_in_the_inputs(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    results = Results()
    for each in [
        row(1, 1, "d"),
        row(0, None),
        row(2, None, error="no such file"),
        row(1, None, error="the file ends early"),
        row(0, 1, "b"),
        row(1, 0, error="ValueError"),
        row(0, 0, "a"),
    ]:
        results.add(each)
    results.close(FOUND)
    results.write(str(output))
    assert [(line["video_path"], line["clip_index"], line["summary"]) for line in lines(output)] == [
        ("a.mp4", 0, "a"),
        ("a.mp4", 1, "b"),
        ("b.mp4", 1, "d"),
    ]
    assert list(lines(output)[0]) == ["video_path", "clip_index", "start_sec", "end_sec", "summary"]
    assert lines(tmp_path / "r.errors.jsonl") == [
        {"video_path": "b.mp4", "clip_index": 0, "error": "ValueError"},
        {"video_path": "b.mp4", "error": "the file ends early"},
        {"video_path": "c.mp4", "error": "no such file"},
    ]
    assert results.bad == {1, 2}


def test_a_video_that_nobody_read_to_its_end_has_failed() -> None:
    results = Results()
    results.add(row(0, 0, "a"))
    results.add(row(0, None))
    results.add(row(1, 0, "b"))
    results.close(FOUND)
    assert results.bad == {1}
    assert results.seen == {0, 1}, "the third is told as missing"
    assert json.loads(next(results.failed.lines()))["error"].startswith("workers died while it was open")


def test_without_errors_there_is_no_file_for_them_and_an_old_one_goes(tmp_path: Path) -> None:
    (tmp_path / "r.errors.jsonl").write_text("old")
    results = Results()
    results.add(row(0, 0, "half \ud83d"))
    results.add(row(0, None))
    results.write(str(tmp_path / "r.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]
    assert lines(tmp_path / "r.jsonl")[0]["summary"] == "half \ud83d"


def test_errors_beside() -> None:
    assert errors_beside("s3://b/results.jsonl") == "s3://b/results.errors.jsonl"
    assert errors_beside("out") == "out.errors.jsonl"
