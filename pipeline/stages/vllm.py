"""The vLLM engine through ray.data.llm. What depends on Ray's or vLLM's version stands here and nowhere else.

Between the engine's operators a clip is {clip_id, clip: the whole row as Arrow bytes, prompt, images}. So nothing that
Ray does to columns of failed rows (they skip the postprocess and carry internal columns along) can touch a clip.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from ray.data import Dataset

from pipeline.errors import UserError
from pipeline.models.pictures import decode
from pipeline.models.vlm import Answer, judge, prompt
from pipeline.settings import CurateSettings, gpus_per_engine
from pipeline.stages import cluster
from pipeline.stages.annotate import apply
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import fail, to_table
from pipeline.tasks import Task

CPU_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # unset, the engine's threads fight each other: ten times slower
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU_ENGINE = {
    "enforce_eager": True,
    "dtype": "bfloat16",
    "max_num_seqs": 8,
    "kv_cache_memory_bytes": 256 << 20,  # unset, it takes 92 % of the machine's memory
    "max_num_batched_tokens": 8192,
    "skip_mm_profiling": True,
}
SAMPLING_SEED = 0
ENGINE_STAGE = "vLLMEngineStage"  # the stage's name in the processor


@dataclass(frozen=True)
class VllmAnnotator:
    """Three operators: clips -> requests, the engine, answers -> clips. 1 -> 1."""

    settings: CurateSettings
    task: Task
    ledger: Ledger

    def __call__(self, clips: Dataset, schema: pa.Schema) -> Dataset:
        cpus = cluster.actor_cpus(self.settings.resources)
        light = cluster.on_cpu_nodes(self.settings.resources, cpus)
        wrapped = clips.map_batches(_wrap, batch_format="pyarrow", batch_size=None, **light)
        answered = self._engine(cpus)(wrapped)
        unwrap = _Unwrap(self.task, schema, f"vllm:{self.settings.annotate.vllm.model}", self.ledger)
        return answered.map_batches(unwrap, batch_format="pandas", batch_size=None, **light)

    def _engine(self, cpus: float) -> Callable[[Dataset], Dataset]:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # half a minute that workers need not spend

        annotate, resources = self.settings.annotate, self.settings.resources
        gpus = cluster.num_gpus(resources)
        # on a cluster that is still growing the settings tell that GPUs will come
        on_gpu = bool(gpus or resources.accelerator_type or resources.gpu_label_selector)
        if on_gpu and not gpus and not resources.vllm_replicas:
            raise UserError(
                "the cluster has no such GPU yet, so that engines cannot be counted: give resources.vllm_replicas"
            )
        replicas = resources.vllm_replicas or max(1, gpus // gpus_per_engine(annotate.vllm))
        engine: dict[str, Any] = {} if on_gpu else dict(CPU_ENGINE)
        engine.update(
            max_model_len=annotate.vllm.max_model_len,
            seed=SAMPLING_SEED,
            limit_mm_per_prompt={"image": self.settings.frames.per_clip, "video": 0},
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        )
        engine.update(annotate.vllm.engine_kwargs)
        config: dict[str, Any] = {
            "model_source": annotate.vllm.model,
            "engine_kwargs": engine,
            "batch_size": resources.vllm_batch_size,
            # a fixed pool: one that grows waits for upstream rows that wait for it
            "concurrency": (replicas, replicas),
            "should_continue_on_error": True,
            "log_engine_metrics": False,
            # the prompt is made by _request, from the model's own chat template
            "chat_template_stage": False,
            "tokenize_stage": False,
            "detokenize_stage": False,
        }
        if on_gpu:
            config["accelerator_type"] = resources.accelerator_type
        else:
            config["placement_group_config"] = {"bundles": [{"CPU": cpus}]}  # else it waits for a GPU for ever
            config["runtime_env"] = {"env_vars": CPU_ENVIRONMENT}
        logging.disable(logging.WARNING)  # the builder talks of ray.init, mirrors and CUDA
        try:
            processor = build_processor(
                vLLMEngineProcessorConfig(**config),
                preprocess=_Request(self.task, annotate.vllm.model, annotate.temperature, annotate.max_tokens),
                postprocess=_keep,
                # JPEGs become pictures, 15 times as large, beside the engine and not a network away
                preprocess_map_kwargs={"num_cpus": cpus, **cluster.label_selector(resources.gpu_label_selector)},
                postprocess_map_kwargs=cluster.on_cpu_nodes(resources, cpus),
            )
        finally:
            logging.disable(logging.NOTSET)
        if on_gpu:
            _place(processor, resources.gpu_label_selector, gpus_per_engine(annotate.vllm))
        return processor


def _place(processor: Any, labels: dict[str, str], gpus: int) -> None:
    """Have the engines run on nodes with these labels.

    The config knows no labels (placement_group_config takes bundles and a strategy, and of one GPU's bundle only the
    sums are used), but its engine stage hands its arguments on to map_batches. An engine of several GPUs gets a
    placement group, to which ray.data.llm hands no labels: there, accelerator_type and the GPUs it needs decide alone.
    """
    if labels and gpus == 1:
        processor.get_stage_by_name(ENGINE_STAGE).map_batches_kwargs.update(cluster.label_selector(labels))


def _wrap(clips: pa.Table) -> pa.Table:
    """Each row as {clip_id, clip}, clip being the row itself as an Arrow stream."""
    packed = [_pack(clips.slice(i, 1)) for i in range(len(clips))]
    return pa.table({"clip_id": clips["clip_id"], "clip": pa.array(packed, pa.binary())})


def _pack(row: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_table(row)
    return sink.getvalue().to_pybytes()


def _unpack(packed: bytes) -> dict[str, Any]:
    return pa.ipc.open_stream(packed).read_all().to_pylist()[0]


@dataclass(frozen=True)
class _Request:
    """A packed clip -> what the engine takes. Frames are decoded here: a bad picture in the engine ends the job."""

    task: Task
    model: str
    temperature: float
    max_tokens: int

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        request: dict[str, Any] = {
            "sampling_params": {
                "temperature": self.temperature,
                "max_tokens": self.max_tokens,
                "structured_outputs": {"json": json.dumps(self.task.json_schema())},
            },
        }
        try:
            images = [decode(frame) for frame in _unpack(row["clip"])["frames"] or ()]
            request["prompt"] = prompt(self.model, self.task, len(images))
            request["multimodal_data"] = {"image": images}
        except ValueError as error:
            request["prompt"] = ""
            request["multimodal_data"] = None
            request["__inference_error__"] = str(error)  # such a row passes the engine by
        return request


def _keep(row: dict[str, Any]) -> dict[str, Any]:
    """What is needed of an answered row."""
    return {key: row.get(key) for key in ("clip_id", "clip", "generated_text", *TOKENS)}


TOKENS = ("num_input_tokens", "num_generated_tokens")


@dataclass(frozen=True)
class _Unwrap:
    """Answered and failed rows, whatever columns they came with -> clips with their answers."""

    task: Task
    schema: pa.Schema
    annotator: str
    ledger: Ledger

    def __call__(self, batch: Any) -> pa.Table:
        rows = []
        with self.ledger.busy("annotate", len(batch)):
            for answered in batch.to_dict("records"):
                row = _unpack(answered["clip"])
                if row["clip_id"] == answered["clip_id"]:
                    self._answer(row, answered)
                else:
                    fail(row, f"an answer came back for another clip: {answered['clip_id']}")
                rows.append(row)
        return to_table(rows, self.schema)

    def _answer(self, row: dict[str, Any], answered: dict[str, Any]) -> None:
        error = answered.get("__inference_error__")
        if isinstance(error, str) and error:
            apply(row, Answer(error=f"the engine failed: {error}"), self.task, self.annotator)
        else:
            text = answered.get("generated_text")
            tokens = [_count(answered.get(name)) for name in TOKENS]
            apply(row, judge(self.task, text if isinstance(text, str) else None, *tokens), self.task, self.annotator)


def _count(value: Any) -> int | None:
    """A token count, or None where the column was missing (NaN in a mixed batch)."""
    return int(value) if isinstance(value, int | float) and value == value else None
