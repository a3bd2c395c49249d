import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.records.books import Books, agree_on_settings, check_settings, open_books, reconcile, settings_hash
from pipeline.records.lease import Lease, LeaseLost
from pipeline.records.tables import scan
from tests.records.test_tables import CLIPS, put_clips, put_videos, where

SETTINGS: dict[str, Any] = {
    "dry_run": False,
    "split": {"max_clip_s": 10.0, "min_clip_s": 1.0},
    "frames": {"per_clip": 4},
}


def agree(root: object, **changes: Any) -> None:
    agree_on_settings(str(root), {**SETTINGS, **changes}, {"everything": True})


def refused(root: object, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        agree(root, **changes)
    assert str(root) in str(caught.value)
    return str(caught.value)


def clip(clip_id: str, verdict: str) -> dict[str, Any]:
    return {"clip_id": clip_id, "video_id": clip_id.split("_")[0], "verdict": verdict}


def test_the_same_settings_continue(tmp_path: Path) -> None:
    agree(tmp_path)
    agree(tmp_path)
    written = json.loads((tmp_path / "run/settings.json").read_text())
    assert written == {"settings_hash": settings_hash(SETTINGS), "results": SETTINGS, "all": {"everything": True}}


def test_other_settings_are_refused_by_name_with_both_values(tmp_path: Path) -> None:
    agree(tmp_path)
    before = (tmp_path / "run/settings.json").read_text()
    said = refused(tmp_path, split={"max_clip_s": 20.0, "min_clip_s": 1.0}, frames={"per_clip": 2})
    assert "frames.per_clip (4 -> 2), split.max_clip_s (10.0 -> 20.0)" in said
    assert "min_clip_s" not in said
    assert (tmp_path / "run/settings.json").read_text() == before


def test_keys_that_came_or_went_are_named(tmp_path: Path) -> None:
    agree(tmp_path)
    assert "embed.model (None -> 'clip')" in refused(tmp_path, embed={"model": "clip"})
    assert "frames.per_clip (4 -> None)" in refused(tmp_path, frames={})


@pytest.mark.parametrize(("first", "then", "kind"), [(True, False, "a dry run"), (False, True, "a real run")])
def test_dry_and_real_runs_do_not_continue_each_other(tmp_path: Path, first: bool, then: bool, kind: str) -> None:
    agree(tmp_path, dry_run=first)
    agree(tmp_path, dry_run=first)
    assert f"holds {kind}" in refused(tmp_path, dry_run=then)


def test_tables_without_settings_are_refused(tmp_path: Path) -> None:
    put_videos(str(tmp_path), a=0)
    assert "has tables but no run/settings.json" in refused(tmp_path)
    check_settings(str(tmp_path), {}, "settings.describe.json")  # the tables are none of a task over samples


@pytest.mark.parametrize("data", ["", "{", "null", "[]", "3", "{}", '{"results": 3}'])
def test_damaged_settings_are_refused(tmp_path: Path, data: str) -> None:
    storage.write(str(tmp_path / "run/settings.json"), data.encode())
    assert "damaged" in refused(tmp_path)


def test_the_hash_follows_the_values_not_their_order() -> None:
    assert settings_hash({"a": 1, "b": {"c": 2}}) == settings_hash({"b": {"c": 2}, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


def test_settling_and_recording_need_the_lease(tmp_path: Path) -> None:
    root = str(tmp_path)
    with Lease(root) as lease:
        books = Books(root, CLIPS, lease.token)
        books.settle([clip("a_1", "kept"), clip("a_2", "rejected"), clip("a_3", "kept")])
        books.settle([])
        books.record([{"video_id": "a", "status": "ok", "num_clips": 3}])
        books.record([])
    assert where(root) == {"kept": ["a_1", "a_3"], "rejected": ["a_2"], "failed": []}
    assert reconcile(root, ["a"]) == []
    with pytest.raises(LeaseLost):
        books.settle([clip("b_1", "kept")])
    with pytest.raises(LeaseLost):
        books.record([{"video_id": "b", "status": "ok", "num_clips": 1}])
    assert set(scan(root).videos) == {"a"}


def test_balanced_books(tmp_path: Path) -> None:
    root = str(tmp_path)
    put_clips(root, "kept", "a_1")
    put_clips(root, "failed", "a_2")
    put_videos(root, a=2, b=0)
    assert reconcile(root, ["a", "b"]) == []


def test_a_missing_video_row_is_found(tmp_path: Path) -> None:
    put_videos(str(tmp_path), a=0)
    assert reconcile(str(tmp_path), ["a", "b", "c"]) == ["2 videos have no row (first: b)"]


@pytest.mark.parametrize(("says", "has"), [(2, 1), (0, 1)])
def test_unbalanced_counts_are_found(tmp_path: Path, says: int, has: int) -> None:
    put_videos(str(tmp_path), a=says)
    put_clips(str(tmp_path), "kept", *[f"a_{i}" for i in range(has)])
    (problem,) = reconcile(str(tmp_path), ["a"])
    assert f"(first: a says {says}, has {has})" in problem


def test_clips_without_a_video_are_found(tmp_path: Path) -> None:
    put_clips(str(tmp_path), "rejected", "x_1")
    assert reconcile(str(tmp_path), ["x"]) == ["1 videos have no row (first: x)"]


def test_what_other_videos_left_unfinished_is_not_this_runs_problem(tmp_path: Path) -> None:
    """A killed run leaves half of its videos; the next one may have other inputs, or a limit."""
    root = str(tmp_path)
    put_clips(root, "kept", "a_1", "x_1", "y_1")
    put_videos(root, a=1, y=5)
    seen = open_books(root, ["a"], retry_failed=False)
    assert set(seen.videos) == {"a", "y"}
    assert set(scan(root).videos) == {"a", "y"}
    assert reconcile(root, ["a"]) == []


def test_rows_that_stood_twice_are_mended(tmp_path: Path) -> None:
    root = str(tmp_path)
    put_clips(root, "kept", "a_1")
    put_clips(root, "kept", "a_1", "a_2")
    put_videos(root, a=2)
    assert reconcile(root, ["a"]) == []
    assert where(root)["kept"] == ["a_1", "a_2"]


def test_opening_forgets_the_rows_of_unfinished_videos_and_keeps_their_clips(tmp_path: Path) -> None:
    root = str(tmp_path)
    put_clips(root, "kept", "a_1", "b_1")
    put_videos(root, a=1, b=2)
    seen = open_books(root, ["a", "b"], retry_failed=False)
    assert set(seen.videos) == {"a"}
    assert seen.clips == {"a": ["a_1"], "b": ["b_1"]}
    assert set(scan(root).videos) == {"a"}
    assert where(root)["kept"] == ["a_1", "b_1"]


def test_opening_to_retry_forgets_what_failed(tmp_path: Path) -> None:
    root = str(tmp_path)
    with Lease(root) as lease:
        books = Books(root, CLIPS, lease.token)
        books.settle([clip("a_1", "kept"), clip("b_1", "failed"), clip("b_2", "kept"), clip("c_1", "kept")])
        books.record(
            [
                {"video_id": "a", "status": "ok", "num_clips": 1},
                {"video_id": "b", "status": "ok", "num_clips": 2},
                {"video_id": "c", "status": "failed", "num_clips": 1},
                {"video_id": "d", "status": "no_clips", "num_clips": 0},
            ]
        )
    assert set(open_books(root, "abcd", retry_failed=False).videos) == {"a", "b", "c", "d"}
    seen = open_books(root, "abcd", retry_failed=True)
    assert set(seen.videos) == {"a", "d"}
    assert where(root) == {"kept": ["a_1", "b_2", "c_1"], "rejected": [], "failed": []}
    assert seen.clips == {"a": ["a_1"], "b": ["b_2"], "c": ["c_1"]}
