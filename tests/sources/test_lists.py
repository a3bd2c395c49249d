import json
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.sources.lists import read_list


def paths(folder: Path, name: str, text: str | bytes) -> list[str]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_list(str(folder / name)))


def mistake(folder: Path, name: str, text: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        paths(folder, name, text)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_kind_of_list(tmp_path: Path, bom: bytes, newline: str) -> None:
    expected = [str(tmp_path / "a,b #1.mp4"), "/abs/é.mp4", "s3://bucket/c.mp4", str(tmp_path / "sub/d.mp4")]
    given = ["a,b #1.mp4", "/abs/é.mp4", "s3://bucket/c.mp4", "sub/d.mp4"]
    txt = newline.join([*given, "", ""])
    csv = newline.join(["n,path", *(f'{i},"{path}"' for i, path in enumerate(given)), ""])
    jsonl = newline.join([*(json.dumps({"path": path, "n": 1}) for path in given), "", ""])
    for name, text in (("l.txt", txt), ("l.csv", csv), ("l.jsonl", jsonl), ("l.TXT", txt)):
        assert paths(tmp_path, name, bom + text.encode()) == expected


def test_paths_from_home_and_file_uris_stay(tmp_path: Path) -> None:
    assert paths(tmp_path, "l.txt", "~/a.mp4\nfile:///b.mp4\n") == ["~/a.mp4", "file:///b.mp4"]


def test_relative_to_a_remote_list() -> None:
    storage.write("memory://lists-test/sub/l.txt", b"a.mp4\n/abs.mp4\n")
    assert list(read_list("memory://lists-test/sub/l.txt")) == ["memory://lists-test/sub/a.mp4", "/abs.mp4"]


def test_a_missing_list_and_a_folder(tmp_path: Path) -> None:
    for named, said in ((tmp_path / "none.txt", "no such file"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=said):
            list(read_list(str(named)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"path": "b.mp4"', "line 2"),
        ('{"uri": "b.mp4"}', "line 2"),
        ('["b.mp4"]', "line 2"),
        ('{"path": 3}', "not a text"),
        ('{"path": ""}', "line 2"),
        ("3", "line 2"),
    ],
)
def test_a_torn_line_of_jsonl_is_named(tmp_path: Path, line: str, said: str) -> None:
    assert said in mistake(tmp_path, "l.jsonl", f'{{"path": "a.mp4"}}\n{line}\n')


def test_a_torn_line_of_csv_is_named(tmp_path: Path) -> None:
    assert "line 3" in mistake(tmp_path, "l.csv", "n,path\n1,a.mp4\n2\n3,c.mp4\n")
    assert "line 2" in mistake(tmp_path, "l.csv", "n,path\n1,\n")


def test_a_csv_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    assert "it has n, uri" in mistake(tmp_path, "l.csv", "n,uri\n1,a\n")
    assert "no column `path`" in mistake(tmp_path, "l.csv", "")


def test_a_csv_that_is_none(tmp_path: Path) -> None:
    assert "not a readable" in mistake(tmp_path, "l.csv", f'path,text\na.mp4,"{"x" * 200_000}"\n')


def test_other_kinds_of_files(tmp_path: Path) -> None:
    assert ".txt, .csv or .jsonl" in mistake(tmp_path, "l.tsv", "a.mp4\n")
    assert "not UTF-8" in mistake(tmp_path, "l.txt", b"\xff\xfea\x00")


def test_only_line_breaks_end_a_line(tmp_path: Path) -> None:
    """U+2028, U+0085 and form feeds are characters of a name; JSON may hold the first two unescaped."""
    name = "a\u2028b\x85c.mp4"
    assert paths(tmp_path, "l.jsonl", json.dumps({"path": name}, ensure_ascii=False)) == [str(tmp_path / name)]
    assert paths(tmp_path, "l.txt", f"{name}\nz.mp4") == [str(tmp_path / name), str(tmp_path / "z.mp4")]
