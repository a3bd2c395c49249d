"""The output of a task over samples: shards while the run goes, one file in input order at its end.

A shard's line is a finished record as it will stand in that file, or {"__key", "__error"} of a sample that failed.
What no line of the input asks for any more (it was cut short, or there is a --limit) is kept beside it, and comes back
with its line.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pipeline import storage
from pipeline.errors import UserError
from pipeline.records import lease
from pipeline.settings import ERROR, KEY
from pipeline.sources.samples import Line

MAX_OPEN = 64  # files held open while records are looked up in hundreds of shards
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

    @property
    def kept(self) -> str:
        return storage.join(self.root, f"output.{self.task}.kept.jsonl")

    def shard(self, rank: int) -> str:
        return storage.join(self.root, f"output.{self.task}.rank{rank}.jsonl")

    def ranks(self) -> list[int]:
        """The numbers of the shards that are there."""
        matches = (
            re.fullmatch(rf"output\.{re.escape(self.task)}\.rank(\d+)\.jsonl", name)
            for name in storage.names(self.root)
        )
        return sorted(int(match[1]) for match in matches if match)

    def shards(self) -> list[str]:
        """Those that are there."""
        return [self.shard(rank) for rank in self.ranks()]

    def next_rank(self) -> int:
        """A number that no shard has: a writer of an earlier run may still be dying over its own."""
        return max(self.ranks(), default=-1) + 1

    def remove(self) -> None:
        """Begin anew."""
        for name in [*self.shards(), self.kept, self.merged, self.errors]:
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
    """What earlier work left. done: key -> (local file, offset) of its record; failed: key -> why; kept: the local file
    of what was kept, if any."""

    done: dict[str, tuple[str, int]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: str | None = None
    _opened: dict[str, BinaryIO] = field(default_factory=dict)  # what was used last stands last

    def take(self, key: str) -> bytes:
        """The record of a key that is done, as its line; it is in `done` no more."""
        path, offset = self.done.pop(key)
        file = self._opened.pop(path, None) or open(path, "rb")  # noqa: SIM115
        self._opened[path] = file
        if len(self._opened) > MAX_OPEN:
            self._opened.pop(next(iter(self._opened))).close()
        file.seek(offset)
        return file.readline()

    def close(self) -> None:
        for file in self._opened.values():
            file.close()


@contextmanager
def settled(files: Files) -> Iterator[Settled]:
    """Read what is settled; a last line that was torn by a kill is cut off. Records can be taken within."""
    with tempfile.TemporaryDirectory(prefix="cutroom-shards-") as folder, closing(Settled()) as seen:
        shards = files.shards()
        for name in shards:
            _repair(name)
        # shards last: what they tell is newer than what a merge that was cut off has left in two of the others
        for index, name in enumerate([files.errors, files.kept, files.merged, *shards]):
            if (path := _local(name, f"{folder}/{index}")) is not None:
                seen.kept = path if name == files.kept else seen.kept
                _read(path, seen, is_errors=name == files.errors)
        for key in seen.done.keys() & seen.failed.keys():
            del seen.failed[key]  # it was tried again
        yield seen


def _repair(shard: str) -> None:
    data = storage.read(shard) or b""
    if data and not data.endswith(b"\n"):
        storage.write(shard, data[: data.rfind(b"\n") + 1])


def _local(uri: str, copy: str) -> str | None:
    """The file, or a copy where it is remote, since its lines are read one by one and in any order; None where there is
    none."""
    fs, path = storage.filesystem(uri)
    if not storage.is_remote(uri):
        if os.path.isdir(path):
            raise UserError(f"{uri}: is a folder, where this run writes a file: choose another --output")
        return path if os.path.exists(path) else None
    try:
        fs.get_file(path, copy)
        return copy
    except FileNotFoundError:
        return None


def _read(path: str, seen: Settled, *, is_errors: bool) -> None:
    offset = 0
    with open(path, "rb") as file:
        for data in file:
            at, offset = offset, offset + len(data)
            try:
                record = json.loads(data)
                key, error = record[KEY], record.get("error" if is_errors else ERROR)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # torn, or no record: whatever it was about is done again
            if not isinstance(key, str):
                continue
            if is_errors or record.keys() == {KEY, ERROR}:
                seen.failed[key] = str(error)
            else:
                seen.done[key] = (path, at)


@dataclass(frozen=True)
class Merged:
    """Lines of the input by what became of them; reasons: how often each error occurred. kept: records that none of
    these lines asks for."""

    done: int
    failed: int
    waiting: int
    kept: int
    reasons: dict[str, int]


def merge(files: Files, lines: Iterable[Line], token: str) -> Merged:
    """Write what is settled of these lines into one file in their order, and into the errors file what failed; what
    other lines left is kept; then remove the shards. token: the lease. Raises LeaseLost.

    Killed at any point, it can be done again: a record that changes files stands in the old until the new one has it.
    """
    lease.check(files.root, token)  # a shard that is torn is mended, which only its owner may do
    done = failed = waiting = 0
    reasons: dict[str, int] = {}
    with (
        settled(files) as seen,
        ExitStack() as last,
        _replacing(files, token, files.merged) as merged,
        _replacing(files, token, files.errors) as errors,
    ):
        for line in lines:
            problem = line.problem or seen.failed.pop(line.key or "", None)
            if problem:
                failed += 1
                reasons[problem] = reasons.get(problem, 0) + 1
                errors.write(encode({"line": line.number, "error": problem, KEY: line.key, "input": line.text}))
            elif line.key in seen.done:
                done += 1
                merged.write(seen.take(line.key))
            else:
                waiting += 1
        num_kept = len(seen.done) + len(seen.failed)
        if num_kept:
            kept = last.enter_context(_replacing(files, token, files.kept))  # in its place after the other two
            with _replacing(files, token, files.kept) as both:  # ... and before them, with all that was kept so far
                _keep(seen, kept, both)
    if not failed:
        _remove(files, token, files.errors)
    if not num_kept:
        _remove(files, token, files.kept)
    for shard in files.shards():
        _remove(files, token, shard)
    return Merged(done, failed, waiting, num_kept, reasons)


def _keep(seen: Settled, kept: BinaryIO, both: BinaryIO) -> None:
    """Write what nobody took into kept, and into both too, after all of the old kept file."""
    if seen.kept:
        with open(seen.kept, "rb") as old:
            shutil.copyfileobj(old, both)
    for key in list(seen.done):
        is_new = seen.done[key][0] != seen.kept
        record = seen.take(key)
        kept.write(record)
        if is_new:
            both.write(record)
    for key, why in seen.failed.items():
        record = encode({KEY: key, ERROR: why})
        kept.write(record)
        both.write(record)


@contextmanager
def _replacing(files: Files, token: str, name: str) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well, unless another run took the folder over (LeaseLost)."""
    with storage.writing(name) as file:
        yield file
        lease.check(files.root, token)


def _remove(files: Files, token: str, name: str) -> None:
    lease.check(files.root, token)
    storage.remove(name)
