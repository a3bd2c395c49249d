import re

from pipeline.ids import clip_id, video_id


def test_ids_never_change() -> None:
    """They stand in tables that runs of years ago have written."""
    assert video_id("/videos/a.mp4") == "9ec49090b225b812"
    assert clip_id("9ec49090b225b812", 1.5, 20.0) == "9ec49090b225b812_00001500_00020000"


def test_video_ids_differ_and_are_safe_as_names() -> None:
    names = ["a", "b", "/a", "a ", "a#row=1", "a#row=10", "é", "e\u0301", "s3://b/a"]
    ids = {video_id(name) for name in names}
    assert len(ids) == len(names)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


def test_a_name_that_is_not_utf8_has_an_id() -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert re.fullmatch("[0-9a-f]{16}", video_id(name))
    assert video_id(name) != video_id("caf?.mp4")


def test_clip_ids_sort_by_time() -> None:
    starts = [0.0, 0.04, 1.0, 9.99, 10.0, 100.0, 3600.0, 86_000.0]
    ids = [clip_id("v", start, start + 1) for start in starts]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_clip_ids_do_not_hang_on_the_last_bits_of_a_time() -> None:
    assert clip_id("v", 0.1 + 0.2, 1.0) == clip_id("v", 0.3, 1.0)
