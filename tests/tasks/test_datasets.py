from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BadVideo, UserError
from pipeline.models.vlm import filled
from pipeline.settings import VideoSettings
from pipeline.tasks import dataset, datasets, register_dataset, task
from pipeline.tasks.datasets import Dataset

SMALL = VideoSettings(max_frames=4, max_pixels=112 * 112, min_pixels=28 * 28)


class Chat:
    """Writes what it was asked to."""

    patch_px = 14

    def prompt(self, messages: Any, *, images: int, videos: int) -> str:
        kinds = [part["type"] for message in messages for part in message["content"]]
        return f"{images} {videos} {' '.join(kinds)}"


def item(name: str, sample: dict[str, Any]) -> Any:
    return dataset(name)(task("describe"), Chat(), SMALL)("k", sample)


def test_the_same_sample_as_video_pictures_one_picture_and_text(three_shots: Path) -> None:
    sample = {"path": str(three_shots), "meta": {"a": 1}}
    shown = {name: item(name, sample) for name in ("qwen_video", "frames", "first_frame", "text")}
    for each in shown.values():
        assert set(each) == {"__key", "raw", "llm_input"}
        assert (each["__key"], each["raw"]) == ("k", sample)
        assert set(each["llm_input"]) == {"prompt", "multi_modal_data", "mm_processor_kwargs"}
    inputs = {name: each["llm_input"] for name, each in shown.items()}
    assert {name: each["prompt"] for name, each in inputs.items()} == {
        "qwen_video": "0 1 video text",
        "frames": "4 0 image image image image text",
        "first_frame": "1 0 image text",
        "text": "0 0 text",
    }
    (video,) = inputs["qwen_video"]["multi_modal_data"]["video"]
    assert video.shape == (4, 84, 140, 3)
    assert inputs["qwen_video"]["mm_processor_kwargs"]["video_metadata"] == {"fps": 0.8, "total_num_frames": 4}
    assert len(inputs["frames"]["multi_modal_data"]["image"]) == 4
    assert inputs["text"]["multi_modal_data"] is None


class Both:
    """Shows a video twice."""

    name, dataset_name = "both", "frames"

    def build_messages(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        video = {"type": "video", "video": sample["path"]}
        return [{"role": "user", "content": [video, video, {"type": "text", "text": "Compare."}]}]

    def parse(self, text: str, sample: dict[str, Any]) -> str:
        return text


def test_several_videos_share_the_budget_of_their_sample(three_shots: Path) -> None:
    budget = VideoSettings(min_pixels=28 * 28, total_pixels=100 * 28 * 28)
    sample = {"path": str(three_shots)}
    pictures = dataset("frames")(Both(), Chat(), budget)("k", sample)["llm_input"]["multi_modal_data"]["image"]
    assert len(pictures) >= 8
    assert 50 * 28 * 28 < sum(p.shape[0] * p.shape[1] for p in pictures) <= budget.total_pixels
    with pytest.raises(BadVideo, match="2 videos in one sample: the dataset `frames`"):
        dataset("qwen_video")(Both(), Chat(), budget)("k", sample)


def test_a_sample_without_a_file_is_text(tmp_path: Path) -> None:
    for name in datasets():
        assert item(name, {"prompt": "Why?"})["llm_input"]["prompt"] == "0 0 text"


def test_a_bad_file_says_why(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.mp4", "no such file"), (tmp_path / "none.png", "no such file")):
        with pytest.raises(BadVideo, match=said):
            item("qwen_video", {"path": str(path)})
    with pytest.raises(BadVideo, match="nowhere"):
        item("frames", {"path": "nowhere://a.mp4"})


def test_a_dataset_of_ones_own_is_registered_once() -> None:
    with pytest.raises(UserError, match="'text' is registered twice"):
        register_dataset("text")(type("Mine", (Dataset,), {}))
    with pytest.raises(UserError, match="no dataset 'txt'"):
        dataset("txt")


def test_pictures_stand_where_the_video_stood() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "video", "video": "v"}, {"type": "text", "text": "b"}]
    (message,) = filled([{"role": "user", "content": content}], [[b"1", b"2"]])
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "image_url", "text"]
    assert filled([{"role": "system", "content": "s"}], []) == [{"role": "system", "content": "s"}]
