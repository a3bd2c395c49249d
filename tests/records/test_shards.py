import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import storage
from pipeline.errors import UserError
from pipeline.records import shards
from pipeline.records.lease import Lease, LeaseLost
from pipeline.records.shards import Files, Merged, Shard, settled
from pipeline.sources.samples import Line


def record(key: str) -> dict:
    return {"path": f"{key}.mp4", "__key": key, "output": {"caption": f"of {key} ü"}}


LINES = [Line(i + 1, f"k{i}", f'{{"path": "k{i}.mp4"}}') for i in range(20)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path / "out"), "describe")


def write(files: Files, rank: int, *records: dict) -> None:
    with Lease(files.root) as lease:
        Shard(files, lease.token, rank).write(records)


def merge(files: Files, lines: Iterable[Line]) -> Merged:
    with Lease(files.root) as lease:
        return shards.merge(files, lines, lease.token)


def names(files: Files) -> set[str]:
    return {path.name for path in Path(files.root).glob("*.jsonl")}


def test_any_number_of_shards_makes_the_same_file_in_input_order(tmp_path: Path):
    contents = set()
    for count in (1, 3):
        files = Files(str(tmp_path / str(count)), "describe")
        keys = [line.key or "" for line in LINES]
        random.Random(count).shuffle(keys)
        for rank in range(count):
            write(files, rank, *(record(key) for key in keys[rank::count]), record(keys[0]))
        merged = merge(files, LINES)
        assert (merged.done, merged.failed, merged.waiting) == (20, 0, 0)
        assert names(files) == {"output.describe.jsonl"}, "the shards are gone"
        contents.add(Path(files.merged).read_bytes())
    (content,) = contents
    assert [json.loads(line)["__key"] for line in content.splitlines()] == [line.key for line in LINES]


def test_a_torn_last_line_is_cut_off_and_done_again(files: Files):
    write(files, 0, record("k0"), record("k1"))
    shard = Path(files.shard(0))
    shard.write_bytes(shard.read_bytes()[:-9])
    with settled(files) as seen:
        assert set(seen.done) == {"k0"}
    assert shard.read_bytes().endswith(b"\n")
    write(files, 0, record("k1"))
    assert merge(files, LINES[:2]).done == 2


def test_failures_keep_their_reasons_and_line_numbers(files: Files):
    write(files, 0, record("k1"), {"__key": "k0", "__error": "no such file"})
    bad = Line(3, None, "{broken", "not JSON")
    merged = merge(files, [*LINES[:2], bad, LINES[5]])
    assert (merged.done, merged.failed, merged.waiting) == (1, 2, 1)
    errors = [json.loads(line) for line in Path(files.errors).read_text().splitlines()]
    assert [(entry["line"], entry["error"], entry["__key"]) for entry in errors] == [
        (1, "no such file", "k0"),
        (3, "not JSON", None),
    ]
    with settled(files) as seen:
        assert (set(seen.done), seen.failed) == ({"k1"}, {"k0": "no such file"})
    write(files, 0, record("k0"))
    assert merge(files, LINES[:2]).done == 2
    assert names(files) == {"output.describe.jsonl"}, "nothing failed any more"


WRITER = """
import sys
from pipeline.records.lease import Lease
from pipeline.records.shards import Files, Shard, merge, settled
from pipeline.sources.samples import Line

root, pens, many = sys.argv[1], int(sys.argv[2]), [Line(i + 1, f"k{i}", "") for i in range(400)]
files = Files(root, "describe")
with Lease(root) as lease:
    with settled(files) as seen:
        waiting = [line.key for line in many if line.key not in seen.done]
    print(len(waiting), flush=True)
    shards = [Shard(files, lease.token, rank) for rank in range(pens)]
    for index, key in enumerate(waiting):
        shards[index % pens].write([{"__key": key, "output": "ü"}])
    merge(files, many, lease.token)
"""


