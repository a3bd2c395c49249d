"""The operators of the curation graph, each with its cardinality, its place and what it reserves."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from pipeline.records.books import Books
from pipeline.schema import in_flight
from pipeline.settings import CurateSettings, ResourceSettings
from pipeline.sources import VideoRef
from pipeline.stages import cluster
from pipeline.stages.annotate import Label
from pipeline.stages.cut import Cut
from pipeline.stages.embed import Embed, keep_without
from pipeline.stages.ledger import Ledger
from pipeline.stages.screen import Screen
from pipeline.stages.settle import Settle
from pipeline.stages.split import SplitVideos
from pipeline.tasks import Task

SHARD_ROWS_PER_TASK = 64  # rows of one row group that one task reads in a single pass
REFS = pa.schema(
    {
        "video_id": pa.string(),
        "uri": pa.string(),
        "path": pa.string(),
        "row_group": pa.int32(),
        "row": pa.int64(),
        "problem": pa.string(),
        "settled": pa.list_(pa.string()),
    }
)


@dataclass(frozen=True)
class Graph:
    """What every operator of one run shares."""

    settings: CurateSettings
    task: Task
    books: Books
    settings_hash: str
    ledger: Ledger

    def read(self, refs: Sequence[VideoRef], settled: dict[str, list[str]]) -> Dataset:
        """A row a video: where it is, and which of its clips are settled already. One block for each split task."""
        return ray.data.from_arrow([_refs_table(block, settled) for block in self._blocks(refs)])

    def split(self, videos: Dataset) -> Dataset:
        """CPU, 1 -> N: a core for each task. It is what starts first: without a cap it takes the cores that slower
        starters wait for."""
        operator, resources = SplitVideos(self.settings, self.books, self.settings_hash, self.ledger), self._resources
        return videos.map_batches(
            operator,
            batch_size=None,
            batch_format="pyarrow",
            compute=_tasks(resources.split_tasks),
            **cluster.on_cpu_nodes(resources, cluster.split_cpus(resources)),
        )

    def screen(self, clips: Dataset) -> Dataset:
        """CPU, 1 -> 0 or 1: a model that is loaded once, so actors."""
        if self.settings.screen.model == "none":
            return clips
        pool = cluster.actors(self._resources.screen_actors, self._resources)
        return self._pool(clips, Screen, pool, self.settings.screen, self.books, self.ledger)

    def annotate(self, clips: Dataset) -> Dataset:
        """1 -> 1. vllm: GPU, one engine a GPU in a fixed pool. labels: CPU actors. openai: one actor, which waits."""
        settings, resources = self.settings.annotate, self.settings.resources
        if settings.annotator == "vllm":
            from pipeline.stages.vllm import VllmAnnotator  # engines and clients are slow to import: only if used

            return VllmAnnotator(self.settings, self.task, self.ledger)(clips, in_flight(self.books.clips))
        if settings.annotator == "openai":
            from pipeline.stages.endpoint import AskEndpoint

            # one actor: the rate limit is the endpoint's, not a worker's
            api_key = os.environ.get("OPENAI_API_KEY") or "none"
            batch = max(resources.batch_size, settings.openai.max_concurrency)
            return self._pool(clips, AskEndpoint, 1, settings, self.task, api_key, self.ledger, batch_size=batch)
        return self._pool(
            clips, Label, cluster.actors(resources.label_actors, resources), settings, self.task, self.ledger
        )

    def embed(self, clips: Dataset) -> Dataset:
        """CPU, 1 -> 1: a model that is loaded once, so actors; one forward for a whole batch."""
        if self.settings.embed.embedder == "none":
            return clips.map_batches(keep_without, batch_size=None, batch_format="pyarrow", **self._light)
        pool = cluster.actors(self._resources.embed_actors, self._resources)
        return self._pool(clips, Embed, pool, self.settings.embed, self.ledger)

    def cut(self, clips: Dataset) -> Dataset:
        """CPU, 1 -> 1: opens videos once more and encodes around the cuts; what is not kept passes through."""
        if self.settings.clips.mode == "none":
            return clips
        return clips.map_batches(
            Cut(self.settings, self.ledger),
            batch_size=self.settings.resources.clips_per_part,
            batch_format="pyarrow",
            compute=_tasks(self._resources.cut_tasks),
            **self._light,
        )

    def settle(self, clips: Dataset) -> Dataset:
        """CPU, N -> 1: writes parts; light, so a fraction of a core."""
        return clips.map_batches(
            Settle(self.books, self.ledger),
            batch_size=self.settings.resources.clips_per_part,
            batch_format="pyarrow",
            **self._light,
        )

    @property
    def _resources(self) -> ResourceSettings:
        return self.settings.resources

    @property
    def _light(self) -> dict[str, Any]:
        """What every operator but the split and the engine reserves, and where."""
        return cluster.on_cpu_nodes(self._resources, cluster.actor_cpus(self._resources))

    def _pool(
        self, clips: Dataset, operator: type, size: int, *arguments: Any, batch_size: int | None = None
    ) -> Dataset:
        return clips.map_batches(
            operator,
            fn_constructor_args=arguments,
            batch_size=batch_size or self.settings.resources.batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=size),
            **self._light,
        )

    def _blocks(self, refs: Sequence[VideoRef]) -> Iterator[list[VideoRef]]:
        """References grouped into tasks, shard rows kept together."""
        files_per_task = cluster.inputs_per_task(len(refs), self._resources)
        for (_, row_group), group in groupby(
            refs, key=lambda r: (r.path if r.row_group is not None else "", r.row_group)
        ):
            members, size = list(group), files_per_task if row_group is None else SHARD_ROWS_PER_TASK
            for start in range(0, len(members), size):
                yield members[start : start + size]


def _refs_table(refs: Sequence[VideoRef], settled: dict[str, list[str]]) -> pa.Table:
    rows = [{**asdict(ref), "settled": settled.get(ref.video_id)} for ref in refs]
    return pa.Table.from_pylist(rows, REFS)


def _tasks(size: int | None) -> TaskPoolStrategy | None:
    """So many tasks at the same time; None for as many as there is room for."""
    return TaskPoolStrategy(size=size) if size else None
