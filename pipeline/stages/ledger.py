"""Counts while the run goes: what the progress line shows, and which video was being opened when a worker died.

The tables are the truth of what came out. The ledger refuses a video that killed its workers, numbers the writers of
shards, and is read for people and for summary.json.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import BadVideo
from pipeline.records.tally import Tally

MAX_DEATHS = 2  # a video that was open in so many dying workers is not opened again
MAX_LOST_NODES = 8  # ... nor one that was open on so many nodes that went away, which spot nodes do by themselves


def _here() -> str:
    return ray.get_runtime_context().get_node_id()


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


class _Ledger:
    def __init__(self, first_rank: int) -> None:
        self._tally = Tally()
        self._open: dict[str, list[str]] = {}
        self._ranks = first_rank

    def begin(self, video_id: str, node: str) -> tuple[int, int]:
        """A task is about to open this video; returns how often it was begun without an end on nodes that still live,
        and on nodes that are gone (which is seldom the video's fault: spot nodes are taken away)."""
        before = self._open.setdefault(video_id, [])
        living = _living_nodes() if before else set()
        deaths = sum(begun in living for begun in before)
        lost = len(before) - deaths
        before.append(node)
        return deaths, lost

    def end(self, video_id: str, status: str, duration_s: float) -> None:
        self._open.pop(video_id, None)
        self._tally.videos[status] += 1
        self._tally.decoded_s += duration_s

    def add(self, stage: str, node: str, rows: int, seconds: float) -> None:
        self._tally.nodes[stage].add(node)
        self._tally.rows[stage] += rows
        self._tally.seconds[stage] += seconds

    def split(self, clips: int) -> None:
        self._tally.found += clips

    def settled(self, verdicts: dict[str, int]) -> None:
        self._tally.clips.update(verdicts)

    def tokens(self, tokens: dict[str, int]) -> None:
        self._tally.tokens.update(tokens)

    def rank(self) -> int:
        self._ranks += 1
        return self._ranks - 1

    def read(self) -> Tally:
        return self._tally


@dataclass(frozen=True)
class Ledger:
    """The handle that tasks carry. Except for `begin`, nothing waits for an answer."""

    actor: Any

    @classmethod
    def start(cls, first_rank: int = 0) -> "Ledger":
        """A ledger beside the driver, so that it lives as long as the run."""
        beside = NodeAffinitySchedulingStrategy(_here(), False)
        return cls(ray.remote(num_cpus=0)(_Ledger).options(scheduling_strategy=beside).remote(first_rank))

    def begin(self, video_id: str) -> None:
        """A task is about to open this video. Raises BadVideo when it was open in too many workers that died."""
        deaths, lost = ray.get(self.actor.begin.remote(video_id, _here()))
        if deaths >= MAX_DEATHS:
            raise BadVideo(f"workers died {deaths} times while it was open (crash or out of memory)")
        if lost >= MAX_LOST_NODES:
            raise BadVideo(f"{lost} nodes were lost while it was open")

    def end(self, video_id: str, status: str, duration_s: float | None) -> None:
        """The video came to an end, of whatever kind."""
        self.actor.end.remote(video_id, status, duration_s or 0.0)

    def split(self, clips: int) -> None:
        """Clips were found."""
        self.actor.split.remote(clips)

    def settled(self, rows: Iterable[dict[str, Any]]) -> None:
        """These rows were written to the clips table."""
        self.actor.settled.remote(dict(Counter(row["verdict"] for row in rows)))

    def tokens(self, **tokens: int) -> None:
        """A model read (`input`) and wrote (`output`) so many tokens."""
        self.actor.tokens.remote(tokens)

    def rank(self) -> int:
        """A number, from first_rank, that nobody else is given in this run."""
        return ray.get(self.actor.rank.remote())

    @contextmanager
    def busy(self, stage: str, rows: int) -> Iterator[None]:
        """Counts a stage's rows and the seconds it takes for them, here."""
        began = time.perf_counter()
        yield
        self.actor.add.remote(stage, _here(), rows, time.perf_counter() - began)

    def read(self) -> Tally:
        """The counts so far."""
        return ray.get(self.actor.read.remote())
