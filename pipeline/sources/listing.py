"""From what the user names (files, folders, globs, URIs, lists, parquet shards) to one reference a video."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from fsspec.implementations.local import LocalFileSystem

from pipeline import storage
from pipeline.errors import UserError, one_line
from pipeline.ids import video_id
from pipeline.settings import SourceSettings
from pipeline.sources.lists import read_list
from pipeline.sources.parquet import shard_rows

FOOTERS_AT_ONCE = 16  # of shards, which are a few requests each: waiting for them one by one takes minutes
GLOB_CHARACTERS = frozenset("*?[")
OUTPUT_FOLDERS = ("tables", "run", "clips", "filtered_clips", "previews")


@dataclass(frozen=True)
class VideoRef:
    """Where one video is: a file, or a row of a parquet shard (row_group and the row in it, both from 0).

    `problem` is why it can already be told that the video cannot be read; it still becomes a row of the videos table.
    """

    video_id: str
    uri: str
    path: str
    row_group: int | None = None
    row: int | None = None
    problem: str | None = None


@dataclass
class Found:
    """The videos in a stable order, each once, and how many were named more than once."""

    videos: list[VideoRef] = field(default_factory=list)
    num_duplicates: int = 0


def find_videos(
    inputs: Iterable[str], input_lists: Iterable[str], limit: int | None, settings: SourceSettings, output: str = ""
) -> Found:
    """Every video the inputs name, at most `limit`, without what earlier runs wrote to `output`, should that lie in the
    input. Raises UserError when an input names nothing at all."""
    found, seen = Found(), set()
    ours = tuple(storage.join(storage.absolute(output), folder, "") for folder in OUTPUT_FOLDERS) if output else ()
    for ref in _all(inputs, input_lists, settings, ours):
        if ref.video_id in seen:
            found.num_duplicates += 1
            continue
        if limit is not None and len(found.videos) == limit:
            break
        seen.add(ref.video_id)
        found.videos.append(ref)
    if not found.videos:
        raise UserError("no videos: name some with --input (a file, folder, glob or URI) or --input-list")
    if all(ref.problem == MISSING for ref in found.videos):
        raise UserError(f"{found.videos[0].path}: no such file, nor any other that was named")
    return found


MISSING = "no such file"


def _all(
    inputs: Iterable[str], input_lists: Iterable[str], settings: SourceSettings, ours: tuple[str, ...]
) -> Iterator[VideoRef]:
    for named in inputs:
        yield from _expand(named, settings, ours)
    for named in input_lists:
        for path in read_list(named):
            yield from _file(storage.absolute(path), settings)


def _expand(named: str, settings: SourceSettings, ours: tuple[str, ...]) -> Iterator[VideoRef]:
    """One --input. Listing errors are the caller's: nothing of the folder could be read."""
    location = storage.absolute(named)
    fs, path = storage.filesystem(location)
    try:
        if isinstance(fs, LocalFileSystem) and os.path.isfile(path):  # a name may look like a glob
            yield from _file(location, settings)
        elif GLOB_CHARACTERS & set(path) and not (isinstance(fs, LocalFileSystem) and os.path.isdir(path)):
            yield from _files(_glob(fs, path, location), named, settings, ours)
        elif fs.isdir(path):
            yield from _files(_folder(fs, path, location, settings), named, settings, ours)
        else:
            yield from _literal(fs, path, location, settings)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{named}: access denied ({one_line(error)}): check the credentials") from error
    except Exception as error:  # storage clients have errors of their own, without a common base
        raise UserError(f"{named}: cannot be listed: {one_line(error)}") from error


def _literal(fs: object, path: str, location: str, settings: SourceSettings) -> Iterator[VideoRef]:
    """One file by name. A missing or forbidden one is a row with a reason, not the end of the run."""
    has_extension = "." in path.rsplit("/", 1)[-1]
    try:
        exists = fs.exists(path) if isinstance(fs, LocalFileSystem) else bool(fs.info(path))  # type: ignore[attr-defined]
    except FileNotFoundError:
        exists = False
    except PermissionError:
        if not has_extension:
            raise
        exists = True
    if not exists and not has_extension:
        raise UserError(f"{location}: no such file or folder (--input)")
    for ref in _file(location, settings):
        yield ref if exists else replace(ref, problem=MISSING)


def _glob(fs: object, path: str, location: str) -> list[str]:
    if isinstance(fs, LocalFileSystem):
        import glob

        names = [name for name in glob.glob(path, recursive=True) if not os.path.isdir(name)]
    else:
        names = [fs.unstrip_protocol(name) for name in fs.glob(path)]  # type: ignore[attr-defined]
    return sorted(names)


def _folder(fs: object, path: str, location: str, settings: SourceSettings) -> list[str]:
    endings = tuple(f".{e.lower().lstrip('.')}" for e in [*settings.extensions, "parquet"])
    names = [
        name
        for name in fs.find(path)  # type: ignore[attr-defined]
        if name.lower().endswith(endings) and not name.rsplit("/", 1)[-1].startswith(".")  # macOS' ._x.mp4 and the like
    ]
    return sorted(fs.unstrip_protocol(name) if storage.is_remote(location) else name for name in names)  # type: ignore[attr-defined]


def _files(names: list[str], named: str, settings: SourceSettings, ours: tuple[str, ...]) -> Iterator[VideoRef]:
    names = [name for name in names if not name.startswith(ours)] if ours else names
    if not names:
        raise UserError(f"{named}: no videos there (--input; file name endings: source.extensions)")
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        ahead: deque[Callable[[], Iterable[VideoRef]]] = deque()
        for name in names:
            refs = _file(name, settings)
            ahead.append(pool.submit(list, refs).result if _is_shard(name) else lambda refs=refs: refs)
            if len(ahead) == FOOTERS_AT_ONCE:
                yield from ahead.popleft()()
        while ahead:
            yield from ahead.popleft()()


def _file(location: str, settings: SourceSettings) -> Iterator[VideoRef]:
    """A video file is one reference, a parquet shard one for each of its rows."""
    if not _is_utf8(location):
        shown = location.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        yield VideoRef(video_id(location), shown, shown, problem="the name is not UTF-8: rename the file")
        return
    if not _is_shard(location) or not (storage.is_remote(location) or os.path.isfile(location)):
        yield VideoRef(video_id(location), location, location)
        return
    try:
        for row_group, row, number in shard_rows(location, settings.video_column):
            uri = f"{location}#row={number}"
            yield VideoRef(video_id(uri), uri, location, row_group, row)
    except UserError:
        raise
    except Exception as error:
        yield VideoRef(video_id(location), location, location, problem=f"not a readable shard: {one_line(error)}")


def _is_shard(location: str) -> bool:
    return location.lower().endswith(".parquet")


def _is_utf8(name: str) -> bool:
    """False for a local name of other bytes, which no table can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
