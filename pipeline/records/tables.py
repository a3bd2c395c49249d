"""Parts of the two tables: written whole or not at all, listed, counted, and mended."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.schema import FAILED, KEPT, REJECTED, VERDICTS

READERS = 16  # parts read at once: on object stores nearly all of the time is waiting
MENDING_ORDER = (FAILED, REJECTED, KEPT)  # of two rows of one clip the stricter verdict stands


def clips_folder(root: str, verdict: str) -> str:
    """Where the parts with one verdict lie."""
    return storage.join(root, "tables", "clips", f"verdict={verdict}")


def videos_folder(root: str) -> str:
    """Where the parts of the videos table lie."""
    return storage.join(root, "tables", "videos")


def write_part(folder: str, table: pa.Table, key: str) -> None:
    """Write one part atomically. Its name comes from the ids in column `key`, so the same rows are the same file."""
    ids = chr(10).join(sorted(table.column(key).to_pylist()))
    name = f"part-{hashlib.sha256(ids.encode()).hexdigest()[:24]}.parquet"
    _write(storage.join(folder, name), table)


def _write(path: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write(path, buffer.getvalue())


def read_columns(folder: str, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """(part, its columns) of every part in a folder, in the order of their names."""

    def load(part: str) -> tuple[str, pa.Table]:
        with storage.open_binary(part) as file:
            return part, pq.ParquetFile(file).read(columns=columns)

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(load, list(storage.find(folder, ".parquet")))


@dataclass(frozen=True)
class Video:
    """What the books know of a video."""

    status: str
    num_clips: int


@dataclass(frozen=True)
class Scan:
    """All that is settled: videos by id, and the ids of the settled clips by video id."""

    videos: dict[str, Video]
    clips: dict[str, list[str]]

    def finished(self, video_id: str) -> bool:
        """The video has its row, and each of its clips has one too."""
        video = self.videos.get(video_id)
        return video is not None and len(self.clips.get(video_id, ())) == video.num_clips


def scan(root: str) -> Scan:
    """Read which videos and clips are settled."""
    videos: dict[str, Video] = {}
    for _, part in read_columns(videos_folder(root), ["video_id", "status", "num_clips"]):
        for row in part.to_pylist():
            videos[row["video_id"]] = Video(row["status"], row["num_clips"])
    clips: dict[str, list[str]] = {}
    for verdict in VERDICTS:
        for _, part in read_columns(clips_folder(root, verdict), ["clip_id", "video_id"]):
            for clip, video in zip(part["clip_id"].to_pylist(), part["video_id"].to_pylist(), strict=True):
                clips.setdefault(video, []).append(clip)
    return Scan(videos, clips)


def mend(root: str) -> int:
    """Remove rows that stand twice, and return how many there were.

    Two drivers can write the same clip if one was cut off from the other while both ran; ids are deterministic, so the
    rows tell of the same clip and one of them can go.
    """
    removed = _mend([clips_folder(root, verdict) for verdict in MENDING_ORDER], "clip_id")
    return removed + _mend([videos_folder(root)], "video_id")


def _mend(folders: list[str], key: str) -> int:
    seen: set[str] = set()
    removed = 0
    for folder in folders:
        for part, table in read_columns(folder, [key]):
            ids = table[key].to_pylist()
            if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
                removed += forget(part, key, seen)
            seen.update(ids)
    return removed


def forget(part: str, key: str, ids: Iterable[str]) -> int:
    """Rewrite a part without the rows whose `key` is in ids or stood before; return how many went."""
    with storage.open_binary(part) as file:
        table = pq.ParquetFile(file).read()
    gone, keep = set(ids), []
    for value in table[key].to_pylist():
        keep.append(value not in gone)
        gone.add(value)
    kept = table.filter(pa.array(keep))
    if len(kept):
        _write(part, kept)
    else:
        storage.remove(part)
    return len(table) - len(kept)


def forget_videos(root: str, ids: set[str]) -> None:
    """Take videos off the videos table, so that they are opened again."""
    for part, table in read_columns(videos_folder(root), ["video_id"]):
        if not ids.isdisjoint(table["video_id"].to_pylist()):
            forget(part, "video_id", ids)


def forget_failed_clips(root: str, video_ids: set[str]) -> None:
    """Take the failed clips of these videos off the clips table, so that they are tried again."""
    for part, table in read_columns(clips_folder(root, FAILED), ["clip_id", "video_id"]):
        pairs = zip(table["clip_id"].to_pylist(), table["video_id"].to_pylist(), strict=True)
        if gone := {clip for clip, video in pairs if video in video_ids}:
            forget(part, "clip_id", gone)


def clip_counts(root: str) -> dict[str, Counter[str]]:
    """For each verdict the clips by reason (rejected) or error (failed); kept ones under ''."""
    counts: dict[str, Counter[str]] = {verdict: Counter() for verdict in VERDICTS}
    for verdict, column in ((KEPT, "clip_id"), (REJECTED, "reason"), (FAILED, "error")):
        for _, part in read_columns(clips_folder(root, verdict), [column]):
            if verdict == KEPT:
                counts[verdict][""] += len(part)
            else:
                for entry in pc.value_counts(part[column]).to_pylist():  # type: ignore[attr-defined]
                    counts[verdict][entry["values"] or "unknown"] += entry["counts"]
    return counts
