"""The two files that `summarize` writes at its end: summaries in the order of the inputs, and what failed."""

import sys
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline import storage
from pipeline.records.shards import encode
from pipeline.sources import Found

FIELDS = ("video_path", "clip_index", "start_sec", "end_sec", "summary")
Row = dict[str, Any]


def errors_beside(output: str) -> str:
    """results.jsonl -> results.errors.jsonl."""
    return f"{output.removesuffix('.jsonl')}.errors.jsonl"


class Spool:
    """Rows on disk, in whatever order they come: memory holds their places alone."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="cutroom-")  # noqa: SIM115 (it goes with this object)
        self._places: list[tuple[tuple[int, int], int]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: tuple[int, int], row: Row) -> None:
        """A row whose place among the others is told by its key."""
        self._places.append((key, self._file.tell()))
        self._file.write(encode(row))

    def lines(self) -> Iterator[bytes]:
        """The rows as lines of JSON, in order. Nothing can be added from here on."""
        self._places.sort()
        for _, at in self._places:
            self._file.seek(at)
            yield self._file.readline()

    def write(self, location: str) -> None:
        with storage.writing(location) as file:
            file.writelines(self.lines())


class Results:
    """What comes back, as it comes. done and failed: the rows of the two files."""

    def __init__(self) -> None:
        self.done, self.failed = Spool(), Spool()
        self.seen: set[int] = set()  # inputs with any row
        self.ended: set[int] = set()  # ... with the row that their reading ends with
        self.bad: set[int] = set()  # ... with an error

    def add(self, row: Row) -> None:
        """A row of the model stage."""
        order, index = row["order"], row["clip_index"]
        self.seen.add(order)
        if index is None:
            self.ended.add(order)
        if row["error"] is not None:
            self._fail(order, row["video_path"], index, row["error"])
        elif index is not None:
            self.done.add((order, index), {key: row[key] for key in FIELDS})

    def close(self, found: Found) -> None:
        """All rows are there. A video that was read in part only, and by nobody to its end, has failed."""
        for order in sorted(self.seen - self.ended):
            self._fail(order, found.videos[order].uri, None, "workers died while it was open (crash or out of memory)")

    def write(self, output: str) -> None:
        """Each file whole or not at all; the one for errors only where there are some."""
        self.done.write(output)
        if self.failed:
            self.failed.write(errors_beside(output))
        else:
            storage.remove(errors_beside(output))  # an earlier run's

    def _fail(self, order: int, video_path: str, index: int | None, error: str) -> None:
        self.bad.add(order)
        row = {"video_path": video_path, "clip_index": index, "error": error}
        last = sys.maxsize if index is None else index
        self.failed.add((order, last), {key: value for key, value in row.items() if value is not None})
