"""Streams that are not as groups of pictures should be: the sparse pass must give what the dense pass gives."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video import gops, images
from pipeline.video.gop_decoder import GopDecoder
from pipeline.video.group import Group
from pipeline.video.shots import NEIGHBOURS
from pipeline.video.sparse import _SparsePass
from pipeline.video.split import Clip, split
from tests.video.moving import LENGTHS, NO_SCENECUT, cuts, montage, run, shot, was_sparse, write

PES_HEADER = 9  # bytes before a time stamp
NO_B_FRAMES = {"preset": "veryfast", "x264-params": "keyint=48:scenecut=0:bframes=0"}


def assert_as_dense(source: bytes | str) -> None:
    """The same frames, cuts and errors."""
    found, expected = ([], [])
    for detector, into in (("sparse", found), ("dense", expected)):
        video = io.BytesIO(source) if isinstance(source, bytes) else source
        clips, done = run(video, detector)
        into += [clip.span.num_frames for clip in clips]
        into += [clip.error for clip in clips] + [clip.reason == "no_picture" for clip in clips] + [done.error]
    assert found == expected


def pes_packets(stream: bytes | bytearray) -> Iterator[int]:
    """Where the video's PES packets begin in an MPEG transport stream."""
    for at in range(0, len(stream) - 188, 188):
        if not stream[at + 1] & 0x40:
            continue
        start = at + 4 + (1 + stream[at + 4] if stream[at + 3] & 0x20 else 0)
        if stream[start : start + 3] == b"\0\0\1" and 0xE0 <= stream[start + 3] <= 0xEF:
            yield start


