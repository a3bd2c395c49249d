import io
import itertools
import tracemalloc
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from pipeline.errors import BadVideo
from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.split import Clip, SplitDone, split
from tests import footage

ANYTHING_GOES = QualitySettings(min_brightness=0, max_brightness=255, min_contrast=0, min_sharpness=0, min_motion=0)


def run(
    source: object,
    *,
    shots: SplitSettings | None = None,
    frames: FrameSettings | None = None,
    quality: QualitySettings = ANYTHING_GOES,
) -> tuple[list[Clip], SplitDone]:
    parts = list(
        split(
            source if isinstance(source, io.BytesIO) else str(source),
            shots=shots or SplitSettings(),
            frames=frames or FrameSettings(),
            quality=quality,
        )
    )
    *clips, done = parts
    assert isinstance(done, SplitDone)
    assert all(isinstance(clip, Clip) for clip in clips)
    return [clip for clip in clips if isinstance(clip, Clip)], done


def starts(clips: list[Clip]) -> list[int]:
    return [round(clip.span.start_s * footage.FPS) for clip in clips]


def decoded(clip: Clip) -> list[np.ndarray]:
    pictures = [cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR_RGB) for frame in clip.frames]
    assert all(picture is not None for picture in pictures)
    return [picture for picture in pictures if picture is not None]


def check_tiling(clips: list[Clip], done: SplitDone) -> None:
    assert clips[0].span.start_s == 0
    for before, after in itertools.pairwise(clips):
        assert before.span.end_s == after.span.start_s
    assert clips[-1].span.end_s == done.info.duration_s


def test_cuts_at_exactly_their_frames(three_shots: Path) -> None:
    clips, done = run(three_shots)
    assert starts(clips) == [0, 40, 70]
    assert [clip.span.num_frames for clip in clips] == [40, 30, 55]
    assert done.info.duration_s == pytest.approx(5.0)
    assert (done.error, done.no_clips) == (None, None)
    check_tiling(clips, done)


def test_the_same_from_a_file_object(three_shots: Path) -> None:
    assert run(io.BytesIO(three_shots.read_bytes())) == run(three_shots)


def test_the_frames_show_the_clip_in_order_of_time(tmp_path: Path) -> None:
    """Each frame's grey level is its number; the clip's pictures are at the middles of four equal parts."""
    pictures = [
        cv2.addWeighted(footage.texture(1), 0.2, np.full((180, 320, 3), i * 2, np.uint8), 0.8, 0) for i in range(100)
    ]
    path = footage.write(tmp_path / "levels.mp4", pictures)
    (clip,), _ = run(path, frames=FrameSettings(max_side_px=320))
    levels = [picture.mean() for picture in decoded(clip)]
    at = [np.argmin([abs(p.mean() - level) for p in pictures]) for level in levels]
    assert at == pytest.approx([12.5, 37.5, 62.5, 87.5], abs=5)


@pytest.mark.parametrize(("side", "size"), [(160, (160, 90)), (320, (320, 180)), (4096, (320, 180)), (33, (33, 19))])
def test_frames_have_the_wanted_size_and_never_grow(plain_video: Path, side: int, size: tuple[int, int]) -> None:
    (clip,), _ = run(plain_video, frames=FrameSettings(max_side_px=side))
    assert [(p.shape[1], p.shape[0]) for p in decoded(clip)] == [size] * 4


def test_frames_are_upright_and_in_the_right_colours(tmp_path: Path) -> None:
    picture = footage.texture(1, 320, 180)
    picture[:90, :160] = (255, 0, 0)
    path = footage.write(tmp_path / "r.mp4", [picture] * 30, rotation=90)
    (clip,), done = run(path)
    assert (done.info.width, done.info.height) == (180, 320)
    shown = decoded(clip)[0]
    assert shown.shape == (320, 180, 3)
    assert np.abs(shown[200:300, 20:70].reshape(-1, 3).mean(axis=0) - (255, 0, 0)).max() < 12


