import contextlib
import json
from typing import Any

import pyarrow as pa
import pytest

from pipeline import tasks
from pipeline.models.vlm import Reply
from pipeline.records.shards import Files
from pipeline.settings import CaptionSettings, DataSettings
from pipeline.sources.samples import Line
from pipeline.stages import samples
from pipeline.stages.samples import Look, Prepare, Settle


class Quiet:
    """A ledger without an actor."""

    def begin(self, video_id: str) -> None:
        """Nothing."""

    def end(self, video_id: str, status: str, duration_s: float | None) -> None:
        """Nothing."""

    def rank(self) -> int:
        return 0

    def busy(self, stage: str, rows: int) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Greedy:
    """Takes its sample to pieces."""

    name, dataset_name = "greedy", "text"

    def build_messages(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        raise ValueError("half \ud83d")

    def parse(self, text: str, sample: dict[str, Any]) -> Any:
        if text == "fail":
            raise ValueError("half \ud83d")
        sample["meta"].clear()
        return [sample.pop("path"), sample.pop("video")]


@pytest.fixture
def settings() -> CaptionSettings:
    data = DataSettings(path_key="video")
    return CaptionSettings(input="/in/s.jsonl", output="/out", task="greedy", data=data)


def settle(settings: CaptionSettings, row: bytes, text: str) -> dict[str, Any]:
    ledger: Any = Quiet()
    return Settle(settings, Greedy(), Files("/out", "greedy"), "", ledger)._record("k", row, Reply(text))


def test_parse_gets_the_sample_that_was_shown_and_what_it_does_to_it_is_not_written(settings: CaptionSettings) -> None:
    row = {"video": "a.mp4", "meta": {"x": 1}}
    assert settle(settings, json.dumps(row).encode(), "t") == {**row, "__key": "k", "output": ["/in/a.mp4"] * 2}


def test_whatever_goes_wrong_is_the_samples_error_and_text(settings: CaptionSettings) -> None:
    assert settle(settings, b'{"video": "a.mp4", "meta": {}}', "fail") == {"__key": "k", "__error": "half ?"}
    assert set(settle(settings, b"[" * 100_000, "t")) == {"__key", "__error"}


def test_a_reason_not_to_ask_fits_in_its_column(settings: CaptionSettings) -> None:
    ledger: Any = Quiet()
    settings = settings.model_copy(update={"annotate": settings.annotate.model_copy(update={"annotator": "openai"})})
    look = Look(settings, Greedy(), tasks.dataset("text"), ledger)
    (asked,) = Prepare(look)(pa.table({"key": ["k"], "row": [b"{}"]}, samples.ROWS))
    assert asked["error"].to_pylist() == ["half ?"]


def test_blocks_hold_every_line_once_and_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [Line(i, str(i), "{}") for i in range(1003)]
    put: list[pa.Table] = []
    monkeypatch.setattr(samples.ray, "put", put.append)
    monkeypatch.setattr(samples.ray.data, "from_arrow_refs", len)
    assert samples.read(lines, 8) == 126
    assert [key for block in put for key in block["key"].to_pylist()] == [line.key for line in lines]
    monkeypatch.setattr(samples, "MAX_BLOCKS", 10)
    assert samples.read(lines, 8) == 10
