import json
from pathlib import Path

import pytest

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
    assert other.problem == "`__key` and `id` differ, and the one would be written over the other"


def test_what_cannot_be_read_is_the_callers_mistake(tmp_path: Path):
    (tmp_path / "empty.jsonl").touch()
    for name, said in (("none.jsonl", "no such file"), ("", "a folder"), ("empty.jsonl", "no samples")):
        with pytest.raises(UserError, match=said):
            list(read_samples(f"{tmp_path}/{name}".rstrip("/"), DataSettings()))


def test_paths_are_relative_to_the_list():
    assert located({"path": "b/c.mp4"}, "path", "/a/s.jsonl") == {"path": "/a/b/c.mp4"}
    assert located({"v": "c.mp4"}, "v", "s3://b/s.jsonl") == {"v": "c.mp4", "path": "s3://b/c.mp4"}
    assert located({"path": "/x.mp4"}, "path", "/a/s.jsonl")["path"] == "/x.mp4"
    assert located({"prompt": "?"}, "path", "/a/s.jsonl") == {"prompt": "?"}
