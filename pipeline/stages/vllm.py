"""The annotator on a vLLM engine: a clip's frames and the task's prompt -> the task's fields."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from ray.data import Dataset

from pipeline.models.pictures import decode
from pipeline.models.vlm import judge, prompt
from pipeline.settings import CurateSettings
from pipeline.stages import cluster
from pipeline.stages.annotate import apply
from pipeline.stages.engine import Engine, replies
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import fail, to_table
from pipeline.tasks import Task
from pipeline.tasks.datasets import LlmInput


@dataclass(frozen=True)
class VllmAnnotator:
    """Three operators: clips -> requests, the engine, answers -> clips. 1 -> 1."""

    settings: CurateSettings
    task: Task
    ledger: Ledger

    def __call__(self, clips: Dataset, schema: pa.Schema) -> Dataset:
        annotate, resources = self.settings.annotate, self.settings.resources
        cpus = cluster.actor_cpus(resources)
        light = cluster.on_cpu_nodes(resources, cpus)
        engine = Engine(
            annotate,
            resources,
            look=_Look(self.task, annotate.vllm.model),
            # JPEGs become pictures, 15 times as large, beside the engine and not a network away
            place={"num_cpus": cpus, **cluster.label_selector(resources.gpu_label_selector)},
            schema=self.task.json_schema(),
            limits={"image": self.settings.frames.per_clip, "video": 0},
            rows_at_once=resources.vllm_batch_size,
        )
        wrapped = clips.map_batches(_wrap, batch_format="pyarrow", batch_size=None, **light)
        unwrap = _Unwrap(self.task, schema, f"vllm:{annotate.vllm.model}", self.ledger)
        return engine(wrapped).map_batches(unwrap, batch_format="pyarrow", batch_size=None, **light)


def _wrap(clips: pa.Table) -> pa.Table:
    """Each row as {key, row}, row being the row itself as an Arrow stream."""
    packed = [_pack(clips.slice(i, 1)) for i in range(len(clips))]
    return pa.table({"key": clips["clip_id"], "row": pa.array(packed, pa.binary())})


def _pack(row: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_table(row)
    return sink.getvalue().to_pybytes()


def _unpack(packed: bytes) -> dict[str, Any]:
    return pa.ipc.open_stream(packed).read_all().to_pylist()[0]


@dataclass(frozen=True)
class _Look:
    """A packed clip -> its frames and the prompt."""

    task: Task
    model: str

    def __call__(self, key: str, packed: bytes) -> LlmInput:
        images = [decode(frame) for frame in _unpack(packed)["frames"] or ()]
        return {
            "prompt": prompt(self.model, self.task, len(images)),
            "multi_modal_data": {"image": images},
            "mm_processor_kwargs": None,
        }


@dataclass(frozen=True)
class _Unwrap:
    """Rows with replies -> clips with their answers."""

    task: Task
    schema: pa.Schema
    annotator: str
    ledger: Ledger

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = []
        with self.ledger.busy("annotate", len(batch)):
            for key, packed, reply in replies(batch):
                row = _unpack(packed)
                if row["clip_id"] == key:
                    apply(row, judge(self.task, reply), self.task, self.annotator)
                else:
                    fail(row, f"an answer came back for another clip: {key}")
                rows.append(row)
        return to_table(rows, self.schema)
