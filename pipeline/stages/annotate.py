"""The annotators: they put a task's answer on each clip, or settle it as rejected or failed. All are 1 -> 1."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.models.labels import Labeller
from pipeline.models.vlm import Answer
from pipeline.settings import AnnotateSettings
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import Row, fail, for_clips, reject, to_table
from pipeline.tasks import Task


def apply(row: Row, answer: Answer, task: Task, annotator: str) -> None:
    """Write an answer on its clip."""
    row.update(
        task=task.name, annotator=annotator, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens
    )
    if answer.error:
        fail(row, answer.error)
        return
    row.update(answer.fields)
    if answer.reject:
        reject(row, answer.reject)


@dataclass
class Label:
    """The embedded classifier."""

    settings: AnnotateSettings
    task: Task
    ledger: Ledger

    def __post_init__(self) -> None:
        self._labeller = Labeller(self.settings.top_k)

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        with self.ledger.busy("annotate", len(rows)):
            for row, fields in for_clips(rows, self._labeller):
                apply(row, Answer(fields), self.task, self._labeller.name)
        return to_table(rows, clips.schema)
