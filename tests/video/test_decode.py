import io
import os
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.stream
import numpy as np
import pytest

from pipeline.errors import BadVideo
from pipeline.video.decode import VideoInfo, VideoReader
from tests import footage

FAST_START = {"movflags": "faststart"}


def read(source: object, **options: float) -> tuple[VideoInfo, list[float], VideoReader]:
    """(info after the last frame, the frames' times, the reader) of a whole pass."""
    given = source if isinstance(source, io.BytesIO) else str(source)
    with VideoReader(given, max_megapixels=options.get("max_megapixels", 36)) as reader:
        times = [frame.time_s for frame in reader.frames()]
        return reader.info, times, reader


def refused(source: object, **options: float) -> str:
    with pytest.raises(BadVideo) as caught:
        read(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_video(plain_video: Path) -> None:
    info, times, reader = read(plain_video)
    assert info == VideoInfo(
        duration_s=2.0,
        fps=25.0,
        width=320,
        height=180,
        video_codec="h264",
        pixel_format="yuv420p",
        audio_codec="aac",
        num_bytes=plain_video.stat().st_size,
    )
    assert times == pytest.approx([i / 25 for i in range(50)])
    assert reader.end_s == pytest.approx(2.0)
    assert reader.ended_early is None


def test_the_same_from_a_file_object(plain_video: Path) -> None:
    info, times, _ = read(io.BytesIO(plain_video.read_bytes()))
    assert (info, times) == read(plain_video)[:2]


@pytest.mark.parametrize("threads", [1, 2])
def test_frames_come_in_presentation_order_with_b_frames(tmp_path: Path, threads: int) -> None:
    options = {"preset": "veryfast", "bf": "3"}
    path = footage.write(tmp_path / "b.mp4", footage.shot(1, 40), options=options)
    with VideoReader(str(path), max_megapixels=36, threads=threads) as reader:
        frames = list(reader.frames())
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(40)])
    assert not any(frame.damaged for frame in frames)
    assert frames[0].time_s == 0.0


