"""The operators of `caption`: samples are looked at ahead of the model, asked about, and settled in shards."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import ray.data
from pydantic import BaseModel
from ray.data import ActorPoolStrategy

from pipeline import tasks
from pipeline.errors import BadVideo, reason
from pipeline.models.vlm import Chat, Reply, filled
from pipeline.records.shards import Files, Shard
from pipeline.schema import storable
from pipeline.settings import ERROR, KEY, CaptionSettings
from pipeline.sources.samples import Line, located
from pipeline.stages import cluster
from pipeline.stages.engine import Engine, replies
from pipeline.stages.ledger import Ledger
from pipeline.tasks.datasets import LlmInput, kind_of
from pipeline.video.frames import jpeg

JPEG_QUALITY = 90  # of the pictures that an endpoint is sent (1-100)
MAX_BLOCKS = 10_000  # Ray Data looks at each of them before anything starts, and keeps count of it
MAX_ENGINE_BYTES = 256e6  # pictures handed to an engine at once, all its requests together (bytes)
ROWS = pa.schema({"key": pa.string(), "row": pa.binary()})
ASKED = pa.schema({"key": pa.string(), "row": pa.binary(), "messages": pa.binary(), "error": pa.string()})


@dataclass(frozen=True)
class Look:
    """A sample -> what its dataset shows of it. ValueError or BadVideo say why it cannot be shown."""

    settings: CaptionSettings
    task: Any
    dataset: type
    ledger: Ledger

    @cached_property
    def _made(self) -> Any:
        return self.dataset(self.task, self._chat, self.settings.video)

    @cached_property
    def _chat(self) -> Chat | None:
        if self.settings.annotate.annotator != "vllm":
            return None
        chat = Chat(self.settings.annotate.vllm.model)
        chat.load()
        return chat

    def __call__(self, key: str, row: bytes) -> LlmInput:
        """For the engine. Raises UserError where the model is not to be had here: no sample is to blame for that."""
        _ = self._chat  # not in what is watched
        return self._watched(key, lambda: self._made(key, _sample(row, self.settings))["llm_input"])

    def messages(self, key: str, row: bytes) -> list[dict[str, Any]]:
        """For an endpoint: pictures as JPEG, a video as its frames."""

        def look() -> list[dict[str, Any]]:
            messages, images, videos = self._made.look(_sample(row, self.settings))
            waiting = {"image": iter([[image] for image in images]), "video": iter([v.pictures for v in videos])}
            media = [
                [_jpeg(picture) for picture in next(waiting[kind])]
                for message in messages
                if isinstance(message["content"], list)
                for kind in (kind_of(part) for part in message["content"])
                if kind
            ]
            return filled(messages, media)

        return self._watched(key, look)

    def _watched(self, key: str, look: Any) -> Any:
        try:
            self.ledger.begin(key)
            with self.ledger.busy("look", 1):
                return look()
        except (BadVideo, ValueError):
            raise
        except Exception as error:  # a user's task or dataset may raise anything; the sample fails with it
            raise ValueError(reason(error)) from error
        finally:
            self.ledger.end(key, "looked", None)


def _sample(row: bytes, settings: CaptionSettings) -> dict[str, Any]:
    """A sample as tasks see it, made anew: they may change it."""
    return located(json.loads(row), settings.data.path_key, settings.input)


def _jpeg(picture: np.ndarray) -> bytes:
    return jpeg(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), JPEG_QUALITY)


def read(lines: Sequence[Line], per_task: int) -> ray.data.Dataset:
    """A row a sample; one block for each task that looks at them. Blocks are handed to Ray as they fill, which moves
    them to disk where they are too much for memory."""
    per_task = max(per_task, math.ceil(len(lines) / MAX_BLOCKS))
    refs: list[Any] = [ray.put(block) for block in blocks(lines, per_task)]
    return ray.data.from_arrow_refs(refs)


def blocks(lines: Iterable[Line], per_task: int) -> Iterator[pa.Table]:
    """Tables of ROWS, one after the other."""
    waiting = iter(lines)
    while part := list(islice(waiting, per_task)):
        yield pa.Table.from_pylist([{"key": line.key, "row": line.text.encode()} for line in part], ROWS)


def ask(samples: ray.data.Dataset, look: Look) -> ray.data.Dataset:
    """1 -> 1: samples -> replies. CPU tasks look; then vLLM on GPUs, or one actor that waits for an endpoint."""
    settings, resources = look.settings, look.settings.resources
    response = getattr(look.task, "response", None)
    schema = tasks.json_schema(response) if response is not None else None
    place = cluster.on_cpu_nodes(resources, cluster.split_cpus(resources))
    if settings.annotate.annotator == "vllm":
        bytes_each = 3 * 2 * settings.video.total_pixels  # uint8 RGB, two frames a step of time
        engine = Engine(
            settings.annotate,
            resources,
            look=look,
            place=place,
            schema=schema,
            limits={"image": settings.video.max_frames, "video": 1},
            rows_at_once=max(1, min(resources.vllm_batch_size, int(MAX_ENGINE_BYTES / bytes_each))),
        )
        return engine(samples)
    from pipeline.stages.endpoint import AskSamples  # its client takes seconds to import

    prepared = samples.map_batches(Prepare(look), batch_size=None, batch_format="pyarrow", **place)
    api_key = os.environ.get("OPENAI_API_KEY") or "none"
    return prepared.map_batches(
        AskSamples,
        fn_constructor_args=(settings.annotate, api_key, (look.task.name, schema) if schema else None, look.ledger),
        batch_size=settings.annotate.openai.max_concurrency,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=1),  # the rate limit is the endpoint's, not a worker's
        **cluster.on_cpu_nodes(resources, cluster.actor_cpus(resources)),
    )


@dataclass(frozen=True)
class Prepare:
    """Samples -> requests for an endpoint, one table each: an hour of videos must not wait for its last. 1 -> 1."""

    look: Look

    def __call__(self, samples: pa.Table) -> Iterator[pa.Table]:
        for row in samples.to_pylist():
            asked = {**row, "messages": None, "error": None}
            try:
                asked["messages"] = json.dumps(self.look.messages(row["key"], row["row"])).encode()
            except (ValueError, BadVideo) as error:
                asked["error"] = storable(str(error))
            yield pa.Table.from_pylist([asked], ASKED)


def settle(answered: ray.data.Dataset, look: Look, files: Files, token: str) -> ray.data.Dataset:
    """CPU, N -> 1: answers are parsed and added to shards, each by an actor of its own."""
    resources = look.settings.resources
    return answered.map_batches(
        Settle,
        fn_constructor_args=(look.settings, look.task, files, token, look.ledger),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=look.settings.data.shards),
        **cluster.on_cpu_nodes(resources, cluster.actor_cpus(resources) / 2),
    )


@dataclass
class Settle:
    """Writes what a batch's samples came to: a record, or why there is none."""

    settings: CaptionSettings
    task: Any
    files: Files
    token: str
    ledger: Ledger

    def __post_init__(self) -> None:
        self._shard = self._next_shard()

    def _next_shard(self) -> Shard:
        return Shard(self.files, self.token, self.ledger.rank())

    def __call__(self, batch: pa.Table) -> pa.Table:
        with self.ledger.busy("write", len(batch)):
            answers = replies(batch)
            records = [self._record(*answered) for answered in answers]
            if records:
                self._shard.write(records)
            if self._shard.is_full:
                self._shard = self._next_shard()
        self.ledger.settled({"verdict": "failed" if ERROR in record else "done"} for record in records)
        self.ledger.tokens(
            input=sum(reply.input_tokens or 0 for _, _, reply in answers),
            output=sum(reply.output_tokens or 0 for _, _, reply in answers),
        )
        return pa.table({"settled": [len(records)]})

    def _record(self, key: str, row: bytes, reply: Reply) -> dict[str, Any]:
        try:
            raw = json.loads(row)
            if reply.error:
                raise ValueError(reply.error)
            if reply.text is None:
                raise ValueError("the model gave no answer")
            answer = self.task.parse(reply.text, _sample(row, self.settings))
            output = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
            json.dumps(output, allow_nan=False)  # what JSON cannot hold must not end the run
        except Exception as error:  # a user's task may raise anything; the sample fails with it, the run goes on
            text = str(error)[:500] if isinstance(error, ValueError) else reason(error)
            return {KEY: key, ERROR: storable(text) or type(error).__name__}
        return {**raw, KEY: key, self.settings.data.output_key: output}
