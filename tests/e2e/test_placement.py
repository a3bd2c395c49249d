"""Every operator where it belongs, on a real cluster of several nodes; also when one of them goes away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import footage
from tests.e2e.conftest import ROOT, clips_table, videos_table

VIDEOS, SHOTS = 12, 2
ENVIRONMENT = {
    "RAY_raylet_start_wait_time_s": "120",  # four nodes start on one busy machine
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_num_workers_soft_limit": "8",  # a worker that idles for a second may stay: to start one takes longer
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """What the run on the cluster reports, and its output folder."""
    folder = tmp_path_factory.mktemp("placement")
    (folder / "in").mkdir()
    for i in range(VIDEOS):
        footage.write(folder / "in" / f"{i}.mp4", [f for s in range(SHOTS) for f in footage.shot(10 * i + s, 40)])
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tests/e2e/placement_run.py"), str(folder / "in"), str(folder / "out")],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = [line for line in ran.stdout.splitlines() if line.startswith("OUTCOME ")]
    assert found, ran.stdout[-2000:] + ran.stderr[-4000:]
    return json.loads(found[0].removeprefix("OUTCOME ")), folder / "out"


def test_cpu_work_runs_on_cpu_nodes_and_the_engine_on_its_gpu(outcome: tuple[dict, Path]):
    stages = outcome[0]["stages"]
    assert set(stages) == {"split", "screen", "request", "engine", "annotate", "embed", "cut", "write"}
    for stage, nodes in stages.items():
        allowed = {"gpu"} if stage in ("request", "engine") else {"cpu-1", "cpu-2"}
        assert nodes, stage
        assert set(nodes) <= allowed, stage
    assert "cpu-2" in set().union(*stages.values()), "the node that is lost was at work"


def test_every_stage_goes_on_where_it_should_after_the_loss(outcome: tuple[dict, Path]):
    """What ran after it did not run on the lost node, so by the test above on the one CPU node that is left."""
    rows = outcome[0]["rows"]
    assert rows["before"], "it was lost on the way"
    for stage in ("split", "screen", "annotate", "embed", "cut", "write"):
        assert rows["in all"][stage] > rows["before"].get(stage, 0), stage


def test_a_run_that_loses_a_node_ends_like_any_other(outcome: tuple[dict, Path]):
    said, output = outcome
    assert said["removed"]
    assert said["code"] == 0
    assert [row["status"] for row in videos_table(output)] == ["ok"] * VIDEOS
    clips = clips_table(output)
    assert len({row["clip_id"] for row in clips}) == len(clips)
    assert len(clips) == sum(row["num_clips"] for row in videos_table(output)) >= VIDEOS
    assert {row["verdict"] for row in clips} == {"kept"}
