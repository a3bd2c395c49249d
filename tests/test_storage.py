import os
import uuid
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import UserError

NAMES = [
    "plain",
    "a#b",
    "100%",
    "50%25",
    "what?",
    "x::y",
    "[z]",
    "a*b",
    "zwei worte",
    "é漢字",
    "a&b=c",
    "~tilde",
    "c:d",
]


@pytest.fixture
def remote() -> str:
    """An empty folder on fsspec's memory filesystem, which stands for any object store."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("name", NAMES)
def test_local_names_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    location = storage.join(str(tmp_path), name, f"{name}.bin")
    storage.write(location, b"data")
    assert (tmp_path / name / f"{name}.bin").read_bytes() == b"data"
    assert storage.read(location) == b"data"
    with storage.open_binary(location) as file:
        assert file.read() == b"data"
    assert list(storage.find(str(tmp_path), ".bin")) == [location]
    storage.remove(location)
    assert storage.read(location) is None


def test_a_name_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write("a/b.bin", b"1")
    assert (tmp_path / "a/b.bin").read_bytes() == b"1"
    assert storage.absolute("a/../a/b.bin") == str(tmp_path / "a/b.bin")
    assert storage.absolute(f"file://{tmp_path}/a/b.bin") == str(tmp_path / "a/b.bin")


def test_a_name_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.absolute("~/x.mp4") == str(tmp_path / "x.mp4")


def test_what_is_remote() -> None:
    for uri in ("s3://b/k", "hf://datasets/x", "memory://a", "https://host/a"):
        assert storage.is_remote(uri)
        assert storage.absolute(uri) == uri
    for path in ("/a", "a", "./a:b", "a://", "file:///a", "x::y"):
        assert not storage.is_remote(path)


def test_an_unknown_scheme_is_the_callers_mistake() -> None:
    with pytest.raises(UserError, match="nosuch://x"):
        storage.filesystem("nosuch://x")


def test_join() -> None:
    assert storage.join("/a/", "b", "c") == "/a/b/c"
    assert storage.join("/", "b") == "//b" or storage.local_path(storage.join("/", "b")) == "/b"
    assert storage.join("s3://bucket", "b") == "s3://bucket/b"


def test_writing_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    location = str(tmp_path / "a.bin")
    storage.write(location, b"first, and longer")
    storage.write(location, b"second")
    assert storage.read(location) == b"second"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = str(tmp_path / "a.bin")
    storage.write(location, b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        storage.write(location, b"new")
    assert storage.read(location) == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_unfinished_writes_are_not_found(tmp_path: Path) -> None:
    (tmp_path / ".part-1.parquet.0123.tmp").touch()
    (tmp_path / ".part-2.parquet").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/part-3.parquet").touch()
    (tmp_path / "a.parquet").touch()
    assert list(storage.find(str(tmp_path), ".parquet")) == [
        str(tmp_path / "a.parquet"),
        str(tmp_path / "b/part-3.parquet"),
    ]


def test_missing_things_locally(tmp_path: Path) -> None:
    missing = str(tmp_path / "none/none.bin")
    assert storage.read(missing) is None
    assert list(storage.find(missing, ".bin")) == []
    storage.remove(missing)
    with pytest.raises(FileNotFoundError):
        storage.open_binary(missing)


def test_a_folder_is_not_read_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        storage.read(str(tmp_path))


def test_a_remote_filesystem(remote: str) -> None:
    location = storage.join(remote, "tables", "part-1.parquet")
    assert storage.read(location) is None
    assert list(storage.find(remote, ".parquet")) == []
    storage.remove(location)
    storage.write(location, b"first")
    storage.write(location, b"second")
    assert storage.read(location) == b"second"
    found = list(storage.find(remote, ".parquet"))
    assert len(found) == 1
    assert storage.is_remote(found[0])
    with storage.open_binary(found[0]) as file:
        file.seek(3)
        assert file.read() == b"ond"
    storage.remove(found[0])
    assert storage.read(location) is None


def test_shown_is_relative_in_the_working_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert storage.shown(str(tmp_path / "work/out")) == "out"
    assert storage.shown(str(tmp_path / "workshop")) == str(tmp_path / "workshop")
    assert storage.shown("s3://bucket/out") == "s3://bucket/out"


def test_where_nothing_can_be_written_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (f"{tmp_path}/file", f"{tmp_path}/file/below", "/proc/none"):
        with pytest.raises(UserError, match=f"--output {folder}: cannot be written"):
            storage.check_writable(folder)
    storage.check_writable(f"{tmp_path}/not/yet/there")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
