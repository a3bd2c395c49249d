"""Parquet shards that hold the videos themselves, as the Hugging Face hub has them: one row, one video."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import UserError

READ_BUFFER_BYTES = 1 << 20  # how much of a column is read ahead: keeps a shard of any size in bounded memory


def shard_rows(location: str, column: str) -> Iterator[tuple[int, int, int]]:
    """(row group, row in it, row in the shard) of every row, from the footer alone.

    Raises UserError when the shard has no such column of bytes.
    """
    with storage.open_binary(location) as file:
        shard = pq.ParquetFile(file)
        _bytes_path(shard, location, column)
        counts = [shard.metadata.row_group(group).num_rows for group in range(shard.metadata.num_row_groups)]
    number = 0
    for group, count in enumerate(counts):
        for row in range(count):
            yield group, row, number
            number += 1


def read_rows(location: str, row_group: int, rows: list[int], column: str) -> Iterator[tuple[int, bytes | None]]:
    """(row, bytes) of the wanted rows of one row group, in order, read page by page: one video in memory at a time."""
    wanted, last = set(rows), max(rows)
    with storage.open_binary(location) as file:
        shard = pq.ParquetFile(file, buffer_size=READ_BUFFER_BYTES, pre_buffer=False)
        path = _bytes_path(shard, location, column)
        batches = shard.iter_batches(batch_size=1, row_groups=[row_group], columns=[path], use_threads=False)
        for row, batch in enumerate(batches):
            if row in wanted:
                values = batch.column(0)
                yield row, (values.field("bytes") if pa.types.is_struct(values.type) else values)[0].as_py()
            if row == last:
                return


def _bytes_path(shard: pq.ParquetFile, location: str, column: str) -> str:
    """The column of bytes: `column` itself, or `column.bytes` where it is a struct, as `datasets` writes videos."""
    schema = shard.schema_arrow
    if column in schema.names:
        kind = schema.field(column).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return f"{column}.bytes"
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return column
    raise UserError(
        f"{location}: no column {column!r} of bytes (source.video_column); it has {', '.join(schema.names)}"
    )
