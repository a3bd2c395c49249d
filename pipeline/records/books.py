"""The books of one output folder: open (resume), settle clips, record videos, close (reconcile)."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.errors import UserError
from pipeline.records import lease, tables
from pipeline.schema import VERDICTS, VIDEO_FAILED, videos_schema


@dataclass(frozen=True)
class Books:
    """The pen: small, picklable, and carried by every task that settles something.

    Rows are dictionaries by column name. token: the lease; without it nothing is written.
    """

    root: str
    clips: pa.Schema
    token: str

    def settle(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write clips that have their verdict, one part a verdict. Raises LeaseLost when another run took over."""
        if not rows:
            return
        lease.check(self.root, self.token)
        for verdict in VERDICTS:
            part = [row for row in rows if row["verdict"] == verdict]
            if part:
                # the folder's name is the verdict; a column beside it would clash with what readers make of the name
                table = pa.Table.from_pylist(part, self.clips).drop_columns(["verdict"])
                tables.write_part(tables.clips_folder(self.root, verdict), table, "clip_id")

    def record(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows of the videos table."""
        if rows:
            lease.check(self.root, self.token)
            table = pa.Table.from_pylist(list(rows), videos_schema())
            tables.write_part(tables.videos_folder(self.root), table, "video_id")


SETTINGS = "settings.json"


def settings_hash(result_settings: dict[str, Any]) -> str:
    """12 hex digits that stand for the settings that change results."""
    return hashlib.sha256(json.dumps(result_settings, sort_keys=True).encode()).hexdigest()[:12]


def agree_on_settings(
    root: str, result_settings: dict[str, Any], all_settings: dict[str, Any], name: str = SETTINGS
) -> None:
    """Write run/settings.json (or `name`), unless the folder was begun with others. Raises UserError as check_settings
    does."""
    check_settings(root, result_settings, name)
    document = {"settings_hash": settings_hash(result_settings), "results": result_settings, "all": all_settings}
    storage.write(storage.join(root, "run", name), json.dumps(document, indent=2, sort_keys=True).encode())


def check_settings(root: str, result_settings: dict[str, Any], name: str = SETTINGS) -> None:
    """Hold these settings against the ones that the folder was begun with, if it was.

    Raises UserError naming the keys that differ: a table must not mix clips that were made in different ways.
    """
    data = storage.read(storage.join(root, "run", name))
    if data is None:
        if name == SETTINGS and next(iter(storage.find(storage.join(root, "tables"), ".parquet")), None):
            raise UserError(f"{root} has tables but no run/{name}: choose another --output")
        return
    try:
        begun = _flat(json.loads(data)["results"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{root}/run/{name} is damaged: choose another --output") from error
    _refuse_changes(root, begun, _flat(json.loads(json.dumps(result_settings))))


def _refuse_changes(root: str, begun: dict[str, Any], now: dict[str, Any]) -> None:
    if begun.get("dry_run", False) != now.get("dry_run", False):
        kind = "a dry run" if begun.get("dry_run") else "a real run"
        raise UserError(f"{root} holds {kind}, which a run of the other kind cannot continue: choose another --output")
    changed = sorted(key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key))
    if changed:
        what = ", ".join(f"{key} ({begun.get(key)!r} -> {now.get(key)!r})" for key in changed)
        raise UserError(f"{root} was begun with other settings: {what}; restore them or choose another --output")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return flat


def open_books(root: str, video_ids: Collection[str], *, retry_failed: bool) -> tables.Scan:
    """Mend what a killed run left, and say what is settled of these videos. What other videos left is not touched.

    The row of a video that is not finished is forgotten: the task that opens the video again writes it anew. With
    retry_failed the failed clips are forgotten too, and so their videos, and those that failed as a whole.
    """
    tables.mend(root)
    wanted = set(video_ids)
    if retry_failed:
        tables.forget_failed_clips(root, wanted)
    seen = tables.scan(root)
    again = {
        video_id
        for video_id, video in seen.videos.items()
        if video_id in wanted and (not seen.finished(video_id) or (retry_failed and video.status == VIDEO_FAILED))
    }
    if again:
        tables.forget_videos(root, again)
    return tables.Scan({key: video for key, video in seen.videos.items() if key not in again}, seen.clips)


def reconcile(root: str, video_ids: Collection[str]) -> list[str]:
    """What does not add up after a run over these videos, each in a sentence; empty when the books balance.

    Rows that stand twice (two writers overlapped, or Ray ran a task again in other company) are mended first: ids are
    deterministic, so nothing is lost by it.
    """
    tables.mend(root)
    seen = tables.scan(root)
    problems = []
    missing = sorted(set(video_ids) - seen.videos.keys())
    if missing:
        problems.append(f"{len(missing)} videos have no row (first: {missing[0]})")
    unbalanced = sorted(key for key in set(video_ids) & seen.videos.keys() if not seen.finished(key))
    if unbalanced:
        first = unbalanced[0]
        problems.append(
            f"{len(unbalanced)} videos do not have as many clips as they say (first: {first} says "
            f"{seen.videos[first].num_clips}, has {len(seen.clips.get(first, ()))})"
        )
    return problems
