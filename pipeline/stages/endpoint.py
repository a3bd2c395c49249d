"""The annotator behind an OpenAI-compatible endpoint; apart, because its client takes seconds to import."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.models.openai_client import Endpoint, OpenAIAnnotator, Request
from pipeline.models.vlm import Reply
from pipeline.settings import AnnotateSettings, ModelSettings
from pipeline.stages.annotate import apply
from pipeline.stages.engine import reply_table
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import to_table
from pipeline.tasks import Task


@dataclass
class AskEndpoint:
    """A model behind an OpenAI-compatible endpoint: the requests of one batch are under way together."""

    settings: AnnotateSettings
    task: Task
    api_key: str
    ledger: Ledger

    def __post_init__(self) -> None:
        self._annotator = OpenAIAnnotator(self.task, self.settings, self.api_key)

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        with self.ledger.busy("annotate", len(rows)):
            answers = self._annotator([(row["clip_id"], row["frames"]) for row in rows])
        for row, answer in zip(rows, answers, strict=True):
            apply(row, answer, self.task, self._annotator.name)
        return to_table(rows, clips.schema)


@dataclass
class AskSamples:
    """The same for samples: requests as JSON -> replies; what could not be shown passes by with its reason."""

    settings: ModelSettings
    api_key: str
    schema: tuple[str, dict[str, Any]] | None
    ledger: Ledger

    def __post_init__(self) -> None:
        self._endpoint = Endpoint(self.settings, self.api_key, self.schema)

    def __call__(self, samples: pa.Table) -> pa.Table:
        rows = samples.to_pylist()
        with self.ledger.busy("annotate", len(rows)):
            asked = [row for row in rows if row["error"] is None]
            answers = self._endpoint([Request(row["key"], json.loads(row["messages"])) for row in asked])
        replies = {row["key"]: reply for row, reply in zip(asked, answers, strict=True)}
        return reply_table((row["key"], row["row"], replies.get(row["key"], Reply(error=row["error"]))) for row in rows)
