"""The end of the stream: every clip that came this far is written to the clips table."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.records.books import Books
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import fail, undecided


@dataclass(frozen=True)
class Settle:
    """Writes a batch of clips, one part a verdict. N -> 1 row that says how many."""

    books: Books
    ledger: Ledger

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        for row in undecided(rows):
            fail(row, "no stage gave a verdict")
        with self.ledger.busy("write", len(rows)):
            self.books.settle(rows)
        self.ledger.settled(rows)
        return pa.table({"settled": [len(rows)]})
