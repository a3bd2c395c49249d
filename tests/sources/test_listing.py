import os
import threading
import uuid
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import UserError
from pipeline.settings import SourceSettings
from pipeline.sources import Found, find_videos, listing


def find(*inputs: object, lists: tuple[object, ...] = (), limit: int | None = None, column: str = "mp4") -> Found:
    return find_videos([*map(str, inputs)], [*map(str, lists)], limit, SourceSettings(video_column=column))


def names(found: Found) -> list[str]:
    return [ref.uri.rsplit("/", 1)[-1] for ref in found.videos]


def touch(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def test_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    found = find(tmp_path / "a.mp4")
    assert [(ref.uri, ref.path, ref.problem) for ref in found.videos] == [(str(tmp_path / "a.mp4"),) * 2 + (None,)]


def test_a_file_has_one_id_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "d/a.mp4")
    monkeypatch.chdir(tmp_path)
    found = find("d/a.mp4", "./d/../d/a.mp4", tmp_path / "d/a.mp4", f"file://{tmp_path}/d/a.mp4", "d", "d/", "d/*.mp4")
    assert len(found.videos) == 1
    assert found.num_duplicates == 6


def test_a_folder_is_searched_to_the_bottom_for_videos_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.MP4", "a.mov", "notes.txt", "sub/deep/c.webm", "sub/d.mp4.part", "mp4")
    assert names(find(tmp_path)) == ["a.mov", "b.MP4", "c.webm"]


def test_extensions_may_be_given_with_a_dot(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz", "b.mp4")
    assert names(find_videos([str(tmp_path)], [], None, SourceSettings(extensions=[".XYZ"]))) == ["a.xyz"]


def test_a_glob_takes_any_file_but_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.dat", "sub/c.mp4")
    assert names(find(tmp_path / "*")) == ["a.dat", "b.mp4"]
    assert names(find(tmp_path / "**" / "*.mp4")) == ["b.mp4", "c.mp4"]
    assert names(find(tmp_path / "[ab].*")) == ["a.dat", "b.mp4"]


@pytest.mark.parametrize("name", ["[1].mp4", "a*.mp4", "what?.mp4", "100%#.mp4", "a:b.mp4", "x::y.mp4", "é ü.mp4"])
def test_a_file_whose_name_has_special_characters_is_itself(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, "1.mp4", "ab.mp4", "whats.mp4")
    assert names(find(tmp_path / name)) == [name]
    assert name in names(find(tmp_path))


def test_a_folder_whose_name_has_glob_characters_is_itself(tmp_path: Path) -> None:
    touch(tmp_path, "[2024] raw/a.mp4", "2/b.mp4")
    assert names(find(tmp_path / "[2024] raw")) == ["a.mp4"]


def test_each_video_once_in_the_order_of_the_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    found = find(tmp_path / "c.mp4", tmp_path, tmp_path / "b.mp4")
    assert names(found) == ["c.mp4", "a.mp4", "b.mp4"]
    assert found.num_duplicates == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_the_limit_is_exact(tmp_path: Path, limit: int) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    assert names(find(tmp_path / "a.mp4", tmp_path, limit=limit)) == ["a.mp4", "b.mp4", "c.mp4"][:limit]


def test_a_missing_file_is_a_row_beside_others_and_a_mistake_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    found = find(tmp_path / "none.mp4", tmp_path / "a.mp4")
    assert [ref.problem for ref in found.videos] == ["no such file", None]
    with pytest.raises(UserError, match=r"none\.mp4: no such file"):
        find(tmp_path / "none.mp4")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("none", "no such file or folder"),
        ("none/*.mp4", "no videos there"),
        ("*.mp4", "no videos there"),
        ("", "no videos there"),
    ],
)
def test_inputs_that_name_nothing(tmp_path: Path, named: str, said: str) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(UserError, match=said) as caught:
        find(tmp_path / named)
    assert str(tmp_path / named) in str(caught.value)


def test_no_input_at_all() -> None:
    with pytest.raises(UserError, match="--input"):
        find()


def test_a_dangling_link_and_a_pipe_do_not_stop_the_listing(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "c.mp4")
    assert {"a.mp4"} <= set(names(find(tmp_path))) <= {"a.mp4", "b.mp4", "c.mp4"}
    assert find(tmp_path / "a.mp4", tmp_path / "b.mp4").videos[1].problem == "no such file"


def test_a_name_that_is_not_utf8_is_a_row_with_a_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    try:
        open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "w").close()
    except OSError:
        pytest.skip("this filesystem takes UTF-8 names only")
    found = find(tmp_path)
    assert len({ref.video_id for ref in found.videos}) == 2
    strange = next(ref for ref in found.videos if ref.problem)
    assert "not UTF-8" in (strange.problem or "")
    pa.array([strange.uri, strange.path], pa.string())  # a table can hold it


