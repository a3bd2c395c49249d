import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from pipeline import storage
from pipeline.records import tables
from pipeline.schema import clips_schema, videos_schema


class Answer(BaseModel):
    word: str


CLIPS = clips_schema(Answer)


@pytest.fixture(params=["local", "remote"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def put_clips(root: str, verdict: str, *ids: str, **columns: Any) -> None:
    rows = [{"clip_id": each, "video_id": each.split("_")[0], "verdict": verdict, **columns} for each in ids]
    tables.write_part(
        tables.clips_folder(root, verdict), pa.Table.from_pylist(rows, CLIPS).drop_columns(["verdict"]), "clip_id"
    )


def put_videos(root: str, **num_clips: int) -> None:
    rows = [{"video_id": each, "status": "ok", "num_clips": count} for each, count in num_clips.items()]
    tables.write_part(tables.videos_folder(root), pa.Table.from_pylist(rows, videos_schema()), "video_id")


def parts(root: str) -> list[str]:
    return list(storage.find(storage.join(root, "tables"), ".parquet"))


def where(root: str) -> dict[str, list[str]]:
    """The clip ids by verdict."""
    return {
        verdict: sorted(
            each
            for _, part in tables.read_columns(tables.clips_folder(root, verdict), ["clip_id"])
            for each in part["clip_id"].to_pylist()
        )
        for verdict in ("kept", "rejected", "failed")
    }


def test_a_part_written_again_replaces_itself(root: str) -> None:
    put_clips(root, "kept", "v_1", "v_2")
    put_clips(root, "kept", "v_2", "v_1")
    assert len(parts(root)) == 1
    put_clips(root, "kept", "v_3")
    assert len(parts(root)) == 2


def test_a_part_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.os, "replace", lambda old, new: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        put_clips(str(tmp_path), "kept", "v_1")
    assert parts(str(tmp_path)) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_other_readers_see_the_verdict_once(tmp_path: Path) -> None:
    for verdict in ("kept", "rejected", "failed"):
        put_clips(str(tmp_path), verdict, f"v_{verdict}")
    table = pq.read_table(tmp_path / "tables/clips")
    assert sorted(zip(table["clip_id"].to_pylist(), table["verdict"].to_pylist(), strict=True)) == [
        ("v_failed", "failed"),
        ("v_kept", "kept"),
        ("v_rejected", "rejected"),
    ]


def test_scan(root: str) -> None:
    assert tables.scan(root) == tables.Scan({}, {})
    put_clips(root, "kept", "a_1", "b_1")
    put_clips(root, "rejected", "a_2")
    put_clips(root, "failed", "c_1")
    put_videos(root, a=2, b=2, d=0)
    seen = tables.scan(root)
    assert {key: sorted(ids) for key, ids in seen.clips.items()} == {"a": ["a_1", "a_2"], "b": ["b_1"], "c": ["c_1"]}
    assert {key: seen.finished(key) for key in "abcde"} == {"a": True, "b": False, "c": False, "d": True, "e": False}


@pytest.mark.parametrize(
    ("verdicts", "stands"),
    [
        (("kept", "rejected"), "rejected"),
        (("kept", "failed"), "failed"),
        (("rejected", "failed"), "failed"),
        (("kept", "rejected", "failed"), "failed"),
    ],
)
def test_of_two_rows_of_a_clip_the_stricter_stands(root: str, verdicts: tuple[str, ...], stands: str) -> None:
    for verdict in verdicts:
        put_clips(root, verdict, "a_1", f"other_{verdict}")
    assert tables.mend(root) == len(verdicts) - 1
    found = where(root)
    assert [verdict for verdict in found if "a_1" in found[verdict]] == [stands]
    assert all(f"other_{verdict}" in found[verdict] for verdict in verdicts)
    assert tables.mend(root) == 0


def test_rows_that_stand_twice_with_one_verdict_and_in_one_part(root: str) -> None:
    put_clips(root, "kept", "a_1", "a_1", "a_2", word="x")
    put_clips(root, "kept", "a_2", "a_3")
    put_videos(root, a=3)
    put_videos(root, a=3, b=0)
    assert tables.mend(root) == 3
    assert where(root)["kept"] == ["a_1", "a_2", "a_3"]
    assert set(tables.scan(root).videos) == {"a", "b"}
    table = next(tables.read_columns(tables.clips_folder(root, "kept"), CLIPS.names))[1]
    assert table.schema.names == [name for name in CLIPS.names if name != "verdict"], "the folder tells the verdict"


def test_a_part_of_which_nothing_is_left_is_removed(root: str) -> None:
    put_clips(root, "failed", "a_1")
    put_clips(root, "kept", "a_1")
    assert tables.mend(root) == 1
    assert len(parts(root)) == 1


def test_nothing_to_mend_touches_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_clips(root, "kept", "a_1")
    put_videos(root, a=1)
    monkeypatch.setattr(storage, "write", lambda *given: 1 / 0)
    assert tables.mend(root) == 0


def test_forget_videos(root: str) -> None:
    put_videos(root, a=1, b=1)
    put_videos(root, c=1)
    tables.forget_videos(root, {"a", "c", "x"})
    assert set(tables.scan(root).videos) == {"b"}
    tables.forget_videos(root, set())
    assert set(tables.scan(root).videos) == {"b"}


def test_forget_failed_clips(root: str) -> None:
    put_clips(root, "kept", "a_1")
    put_clips(root, "failed", "a_2", "b_1")
    tables.forget_failed_clips(root, {"a", "c"})
    assert where(root) == {"kept": ["a_1"], "rejected": [], "failed": ["b_1"]}


def test_clip_counts(root: str) -> None:
    put_clips(root, "kept", "a_1", "a_2")
    put_clips(root, "rejected", "a_3", "a_4", reason="blurry")
    put_clips(root, "rejected", "a_5", reason="nsfw")
    put_clips(root, "failed", "a_6")
    counts = tables.clip_counts(root)
    assert {verdict: dict(counter) for verdict, counter in counts.items()} == {
        "kept": {"": 2},
        "rejected": {"blurry": 2, "nsfw": 1},
        "failed": {"unknown": 1},
    }
