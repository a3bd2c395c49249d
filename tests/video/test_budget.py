import itertools

import numpy as np
import pytest

from pipeline.errors import BadVideo
from pipeline.settings import VideoSettings
from pipeline.video.budget import count_frames, frame_pixels, frame_size, with_defaults
from pipeline.video.sampling import FrameSampler
from pipeline.video.vision import read_first, read_picture, read_video, see
from tests import footage

DEFAULT = VideoSettings()


def part(**own):
    return with_defaults({"video": "x.mp4", **own}, DEFAULT, 1)


def test_a_part_keeps_its_own_budget_and_gets_the_rest_from_the_settings():
    mine = part(max_pixels=50_000)
    assert (mine["max_pixels"], mine["fps"]) == (50_000, DEFAULT.fps)
    assert "fps" not in part(nframes=6), "both would contradict each other"


@pytest.mark.parametrize(
    ("own", "available", "duration_s", "frames"),
    [
        ({}, 250, 10.0, 20),  # 2 a second
        ({}, 25, 1.0, 4),  # min_frames
        ({}, 1_000_000, 40_000.0, 64),  # max_frames, however long it is
        ({}, 3, 0.1, 2),  # no more than there are, and even
        ({}, 1, 0.04, 2),  # one frame stands twice
        ({"fps": 0.5}, 250, 10.0, 4),
        ({"nframes": 7}, 250, 10.0, 6),
        ({"nframes": 1000}, 250, 10.0, 96),  # 3072 tokens hold no more at the smallest size
        ({"total_pixels": 8 * 64 * 28 * 28}, 250, 10.0, 16),
    ],
)
def test_the_number_of_frames(own, available, duration_s, frames):
    assert count_frames(part(**own), available, duration_s) == frames


def test_any_video_fits_its_total_and_no_shape_is_refused():
    sides = [2, 31, 240, 720, 1080, 2160, 8000]
    for width, height, seconds in itertools.product(sides, sides, (0.04, 3, 60, 36_000)):
        own = part()
        frames = count_frames(own, int(seconds * 25), seconds)
        columns, rows = frame_size(width, height, 28, *frame_pixels(own, frames))
        assert columns % 28 == rows % 28 == 0
        assert columns * rows * frames / 2 <= own["total_pixels"]
        assert columns * rows <= own["max_pixels"]


def test_the_aspect_ratio_is_kept():
    columns, rows = frame_size(1920, 1080, 28, 784, 602_112)
    assert columns / rows == pytest.approx(16 / 9, rel=0.04)


def test_frames_of_a_variable_frame_rate_are_those_on_screen(tmp_path):
    pictures = [np.full((64, 64, 3), level, np.uint8) for level in (0, 80, 160, 240)]
    path = footage.write(tmp_path / "vfr.mp4", pictures, times_ms=[0, 100, 200, 3000])
    sampler = FrameSampler(str(path), max_megapixels=1)
    assert sampler.shown_at([0, 0.15, 0.2, 1.7, 2.999, 3.0, 9.0]) == [0, 1, 2, 2, 2, 3, 3]
    video = read_video(part(video=str(path), nframes=4))
    assert [round(float(p.mean()) / 80) for p in video.pictures] == [2, 2, 2, 2], "at 0.4, 1.2, 1.9 and 2.7 s"
    assert video.pictures.dtype == np.uint8


def test_qwens_own_utilities_get_the_frames_as_they_are(three_shots, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((100, 300, 3), np.uint8))
    content = [part(video=str(three_shots)), with_defaults({"image": str(tmp_path / "p.png")}, DEFAULT, 1)]
    wanted, picture = read_video(content[0]), read_picture(content[1])
    images, videos = see([{"role": "user", "content": content}], 14)
    assert np.array_equal(videos[0].pictures, wanted.pictures)
    assert videos[0].fps == wanted.fps == pytest.approx(2.0)
    assert np.array_equal(images[0], picture)


def test_a_part_of_a_video_is_not_shown_as_the_whole(tmp_path):
    path = footage.write(tmp_path / "t.mkv", footage.shot(1, 250), sound=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for asked in ({}, {"video_end": 9.0}):
        with pytest.raises(BadVideo, match="the file ends early"):
            read_video(part(video=str(path), **asked))
    assert len(read_video(part(video=str(path), video_end=2.0, nframes=4)).pictures) == 4, "what is there is there"
    assert read_first(part(video=str(path))).ndim == 3


def test_what_is_no_video_says_why(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    for name, said in (("a.mp4", "not a readable video"), ("none.mp4", "no such file")):
        with pytest.raises(BadVideo, match=said):
            read_video(part(video=str(tmp_path / name)))
    with pytest.raises(BadVideo, match="not a readable picture"):
        read_picture({"image": str(tmp_path / "a.mp4")})
