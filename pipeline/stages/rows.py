"""From tables to rows and back, and what every stage does alike: pass settled rows on, fail rows instead of the run."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.schema import FAILED, REJECTED, storable

Row = dict[str, Any]
Result = TypeVar("Result")


def undecided(rows: Sequence[Row]) -> list[Row]:
    """The rows that still need work: those without a verdict."""
    return [row for row in rows if row["verdict"] is None]


def reject(row: Row, reason: str) -> None:
    """Settle a row as rejected."""
    row.update(verdict=REJECTED, reason=storable(reason), frames=None)


def fail(row: Row, error: str) -> None:
    """Settle a row as failed."""
    row.update(verdict=FAILED, error=storable(error[:500]), frames=None)


def to_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table of the schema; absent columns are null."""
    return pa.Table.from_pylist(list(rows), schema)


def for_clips(rows: Sequence[Row], model: Callable[[list[list[bytes]]], Sequence[Result]]) -> list[tuple[Row, Result]]:
    """Call a model once for the frames of all rows, and pair each row with its result.

    When the call fails, each row is tried alone, so that one bad picture fails one row; such rows are settled here.
    """
    if not rows:
        return []
    try:
        results = model([row["frames"] for row in rows])
        if len(results) != len(rows):
            raise RuntimeError(f"the model gave {len(results)} results for {len(rows)} clips")
        return list(zip(rows, results, strict=True))
    except Exception as error:
        if len(rows) == 1:
            fail(rows[0], f"{type(model).__name__}: {error}")
            return []
    return [pair for row in rows for pair in for_clips([row], model)]
