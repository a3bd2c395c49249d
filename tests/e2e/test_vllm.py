"""The real vLLM engine (CPU build) inside the real pipeline, on a tiny random Qwen2.5-VL."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import curate
from pipeline.settings import (
    AnnotateSettings,
    CurateSettings,
    EmbedSettings,
    FrameSettings,
    QualitySettings,
    ScreenSettings,
    SplitSettings,
    VllmSettings,
)
from tests.e2e.conftest import clips_table

pytestmark = pytest.mark.usefixtures("cluster")

# A user's own task. Random weights cannot be told to answer badly, so the model of this one refuses some answers that
# its schema allows (a broken answer), and its prompt is too long for the engine when it is given four frames.
TASK = """
from typing import Literal
from pydantic import BaseModel, field_validator
from pipeline.tasks import Task, register_task

class Answer(BaseModel):
    mood: Literal["calm", "lively"]
    number: int

    @field_validator("number")
    @classmethod
    def even(cls, number):
        if number % 2:
            raise ValueError("odd numbers are not wanted")
        return number

register_task(Task("mood", PROMPT, Answer, lambda answer: "dull" if answer.mood == "calm" else None))
"""


def settings(real_clips: Path, output: Path, module: Path, max_model_len: int) -> CurateSettings:
    return CurateSettings(
        input=[str(real_clips)],
        output=str(output),
        dry_run=True,
        split=SplitSettings(min_clip_s=0.5, max_clip_s=1.2),
        frames=FrameSettings(max_side_px=112),
        quality=QualitySettings(min_sharpness=0, min_motion=0),
        screen=ScreenSettings(),
        annotate=AnnotateSettings(
            annotator="vllm", task="mood", module=str(module), vllm=VllmSettings(max_model_len=max_model_len)
        ),
        embed=EmbedSettings(embedder="clip"),
    )


def test_answers_of_the_real_engine(real_clips: Path, tmp_path: Path, capsys):
    module = tmp_path / "my_tasks.py"
    module.write_text(TASK.replace("PROMPT", repr("Which mood?")))
    run = settings(real_clips, tmp_path / "out", module, 4096)
    assert curate.run(run) == 0
    rows = clips_table(tmp_path / "out")
    asked = [row for row in rows if row["task"]]
    assert len(asked) >= 10
    assert all(row["task"] == "mood" and row["annotator"].startswith("vllm:") for row in asked)
    for row in asked:
        assert row["input_tokens"] > 40
        assert row["output_tokens"] > 5
        if row["verdict"] == "failed":
            assert "odd numbers are not wanted" in row["error"]
            assert row["mood"] is None
        else:
            assert row["number"] % 2 == 0
            assert row["mood"] == {"kept": "lively", "rejected": "calm"}[row["verdict"]]
            assert row["reason"] == {"kept": None, "rejected": "dull"}[row["verdict"]]
        if row["verdict"] == "kept":
            assert len(row["embedding"]) == 512
            assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-4)
    shown = capsys.readouterr().out
    assert "DRY RUN" in shown
    assert f"vLLM, chat template, structured output: {len(asked)} asked" in shown
