"""Samples from a JSONL file: each line with its number and its key, or with why it is none."""

import hashlib
import io
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from pipeline import storage
from pipeline.errors import UserError, one_line
from pipeline.schema import storable
from pipeline.settings import KEY, DataSettings

MAX_DEPTH = 200  # lists and objects in one another; Python's json gives up at about a thousand, less deep in a program
BUFFER_BYTES = 1 << 20  # remote files look for the end of a line in a copy of all that they have read ahead


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input (number from 1). key: the same in every run. problem: why it is no sample."""

    number: int
    key: str | None
    text: str
    problem: str | None = None


def read_samples(location: str, settings: DataSettings) -> Iterator[Line]:
    """Every line that is not blank. Raises UserError when there is no such file, or nothing in it."""
    seen: dict[str, int] = {}  # a key and the line that had it first
    copies: dict[str, int] = {}
    is_empty = True
    for number, data in enumerate(_lines(location), 1):
        if data.strip():
            is_empty = False
            yield _line(number, data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data, settings, seen, copies)
    if is_empty:
        raise UserError(f"{location}: no samples in it (--input)")


def _lines(location: str) -> Iterator[bytes]:
    try:
        with storage.open_binary(location) as file:
            yield from io.BufferedReader(cast(io.RawIOBase, file), BUFFER_BYTES)
    except UserError:
        raise
    except Exception as error:  # storage clients have errors of their own, without a common base
        raise UserError(f"{location}: {_why(error)} (--input)") from error


def _why(error: Exception) -> str:
    known: dict[type[Exception], str] = {
        FileNotFoundError: "no such file",
        NotADirectoryError: "no such file",
        IsADirectoryError: "a folder, not a file",
        PermissionError: "access denied",
    }
    return next((why for kind, why in known.items() if isinstance(error, kind)), f"cannot be read: {one_line(error)}")


def _line(number: int, data: bytes, settings: DataSettings, seen: dict[str, int], copies: dict[str, int]) -> Line:
    text = data.decode(errors="replace").strip()
    try:
        raw = json.loads(data.strip().decode())  # of bytes it would guess the encoding
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(raw, MAX_DEPTH):
            raise ValueError(f"more than {MAX_DEPTH} lists and objects in one another")
        key = _key(raw, settings, copies)
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else one_line(error)
        return Line(number, None, text, f"not JSON: {reason}" if isinstance(error, json.JSONDecodeError) else reason)
    if key in seen:
        return Line(number, None, text, f"the id {key!r} stands on line {seen[key]} already")
    seen[key] = number
    return Line(number, key, text)


def _is_deeper(raw: Any, depth: int) -> bool:
    level: list[Any] = [[raw]]
    for _ in range(depth + 1):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inside for value in values if isinstance(value, dict | list)]
    return bool(level)


def _key(raw: Any, settings: DataSettings, copies: dict[str, int]) -> str:
    """What tells a sample apart: its id, else the key that an earlier task gave it, else a hash of its content; a line
    that stands twice is counted.

    Raises ValueError for what is no sample.
    """
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    if settings.output_key in raw:
        raise ValueError(f"has a field `{settings.output_key}` already: choose another --data.output-key")
    path = raw.get(settings.path_key)
    if path is not None and (not isinstance(path, str) or not path or "\0" in path):
        raise ValueError(f"`{settings.path_key}` is no path: {str(path)[:100]!r}")
    try:
        content = json.dumps(raw, sort_keys=True, allow_nan=False)
    except ValueError:
        raise ValueError("a number in it is infinite or NaN, which is no JSON") from None
    id_key = settings.id_key or (KEY if KEY in raw else None)
    if id_key is not None:
        value = raw.get(id_key)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise ValueError(f"`{id_key}` is no id: {str(value)[:100]!r}")
        if storable(str(value)) != str(value):
            raise ValueError(f"`{id_key}` holds half a surrogate pair, which is no text: {str(value)[:100]!r}")
        if str(raw.get(KEY, value)) != str(value):
            raise ValueError(f"`{KEY}` and `{id_key}` differ, and the one would be written over the other")
        return str(value)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    copies[digest] = copies.get(digest, 0) + 1
    return digest if copies[digest] == 1 else f"{digest}-{copies[digest]}"


def located(raw: dict[str, Any], path_key: str, location: str) -> dict[str, Any]:
    """A sample as tasks see it: `path` and path_key are where its file is; relative ones are relative to the list at
    `location`."""
    path = raw.get(path_key)
    if not path:
        return raw
    if not (storage.is_remote(path) or path.startswith(("/", "~", "file://"))):
        path = storage.join(posixpath.dirname(location), path)
    return {**raw, path_key: path, "path": path}
