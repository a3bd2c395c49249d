"""The sparse pass against known truth and against the dense pass, across codecs and the ways cuts can hide."""

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.errors import BadVideo
from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video import sparse
from pipeline.video.gops import anchors, are_even, read_gops, suspects
from pipeline.video.split import Clip, SplitDone, split
from tests.video.moving import (
    DEFAULT,
    FPS,
    NO_SCENECUT,
    SIZE,
    STARTS,
    X264,
    cuts,
    montage,
    run,
    shot,
    was_sparse,
    write,
)

CODECS = {
    "x264": (X264, DEFAULT, "mp4"),
    "fixed GOP without scene-cut": (X264, NO_SCENECUT, "mp4"),
    "open GOP": (X264, {"x264-params": "open-gop=1:keyint=30:scenecut=0:bframes=3:b-pyramid=normal"}, "mp4"),
    "one GOP for all": (X264, {"x264-params": "keyint=infinite:scenecut=0"}, "mkv"),
    "no B-frames": (X264, {"preset": "ultrafast", "tune": "zerolatency"}, "ts"),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=3:scenecut=0"}, "mp4"),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "webm"),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}, "mp4"),
    "mpeg4": ("mpeg4", {"bf": "2"}, "mp4"),
    "mpeg4 in avi": ("mpeg4", {}, "avi"),
    "mpeg2": ("mpeg2video", {"bf": "2"}, "ts"),
    "mjpeg": ("mjpeg", {}, "mov"),
}


@pytest.mark.parametrize("name", CODECS)
def test_hard_cuts_are_frame_exact(name: str, tmp_path: Path) -> None:
    codec, options, ending = CODECS[name]
    path = write(tmp_path / f"video.{ending}", montage(), codec, options)
    assert cuts(path) == STARTS


@pytest.mark.parametrize(("name", "expected"), [("x264", True), ("vp9", False), ("mjpeg", False)])
def test_falls_back_where_it_does_not_pay(name: str, expected: bool, tmp_path: Path) -> None:
    codec, options, ending = CODECS[name]
    assert was_sparse(write(tmp_path / f"video.{ending}", montage(), codec, options)) is expected


@pytest.mark.parametrize("options", [DEFAULT, NO_SCENECUT], ids=["scenecut", "fixed"])
class TestHidingPlaces:
    def test_other_shot_inside_one_gop(self, options: dict[str, str], tmp_path: Path) -> None:
        frames = shot(1, 60, 0)
        frames[20:32] = shot(2, 12, 0)
        assert cuts(write(tmp_path / "aba.mp4", frames + shot(1, 60, 0), options=options)) == [20, 32]

    def test_flash_is_no_cut(self, options: dict[str, str], tmp_path: Path) -> None:
        frames = shot(3, 120, 0.5)
        for at in (10, 48, 70, 71):
            frames[at] = np.full_like(frames[at], 250)
        assert cuts(write(tmp_path / "flash.mp4", frames, options=options)) == []

    def test_fast_pan_is_no_cut(self, options: dict[str, str], tmp_path: Path) -> None:
        frames = shot(4, 30, 0) + shot(4, 40, 15) + [shot(4, 40, 15)[-1]] * 30
        assert cuts(write(tmp_path / "pan.mp4", frames, options=options)) == []

    def test_long_freeze_between_cuts(self, options: dict[str, str], tmp_path: Path) -> None:
        frames = shot(5, 1, 0) * 250 + shot(6, 1, 0) * 250
        assert cuts(write(tmp_path / "still.mp4", frames, options=options)) == [250]

    def test_cut_to_black_and_back(self, options: dict[str, str], tmp_path: Path) -> None:
        black = [np.zeros((SIZE[1], SIZE[0], 3), np.uint8)] * 12
        frames = shot(7, 34) + black + shot(8, 60)
        assert cuts(write(tmp_path / "black.mp4", frames, options=options)) == [34, 46]

    @pytest.mark.parametrize("detector", ["sparse", "dense"])
    @pytest.mark.parametrize("kind", ["dissolve", "fade"])
    def test_transitions_are_trimmed(self, kind: str, detector: str, options: dict[str, str], tmp_path: Path) -> None:
        frames = dissolve() if kind == "dissolve" else fade()
        clips, done = run(write(tmp_path / "gradual.mp4", frames, options=options), detector)
        assert [clip.reason == "transition" for clip in clips] == [False, True, False]
        trimmed = [round(clips[1].span.start_s * FPS), round(clips[1].span.end_s * FPS)]
        assert trimmed == pytest.approx([GRADUAL[0], GRADUAL[-1]], abs=4)
        assert [clip.span.start_s for clip in clips[1:]] == [clip.span.end_s for clip in clips[:-1]]
        assert clips[-1].span.end_s == pytest.approx(done.info.duration_s)


