from pathlib import Path

import pytest

from pipeline import list_tasks
from pipeline.errors import UserError
from pipeline.settings import TasksSettings


def test_tasks_are_listed_with_their_fields_and_datasets_with_what_they_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert list_tasks.run(TasksSettings()) == 0
    shown = capsys.readouterr().out
    for line in ("curate (curate, caption; dataset qwen_video)", "is_safe          bool", "subjects         list[str]"):
        assert line in shown
    assert "first_frame  The first frame of each video" in shown
    with pytest.raises(UserError, match="--module: no file"):
        list_tasks.run(TasksSettings(module=str(tmp_path / "none.py")))
