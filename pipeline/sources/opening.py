"""Open referenced videos, one after the other, as something a decoder can read."""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from typing import BinaryIO

from pipeline import storage
from pipeline.errors import BadVideo, one_line
from pipeline.sources.listing import VideoRef
from pipeline.sources.parquet import read_rows

Opener = Callable[[], AbstractContextManager[str | BinaryIO]]


def open_videos(refs: list[VideoRef], video_column: str) -> Iterator[tuple[VideoRef, Opener]]:
    """Each reference with a function that opens it; call it before taking the next.

    Rows of one row group of a shard are read in a single pass. The opener raises BadVideo where nothing can be opened.
    """
    for (path, row_group), group in groupby(refs, key=lambda ref: (ref.path, ref.row_group)):
        members = list(group)
        if row_group is None or any(ref.problem for ref in members):
            for ref in members:
                yield ref, lambda ref=ref: _file(ref)
        else:
            yield from _rows(path, row_group, members, video_column)


def open_file(uri: str) -> Opener:
    """The opener of a single file that is no row of a shard."""
    return lambda: _file(VideoRef("", uri, uri))


@contextmanager
def local_file(opener: Opener) -> Iterator[str]:
    """What an opener opens as a local path, copied to this machine for as long as the block lasts where it must be."""
    with opener() as source:
        if isinstance(source, str):
            yield source
            return
        with tempfile.NamedTemporaryFile(prefix="cutroom-") as copy:
            try:
                shutil.copyfileobj(source, copy)
            except Exception as error:  # storage clients have errors of their own, without a common base
                raise BadVideo(f"reading stopped: {one_line(error)}") from error
            copy.flush()
            yield copy.name


def _rows(path: str, row_group: int, refs: list[VideoRef], video_column: str) -> Iterator[tuple[VideoRef, Opener]]:
    waiting = {ref.row: ref for ref in refs}
    problem = "the shard has no such row"
    try:
        for row, data in read_rows(path, row_group, [row for row in waiting if row is not None], video_column):
            yield waiting.pop(row), lambda data=data: _bytes(data)
    except Exception as error:  # whatever a broken shard or a lost connection raises: its videos fail, the run goes on
        problem = f"the shard cannot be read: {one_line(error)}"
    for ref in waiting.values():
        yield ref, lambda: _refuse(problem)


@contextmanager
def _file(ref: VideoRef) -> Iterator[str | BinaryIO]:
    if ref.problem:
        raise BadVideo(ref.problem)
    if not storage.is_remote(ref.path):
        yield storage.local_path(ref.path)
        return
    try:
        file = storage.open_binary(ref.path, back_and_forth=True)
    except FileNotFoundError as error:
        raise BadVideo("no such file") from error
    except PermissionError as error:
        raise BadVideo(f"access denied: {one_line(error)}") from error
    except Exception as error:  # storage clients have errors of their own, without a common base
        raise BadVideo(f"cannot be opened: {one_line(error)}") from error
    with file:
        yield file


def _bytes(data: bytes | None) -> AbstractContextManager[BinaryIO]:
    if not data:
        raise BadVideo("the row holds no bytes")
    return nullcontext(io.BytesIO(data))


def _refuse(problem: str) -> AbstractContextManager[BinaryIO]:
    raise BadVideo(problem)