@pytest.mark.parametrize("turn", [90, -90, 180, 0])
def test_rotation_is_as_a_player_shows_it(tmp_path: Path, turn: int) -> None:
    """The upper left quarter of the stored picture is white; after the turn it lies where a player shows it."""
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[:60, :100] = 255
    path = footage.write(tmp_path / "r.mp4", [picture] * 3, rotation=turn)
    with VideoReader(str(path), max_megapixels=36) as reader:
        frame = next(reader.frames())
        size = reader.info.width, reader.info.height
    assert size == ((120, 200) if turn % 180 else (200, 120))
    shown = np.rot90(frame.image.to_ndarray(format="gray"), frame.quarter_turns)
    assert (shown.shape[1], shown.shape[0]) == size
    height, width = shown.shape
    corners = {
        "upper left": shown[height // 4, width // 4],
        "upper right": shown[height // 4, 3 * width // 4],
        "lower left": shown[3 * height // 4, width // 4],
        "lower right": shown[3 * height // 4, 3 * width // 4],
    }
    white = [name for name, value in corners.items() if value > 128]
    # set_display_rotation counts counter-clockwise
    assert white == [{0: "upper left", 90: "lower left", -90: "upper right", 180: "lower right"}[turn]]


def test_anamorphic_pixels_are_stretched(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "a.mp4", footage.shot(1, 3, width=720, height=576), aspect=Fraction(64, 45))
    info = read(path)[0]
    assert (info.width, info.height) == (1024, 576)


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times_ms = [0, 40, 80, 500, 533, 2000, 2001, 3000]
    path = footage.write(tmp_path / "v.mkv", footage.shot(1, 8), times_ms=times_ms)
    _, times, reader = read(path)
    assert times == pytest.approx([ms / 1000 for ms in times_ms])
    assert reader.end_s > 3.0


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "late.mkv", footage.shot(1, 50), times_ms=[5000 + 40 * i for i in range(50)])
    info, times, reader = read(path)
    assert times[:3] == pytest.approx([0.0, 0.04, 0.08])
    assert info.duration_s == pytest.approx(2.0)
    assert reader.ended_early is None, "Matroska counts the five seconds before it"


def test_times_that_stand_still_or_lack_go_on(tmp_path: Path) -> None:
    """A raw H.264 stream has no times of its own."""
    path = footage.write(tmp_path / "raw.h264", footage.shot(1, 20), file_format="h264")
    times = read(path)[1]
    assert len(times) == 20
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(19 / 25, abs=0.05)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ten.mp4", {"pixel_format": "yuv420p10le"}),
        ("full.mp4", {"pixel_format": "yuv444p"}),
        ("gray.mkv", {"codec": "ffv1", "pixel_format": "gray"}),
        ("rgb.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("mjpeg.mov", {"codec": "mjpeg", "pixel_format": "yuvj422p"}),
        ("stream.ts", {}),
    ],
)
def test_other_formats(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = footage.write(tmp_path / name, footage.shot(1, 10), **options)  # type: ignore[arg-type]
    info, times, reader = read(path)
    assert len(times) == 10
    assert (info.width, info.height) == (320, 180)
    assert info.pixel_format == options.get("pixel_format", "yuv420p")
    assert info.audio_codec is None
    assert reader.ended_early is None


@pytest.mark.parametrize("size", [(321, 181), (17, 33), (2, 2), (1, 1)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    pictures = [np.full((size[1], size[0], 3), i * 40, np.uint8) for i in range(3)]
    path = footage.write(tmp_path / "o.mkv", pictures, codec="ffv1", pixel_format="yuv420p")
    info, times, _ = read(path)
    assert (info.width, info.height) == size
    assert len(times) == 3


def test_one_frame(tmp_path: Path) -> None:
    info, times, reader = read(footage.write(tmp_path / "one.mp4", footage.shot(1, 1)))
    assert times == [0.0]
    assert reader.end_s == pytest.approx(0.04)
    assert info.fps > 0


@pytest.mark.parametrize(
    "name",
    ["a:b.mp4", "100%#.mp4", "%03d.mp4", "[1].mp4", "?.mp4", "x::y.mp4", "http:x.mp4", "é 漢.mp4", "-i.mp4", "none"],
)
def test_names_are_no_protocols_and_no_patterns(tmp_path: Path, plain_video: Path, name: str) -> None:
    shutil.copy(plain_video, tmp_path / name)
    assert len(read(tmp_path / name)[1]) == 50


def test_sound_without_picture(tmp_path: Path) -> None:
    assert refused(footage.write_sound(tmp_path / "sound.m4a")) == "no video stream"


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=16000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(footage.texture(1, 64, 64), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        out.mux(cover.encode(frame))
        out.mux(cover.encode(None))
        footage._write_sound(out, sound, 0.2)
    with av.open(str(path)) as written:
        assert len(written.streams.video) == 1
    assert refused(path) == "no video stream"


@pytest.mark.parametrize(
    "data",
    [b"x", b"This is no video. " * 100, os.urandom(4096), bytes(4096), b"\x00\x00\x00\x18ftypmp42", b"<html></html>"],
    ids=["one byte", "text", "random", "zeros", "header only", "html"],
)
def test_what_is_no_video(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data)):
        assert refused(source).split(":")[0] in ("not a readable video", "no video stream", "no frame could be decoded")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "empty.mp4") == "the file is empty"
    assert refused(io.BytesIO()) == "the file is empty"
    assert refused(tmp_path) == "not a regular file"
    assert refused(tmp_path / "pipe.mp4") == "not a regular file"
    assert "no such file" in refused(tmp_path / "dangling.mp4")
    assert "no such file" in refused(tmp_path / "none.mp4")
    assert "Not a directory" in refused(tmp_path / "empty.mp4" / "x.mp4")


def test_a_playlist_that_calls_itself_a_video_opens_no_other_file(tmp_path: Path, plain_video: Path) -> None:
    shutil.copy(plain_video, tmp_path / "secret.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    refused(tmp_path / "list.mp4")


@pytest.mark.parametrize(
    ("container", "keep"),
    [*((FAST_START, keep) for keep in (0.1, 0.5, 0.9, 0.999)), *(({}, keep) for keep in (0.1, 0.5, 0.9))],
)
def test_a_cut_off_tail_is_told(tmp_path: Path, container: dict[str, str], keep: float) -> None:
    path = footage.write(tmp_path / "t.mp4", footage.shot(1, 50), container=container)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    said = refused(path)
    assert said.startswith(("truncated: ", "not a readable video: "))
    if container and keep >= 0.5:
        assert f"has {int(len(data) * keep)} bytes" in said


@pytest.mark.parametrize("container", [FAST_START, {}], ids=["faststart", "index last"])
def test_a_cut_off_head_is_told(tmp_path: Path, container: dict[str, str]) -> None:
    path = footage.write(tmp_path / "t.mp4", footage.shot(1, 50), container=container)
    path.write_bytes(path.read_bytes()[2000:])
    refused(path)


def test_a_stream_without_index_that_ends_early_says_where(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "t.mkv", footage.shot(1, 250))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    _, times, reader = read(path)
    assert 0.3 * 250 < len(times) < 0.7 * 250
    assert reader.ended_early is not None
    assert "of 10.0 s" in reader.ended_early


@pytest.mark.parametrize("handful", [None, lambda _: 8])
def test_damage_in_the_middle_marks_the_frame_behind_it(
    tmp_path: Path, handful: Callable[[av.VideoFrame], int] | None
) -> None:
    path = footage.write(tmp_path / "d.mp4", footage.shot(1, 100), options={"preset": "ultrafast", "g": "10"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][50]
        at, size = packet.pos, packet.size
    assert at is not None
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    with VideoReader(str(path), max_megapixels=36) as reader:
        frames = list(reader.frames(handful))
    damaged = [frame.time_s for frame in frames if frame.damaged]
    assert damaged
    assert all(1.9 < time_s < 2.5 for time_s in damaged)
    assert len(frames) >= 90
    assert reader.end_s == pytest.approx(4.0)


def test_a_forged_size_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    """FFV1 takes its size from the container's header: here 8192x8192, over the limit of 36 megapixels."""
    path = footage.write(tmp_path / "f.mkv", footage.shot(1, 3, width=320, height=260), codec="ffv1")
    data = path.read_bytes()
    width, height = b"\xb0\x82" + struct.pack(">H", 320), b"\xba\x82" + struct.pack(">H", 260)  # PixelWidth, -Height
    assert data.count(width) == data.count(height) == 1
    forged = data.replace(width, b"\xb0\x82\x20\x00").replace(height, b"\xba\x82\x20\x00")
    path.write_bytes(forged)
    for source in (path, io.BytesIO(forged)):
        said = refused(source)
        assert said == "frames of 8192x8192 px (67 megapixels) are over the limit of 36 (split.max_megapixels)"


def test_frames_over_the_limit_are_refused(plain_video: Path) -> None:
    said = refused(plain_video, max_megapixels=0.05)
    assert said == "frames of 320x180 px (0 megapixels) are over the limit of 0.05 (split.max_megapixels)"


def test_frames_that_grow_over_the_limit_end_the_video_and_it_says_so(tmp_path: Path) -> None:
    small = footage.write(tmp_path / "s.h264", footage.shot(1, 10), file_format="h264").read_bytes()
    big = footage.write(
        tmp_path / "b.h264", footage.shot(2, 10, width=640, height=360), file_format="h264"
    ).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + big)
    assert len(read(tmp_path / "both.h264")[1]) == 20
    _, times, reader = read(tmp_path / "both.h264", max_megapixels=0.1)
    assert len(times) == 10
    assert "the last 10 packets cannot be decoded" in (reader.ended_early or "")


def test_files_are_closed_also_when_refused(plain_video: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        refused(plain_video, max_megapixels=0.05)
        with VideoReader(str(plain_video), max_megapixels=36) as reader:
            next(reader.frames())
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_real_footage(clips_folder: Path) -> None:
    info, times, reader = read(clips_folder / "bikes.mp4")
    assert (info.width, info.height, info.fps, len(times)) == (640, 272, 25.0, footage.BIKES_FRAMES)
    assert reader.end_s == pytest.approx(10.0)


def test_sound_that_begins_later_does_not_end_the_pictures(tmp_path: Path) -> None:
    """As in broadcasts: so far in, that the container is opened without knowing of it."""
    silent = footage.write(tmp_path / "a.ts", footage.shot(1, 100)).read_bytes()
    heard = footage.write(tmp_path / "b.ts", footage.shot(2, 100), sound=True).read_bytes()
    times = 6_000_000 // len(silent) + 1
    with VideoReader(io.BytesIO(silent * times + heard + silent * times), max_megapixels=36) as reader:
        assert reader.info.audio_codec is None
        assert sum(bool(packet.size) for packet in reader.packets()) == (2 * times + 1) * 100
        assert reader.ended_early is None
