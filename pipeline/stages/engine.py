"""The vLLM engine through ray.data.llm. What depends on Ray's or vLLM's version stands here and nowhere else.

Between its operators a row is {key, row}, `row` (bytes) being all that the caller knows of it. So nothing that Ray does
to columns of failed rows (they skip the postprocess and carry internal columns along) can touch it.
"""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from ray.data import Dataset

from pipeline.errors import BadVideo, UserError
from pipeline.models.vlm import Chat, Reply, count
from pipeline.schema import storable
from pipeline.settings import ModelSettings, ResourceSettings, gpus_per_engine
from pipeline.stages import cluster
from pipeline.tasks.datasets import LlmInput

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
class Engine:
    """{key, row} -> the same with a reply (REPLIES).

    GPU, one engine a GPU in a fixed pool; requests are made by CPU tasks ahead of it. Raises UserError where engines
    cannot be counted, or the model is not to be had.

    look: (key, row) -> what the model is shown; it raises ValueError or BadVideo where that cannot be made.
    place: what one task that looks reserves, and where. schema: the answer's JSON schema, or None for free text.
    limits: pictures and videos a request may hold at most (count). rows_at_once: requests handed to an engine together.
    """

    model: ModelSettings
    resources: ResourceSettings
    look: Callable[[str, bytes], LlmInput]
    place: dict[str, Any]
    schema: dict[str, Any] | None
    limits: dict[str, int]
    rows_at_once: int

    def __call__(self, rows: Dataset) -> Dataset:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # half a minute that workers need not spend

        Chat(self.model.vllm.model).load()
        on_gpu = cluster.has_gpus(self.resources)
        light = cluster.on_cpu_nodes(self.resources, cluster.actor_cpus(self.resources))
        logging.disable(logging.WARNING)  # the builder talks of ray.init, mirrors and CUDA
        try:
            processor = build_processor(
                vLLMEngineProcessorConfig(**self._config(on_gpu)),
                preprocess=_Request(self.look, self._sampling()),
                postprocess=_keep,
                preprocess_map_kwargs=dict(self.place),
                postprocess_map_kwargs=dict(light),
            )
        finally:
            logging.disable(logging.NOTSET)
        if on_gpu:
            _place(processor, self.resources.gpu_label_selector, gpus_per_engine(self.model.vllm))
        return processor(rows).map_batches(_replies, batch_format="pandas", batch_size=None, **light)

    def _sampling(self) -> dict[str, Any]:
        params: dict[str, Any] = {"temperature": self.model.temperature, "max_tokens": self.model.max_tokens}
        if self.schema is not None:
            params["structured_outputs"] = {"json": json.dumps(self.schema)}
        return params

    def _config(self, on_gpu: bool) -> dict[str, Any]:
        vllm, resources = self.model.vllm, self.resources
        gpus = cluster.num_gpus(resources)
        if on_gpu and not gpus and not resources.vllm_replicas:
            raise UserError(
                "the cluster has no such GPU yet, so that engines cannot be counted: give resources.vllm_replicas"
            )
        replicas = resources.vllm_replicas or max(1, gpus // gpus_per_engine(vllm))
        engine: dict[str, Any] = {} if on_gpu else dict(CPU_ENGINE)
        engine.update(
            max_model_len=vllm.max_model_len,
            seed=SAMPLING_SEED,
            limit_mm_per_prompt=self.limits,
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        )
        engine.update(vllm.engine_kwargs)
        config: dict[str, Any] = {
            "model_source": vllm.model,
            "engine_kwargs": engine,
            "batch_size": self.rows_at_once,
            # a fixed pool: one that grows waits for upstream rows that wait for it
            "concurrency": (replicas, replicas),
            "should_continue_on_error": True,
            "log_engine_metrics": False,
            # the prompt is made by _Request, from the model's own chat template
            "chat_template_stage": False,
            "tokenize_stage": False,
            "detokenize_stage": False,
        }
        if on_gpu:
            config["accelerator_type"] = resources.accelerator_type
        else:
            cpus = cluster.actor_cpus(resources)
            config["placement_group_config"] = {"bundles": [{"CPU": cpus}]}  # else it waits for a GPU for ever
            config["runtime_env"] = {"env_vars": CPU_ENVIRONMENT}
        return config


def _place(processor: Any, labels: dict[str, str], gpus: int) -> None:
    """Have the engines run on nodes with these labels.

    The config knows no labels (placement_group_config takes bundles and a strategy, and of one GPU's bundle only the
    sums are used), but its engine stage hands its arguments on to map_batches. An engine of several GPUs gets a
    placement group, to which ray.data.llm hands no labels: there, accelerator_type and the GPUs it needs decide alone.
    """
    if labels and gpus == 1:
        processor.get_stage_by_name(ENGINE_STAGE).map_batches_kwargs.update(cluster.label_selector(labels))


@dataclass(frozen=True)
class _Request:
    """A row -> what the engine takes. Media are decoded here: a bad picture in the engine ends the job."""

    look: Callable[[str, bytes], LlmInput]
    sampling: dict[str, Any]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        request: dict[str, Any] = {"sampling_params": self.sampling}
        try:
            shown = self.look(row["key"], row["row"])
            request["prompt"] = storable(shown["prompt"])
            request["multimodal_data"] = shown["multi_modal_data"]
            request["mm_processor_kwargs"] = shown["mm_processor_kwargs"]
        except (ValueError, BadVideo) as error:
            request["prompt"] = ""
            request["multimodal_data"] = request["mm_processor_kwargs"] = None
            request["__inference_error__"] = storable(f"{UNSEEN}{error}")  # such a row passes the engine by
        return request


UNSEEN = "not shown to the model: "  # marks errors from before the engine
TOKENS = ("num_input_tokens", "num_generated_tokens")


def _keep(row: dict[str, Any]) -> dict[str, Any]:
    """What is needed of an answered row."""
    return {key: row.get(key) for key in ("key", "row", "generated_text", *TOKENS)}


REPLIES = pa.schema(
    {
        "key": pa.string(),
        "row": pa.binary(),
        "text": pa.string(),
        "error": pa.string(),
        "input_tokens": pa.int64(),
        "output_tokens": pa.int64(),
    }
)


def reply_table(rows: Iterable[tuple[str, bytes, Reply]]) -> pa.Table:
    """(key, row, reply) of each as a table."""
    return pa.Table.from_pylist(
        [
            {"key": key, "row": row, **asdict(reply), "text": _storable(reply.text), "error": _storable(reply.error)}
            for key, row, reply in rows
        ],
        REPLIES,
    )


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


def replies(table: pa.Table) -> list[tuple[str, bytes, Reply]]:
    """The same from a table."""
    return [(row.pop("key"), row.pop("row"), Reply(**row)) for row in table.to_pylist()]


def _replies(batch: Any) -> pa.Table:
    """Answered and failed rows, whatever columns their batch (pandas) came with, as replies."""
    return reply_table((row["key"], row["row"], _reply(row)) for row in batch.to_dict("records"))


def _reply(answered: dict[str, Any]) -> Reply:
    error = answered.get("__inference_error__")
    if isinstance(error, str) and error:
        unseen = error.startswith(UNSEEN)
        return Reply(error=error.removeprefix(UNSEEN) if unseen else f"the engine failed: {error}")
    text = answered.get("generated_text")
    return Reply(text if isinstance(text, str) else None, None, *(count(answered.get(name)) for name in TOKENS))