GRADUAL = range(40, 64)


def dissolve() -> list[np.ndarray]:
    """One shot becomes another in the frames GRADUAL."""
    shares = np.interp(range(110), [GRADUAL[0], GRADUAL[-1]], [0, 1])
    pairs = zip(shares, shot(9, 110, 0.3), shot(10, 110, 0.3), strict=True)
    return [cv2.addWeighted(old, 1 - share, new, share, 0) for share, old, new in pairs]


def fade() -> list[np.ndarray]:
    """The same through black."""
    light = np.interp(range(110), [GRADUAL[0], 51, 52, GRADUAL[-1]], [1, 0, 0, 1])
    both = shot(9, 52, 0) + shot(10, 58, 0)
    return [(picture * part).astype(np.uint8) for picture, part in zip(both, light, strict=True)]


def test_transitions_are_kept_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "gradual.mp4", dissolve())
    shots = SplitSettings(trim_transitions=False)
    clip, _ = split(path, shots=shots, frames=FrameSettings(), quality=QualitySettings())
    assert isinstance(clip, Clip)
    assert clip.span.num_frames == 110


def test_variable_frame_rate_gives_exact_times(tmp_path: Path) -> None:
    pts = list(np.cumsum([1 + 3 * (i % 5 == 0) for i in range(len(montage()))]))
    clips, _ = run(write(tmp_path / "vfr.mkv", montage(), pts=[int(p) for p in pts], rate=100))
    starts = [clip.span.start_s for clip in clips]
    assert starts == pytest.approx([0.0] + [(pts[n] - pts[0]) / 100 for n in STARTS], abs=2e-3)


@pytest.mark.parametrize("offset", [-30, 1000])
def test_times_count_from_the_first_frame(offset: int, tmp_path: Path) -> None:
    path = write(
        tmp_path / "late.mkv" if offset > 0 else tmp_path / "early.mp4",
        montage(),
        pts=[i + offset for i in range(len(montage()))],
    )
    assert [c.span for c in run(path)[0]] == [c.span for c in run(path, "dense")[0]]


def test_edit_list_as_dense(tmp_path: Path) -> None:
    """A copy that starts in the middle of a group hides the frames before by an edit list."""
    source = write(tmp_path / "whole.mp4", montage(), options=NO_SCENECUT)
    target = tmp_path / "edited.mp4"
    with av.open(source) as opened, av.open(str(target), "w", options={"use_editlist": "1"}) as container:
        stream = opened.streams.video[0]
        copy = container.add_stream_from_template(stream)
        assert stream.time_base
        shift = int(Fraction(20, FPS) / stream.time_base)
        for packet in opened.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                container.mux(packet)
    assert cuts(str(target)) == cuts(str(target), "dense")
    assert len(cuts(str(target))) == len(STARTS)


def test_rotation_swaps_the_sides(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.mp4", montage())
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the display matrix of the track header, version 0
    turned = np.array([0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000], ">i4").tobytes()
    data[at : at + 36] = turned
    clips, done = run(io.BytesIO(bytes(data)))
    assert (done.info.width, done.info.height) == (SIZE[1], SIZE[0])
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for c in clips for jpeg in c.frames]
    sides = {picture.shape for picture in pictures if picture is not None}
    assert sides <= {(SIZE[0], SIZE[1], 3)}


