"""The end of a run: do the books balance, what came out, and how to read it."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import storage
from pipeline.progress import duration
from pipeline.records import tables
from pipeline.records.books import reconcile
from pipeline.records.tally import Tally
from pipeline.schema import FAILED, KEPT, REJECTED, VERDICTS, VIDEO_FAILED, VIDEO_NO_CLIPS, VIDEO_OK
from pipeline.settings import CurateSettings
from pipeline.sources import Found
from pipeline.tasks import Task

TOP = 8  # values shown of a long list


@dataclass
class Report:
    """The outcome of a run, as run/summary.json has it."""

    output: str
    dry_run: bool
    videos: dict[str, int]
    clips: dict[str, int]
    reasons: dict[str, int]
    errors: dict[str, int]
    video_errors: dict[str, int]
    labels: tuple[str, dict[str, int]] | None
    stages: dict[str, dict[str, float]]
    this_run: dict[str, float]
    problems: list[str]
    too_many_failed: str | None
    exit_code: int = field(init=False)

    def __post_init__(self) -> None:
        self.exit_code = 1 if self.problems or self.too_many_failed else 0

    def text(self) -> str:
        """The summary for a person."""
        v, c = self.videos, self.clips
        lines = [
            "",
            f"videos   {v['total']}: {v[VIDEO_OK]} ok, {v[VIDEO_NO_CLIPS]} without clips, {v[VIDEO_FAILED]} failed"
            + (f"; {v['duplicates']} named twice" if v["duplicates"] else ""),
            *listed(self.video_errors),
            f"clips    {sum(c.values())}: {c[KEPT]} kept, {c[REJECTED]} rejected, {c[FAILED]} failed",
            *listed(self.reasons, "rejected: "),
            *listed(self.errors, "failed: "),
        ]
        if self.labels:
            name, counts = self.labels
            lines.append(f"{name:<8} " + ", ".join(f"{label} {count}" for label, count in counts.items()))
        run = self.this_run
        lines.append(
            f"time     {duration(run['seconds'])}: {run['videos']:g} videos, {run['clips']:g} clips, "
            f"{run['realtime_factor']:.1f}x realtime"
        )
        lines += [
            "",
            f"output   {storage.shown(self.output)}",
            f"read it  {_how_to_read(storage.shown(self.output), list(self.labels[:1] if self.labels else []))}",
        ]
        return "\n".join([*lines, *problem_lines(*self.problems, self.too_many_failed)])


def close(settings: CurateSettings, found: Found, num_waiting: int, tally: Tally, task: Task, seconds: float) -> Report:
    """Reconcile the books, write run/summary.json, and report."""
    problems = reconcile(settings.output, [ref.video_id for ref in found.videos])
    counts = tables.clip_counts(settings.output)
    statuses, video_errors = _videos(settings.output, {ref.video_id for ref in found.videos})
    failed, total = statuses[VIDEO_FAILED], len(found.videos)
    report = Report(
        output=settings.output,
        dry_run=settings.dry_run,
        videos={
            "total": total,
            **{status: statuses[status] for status in (VIDEO_OK, VIDEO_NO_CLIPS, VIDEO_FAILED)},
            "duplicates": found.num_duplicates,
        },
        clips={verdict: sum(counts[verdict].values()) for verdict in VERDICTS},
        reasons=dict(counts[REJECTED].most_common()),
        errors=dict(counts[FAILED].most_common(TOP)),
        video_errors=dict(video_errors.most_common(TOP)),
        labels=_labels(settings.output, task),
        stages=stage_counts(tally),
        this_run={
            "seconds": round(seconds, 1),
            "videos": num_waiting,
            "clips": sum(tally.clips.values()),
            "video_seconds": round(tally.decoded_s, 1),
            "clips_per_second": round(sum(tally.clips.values()) / seconds, 3),
            "realtime_factor": round(tally.decoded_s / seconds, 2),
        },
        problems=problems,
        too_many_failed=too_many(failed, total, "videos", settings.max_failed_fraction),
    )
    storage.write(
        storage.join(settings.output, "run", "summary.json"), json.dumps(_document(report), indent=2).encode()
    )
    return report


def _document(report: Report) -> dict[str, Any]:
    document = dict(vars(report))
    document["labels"] = dict([report.labels]) if report.labels else {}
    return document


def _videos(root: str, ids: set[str]) -> tuple[Counter[str], Counter[str]]:
    """Of these videos: how many have each status, and why those that are not ok are not."""
    statuses: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for _, part in tables.read_columns(tables.videos_folder(root), ["video_id", "status", "error"]):
        for row in part.to_pylist():
            if row["video_id"] in ids:
                statuses[row["status"]] += 1
                if row["error"]:
                    errors[f"{row['status']}: {row['error']}"] += 1
    return statuses, errors


def _labels(root: str, task: Task) -> tuple[str, dict[str, int]] | None:
    """The commonest values of the answer's first text field among the kept clips: labels, categories."""
    name = next((name for name, field in task.response.model_fields.items() if field.annotation is not bool), None)
    if name is None:
        return None
    counts: Counter[str] = Counter()
    for _, part in tables.read_columns(tables.clips_folder(root, KEPT), [name]):
        counts.update(str(value) for value in part[name].to_pylist() if isinstance(value, str))
    return (name, dict(counts.most_common(TOP))) if counts else None


def listed(counts: Mapping[str, int], prefix: str = "") -> list[str]:
    """Counts of anything as lines of a summary."""
    return [f"         {prefix}{count} {what}" for what, count in counts.items()]


def problem_lines(*problems: str | None) -> list[str]:
    """What is wrong as a summary's last lines."""
    return [f"PROBLEM  {problem}" for problem in problems if problem]


def too_many(failed: int, total: int, noun: str, limit: float) -> str | None:
    """The problem, if there is one, that more than a fraction (0-1) failed."""
    if failed <= limit * total:
        return None
    return f"{failed} of {total} {noun} failed, more than --max-failed-fraction {limit:g}"


def stage_counts(tally: Tally) -> dict[str, dict[str, float]]:
    """Rows, busy seconds and number of nodes of each stage."""
    return {
        stage: {
            "rows": tally.rows[stage],
            "busy_seconds": round(tally.seconds[stage], 2),
            "nodes": len(tally.nodes[stage]),
        }
        for stage in tally.rows
    }


def _how_to_read(output: str, columns: list[str]) -> str:
    """A line for the shell that works as it is."""
    shown = ", ".join(["clip_id", "start_s", "end_s", "verdict", "reason", *columns])
    table = f"duckdb.read_parquet({output + '/tables/clips/*/*.parquet'!r}, hive_partitioning=True)"
    code = f"import duckdb; {table}.select('{shown}').order('clip_id').show()"
    return f"{storage.shown(sys.executable)} -c " + (shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"')