def test_killed_at_random_points_with_another_number_of_writers_each_time(files: Files):
    rng, shown = random.Random(), []
    for kill in (True, True, False):
        command = [sys.executable, "-c", WRITER, files.root, str(rng.randint(1, 4))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        shown.append(int(process.stdout.readline()))
        if kill:
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        assert process.wait(60) == 0 or kill
        process.stdout.close()
    assert shown == sorted(shown, reverse=True), "what was written once is not done again"
    assert shown[0] == 400 > shown[-1]
    assert names(files) == {"output.describe.jsonl"}
    assert Path(files.merged).read_bytes() == b"".join(
        shards.encode({"__key": f"k{i}", "output": "ü"}) for i in range(400)
    )


def test_nothing_is_half_written(files: Files):
    write(files, 0, record("k0"))

    def lines():
        yield LINES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(files, lines())
    assert names(files) == {"output.describe.rank0.jsonl"}


def test_what_no_line_asks_for_is_kept_and_comes_back(files: Files):
    failed = {"__key": "k3", "__error": "why"}
    write(files, 0, *(record(f"k{i}") for i in range(3)), failed)
    whole = merge(files, LINES[:4])
    content = Path(files.merged).read_bytes(), Path(files.errors).read_bytes()
    for _ in range(2):
        cut = merge(files, LINES[:1])
        assert (cut.done, cut.failed, cut.waiting, cut.kept) == (1, 0, 0, 3)
        assert names(files) == {"output.describe.jsonl", "output.describe.kept.jsonl"}
    with settled(files) as seen:
        assert (set(seen.done), seen.failed) == ({"k0", "k1", "k2"}, {"k3": "why"})
    assert merge(files, LINES[:4]) == whole
    assert (Path(files.merged).read_bytes(), Path(files.errors).read_bytes()) == content
    assert names(files) == {"output.describe.jsonl", "output.describe.errors.jsonl"}


@contextmanager
def before_change(number: int, happens: Callable[[], None]) -> Iterator[list[str]]:
    """Within, something happens before the so-manieth file (from 0) is replaced or removed. Gives their names."""
    changed: list[str] = []

    def watched(change: Callable[..., None]) -> Callable[..., None]:
        def do(*locations: str) -> None:
            name = Path(locations[-1]).name
            if name.startswith("output."):  # not the lease
                if len(changed) == number:
                    happens()
                changed.append(name)
            change(*locations)

        return do

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", watched(os.replace))
        patch.setattr(storage, "remove", watched(storage.remove))
        yield changed


def contents(files: Files) -> dict[str, bytes]:
    return {name: (Path(files.root) / name).read_bytes() for name in names(files)}


def known(files: Files) -> tuple[set[str], dict[str, str]]:
    with settled(files) as seen:
        return set(seen.done), seen.failed


PARTS = {"growing": (LINES[:5], LINES), "shrinking": (LINES, LINES[:3]), "moving": (LINES[:12], LINES[5:])}


@pytest.fixture(params=PARTS)
def moved(request: pytest.FixtureRequest, files: Files) -> list[Line]:
    """Files that were merged twice, with shards that came later: some new, some of what had failed. The lines that are
    merged now."""
    before, now = PARTS[request.param]
    failed = [{"__key": f"k{i}", "__error": "why"} for i in (1, 2, 6, 7, 13, 14)]
    done = [record(f"k{i}") for i in range(18) if i not in (1, 2, 6, 7, 13, 14)]
    write(files, 0, *done, *failed)
    merge(files, LINES)
    merge(files, before)
    write(files, 0, *({"__key": f"k{i}", "__error": "why now"} for i in (1, 6, 13)), record("k18"))
    write(files, 1, *(record(f"k{i}") for i in (2, 7, 14)))
    return now


def test_killed_before_any_change_of_a_merge(files: Files, moved: list[Line]):
    copy, known_before = f"{files.root}.copy", known(files)
    shutil.copytree(files.root, copy)
    with before_change(-1, lambda: None) as changes:
        merge(files, moved)
    undisturbed, known_after = contents(files), known(files)
    assert known_after == known_before
    for number in range(len(changes)):
        shutil.rmtree(files.root)
        shutil.copytree(copy, files.root)

        def kill() -> None:
            raise KeyboardInterrupt

        with Lease(files.root) as lease, before_change(number, kill), pytest.raises(KeyboardInterrupt):
            shards.merge(files, moved, lease.token)
        assert known(files) == known_before, f"killed before change {number}: {changes[number]}"
        merge(files, moved)
        assert contents(files) == undisturbed, f"killed before change {number}: {changes[number]}"


def test_nothing_is_written_to_the_kept_file_where_nothing_is_kept(files: Files):
    write(files, 0, record("k0"), {"__key": "k1", "__error": "why"})
    with before_change(-1, lambda: None) as changes:
        merge(files, LINES[:2])
    assert changes == [
        "output.describe.errors.jsonl",
        "output.describe.jsonl",
        "output.describe.kept.jsonl",  # removed, were it there
        "output.describe.rank0.jsonl",
    ]


def test_a_run_that_was_taken_over_in_its_merge_leaves_the_others_files_alone(files: Files, moved: list[Line]):
    copy = f"{files.root}.copy"
    shutil.copytree(files.root, copy)
    with before_change(-1, lambda: None) as changes:
        merge(files, moved)
    for number in range(len(changes)):
        shutil.rmtree(files.root)
        shutil.copytree(copy, files.root)
        with Lease(files.root) as lease:

            def take_over() -> None:
                storage.write(f"{files.root}/run/lease.json", b'{"token": "theirs"}')

            with before_change(number, take_over) as changed:
                if number == len(changes) - 1:
                    shards.merge(files, moved, lease.token)
                else:
                    with pytest.raises(LeaseLost):
                        shards.merge(files, moved, lease.token)
        assert changed == changes[: number + 1], "the one that had begun, and no other"


def test_a_merge_without_the_lease_mends_no_shard(files: Files):
    write(files, 0, record("k0"))
    Path(files.shard(0)).write_bytes(torn := b'{"__key": "k0"}\n{"__k')
    with pytest.raises(LeaseLost):
        shards.merge(files, LINES, "lost")
    assert contents(files) == {"output.describe.rank0.jsonl": torn}


def test_a_record_that_looks_like_an_error_is_none(files: Files):
    write(files, 0, {"line": 1, "input": "x", "__key": "k0", "error": "an answer"})
    assert merge(files, LINES[:1]).done == 1


def test_more_shards_than_files_can_be_open(files: Files):
    lines = [Line(i + 1, f"k{i}", "") for i in range(1100)]
    Path(files.root).mkdir()
    for i, line in enumerate(lines):
        Path(files.shard(i)).write_bytes(shards.encode(record(line.key or "")))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        assert merge(files, lines).done == 1100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class _Alias(MemoryFileSystem):
    """`memo://` for `memory://`, as `s3a://` is for `s3://`."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("memo://", "memory://"))


@pytest.mark.parametrize("root", ["memory://captions/out", "memo://captions/out", "memo://captions/out/"])
def test_shards_are_found_however_their_folder_is_spelt(root: str):
    fsspec.register_implementation("memo", _Alias, clobber=True)
    files = Files(root, "describe")
    storage.write(files.shard(9), shards.encode(record("k0")))
    storage.write(storage.join(files.root, "clips", "output.describe.rank12.jsonl"), b"of somebody else")
    assert (files.ranks(), files.next_rank()) == ([9], 10)
    assert merge(files, LINES[:1]).done == 1
    assert files.shards() == []
    assert files.next_rank() == 0
    files.remove()


def test_a_folder_in_the_place_of_a_file_is_told_in_a_line(files: Files):
    Path(files.merged).mkdir(parents=True)
    with pytest.raises(UserError, match=r"output\.describe\.jsonl: is a folder"), settled(files):
        pass


def test_who_lost_the_lease_writes_nothing(files: Files):
    with Lease(files.root) as lease:
        token = lease.token
    with pytest.raises(LeaseLost):
        Shard(files, token, 0).write([record("k0")])
    assert not names(files)


def test_a_full_shard_says_so_and_half_a_surrogate_pair_can_be_written(files: Files, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 50)
    with Lease(files.root) as lease:
        shard = Shard(files, lease.token, 0)
        assert not shard.is_full
        shard.write([{**record("k0"), "meta": "\ud800"}])
        assert shard.is_full
    with settled(files) as seen:
        assert set(seen.done) == {"k0"}


def test_other_tasks_files_are_not_touched(files: Files):
    other = Files(files.root, "describe.rank")
    write(files, 0, record("k0"))
    write(Files(files.root, "structured_caption"), 0, record("k0"))
    assert other.shards() == []
    assert merge(files, LINES[:1]).done == 1
    assert names(files) == {"output.describe.jsonl", "output.structured_caption.rank0.jsonl"}
