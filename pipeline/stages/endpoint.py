"""The annotator behind an OpenAI-compatible endpoint; apart, because its client takes seconds to import."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.models.openai_client import OpenAIAnnotator
from pipeline.settings import AnnotateSettings
from pipeline.stages.annotate import apply
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
