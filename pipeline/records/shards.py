"""The output of a task over samples: shards while the run goes, one file in input order at its end.

A shard's line is a finished record as it will stand in that file, or {"__key", "__error"} of a sample that failed.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pipeline import storage
from pipeline.records import lease
from pipeline.sources.samples import KEY, Line

ERROR = "__error"
SHARD_BYTES = 4 << 20  # a shard that has grown to this is closed: object stores write it anew with each addition


@dataclass(frozen=True)
class Files:
    """Where the files of one task lie in an output folder."""

    root: str
    task: str

    @property
    def merged(self) -> str:
        return storage.join(self.root, f"output.{self.task}.jsonl")

    @property
    def errors(self) -> str:
        return storage.join(self.root, f"output.{self.task}.errors.jsonl")

    def shard(self, rank: int) -> str:
        return storage.join(self.root, f"output.{self.task}.rank{rank}.jsonl")

    def shards(self) -> list[str]:
        """Those that are there."""
        prefix = self.shard(0).removesuffix("0.jsonl")
        return [name for name in storage.find(self.root, ".jsonl") if name.startswith(prefix)]

    def remove(self) -> None:
        """Begin anew."""
        for name in [*self.shards(), self.merged, self.errors]:
            storage.remove(name)


@dataclass
class Shard:
    """The pen of one writer. token: the lease; without it nothing is written."""

    files: Files
    token: str
    rank: int
    num_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Time to take another rank."""
        return self.num_bytes >= SHARD_BYTES

    def write(self, records: Iterable[dict[str, Any]]) -> None:
        """Add records; once this returns, a run that is killed still has them. Raises LeaseLost."""
        lease.check(self.files.root, self.token)
        data = b"".join(encode(record) for record in records)
        storage.append(self.files.shard(self.rank), data)
        self.num_bytes += len(data)


def encode(record: dict[str, Any]) -> bytes:
    """A record as a line of JSON: text as it is, where UTF-8 can hold it."""
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
        return json.dumps(record).encode() + b"\n"


@dataclass
class Settled:
    """What earlier work left. done: key -> (file, offset) of its record; failed: key -> why."""

    done: dict[str, tuple[BinaryIO, int]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@contextmanager
def settled(files: Files) -> Iterator[Settled]:
    """Read what is settled; a last line that was torn by a kill is cut off. The files stay open within."""
    seen = Settled()
    with tempfile.TemporaryDirectory(prefix="cutroom-shards-") as folder:
        opened: list[BinaryIO] = []
        try:
            shards = files.shards()
            for name in shards:
                _repair(name)
            for index, name in enumerate([files.errors, files.merged, *shards]):
                if (file := _open(name, f"{folder}/{index}")) is not None:
                    opened.append(file)
                    _read(file, seen)
            for key in seen.done.keys() & seen.failed.keys():
                del seen.failed[key]  # it was tried again
            yield seen
        finally:
            for file in opened:
                file.close()


def _repair(shard: str) -> None:
    data = storage.read(shard) or b""
    if data and not data.endswith(b"\n"):
        storage.write(shard, data[: data.rfind(b"\n") + 1])


def _open(uri: str, copy: str) -> BinaryIO | None:
    """The file, or a local copy where it is remote: its lines are read one by one, in any order."""
    fs, path = storage.filesystem(uri)
    try:
        if storage.is_remote(uri):
            fs.get_file(path, copy)
            path = copy
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _read(file: BinaryIO, seen: Settled) -> None:
    offset = 0
    for data in file:
        at, offset = offset, offset + len(data)
        try:
            record = json.loads(data)
            key = record[KEY]
        except (ValueError, KeyError, TypeError):
            continue  # torn, or no record: whatever it was about is done again
        if not isinstance(key, str):
            continue
        if (error := _error(record)) is not None:
            seen.failed[key] = error
        else:
            seen.done[key] = (file, at)


def _error(record: dict[str, Any]) -> str | None:
    """Why a sample failed, from a shard or from the errors file; None for a finished record."""
    if record.keys() == {KEY, ERROR}:
        return str(record[ERROR])
    return str(record["error"]) if record.keys() == ERROR_KEYS else None


ERROR_KEYS = {"line", "error", KEY, "input"}


@dataclass(frozen=True)
class Merged:
    """Lines of the input by what became of them; reasons: how often each error occurred."""

    done: int
    failed: int
    waiting: int
    reasons: dict[str, int]


def merge(files: Files, lines: Iterable[Line]) -> Merged:
    """Write what is settled of these lines into one file in their order, and into the errors file what failed; then
    remove the shards. Killed at any point, it can be done again."""
    done = failed = waiting = 0
    reasons: dict[str, int] = {}
    with settled(files) as seen, storage.writing(files.merged) as merged, storage.writing(files.errors) as errors:
        for line in lines:
            problem = line.problem or seen.failed.get(line.key or "")
            if problem:
                failed += 1
                reasons[problem] = reasons.get(problem, 0) + 1
                errors.write(encode({"line": line.number, "error": problem, KEY: line.key, "input": line.text}))
            elif line.key in seen.done:
                done += 1
                file, offset = seen.done[line.key]
                file.seek(offset)
                merged.write(file.readline())
            else:
                waiting += 1
    if not failed:
        storage.remove(files.errors)
    for shard in files.shards():
        storage.remove(shard)
    return Merged(done, failed, waiting, reasons)