def test_measures_do_not_hang_on_how_the_pixels_are_stored(tmp_path: Path) -> None:
    pictures = footage.shot(1, 30)
    measured = []
    for name, options in (
        ("a.mp4", {}),
        ("b.mp4", {"pixel_format": "yuv420p10le"}),
        ("c.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}),
    ):
        (clip,), _ = run(footage.write(tmp_path / name, pictures, **options))  # type: ignore[arg-type]
        measured.append(clip.quality)
    first = measured[0]
    assert first is not None
    assert first.brightness == pytest.approx(
        np.mean([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).mean() for p in pictures]), abs=2
    )
    for quality in measured[1:]:
        assert quality is not None
        assert quality.brightness == pytest.approx(first.brightness, abs=1.5)
        assert quality.contrast == pytest.approx(first.contrast, rel=0.03)
        assert quality.motion == pytest.approx(first.motion, rel=0.1)


def test_motion_is_the_speed_of_the_pan(tmp_path: Path) -> None:
    """2 px a frame at 25 fps over 320 px: 15.6 percent of the longer side a second."""
    wide = cv2.GaussianBlur(footage.texture(3, 500, 180), (0, 0), 4)
    path = footage.write(tmp_path / "pan.mp4", [wide[:, 2 * i : 2 * i + 320] for i in range(50)])
    (clip,), _ = run(path)
    assert clip.quality is not None
    assert clip.quality.motion == pytest.approx(100 * 2 * 25 / 320, rel=0.25)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: [np.clip(p * 0.1, 0, 255).astype(np.uint8) for p in footage.shot(1, 30)], "too_dark"),
        (lambda: [np.clip(p * 0.03 + 246, 0, 255).astype(np.uint8) for p in footage.shot(1, 30)], "too_bright"),
        (lambda: [np.clip(p * 0.05 + 120, 0, 255).astype(np.uint8) for p in footage.shot(1, 30)], "low_contrast"),
        (lambda: [cv2.GaussianBlur(p, (0, 0), 8) * np.uint8(1) for p in footage.shot(1, 30)], "blurry"),
        (lambda: footage.shot(1, 30, step_px=0), "static"),
        (lambda: footage.shot(1, 30), None),
        (lambda: footage.shot(1, 24), "too_short"),
        (lambda: footage.shot(1, 25), None),
    ],
)
def test_what_is_not_good_enough_is_rejected_and_carries_no_frames(
    tmp_path: Path, make: object, reason: str | None
) -> None:
    pictures = make()  # type: ignore[operator]
    lead = [] if reason != "too_short" else footage.shot(2, 50)
    path = footage.write(tmp_path / "q.mp4", [*lead, *pictures])
    limits = QualitySettings(min_contrast=10) if reason == "blurry" else QualitySettings()
    *_, clip = run(path, quality=limits)[0]
    assert (clip.reason, clip.error) == (reason, None)
    assert len(clip.frames) == (0 if reason else 4)
    assert (clip.quality is None) == (reason == "too_short")  # which nothing that is measured can change


def test_a_long_shot_is_windowed(plain_video: Path) -> None:
    clips, done = run(plain_video, shots=SplitSettings(min_clip_s=0.2, max_clip_s=0.6))
    assert starts(clips) == [0, 15, 30, 40]
    assert all(len(clip.frames) == 4 for clip in clips)
    check_tiling(clips, done)


def test_a_video_shorter_than_a_clip_has_none(tmp_path: Path) -> None:
    clips, done = run(footage.write(tmp_path / "s.mp4", footage.shot(1, 20)))
    assert clips == []
    assert done.no_clips == "0.80 s long, shorter than the shortest clip"
    assert done.error is None


def test_a_video_shorter_than_a_clip_has_none_even_with_cuts_in_it(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "s.mp4", [*footage.shot(1, 8), *footage.shot(2, 6), *footage.shot(3, 8)])
    clips, done = run(path)
    assert clips == []
    assert done.no_clips


def test_short_shots_in_a_longer_video_are_clips_too(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "s.mp4", [*footage.shot(1, 8), *footage.shot(2, 6), *footage.shot(3, 30)])
    clips, done = run(path)
    assert starts(clips) == [0, 8, 14]
    assert [clip.reason for clip in clips] == ["too_short", "too_short", None]
    check_tiling(clips, done)


def test_one_frame(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "one.mp4", footage.shot(1, 1))
    assert run(path)[1].no_clips
    (clip,), _ = run(path, shots=SplitSettings(min_clip_s=0.02))
    assert len(clip.frames) == 1


