"""Videos that many tests share, made once. Imports nothing heavy: collecting the tests must stay quick."""

from pathlib import Path
from typing import Any

import pytest

from tests import footage

# End-to-end tests that have none, or one of their own
NOT_SHARING_RAY = ("test_memory.py", "test_placement.py", "test_plan.py", "test_vllm.py")


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Where tests run in several processes: those that share one Ray in the same, and so those of one file."""
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if file.startswith("tests/e2e/") and not file.endswith(NOT_SHARING_RAY) else file

    return OneRay(config, log)


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """Real footage: bikes.mp4, bigbuckbunny.mp4, carphone_*.mp4."""
    return footage.real_clips()


@pytest.fixture(scope="session")
def plain_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s of one panning shot, 320x180, 25 fps, H.264 with AAC sound."""
    path = tmp_path_factory.mktemp("footage") / "plain.mp4"
    return footage.write(path, footage.shot(1, 50), sound=True)


@pytest.fixture(scope="session")
def three_shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of 40, 30 and 55 frames at 25 fps: cuts at 1.6 s and 2.8 s, end at 5 s."""
    path = tmp_path_factory.mktemp("footage") / "three_shots.mp4"
    return footage.write(path, [f for seed, n in ((1, 40), (2, 30), (3, 55)) for f in footage.shot(seed, n)])