def ticks_of(field: bytes | bytearray) -> int:
    return (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1


def field_of(field: bytes | bytearray, ticks: int) -> bytes:
    first = field[0] & 0xF1 | ticks >> 29 & 0xE
    return bytes([first, ticks >> 22 & 0xFF, ticks >> 14 & 0xFE | 1, ticks >> 7 & 0xFF, ticks << 1 & 0xFE | 1])


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_points_of_intra_refresh_are_no_key_frames(container: str, tmp_path: Path) -> None:
    options = {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=40:scenecut=0"}
    path = write(tmp_path / f"v.{container}", montage(), options=options)
    assert was_sparse(path)
    assert_as_dense(path)


@pytest.mark.parametrize("options", [NO_B_FRAMES, NO_SCENECUT], ids=["no B-frames", "B-frames"])
def test_joined_recordings(options: dict[str, str], tmp_path: Path) -> None:
    """Time stamps start again with the second; it also goes on before the first has ended."""
    first = Path(write(tmp_path / "v.ts", montage(), options=options)).read_bytes()
    assert_as_dense(first + first)
    second = Path(write(tmp_path / "w.ts", shot(9, 130), options=options, pts=range(250, 380))).read_bytes()
    assert_as_dense(first + second)


@pytest.mark.parametrize("without", [lambda i: i % 3, lambda i: True], ids=["most", "all"])
def test_packets_without_time_stamps(without: Callable[[int], int], tmp_path: Path) -> None:
    stream = bytearray(Path(write(tmp_path / "v.ts", montage(), options=NO_SCENECUT)).read_bytes())
    for number, at in enumerate(list(pes_packets(stream))):
        if number > 100 and without(number):
            stream[at + 7] &= 0x3F
    assert_as_dense(bytes(stream))


def test_packets_with_the_same_time_stamp(tmp_path: Path) -> None:
    stream = bytearray(Path(write(tmp_path / "v.ts", montage(), options=NO_B_FRAMES)).read_bytes())
    places = list(pes_packets(stream))
    for before, at in zip(places[100::2], places[101::2], strict=False):
        stream[at + 7 : at + PES_HEADER + 5] = stream[before + 7 : before + PES_HEADER + 5]
    assert_as_dense(bytes(stream))


@pytest.mark.parametrize("jump_s", [100, -3])
def test_time_stamps_that_jump_within_a_group(jump_s: int, tmp_path: Path) -> None:
    stream = bytearray(Path(write(tmp_path / "v.ts", montage(), options=NO_B_FRAMES)).read_bytes())
    for at in list(pes_packets(stream))[130:]:
        for field in range(2 if stream[at + 7] >> 6 == 3 else 1):
            place = slice(at + PES_HEADER + 5 * field, at + PES_HEADER + 5 * field + 5)
            stream[place] = field_of(stream[place], (ticks_of(stream[place]) + jump_s * 90_000) % (1 << 33))
    assert_as_dense(bytes(stream))
    clips, _ = run(io.BytesIO(stream))
    assert clips[-1].span.start_s == pytest.approx(run(io.BytesIO(stream), "dense")[0][-1].span.start_s, abs=0.1)


def test_one_frame_a_second(tmp_path: Path) -> None:
    """Half a second is less than a tick there."""
    pictures = [picture for seed in range(1, 6) for picture in shot(seed, 31, 20.0)]
    path = write(tmp_path / "v.avi", pictures, "mpeg4", {}, gop=24, rate=1)
    assert was_sparse(path)
    assert sum(clip.span.num_frames for clip in run(path)[0]) == len(pictures)


def flv_tags(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, time (ms), body."""
    at = 9 + 4
    while at + 11 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 4], "big")
        yield data[at], int.from_bytes(data[at + 4 : at + 7], "big"), data[at + 11 : at + 11 + length]
        at += 11 + length + 4


def test_a_stream_that_is_sent_anew_with_other_headers(tmp_path: Path) -> None:
    first = Path(write(tmp_path / "a.flv", shot(1, 96), options=NO_B_FRAMES, gop=24)).read_bytes()
    other = {"preset": "veryfast", "x264-params": "keyint=24:scenecut=0:bframes=2:cabac=0:ref=4:weightp=0"}
    second = Path(write(tmp_path / "b.flv", shot(2, 96) + shot(3, 96), options=other)).read_bytes()
    tags = [tag for tag in flv_tags(first) if tag[0] == 9 and tag[2][1] != 2]  # without its end of sequence
    later_ms = max(ms for _, ms, _ in tags) + 42
    tags += [(kind, ms + later_ms, body) for kind, ms, body in flv_tags(second) if kind == 9]
    joined = bytearray(first[:13])
    for kind, ms, body in tags:
        joined += bytes([kind]) + len(body).to_bytes(3, "big") + ms.to_bytes(3, "big") + bytes(4) + body
        joined += (11 + len(body)).to_bytes(4, "big")
    assert_as_dense(bytes(joined))


def test_a_cut_right_before_a_key_frame_is_no_cut_at_it(tmp_path: Path) -> None:
    """The B-frames shown before the key frame are of the new shot: the encoder saw the cut, but began later."""
    assert_as_dense(write(tmp_path / "v.mkv", montage(), "mpeg4", {"bf": "2", "flags": "+qpel"}, gop=30))


def test_an_endless_group_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "v.mkv", montage(), options={"x264-params": "keyint=infinite:scenecut=0"}, gop=1000)
    monkeypatch.setattr(gops, "MAX_GOP_PACKETS", 20)
    held, go_on = [], GopDecoder.go_on
    monkeypatch.setattr(GopDecoder, "go_on", lambda d, packets: (go_on(d, packets), held.append(len(d.packets))))
    assert sum(clip.span.num_frames for clip in run(path)[0]) == sum(LENGTHS)
    assert len(held) > 10
    assert max(held) <= 20 + 3


def test_few_frames_are_held_however_close_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "v.mkv", shot(1, 400), options=NO_B_FRAMES, rate=1000)
    frame_bytes = 320 * 180 * 3 // 2
    monkeypatch.setattr(images, "HELD_BYTES", 8 * frame_bytes)
    held, opened = [], _SparsePass._open

    def noted(of: _SparsePass, gop: gops.Gop, before: Group | None) -> Group:
        group = opened(of, gop, before)
        held.append(sum(seen.image is not None for seen in group.seen))
        return group

    monkeypatch.setattr(_SparsePass, "_open", noted)
    assert cuts(path) == []
    assert NEIGHBOURS < max(held) <= 8


@pytest.mark.parametrize(("fps", "max_clip_s"), [(15, 20.0), (24, 20.0), (24, 10.0), (24, 3.0), (12, 3.0)])
def test_every_window_of_a_long_shot_has_its_frames(fps: int, max_clip_s: float, tmp_path: Path) -> None:
    """Groups of ten seconds and more: whole clips lie between two key frames."""
    pictures = shot(1, 22 * fps, 0.5) + shot(2, 13 * fps, 0.5)
    path = write(tmp_path / "v.mp4", pictures, options={"x264-params": "keyint=250"}, gop=250, rate=fps)
    assert was_sparse(path)
    quality = QualitySettings(min_sharpness=0, min_contrast=0, min_motion=0)
    shots, frames = SplitSettings(max_clip_s=max_clip_s), FrameSettings()
    clips = [c for c in split(path, shots=shots, frames=frames, quality=quality) if isinstance(c, Clip)]
    assert len(clips) >= 3
    assert [(clip.reason, len(clip.frames)) for clip in clips] == [(None, frames.per_clip)] * len(clips)
