"""Samples from a JSONL file: each line with its number and its key, or with why it is none."""

import hashlib
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.errors import UserError, one_line
from pipeline.settings import DataSettings

KEY = "__key"  # the field that a sample's key is written to


@dataclass(frozen=True)
class Line:
    """One line of the input (number from 1). key: the same in every run. problem: why it is no sample."""

    number: int
    key: str | None
    text: str
    problem: str | None = None


def read_samples(location: str, settings: DataSettings) -> Iterator[Line]:
    """Every line that is not blank. Raises UserError when there is no such file, or nothing in it."""
    try:
        file = storage.open_binary(location)
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else "a folder, not a file"
        raise UserError(f"{location}: {what} (--input)") from error
    except PermissionError as error:
        raise UserError(f"{location}: access denied (--input)") from error
    seen: dict[str, int] = {}  # a key and the line that had it first
    copies: dict[str, int] = {}
    with file:
        for number, data in enumerate(file, 1):
            if data.strip():
                yield _line(number, data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data, settings, seen, copies)
    if not seen:
        raise UserError(f"{location}: no samples in it (--input)")


def _line(number: int, data: bytes, settings: DataSettings, seen: dict[str, int], copies: dict[str, int]) -> Line:
    text = data.decode(errors="replace").strip()
    try:
        raw = json.loads(data.strip().decode())  # of bytes it would guess the encoding
        key = _key(raw, settings, copies)
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else one_line(error)
        return Line(number, None, text, f"not JSON: {reason}" if isinstance(error, json.JSONDecodeError) else reason)
    if key in seen:
        return Line(number, None, text, f"the id {key!r} stands on line {seen[key]} already")
    seen[key] = number
    return Line(number, key, text)


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
    id_key = settings.id_key or (KEY if KEY in raw else None)
    if id_key is not None:
        value = raw.get(id_key)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise ValueError(f"`{id_key}` is no id: {str(value)[:100]!r}")
        if raw.get(KEY, str(value)) != str(value):
            raise ValueError(f"`{KEY}` and `{id_key}` differ, and the one would be written over the other")
        return str(value)
    content = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:16]
    copies[content] = copies.get(content, 0) + 1
    return content if copies[content] == 1 else f"{content}-{copies[content]}"


def located(raw: dict[str, Any], path_key: str, location: str) -> dict[str, Any]:
    """A sample as tasks see it: `path` is where its file is; relative ones are relative to the list at `location`."""
    path = raw.get(path_key)
    if not path:
        return raw
    if not (storage.is_remote(path) or path.startswith(("/", "~", "file://"))):
        path = storage.join(posixpath.dirname(location), path)
    return {**raw, "path": path}
