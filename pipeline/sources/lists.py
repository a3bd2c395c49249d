"""Lists of videos: .txt (a path on each line), .csv and .jsonl (the path in the column or key `path`)."""

import csv
import io
import json
import posixpath
from collections.abc import Iterator

from pipeline import storage
from pipeline.errors import UserError


def read_list(location: str) -> Iterator[str]:
    """The paths in a list file; relative ones are relative to the list. Raises UserError, with the line, when torn."""
    data = storage.read(storage.absolute(location))
    if data is None:
        raise UserError(f"{location}: no such file (--input-list)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{location}: not UTF-8 text (--input-list)") from error
    folder = posixpath.dirname(storage.absolute(location))
    for path in _paths(location, text):
        yield path if storage.is_remote(path) or path.startswith(("/", "~", "file://")) else storage.join(folder, path)


def _paths(location: str, text: str) -> Iterator[str]:
    kind = location.rsplit(".", 1)[-1].lower()
    if kind == "csv":
        yield from _csv_paths(location, text)
    elif kind == "jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield _json_path(location, number, line)
    elif kind == "txt":
        yield from (line.strip() for line in text.split("\n") if line.strip())
    else:
        raise UserError(f"{location}: a list is a .txt, .csv or .jsonl file (--input-list)")


def _csv_paths(location: str, text: str) -> Iterator[str]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        if "path" not in (rows.fieldnames or []):
            raise UserError(f"{location}: no column `path` (--input-list); it has {', '.join(rows.fieldnames or [])}")
        for row in rows:
            if not row["path"]:
                raise UserError(f"{location}, line {rows.line_num}: no `path` in this row (--input-list)")
            yield row["path"]
    except csv.Error as error:
        raise UserError(f"{location}, line {rows.line_num}: not a readable csv: {error} (--input-list)") from error


def _json_path(location: str, number: int, line: str) -> str:
    try:
        path = json.loads(line)["path"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{location}, line {number}: not {{"path": ...}} (--input-list)') from error
    if not isinstance(path, str) or not path:
        raise UserError(f"{location}, line {number}: `path` is not a text (--input-list)")
    return path
