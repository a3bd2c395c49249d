"""Files on any storage that fsspec knows, addressed by local path or URI. The one place that knows the difference."""

import contextlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import yaml
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import UserError, one_line

KEPT_RANGES = 4  # a video's beginning, its index at the end, and pictures and sound in different places (count)
RANGE_BYTES = 4_194_304  # enough that requests do not cost more than bytes; s3fs would take 50 MiB to see a header
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")


def is_remote(uri: str) -> bool:
    """True for s3://..., hf://...; False for local paths, also with `file://`."""
    return bool(_SCHEME.match(uri)) and not uri.startswith("file://")


def local_path(uri: str) -> str:
    """The absolute path of a local URI or path."""
    return os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))


def absolute(uri: str) -> str:
    """The one spelling of a location: absolute for local paths, unchanged for URIs."""
    return uri if is_remote(uri) else local_path(uri)


def shown(uri: str) -> str:
    """A location as people write it here: relative where it lies in the working folder."""
    return os.path.relpath(uri) if not is_remote(uri) and uri.startswith(os.getcwd() + os.sep) else uri


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a location, and the path there. Raises UserError for a scheme nobody knows.

    Local paths never go through URI parsing, so `#`, `?`, `%` and `::` in a name are just characters.
    """
    if not is_remote(uri):
        return LocalFileSystem(), local_path(uri)
    try:
        fs, path = fsspec.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise UserError(f"{uri}: {error}") from error
    return fs, path


def join(root: str, *parts: str) -> str:
    """A location below root."""
    return "/".join([root.rstrip("/") or "/", *parts])


def open_binary(uri: str, *, back_and_forth: bool = False) -> BinaryIO:
    """Open for reading, seekable; remote files are read in ranges of RANGE_BYTES or more, as they are needed.

    back_and_forth: the reader returns to places where it was, so the last KEPT_RANGES are kept.
    """
    fs, path = filesystem(uri)
    if not is_remote(uri):
        return fs.open(path, "rb")
    kept = {"cache_type": "blockcache", "cache_options": {"maxblocks": KEPT_RANGES}} if back_and_forth else {}
    return fs.open(path, "rb", block_size=RANGE_BYTES, **kept)


def read(uri: str) -> bytes | None:
    """The file's bytes, or None when there is no such file. Raises UserError for a folder and for denied access."""
    fs, path = filesystem(uri)
    try:
        return fs.cat_file(path)
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise UserError(f"{uri}: is a folder, not a file") from error
    except PermissionError as error:
        raise UserError(f"{uri}: access denied") from error


def write(uri: str, data: bytes) -> None:
    """Write the whole file or nothing: readers never see a part of it, and writing again replaces it."""
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        with writing(uri) as file:
            file.write(data)
    else:
        fs.pipe_file(path, data)  # object stores put an object atomically


@contextlib.contextmanager
def writing(uri: str) -> Iterator[BinaryIO]:
    """A file that appears whole when the block ends well, and not at all otherwise. It may be larger than memory.

    On a local disk a temporary file is renamed, after it reached the disk; elsewhere one is uploaded.
    """
    fs, path = filesystem(uri)
    folder = os.path.dirname(path) if isinstance(fs, LocalFileSystem) else tempfile.gettempdir()
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if isinstance(fs, LocalFileSystem):
            os.replace(temporary, path)
        else:
            fs.put_file(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def check_writable(folder: str) -> None:
    """Raise UserError when nothing can be written there. A bucket is written to; of a local folder, the nearest parent
    that exists is."""
    try:
        if is_remote(folder):
            probe = join(folder, "run", f".probe-{uuid.uuid4().hex}")
            write(probe, b"")
            remove(probe)
        else:
            parent = Path(local_path(folder))
            while not parent.exists():
                parent = parent.parent
            with tempfile.TemporaryFile(dir=parent):
                pass
    except Exception as error:  # storage clients have errors of their own, without a common base
        raise UserError(f"--output {folder}: cannot be written: {one_line(error, 160)}") from error


def append(uri: str, data: bytes) -> None:
    """Add to the end of a file that nobody else writes to. Object stores cannot: there it is written anew."""
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    else:
        fs.pipe_file(path, (read(uri) or b"") + data)


def remove(uri: str) -> None:
    """Remove a file; it may be gone already."""
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def find(root: str, suffix: str) -> Iterator[str]:
    """Every file below root whose name ends with suffix, in order; none where there is no root. Hidden ones are left
    out: that is what unfinished writes are called."""
    fs, path = filesystem(root)
    fs.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        for found in sorted(fs.find(path)):
            if found.endswith(suffix) and not found.rsplit("/", 1)[-1].startswith("."):
                yield fs.unstrip_protocol(found) if is_remote(root) else found


def names(folder: str) -> list[str]:
    """The names in a folder, not in those below it, in order; none where there is no such folder."""
    fs, path = filesystem(folder)
    fs.invalidate_cache()
    try:
        return sorted(found.rstrip("/").rsplit("/", 1)[-1] for found in fs.ls(path, detail=False))
    except FileNotFoundError:
        return []


def make_folder(path: str) -> str:
    """A local folder, made if need be; its path."""
    os.makedirs(local_path(path), exist_ok=True)
    return local_path(path)


def publish(path: str, uri: str) -> None:
    """Upload a local file that was written in a temporary folder; one that was written in place is there already."""
    fs, target = filesystem(uri)
    if not isinstance(fs, LocalFileSystem):
        fs.put_file(path, target)


def read_yaml(location: str, flag: str) -> Any:
    """What the YAML file says that the option `flag` names. Raises UserError where there is none or it is no YAML."""
    data = read(absolute(location))
    if data is None:
        raise UserError(f"{flag} {location}: no such file")
    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise UserError(f"{location}: not valid YAML: {one_line(error, 1000)}") from error
