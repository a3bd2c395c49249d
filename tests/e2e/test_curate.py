"""Whole runs with the embedded models on real footage."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline import curate
from pipeline.errors import UserError
from pipeline.records.books import Books
from pipeline.records.lease import Lease
from pipeline.schema import CLIP_COLUMNS, VIDEO_COLUMNS, clips_schema
from pipeline.settings import CurateSettings, ResourceSettings, SplitSettings
from pipeline.sources import find_videos
from pipeline.stages.graph import Graph
from pipeline.stages.ledger import MAX_DEATHS, MAX_LOST_NODES, Ledger
from pipeline.tasks import task
from tests.e2e.conftest import clips_table, videos_table

pytestmark = pytest.mark.usefixtures("cluster")
BIKES_SHOTS_S = [0.0, 1.2, 3.04, 5.48, 7.48, 9.68]


@pytest.fixture(scope="module")
def curated(cluster: None, real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "with space #1"
    assert curate.run(CurateSettings(input=[str(real_clips)], output=str(output))) == 0
    return output


def test_every_clip_has_its_row_and_every_column(curated: Path):
    rows = clips_table(curated)
    bikes = [row for row in rows if row["video_uri"].endswith("bikes.mp4")]
    assert [row["start_s"] for row in bikes] == pytest.approx(BIKES_SHOTS_S)
    assert [row["end_s"] for row in bikes] == pytest.approx([*BIKES_SHOTS_S[1:], 10.0])
    assert {column.name for column in CLIP_COLUMNS} | {"label", "labels", "label_scores"} == set(rows[0])
    assert [row["reason"] for row in bikes] == ["blurry", None, None, None, None, "too_short"]
    for row in rows:
        assert row["clip_id"].startswith(row["video_id"])
        if row["verdict"] == "kept":
            assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-4)
            assert len(row["embedding"]) == 1280
            assert 0 <= row["nsfw_score"] < 0.8
            assert row["label"] == row["labels"][0]
            assert row["label_scores"] == sorted(row["label_scores"], reverse=True)
        else:
            assert row["embedding"] is None
    assert {"streetcar"} <= {label for row in bikes for label in row["labels"] or ()}


def test_kept_clips_have_files_of_exactly_their_frames(curated: Path):
    rows = clips_table(curated)
    assert {row["clip_path"] is not None for row in rows if row["verdict"] == "kept"} == {True}
    assert {row["clip_path"] for row in rows if row["verdict"] != "kept"} == {None}
    assert {path.name for path in (curated / "clips").iterdir()} == {
        f"{r['clip_id']}.mp4" for r in rows if r["clip_path"]
    }
    for row in rows:
        if row["clip_path"]:
            with av.open(str(curated / row["clip_path"])) as container:
                assert sum(1 for _ in container.decode(video=0)) == row["num_frames"]
                assert bool(container.streams.audio) == row["video_uri"].endswith("bigbuckbunny.mp4")


def test_videos_table_agrees_with_the_clips(curated: Path):
    videos = videos_table(curated)
    assert [column.name for column in VIDEO_COLUMNS] == list(videos[0])
    assert [(v["status"], v["num_clips"], v["duration_s"]) for v in videos] == [("ok", 1, 5.28), ("ok", 6, 10.0)]
    assert (videos[0]["width"], videos[0]["height"], videos[0]["audio_codec"]) == (1280, 720, "aac")


def test_readers_of_all_kinds_agree(curated: Path):
    expected = {(row["clip_id"], row["verdict"]) for row in clips_table(curated)}
    frame = pd.read_parquet(curated / "tables/clips")
    assert set(zip(frame["clip_id"], frame["verdict"].astype(str), strict=True)) == expected
    query = f"select clip_id, verdict from read_parquet('{curated}/tables/clips/**/*.parquet')"
    assert set(duckdb.connect().execute(query).fetchall()) == expected
    import datasets

    files = {verdict: f"{curated}/tables/clips/verdict={verdict}/*.parquet" for verdict in ("kept", "rejected")}
    splits: Any = datasets.load_dataset("parquet", data_files=files, cache_dir=str(curated.parent / "cache"))
    assert {(row["clip_id"], verdict) for verdict, rows in splits.items() for row in rows} == expected


def test_summary_counts_what_the_tables_hold(curated: Path):
    summary = json.loads((curated / "run/summary.json").read_text())
    assert summary["videos"] == {"total": 2, "ok": 2, "no_clips": 0, "failed": 0, "duplicates": 0}
    assert summary["clips"] == {"kept": 5, "rejected": 2, "failed": 0}
    assert summary["reasons"] == {"blurry": 1, "too_short": 1}
    assert summary["stages"]["annotate"]["rows"] == 5
    assert summary["stages"]["split"]["busy_seconds"] > 0


def test_a_folder_that_grew_has_only_the_new_video_opened(curated: Path, real_clips: Path, light: dict, capsys):
    grown = curated.parent / "grown"
    shutil.copytree(real_clips, grown)
    output = curated.parent / "grown-out"
    settings = CurateSettings(input=[str(grown)], output=str(output), limit=1, **light)
    assert curate.run(settings) == 0
    before = {part: part.stat().st_mtime_ns for part in output.glob("tables/**/*.parquet")}
    assert curate.run(settings.model_copy(update={"limit": None})) == 0
    assert json.loads((output / "run/summary.json").read_text())["this_run"]["videos"] == 1
    assert {part: part.stat().st_mtime_ns for part in before} == before
    assert [row["clip_id"] for row in clips_table(output)] != []
    assert len(videos_table(output)) == 2
    assert "1 of them finished before" in capsys.readouterr().err


def test_a_finished_run_is_not_begun_again(curated: Path, real_clips: Path):
    before = sorted((str(p), p.stat().st_mtime_ns) for p in curated.glob("tables/**/*.parquet"))
    assert curate.run(CurateSettings(input=[str(real_clips)], output=str(curated))) == 0
    assert sorted((str(p), p.stat().st_mtime_ns) for p in curated.glob("tables/**/*.parquet")) == before


def test_settings_that_change_results_are_refused_by_name(curated: Path, real_clips: Path):
    changed = CurateSettings(input=[str(real_clips)], output=str(curated), split=SplitSettings(max_clip_s=7))
    with pytest.raises(UserError, match=r"split\.max_clip_s \(20\.0 -> 7\.0\)"):
        curate.run(changed)


def test_pools_are_not_sized_by_nodes_that_are_not_there(real_clips: Path, tmp_path: Path):
    nowhere = ResourceSettings(cpu_label_selector={"role": "cpu"})
    with pytest.raises(UserError, match=r"no CPUs on nodes with role=cpu yet.*resources\.cpus_per_actor"):
        curate.run(CurateSettings(input=[str(real_clips)], output=str(tmp_path), resources=nowhere))


def test_videos_in_parquet_shards(real_clips: Path, light: dict, tmp_path: Path):
    videos = [(real_clips / name).read_bytes() for name in ("bikes.mp4", "bigbuckbunny.mp4")]
    rows = pa.table({"mp4": pa.array([videos[0], b"no video", videos[1], None], pa.binary())})
    pq.write_table(rows, tmp_path / "shard-0.parquet", row_group_size=2)
    settings = CurateSettings(
        input=[str(tmp_path / "*.parquet")], output=str(tmp_path / "out"), max_failed_fraction=0.5, **light
    )
    assert curate.run(settings) == 0
    videos_by_row = {row["video_uri"].rpartition("#row=")[2]: row for row in videos_table(tmp_path / "out")}
    assert [videos_by_row[str(row)]["status"] for row in range(4)] == ["ok", "failed", "ok", "failed"]
    assert "no bytes" in videos_by_row["3"]["error"]
    bikes = [row["start_s"] for row in clips_table(tmp_path / "out") if row["video_uri"].endswith("#row=0")]
    assert bikes == pytest.approx(BIKES_SHOTS_S)


def test_a_video_that_kills_its_workers_is_given_up(real_clips: Path, tmp_path: Path):
    """A decoder that crashes takes its worker with it; Ray tries again, but not for ever the same video. Nodes that are
    taken away are another matter: most often the video is not to blame."""
    settings = CurateSettings(input=[str(real_clips)], output=str(tmp_path))
    refs = find_videos(settings.input, [], None, settings.source).videos
    bikes, bunny = sorted(refs, key=lambda ref: "bunny" in ref.uri)
    ledger = Ledger.start()
    for _ in range(MAX_DEATHS):
        ledger.begin(bikes.video_id)  # opened, and never ended: as if the worker had died
    for _ in range(MAX_LOST_NODES):
        ray.get(ledger.actor.begin.remote(bunny.video_id, "a node that is gone"))
    with Lease(settings.output) as lease:
        books = Books(settings.output, clips_schema(task("labels").response), lease.token)
        graph = Graph(settings, task("labels"), books, "hash", ledger)
        assert graph.split(graph.read(refs, {})).count() == 0
    first, second = sorted(videos_table(tmp_path), key=lambda row: "bunny" in row["video_uri"])
    assert (first["status"], first["num_clips"]) == ("failed", 0)
    assert "workers died 2 times while it was open" in first["error"]
    assert "8 nodes were lost while it was open" in second["error"]
    ledger.begin(bunny.video_id)  # it ended, with a row: what comes later begins anew
