"""The tool that README's first lines on `summarize` use."""

import importlib.util
from pathlib import Path
from types import ModuleType

import av
import pytest

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.split import Clip, split


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dummy", Path(__file__).parents[1] / "tools/make_dummy_video.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_frame_is_a_video(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(tmp_path / "new/a.mp4"), "--seconds", "0.04"]) == 0
    with av.open(str(tmp_path / "new/a.mp4")) as container:
        assert len(list(container.decode(video=0))) == 1
    assert capsys.readouterr().out.endswith("a.mp4: 0.04 s, shots start at 0 s\n")


def test_its_moving_shots_are_no_dissolves(tool: ModuleType, tmp_path: Path) -> None:
    """Soft shapes that move are nearly a mix of where they were and where they will be."""
    tool.main([str(tmp_path / "a.mp4")])
    parts = split(str(tmp_path / "a.mp4"), shots=SplitSettings(), frames=FrameSettings(), quality=QualitySettings())
    starts_s = [part.span.start_s for part in parts if isinstance(part, Clip)]
    assert starts_s == pytest.approx(range(0, 3 * len(starts_s), 3))
    assert len(starts_s) >= 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.mp4", "--seconds", "0"], "--seconds 0: from 0.04, which is one frame, to 86400"),
        (["a.mp4", "--seconds", "-1"], "--seconds -1: from"),
        (["a.mp4", "--seconds", "nan"], "--seconds nan: from"),
        (["a.mp4", "--seconds", "inf"], "--seconds inf: from"),
        (["a"], "a: a video's name ends in .mp4"),
        (["a.webm"], "a.webm: a video's name ends in .mp4"),
        (["file/a.mp4"], "file"),
    ],
)
def test_a_mistake_is_one_line_and_2(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert tool.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {said}" if said != "file" else "error: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
