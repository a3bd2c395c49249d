from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from pipeline import storage
from pipeline.errors import BadVideo
from pipeline.settings import FrameSettings, QualitySettings, SourceSettings, SplitSettings
from pipeline.sources import VideoRef, find_videos, open_videos
from pipeline.sources.opening import open_file
from pipeline.sources.parquet import read_rows, shard_rows
from pipeline.video.split import Clip, split

PLAIN = pa.binary()
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})  # as `datasets` writes videos


def shard(path: Path, values: Sequence[Any], kind: pa.DataType, *, row_group_size: int = 3) -> Path:
    pq.write_table(
        pa.table({"n": list(range(len(values))), "mp4": pa.array(values, kind)}), path, row_group_size=row_group_size
    )
    return path


def contents(refs: list[VideoRef], column: str = "mp4") -> list[tuple[str, bytes | str]]:
    """(uri, bytes or the reason) of each, in the order they come."""
    out: list[tuple[str, bytes | str]] = []
    for ref, opener in open_videos(refs, column):
        try:
            with opener() as source:
                data = Path(source).read_bytes() if isinstance(source, str) else source.read()
                out.append((ref.uri, data))
        except BadVideo as error:
            out.append((ref.uri, str(error)))
    return out


def refs(*inputs: object) -> list[VideoRef]:
    return find_videos([*map(str, inputs)], [], None, SourceSettings()).videos


@pytest.mark.parametrize("kind", [PLAIN, pa.large_binary(), STRUCT], ids=["binary", "large_binary", "struct"])
def test_rows_of_several_row_groups_in_order(tmp_path: Path, kind: pa.DataType) -> None:
    data = [bytes([i]) * (i + 1) * 1000 for i in range(8)]
    values = [{"bytes": d, "path": f"{i}.mp4"} for i, d in enumerate(data)] if kind == STRUCT else data
    path = shard(tmp_path / "s.parquet", values, kind)
    assert contents(refs(path)) == [(f"{path}#row={i}", d) for i, d in enumerate(data)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([b"a", None, b"", b"d"], PLAIN),
        ([{"bytes": b"a", "path": "a"}, None, {"bytes": None, "path": "b"}, {"bytes": b"d", "path": None}], STRUCT),
    ],
    ids=["binary", "struct"],
)
def test_rows_without_bytes_fail_alone(tmp_path: Path, values: list[Any], kind: pa.DataType) -> None:
    found = contents(refs(shard(tmp_path / "s.parquet", values, kind)))
    assert [data for _, data in found] == [b"a", "the row holds no bytes", "the row holds no bytes", b"d"]


def test_only_the_wanted_rows_are_given(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", [b"%d" % i for i in range(9)], PLAIN)
    assert list(read_rows(str(path), 1, [2, 0], "mp4")) == [(0, b"3"), (2, b"5")]
    every = refs(path)
    assert [data for _, data in contents([every[1], every[5], every[7]])] == [b"1", b"5", b"7"]


def test_a_pass_may_be_left_early(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", [b"a", b"b", b"c"], PLAIN)
    opened = open_videos(refs(path), "mp4")
    _, opener = next(opened)
    with opener() as source:
        assert not isinstance(source, str)
        assert source.read() == b"a"
    opened.close()  # type: ignore[attr-defined]


def test_openers_that_are_not_called_skip_a_video(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", [b"a", b"b", b"c"], PLAIN)
    assert [ref.uri for ref, _ in open_videos(refs(path), "mp4")] == [f"{path}#row={i}" for i in range(3)]


def test_a_shard_torn_after_the_listing_fails_the_rows_that_are_lost(tmp_path: Path) -> None:
    values = [bytes([i]) * 100_000 for i in range(3)]
    path = tmp_path / "s.parquet"
    pq.write_table(
        pa.table({"mp4": pa.array(values)}), path, compression="none", use_dictionary=False, data_page_size=1000
    )
    found = refs(path)
    torn = bytearray(path.read_bytes())
    torn[150_000:250_000] = bytes(100_000)
    path.write_bytes(torn)
    given = [data for _, data in contents(found)]
    assert given[0] == values[0]
    assert isinstance(given[2], str)  # a reason, not a wrong video
    assert len(given) == 3


def test_a_shard_that_went_away_fails_all_its_rows(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", [b"a", b"b"], PLAIN)
    found = refs(path)
    path.unlink()
    assert all(isinstance(data, str) and "cannot be read" in data for _, data in contents(found))
    assert len(contents(found)) == 2


def test_a_row_that_is_no_longer_there_fails(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", [b"a", b"b", b"c"], PLAIN)
    found = refs(path)
    shard(path, [b"a"], PLAIN)
    assert [data for _, data in contents(found)] == [b"a", *["the shard has no such row"] * 2]


def test_files_shards_and_problems_come_in_the_given_order(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"x")
    path = shard(tmp_path / "s.parquet", [b"a", b"b"], PLAIN)
    rows = refs(path)
    file, missing = refs(tmp_path / "x.mp4", tmp_path / "none.mp4")
    found = contents([rows[0], file, rows[1], missing])
    assert found == [
        (f"{path}#row=0", b"a"),
        (str(tmp_path / "x.mp4"), b"x"),
        (f"{path}#row=1", b"b"),
        (str(tmp_path / "none.mp4"), "no such file"),
    ]


def test_remote_files() -> None:
    storage.write("memory://opening-test/a.mp4", b"abc")
    found = refs("memory://opening-test/a.mp4")
    assert contents(found)[0][1] == b"abc"
    storage.remove("memory://opening-test/a.mp4")
    assert contents(found)[0][1] == "no such file"


def test_the_rows_of_an_empty_shard(tmp_path: Path) -> None:
    assert list(shard_rows(str(shard(tmp_path / "s.parquet", [], PLAIN)), "mp4")) == []


class _Ranges(AbstractFileSystem):
    """One file, as object stores give it: in ranges, which are noted."""

    protocol = "noted"
    cachable = False
    data = b""
    ranges: ClassVar[list[tuple[int, int]]] = []

    def info(self, path: str, **more: object) -> dict[str, Any]:
        return {"name": path, "size": len(self.data), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **more: Any) -> AbstractBufferedFile:
        return _Ranged(self, path, mode, size=len(self.data), **more)


class _Ranged(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        _Ranges.ranges.append((start, end))
        return _Ranges.data[start:end]


def test_a_remote_video_is_read_once_though_its_index_is_at_its_end(
    clips_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("noted", _Ranges, clobber=True)
    video = (clips_folder / "bigbuckbunny.mp4").read_bytes()
    assert video.find(b"moov") > video.find(b"mdat")
    monkeypatch.setattr(_Ranges, "data", video)
    monkeypatch.setattr(storage, "RANGE_BYTES", 1 << 18)
    _Ranges.ranges.clear()
    with open_file("noted://b/v.mp4")() as source:
        parts = split(source, shots=SplitSettings(), frames=FrameSettings(), quality=QualitySettings())
        assert any(isinstance(part, Clip) and part.frames for part in parts)
    assert len(_Ranges.ranges) <= -(-len(video) >> 18) + 1  # the last may have both an end of the film and the index
    assert _Ranges.ranges[1][0] > video.find(b"moov") - (1 << 18), "the beginning and the index first, not the whole"
