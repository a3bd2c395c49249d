"""Single frames anywhere in a video: upright, past damage, and what is said about the rest."""

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import BadVideo
from pipeline.video.sampling import FrameSampler, decords_reason
from tests import footage

LEVELS = [0, 50, 100, 150, 200, 250]


@pytest.mark.parametrize("turn", [0, 90, -90, 180])
def test_a_turned_video_is_upright(tmp_path: Path, turn: int) -> None:
    """The upper left quarter of the stored picture is white; after the turn it lies where a player shows it."""
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[:60, :100] = 255
    sampler = FrameSampler(str(footage.write(tmp_path / "r.mp4", [picture] * 3, rotation=turn)), max_megapixels=1)
    assert (sampler.width, sampler.height) == ((120, 200) if turn % 180 else (200, 120))
    shown = sampler.picture(1, sampler.width, sampler.height)
    assert shown.shape == (sampler.height, sampler.width, 3)
    height, width = shown.shape[:2]
    corners = {
        "upper left": shown[height // 4, width // 4, 0],
        "upper right": shown[height // 4, 3 * width // 4, 0],
        "lower left": shown[3 * height // 4, width // 4, 0],
        "lower right": shown[3 * height // 4, 3 * width // 4, 0],
    }
    white = [name for name, value in corners.items() if value > 128]
    # set_display_rotation counts counter-clockwise
    assert white == [{0: "upper left", 90: "lower left", -90: "upper right", 180: "lower right"}[turn]]


def six_seconds(path: Path, rotation: int = 0) -> Path:
    """Six levels of grey, a second and a key frame each."""
    pictures = [np.full((64, 96, 3), level, np.uint8) for level in LEVELS for _ in range(25)]
    return footage.write(
        path, pictures, options={"preset": "ultrafast", "g": "25", "sc_threshold": "0"}, rotation=rotation
    )


def destroy(path: Path, first: int, last: int) -> None:
    """Overwrite the packets of these frames, whose places the index still names."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][first : last + 1]
    data = bytearray(path.read_bytes())
    for at, size in packets:
        assert at is not None
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)


@pytest.mark.parametrize("turn", [0, 90])
def test_a_damaged_spot_does_not_cost_the_rest(tmp_path: Path, turn: int) -> None:
    path = six_seconds(tmp_path / "d.mp4", rotation=turn)
    destroy(path, 50, 99)  # from 2 s to 4 s
    sampler = FrameSampler(str(path), max_megapixels=1)
    indices = sampler.shown_at([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 0.5])
    levels = [sampler.picture(i, sampler.width, sampler.height) for i in indices]
    assert {picture.shape for picture in levels} == {(sampler.height, sampler.width, 3)}
    # what lies in the damage looks as what is nearest to it
    assert [round(float(picture.mean()) / 50) for picture in levels] == [0, 1, 1, 4, 4, 5, 0]
    assert sampler.ended_early is None


def test_an_end_that_cannot_be_decoded_is_no_frame_that_stands_still(tmp_path: Path) -> None:
    path = six_seconds(tmp_path / "d.mp4")
    destroy(path, 100, 149)
    sampler = FrameSampler(str(path), max_megapixels=1)
    first, second = sampler.shown_at([3.5, 5.5])
    assert sampler.picture(first, 64, 64).mean() == pytest.approx(LEVELS[3], abs=3)
    with pytest.raises(BadVideo, match=r"the last 50 packets cannot be decoded \(decoded 4.0 s of 6.0 s\)"):
        sampler.picture(second, 64, 64)


@pytest.mark.parametrize("sound", [False, True])
def test_a_file_cut_in_half_says_so(tmp_path: Path, sound: bool) -> None:
    path = footage.write(tmp_path / "t.mkv", footage.shot(1, 250), sound=sound)
    assert FrameSampler(str(path), max_megapixels=1).ended_early is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sampler = FrameSampler(str(path), max_megapixels=1)
    assert sampler.ended_early == f"the file ends early (decoded {sampler.duration_s:.1f} s of 10.0 s)"
    assert 3 < sampler.duration_s < 7


def test_a_video_that_starts_late_does_not_end_early(tmp_path: Path) -> None:
    times_ms = [5000 + 40 * i for i in range(50)]
    path = footage.write(tmp_path / "late.mkv", footage.shot(1, 50), times_ms=times_ms)
    assert FrameSampler(str(path), max_megapixels=1).ended_early is None


def test_equal_errors_have_equal_reasons() -> None:
    place = "[17:30:26] /project/src/video/ffmpeg/threaded_decoder.cc:292: "
    error = RuntimeError(f"{place}{place.replace('26', '27')}Check failed:\n no packet")
    assert decords_reason(error) == "Check failed: no packet"


def test_no_option_is_named_that_only_curate_has(plain_video: Path) -> None:
    with pytest.raises(BadVideo) as caught:
        FrameSampler(str(plain_video), max_megapixels=0.05)
    assert str(caught.value) == "frames of 320x180 px (0 megapixels) are over the limit of 0.05"