@pytest.mark.parametrize("size", [(321, 181), (33, 17), (16, 400), (2, 2)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (size[1], size[0], 3), np.uint8) for _ in range(30)]
    path = footage.write(tmp_path / "o.mkv", pictures, codec="ffv1", pixel_format="yuv420p")
    clips, done = run(path)
    assert (done.info.width, done.info.height) == size
    assert all(clip.frames for clip in clips)


def test_damage_fails_the_clip_it_falls_in(tmp_path: Path) -> None:
    """In the dense pass, which sees every frame; test_sparse.py has the sparse one."""
    shots = [f for seed, n in ((1, 40), (2, 40), (3, 40)) for f in footage.shot(seed, n)]
    path = footage.write(tmp_path / "d.mp4", shots, options={"preset": "ultrafast", "g": "10", "sc_threshold": "0"})
    import av

    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][55]
        at, size = packet.pos, packet.size
    assert at is not None
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    clips, done = run(path, shots=SplitSettings(detector="dense"))
    assert starts(clips) == [0, 40, 80]
    assert [bool(clip.error) for clip in clips] == [False, True, False]
    assert "damaged frame" in (clips[1].error or "")
    assert clips[1].frames == []
    assert done.error is None


def test_an_early_end_fails_the_last_clip_and_is_told(tmp_path: Path) -> None:
    path = footage.write(tmp_path / "t.mkv", [f for seed in (1, 2, 3) for f in footage.shot(seed, 50)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clips, done = run(path)
    assert [bool(clip.error) for clip in clips] == [False] * (len(clips) - 1) + [True]
    assert done.error
    assert clips[-1].error == done.error
    check_tiling(clips, done)


def test_what_is_no_video_raises(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(BadVideo):
        run(tmp_path / "x.mp4")


@pytest.mark.parametrize("detector", ["sparse", "dense"])
def test_a_video_that_takes_too_long_fails_from_there_on(
    three_shots: Path, detector: Literal["sparse", "dense"], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()  # a second at each look: one a packet
    monkeypatch.setattr("pipeline.video.decode.time.monotonic", lambda: float(next(clock)))
    clips, done = run(three_shots, shots=SplitSettings(detector=detector, max_seconds_per_video=100))
    assert (done.error or "").startswith("not done after 100 s (split.max_seconds_per_video) (decoded ")
    assert clips[-1].error == done.error
    assert [clip.error for clip in clips[:-1]] == [None] * (len(clips) - 1)
    check_tiling(clips, done)


def test_time_that_clips_wait_to_be_taken_does_not_count(three_shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.video.decode.time.monotonic", lambda: now[0])
    for part in split(
        str(three_shots), shots=SplitSettings(max_seconds_per_video=1), frames=FrameSettings(), quality=ANYTHING_GOES
    ):
        now[0] += 100
        assert not (part.error if isinstance(part, Clip | SplitDone) else None)


def test_clips_come_before_the_video_is_read_to_its_end(three_shots: Path) -> None:
    parts = split(str(three_shots), shots=SplitSettings(), frames=FrameSettings(), quality=ANYTHING_GOES)
    first = next(parts)
    assert isinstance(first, Clip)
    assert first.info.duration_s == pytest.approx(5.0)
    parts.close()  # type: ignore[attr-defined]


def test_the_same_video_gives_the_same_clips(three_shots: Path) -> None:
    assert run(three_shots) == run(three_shots)


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        pictures, groups = footage.shot(1, 25, step_px=8) * (frames // 25), {"preset": "ultrafast", "g": "50"}
        path = footage.write(tmp_path / f"{frames}.mp4", pictures, options=groups)
        parts = split(str(path), shots=SplitSettings(max_clip_s=2), frames=FrameSettings(), quality=ANYTHING_GOES)
        tracemalloc.start()
        for _ in parts:
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(500) < 1.3 * peak(150)


@pytest.mark.parametrize("detector", ["sparse", "dense"])
def test_bikes_has_its_six_shots(clips_folder: Path, detector: Literal["sparse", "dense"]) -> None:
    clips, done = run(clips_folder / "bikes.mp4", shots=SplitSettings(detector=detector))
    assert starts(clips) == footage.BIKES_CUTS
    check_tiling(clips, done)


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_single_shots_stay_whole(clips_folder: Path, name: str) -> None:
    clips, done = run(clips_folder / name)
    assert len(clips) == 1
    check_tiling(clips, done)
    assert done.error is None