def test_file_object_as_path(tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", montage())
    assert cuts(io.BytesIO(Path(path).read_bytes())) == cuts(path)


@pytest.mark.parametrize("timing", ["near-key", "exact"])
def test_quality_is_near_dense(timing: str, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", montage(), options={**DEFAULT, "crf": "18"})
    for ours, reference in zip(run(path, timing=timing)[0], run(path, "dense")[0], strict=True):
        assert ours.quality
        assert reference.quality
        assert ours.quality.brightness == pytest.approx(reference.quality.brightness, abs=6)
        assert ours.quality.contrast == pytest.approx(reference.quality.contrast, abs=6)
        assert ours.quality.motion == pytest.approx(reference.quality.motion, rel=0.5, abs=1.5)


def test_exact_timing_gives_the_dense_number_of_frames(tmp_path: Path) -> None:
    settings = QualitySettings(min_sharpness=0, min_motion=0, min_contrast=0)
    path = write(tmp_path / "video.mp4", shot(1, 240) + shot(2, 100))
    for detector in ("sparse", "dense"):
        shots = SplitSettings(detector=detector)  # type: ignore[arg-type]
        clips = list(split(path, shots=shots, frames=FrameSettings(timing="exact"), quality=settings))[:-1]
        assert [len(clip.frames) for clip in clips if isinstance(clip, Clip)] == [4, 4]


def test_damage_fails_the_clip_it_falls_in(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "video.mp4", montage()))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        hit = next(
            p for p in packets if p.pts and p.is_keyframe and p.pts * float(stream.time_base or 0) * FPS >= STARTS[1]
        )
        assert hit.pos is not None
    data = bytearray(path.read_bytes())
    data[hit.pos + 8 : hit.pos + hit.size] = b"\xff" * (hit.size - 8)
    clips, _ = run(io.BytesIO(bytes(data)))
    reference, _ = run(io.BytesIO(bytes(data)), "dense")
    assert any(clip.error for clip in clips)
    assert any(clip.error for clip in reference)
    assert clips[-1].span.end_s == pytest.approx(reference[-1].span.end_s)


def test_early_end_fails_the_last_clip(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "video.mkv", montage() * 3))
    cut_off = io.BytesIO(whole.read_bytes()[: whole.stat().st_size // 2])
    clips, done = run(cut_off)
    dense_clips, dense_done = run(io.BytesIO(cut_off.getvalue()), "dense")
    assert (done.error is None) == (dense_done.error is None)
    assert (clips[-1].error is None) == (dense_clips[-1].error is None)


@pytest.mark.parametrize("detector", ["sparse", "dense"])
def test_undecodable_packets_at_the_end_are_told(detector: str, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "video.mp4", shot(1, 96) + shot(2, 48), options={**NO_SCENECUT, "bf": "0"}))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        last = max(i for i, packet in enumerate(packets) if packet.is_keyframe)
        for packet in packets[last:]:
            assert packet.pos is not None
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    clips, done = run(io.BytesIO(bytes(data)), detector)
    assert (done.error or "").startswith(f"the last {len(packets) - last} packets cannot be decoded")
    assert clips[-1].error == done.error


@pytest.mark.parametrize("detector", ["sparse", "dense"])
def test_a_video_shorter_than_a_clip_has_none_even_with_cuts_in_it(detector: str, tmp_path: Path) -> None:
    path = write(tmp_path / "short.mp4", shot(1, 8) + shot(2, 6) + shot(3, 8), options=NO_SCENECUT)
    settings = SplitSettings(detector=detector)  # type: ignore[arg-type]
    (done,) = split(path, shots=settings, frames=FrameSettings(), quality=QualitySettings())
    assert isinstance(done, SplitDone)
    assert done.no_clips
    assert len(cuts(path, detector)) == 2, "with a lower limit it has clips"


def test_no_video_is_bad(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(BadVideo):
        run(str(tmp_path / "text.mp4"))


def test_sparse_decodes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for it all: of a long quiet shot, only key frames and what follows them closely are decoded."""
    seen = []
    original = sparse.Images.thumbnail
    monkeypatch.setattr(sparse.Images, "thumbnail", lambda self, image: seen.append(1) or original(self, image))
    path = write(tmp_path / "quiet.mp4", shot(1, 480, 0.5), options=NO_SCENECUT)
    run(path)
    assert len(seen) < 200


def test_every_clip_has_its_frames(clips_folder: Path) -> None:
    for name, per_clip in (("bikes.mp4", 4), ("bikes.mp4", 8), ("bigbuckbunny.mp4", 4)):
        shots, frames = SplitSettings(), FrameSettings(per_clip=per_clip)
        parts = list(split(str(clips_folder / name), shots=shots, frames=frames, quality=QualitySettings()))
        kept = [len(part.frames) for part in parts if isinstance(part, Clip) and not (part.reason or part.error)]
        assert kept
        assert set(kept) == {per_clip}


def test_where_the_encoder_looks_for_cuts_motion_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long shot ends with another picture than it began with, so that its groups' ends look like two shots."""
    frames = shot(9, 96, 0.2) + [picture for seed in range(6) for picture in shot(seed, 30)]
    frames += shot(7, 260, 3)
    path = write(tmp_path / "pan.mp4", frames, options={**DEFAULT, "x264-params": "bframes=0"})
    expected = [96, 126, 156, 186, 216, 246, 276]
    decoded = []
    original = sparse.GopDecoder.feed
    monkeypatch.setattr(sparse.GopDecoder, "feed", lambda self, **needed: decoded.append(1) or original(self, **needed))
    assert cuts(path) == expected
    with_it = len(decoded)
    monkeypatch.setattr("pipeline.video.endings.SEVERAL", 1000)
    assert cuts(path) == expected
    assert with_it < len(decoded) - with_it - 20


def test_the_longest_group_so_far_may_end_with_a_cut(tmp_path: Path) -> None:
    """Its length tells nothing of when a key frame is due."""
    frames = shot(9, 60, 0.2) + [picture for seed in range(6) for picture in shot(seed, 30)]
    frames += shot(7, 96, 1) + shot(8, 48)
    path = write(tmp_path / "longest.mp4", frames, options={**DEFAULT, "x264-params": "bframes=0"}, gop=250)
    assert cuts(path) == [60, 90, 120, 150, 180, 210, 240, 336]


def test_a_frame_between_two_that_are_the_same_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the picture changes all are, so that a cut stays exact at each place a waiting frame may have to it."""
    looked_at = []
    original = sparse.Images.thumbnail
    monkeypatch.setattr(sparse.Images, "thumbnail", lambda self, frame: looked_at.append(1) or original(self, frame))
    for first in (47, 48):
        looked_at.clear()
        frames = shot(1, first, 0.1) + shot(2, 50, 0.1)
        path = write(tmp_path / f"{first}.mp4", frames, options={**DEFAULT, "x264-params": "bframes=0:scenecut=0"})
        assert cuts(path) == [first]
        assert len(looked_at) < 0.8 * len(frames)


def test_suspects() -> None:
    quiet = [1000] * 12
    assert not any(suspects(quiet, 40_000, 40_000))
    assert suspects([*quiet, 20_000, *quiet], 40_000, 40_000)[12] == 2
    busy = [20_000] * 6 + [24_000] + [20_000] * 6
    assert suspects(busy, 40_000, 40_000)[6] == 1, "where all packets are large, a small rise may be a cut"
    assert not any(suspects(busy, 40_000, 40_000, alike=True)), "but two cuts, there and back, would show"
    assert suspects([9000] * 8 + [50] * 8, 40_000, 40_000)[8] == 1, "black costs nothing"
    assert not any(suspects([9000] * 8 + [50] * 3, 40_000, 40_000, tail=3)), "nor do frames that no other refers to"


def test_even_sizes_tell_motion_from_a_dissolve() -> None:
    moving = [9000, 11_000, 10_000, 9500] * 6
    assert are_even(moving)
    assert not are_even([*moving, *[25_000] * 6, *moving])
    assert not are_even([9000, 9000]), "too few to tell"


def test_groups_hold_every_packet_once(tmp_path: Path) -> None:
    path = write(tmp_path / "open.mp4", montage(), options=CODECS["open GOP"][1])
    with av.open(path) as container:
        groups = list(read_gops(container.demux(container.streams.video[0])))
    assert sum(len(group.packets) for group in groups) == len(montage())
    assert any(group.leading for group in groups), "the file is not an open GOP after all"
    for group in groups:
        shown = [group.own[i].pts for i in anchors(group.own)]
        assert shown == sorted(shown)  # type: ignore[type-var]