def shard(path: Path, rows: int, *, row_group_size: int = 2) -> Path:
    table = pa.table({"mp4": pa.array([b"x"] * rows, pa.binary()), "n": list(range(rows))})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def test_a_shard_is_a_reference_for_each_row(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", 5)
    found = find(path)
    assert [ref.uri for ref in found.videos] == [f"{path}#row={i}" for i in range(5)]
    assert [(ref.row_group, ref.row) for ref in found.videos] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert len({ref.video_id for ref in found.videos}) == 5
    assert {ref.path for ref in found.videos} == {str(path)}


def test_shards_are_found_in_folders_and_the_limit_counts_rows(tmp_path: Path) -> None:
    shard(tmp_path / "s.parquet", 5)
    touch(tmp_path, "a.mp4", "z.mp4")
    assert len(find(tmp_path).videos) == 7
    assert names(find(tmp_path, limit=3)) == ["a.mp4", "s.parquet#row=0", "s.parquet#row=1"]


def test_a_limit_opens_no_shard_behind_it(tmp_path: Path) -> None:
    shard(tmp_path / "a.parquet", 5)
    shard(tmp_path / "b.parquet", 5).write_bytes(b"torn")
    assert all(ref.problem is None for ref in find(tmp_path, limit=5).videos)


def test_a_shard_without_the_column_is_a_mistake_that_names_the_columns(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", 1)
    for column in ("video", "n"):
        with pytest.raises(UserError, match=f"no column '{column}' of bytes.*it has mp4, n"):
            find(path, column=column)


def test_a_torn_shard_is_one_row_with_a_reason(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.parquet", 5)
    path.write_bytes(path.read_bytes()[:-20])
    touch(tmp_path, "a.mp4")
    found = find(tmp_path)
    assert names(found) == ["a.mp4", "s.parquet"]
    assert "not a readable shard" in (found.videos[1].problem or "")


def test_a_missing_shard_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert find(tmp_path / "a.mp4", tmp_path / "s.parquet").videos[1].problem == "no such file"


def test_lists_and_inputs_together(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "sub/b.mp4")
    (tmp_path / "list.txt").write_text("sub/b.mp4\na.mp4\n")
    found = find(tmp_path / "a.mp4", lists=(tmp_path / "list.txt",))
    assert names(found) == ["a.mp4", "b.mp4"]
    assert found.num_duplicates == 1


@pytest.fixture
def bucket() -> str:
    root = f"memory://{uuid.uuid4().hex}"
    fs = fsspec.filesystem("memory")
    for name in ("b.mp4", "a.mp4", "sub/c.mov", "notes.txt"):
        fs.pipe_file(f"{root}/{name}", b"x")
    return root


def test_remote_folders_globs_and_files(bucket: str) -> None:
    assert names(find(bucket)) == ["a.mp4", "b.mp4", "c.mov"]
    assert names(find(f"{bucket}/*.mp4")) == ["a.mp4", "b.mp4"]
    assert names(find(f"{bucket}/b.mp4")) == ["b.mp4"]
    assert find(f"{bucket}/b.mp4", f"{bucket}/none.mp4").videos[1].problem == "no such file"
    with pytest.raises(UserError, match="no such file or folder"):
        find(f"{bucket}/none")


class _LockedFileSystem(MemoryFileSystem):
    """Raises what an object store's client raises when there are no credentials: an error of its own."""

    protocol = "locked"

    def info(self, path: str, **kwargs: object) -> dict[str, object]:
        raise RuntimeError("Unable to locate credentials")

    def isdir(self, path: str) -> bool:
        raise RuntimeError("Unable to locate credentials")


@pytest.mark.parametrize("named", ["locked://bucket/a.mp4", "locked://bucket/folder"])
def test_a_storage_clients_own_error_is_one_line(named: str) -> None:
    fsspec.register_implementation("locked", _LockedFileSystem, clobber=True)
    with pytest.raises(UserError, match=f"{named}: cannot be listed: Unable to locate credentials"):
        find(named)


def test_footers_are_read_side_by_side_and_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "0.mp4", "99.mp4")
    for number in range(1, 41):
        shard(tmp_path / f"{number:02}.parquet", 2)
    expected = ["0.mp4", *(f"{n:02}.parquet#row={row}" for n in range(1, 41) for row in (0, 1)), "99.mp4"]
    entered, all_there, read = [], threading.Event(), listing.shard_rows

    def wait_for_the_others(location: str, column: str) -> list[tuple[int, int, int]]:
        entered.append(location)
        if len(entered) == listing.FOOTERS_AT_ONCE:
            all_there.set()
        assert all_there.wait(timeout=10)
        return list(read(location, column))

    monkeypatch.setattr(listing, "shard_rows", wait_for_the_others)
    assert names(find(tmp_path)) == expected
