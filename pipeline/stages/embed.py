"""The embedding, and with it the last condition for `kept`."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.models.embedders import make_embedder
from pipeline.schema import KEPT
from pipeline.settings import EmbedSettings
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import Row, for_clips, to_table, undecided


@dataclass
class Embed:
    """Embeds the clips that passed everything and keeps them; the others pass through. 1 -> 1, without frames."""

    settings: EmbedSettings
    ledger: Ledger

    def __post_init__(self) -> None:
        self._embedder = make_embedder(self.settings)

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        waiting = undecided(rows)
        with self.ledger.busy("embed", len(waiting)):
            for row, vector in for_clips(waiting, self._embedder):
                _keep(row, embedding=vector, embedder=self._embedder.name)
        return to_table(rows, clips.schema)


def keep_without(clips: pa.Table) -> pa.Table:
    """In place of Embed where no embedding is wanted."""
    rows = clips.to_pylist()
    for row in undecided(rows):
        _keep(row)
    return to_table(rows, clips.schema)


def _keep(row: Row, **columns: Any) -> None:
    row.update(columns, verdict=KEPT, frames=None)
