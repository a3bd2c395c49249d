import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from pipeline.errors import UserError
from pipeline.settings import DataSettings
from pipeline.sources.samples import Line, located, read_samples


def lines(folder: Path, *entries: object, **settings: object) -> list[Line]:
    path = folder / "samples.jsonl"
    texts = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries]
    path.write_bytes(b"\n".join(texts))
    return list(read_samples(str(path), DataSettings(**settings)))  # type: ignore[arg-type]


def test_keys_follow_the_content_not_the_place(tmp_path: Path):
    one, two = {"path": "a.mp4", "meta": {"x": 1}}, {"path": "a.mp4", "meta": {"x": 2}}
    first = lines(tmp_path, one, two, b"", one)
    second = lines(tmp_path, two, {"meta": {"x": 1}, "path": "a.mp4"})
    assert [line.number for line in first] == [1, 2, 4]
    assert first[0].key == second[1].key
    assert first[1].key == second[0].key
    assert first[2].key == f"{first[0].key}-2", "a line that stands twice is two samples"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (b"{broken", "not JSON"),
        (b'{"path": "a', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, ""),
        (b'{"m": ' + b"[" * 200 + b"]" * 200 + b"}", "more than 200 lists and objects"),
        (b'{"m": 1e999}', "infinite or NaN"),
        (b'{"m": NaN}', "infinite or NaN"),
        (b'{"__key": "\\ud800"}', "half a surrogate pair"),
        ([1], "not a JSON object"),
        ({"path": 3}, "`path` is no path: '3'"),
        ({"path": ""}, "`path` is no path"),
        ({"path": "a", "output": 1}, "choose another --data.output-key"),
    ],
)
def test_a_bad_line_is_a_line_with_a_reason(tmp_path: Path, entry: object, said: str):
    good, bad = lines(tmp_path, {"path": "a.mp4"}, entry)
    assert good.problem is None
    assert (bad.number, bad.key) == (2, None)
    assert bad.problem is not None
    assert said in bad.problem


def test_what_is_deep_but_not_too_deep_or_just_wide_is_a_sample(tmp_path: Path):
    deep = b'{"m": ' + b"[" * 199 + b"]" * 199 + b"}"
    assert [line.problem for line in lines(tmp_path, deep, {"m": [[i] for i in range(500)]})] == [None, None]


class _Remote(AbstractFileSystem):
    """Files as object stores give them, in ranges."""

    protocol = "ranges"
    cachable = False
    data = b"".join(json.dumps({"id": i, "text": "x" * 1000}).encode() + b"\n" for i in range(4000))

    def info(self, path: str, **more: object) -> dict:
        return {"name": path, "size": len(self.data), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **more: object) -> AbstractBufferedFile:
        if "denied" in path:
            raise RuntimeError("no such\nhost")
        block: Any = 50 << 20
        return _Ranges(self, path, block_size=block, size=len(self.data))


class _Ranges(AbstractBufferedFile):
    reads = 0

    def read(self, length: int = -1) -> bytes:
        _Ranges.reads += 1
        return super().read(length)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return _Remote.data[start:end]


def test_remote_lines_do_not_cost_a_copy_of_the_block_each():
    fsspec.register_implementation("ranges", _Remote, clobber=True)
    _Ranges.reads = 0
    assert len(list(read_samples("ranges://b/s.jsonl", DataSettings()))) == 4000
    assert 0 < _Ranges.reads < 50, "each copies what was read ahead"


def test_ids(tmp_path: Path):
    entries = [{"id": "a"}, {"id": 7}, {"id": "a"}, {"id": None}, {}]
    found = lines(tmp_path, *entries, id_key="id")
    assert [line.key for line in found] == ["a", "7", None, None, None]
    assert found[2].problem == "the id 'a' stands on line 1 already"


def test_a_sample_keeps_the_key_that_an_earlier_task_gave_it(tmp_path: Path):
    same, other = lines(tmp_path, {"id": "a", "__key": "k"}, {"__key": "l", "answer": 1}, output_key="second")
    assert (same.key, other.key) == ("k", "l")
    same, other = lines(tmp_path, {"id": "k", "__key": "k"}, {"id": "a", "__key": "b"}, id_key="id")
    assert same.key == "k"
    for settings in ({}, {"id_key": "id"}):  # a number is its digits, as ids are
        assert [line.key for line in lines(tmp_path, {"id": "5", "__key": 5}, **settings)] == ["5"]
    assert other.problem == "`__key` and `id` differ, and the one would be written over the other"


def test_what_cannot_be_read_is_the_callers_mistake(tmp_path: Path):
    (tmp_path / "empty.jsonl").touch()
    fsspec.register_implementation("ranges", _Remote, clobber=True)
    wrong = {
        f"{tmp_path}/none.jsonl": "no such file",
        f"{tmp_path}/empty.jsonl/x": "no such file",
        f"{tmp_path}": "a folder",
        f"{tmp_path}/empty.jsonl": "no samples",
        "ranges://denied/s.jsonl": "cannot be read: no such host",
        "nowhere://s.jsonl": "nowhere",
    }
    for location, said in wrong.items():
        with pytest.raises(UserError, match=said):
            list(read_samples(location, DataSettings()))


def test_a_file_of_bad_lines_alone_has_lines(tmp_path: Path):
    assert [line.problem is None for line in lines(tmp_path, b"{broken", [1])] == [False, False]


def test_paths_are_relative_to_the_list():
    assert located({"path": "b/c.mp4"}, "path", "/a/s.jsonl") == {"path": "/a/b/c.mp4"}
    assert located({"v": "c.mp4"}, "v", "s3://b/s.jsonl") == {"v": "s3://b/c.mp4", "path": "s3://b/c.mp4"}
    assert located({"path": "/x.mp4"}, "path", "/a/s.jsonl")["path"] == "/x.mp4"
    assert located({"prompt": "?"}, "path", "/a/s.jsonl") == {"prompt": "?"}
