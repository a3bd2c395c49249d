"""The safety screen: an NSFW score for every clip, before anything else looks at it."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.models.nsfw import NsfwClassifier
from pipeline.records.books import Books
from pipeline.settings import ScreenSettings
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import for_clips, reject, to_table, undecided


@dataclass
class Screen:
    """Scores clips; settles the rejected and the failed, so that they do not travel to the GPU. 1 -> 0 or 1."""

    settings: ScreenSettings
    books: Books
    ledger: Ledger

    def __post_init__(self) -> None:
        self._classifier = NsfwClassifier()

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        with self.ledger.busy("screen", len(rows)):
            for row, score in for_clips(rows, self._classifier):
                row["nsfw_score"] = score
                if score >= self.settings.max_nsfw_score:
                    reject(row, "nsfw")
        passed = undecided(rows)
        settled = [row for row in rows if row["verdict"] is not None]
        self.books.settle(settled)
        self.ledger.settled(settled)
        return to_table(passed, clips.schema)
