"""Counts while the run goes: what the progress line shows, and which video was being opened when a worker died.

The tables are the truth; the ledger is only ever read for people and for summary.json.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.records.tally import Tally


class _Ledger:
    def __init__(self) -> None:
        self._tally = Tally()
        self._open: Counter[str] = Counter()
        self._ranks = 0

    def begin(self, video_id: str) -> int:
        """A task is about to open this video; returns how often that was begun without an end."""
        self._open[video_id] += 1
        return self._open[video_id]

    def end(self, video_id: str, status: str, duration_s: float) -> None:
        del self._open[video_id]
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
    def start(cls) -> "Ledger":
        """A ledger beside the driver, so that it lives as long as the run."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), False)
        return cls(ray.remote(num_cpus=0)(_Ledger).options(scheduling_strategy=here).remote())

    def begin(self, video_id: str) -> int:
        """How often this video was begun, this time included, without coming to an end."""
        return ray.get(self.actor.begin.remote(video_id))

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
        """A number, from 0, that nobody else is given in this run."""
        return ray.get(self.actor.rank.remote())

    @contextmanager
    def busy(self, stage: str, rows: int) -> Iterator[None]:
        """Counts a stage's rows and the seconds it takes for them, here."""
        began = time.perf_counter()
        yield
        node = ray.get_runtime_context().get_node_id()
        self.actor.add.remote(stage, node, rows, time.perf_counter() - began)

    def read(self) -> Tally:
        """The counts so far."""
        return ray.get(self.actor.read.remote())
