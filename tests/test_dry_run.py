from pathlib import Path

import pytest

from pipeline import dry_run
from pipeline.settings import AnnotateSettings, AskSettings, CaptionSettings, CurateSettings


@pytest.mark.parametrize(("given", "runs"), [("openai", "vllm"), ("vllm", "vllm"), ("labels", "labels")])
def test_a_dry_run_asks_nobody_outside(monkeypatch: pytest.MonkeyPatch, given: str, runs: str) -> None:
    monkeypatch.setattr(dry_run, "_stand_in", Path)
    curate = CurateSettings(output="o", annotate=AnnotateSettings(annotator=given))  # type: ignore[arg-type]
    assert dry_run.with_stand_ins(curate).annotate.annotator == runs
    if given != "labels":
        caption = CaptionSettings(input="i", output="o", task="t", annotate=AskSettings(annotator=given))  # type: ignore[arg-type]
        assert dry_run.caption_with_stand_ins(caption).annotate.annotator == runs
