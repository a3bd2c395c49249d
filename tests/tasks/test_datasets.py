import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import BadVideo, UserError
from pipeline.models.vlm import filled
from pipeline.settings import VideoSettings
from pipeline.tasks import dataset, datasets, register_dataset, task
from pipeline.tasks.datasets import Dataset

SMALL = VideoSettings(max_frames=4, max_pixels=112 * 112, min_pixels=4 * 28 * 28)


class Chat:
    """Writes what it was asked to."""

    patch_px = 14
    model_type = "qwen2_5_vl"

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
    ((video, metadata),) = inputs["qwen_video"]["multi_modal_data"]["video"]
    assert video.shape == (4, 84, 140, 3)
    assert metadata["fps"] == pytest.approx(0.8)
    assert (metadata["total_num_frames"], metadata["frames_indices"]) == (4, [0, 1, 2, 3])
    assert inputs["qwen_video"]["mm_processor_kwargs"]["video_metadata"] == {"fps": 0.8, "total_num_frames": 4}
    assert len(inputs["frames"]["multi_modal_data"]["image"]) == 4
    assert inputs["text"]["multi_modal_data"] is None


def test_newer_models_are_told_a_videos_rate_with_it_and_not_twice(three_shots: Path) -> None:
    """vLLM 0.29 hands video_metadata to Qwen3-VL's processor beside its own, which then refuses the video."""

    class Qwen3(Chat):
        model_type = "qwen3_vl"

    shown = dataset("qwen_video")(task("describe"), Qwen3(), SMALL)("k", {"path": str(three_shots)})["llm_input"]
    assert shown["mm_processor_kwargs"] == {"do_sample_frames": False, "do_resize": False}
    assert shown["multi_modal_data"]["video"][0][1]["fps"] == pytest.approx(0.8)


class Both:
    """Shows a video twice."""

    name, dataset_name = "both", "frames"

    def build_messages(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        video = {"type": "video", "video": sample["path"]}
        return [{"role": "user", "content": [video, video, {"type": "text", "text": "Compare."}]}]

    def parse(self, text: str, sample: dict[str, Any]) -> str:
        return text


def test_several_videos_share_the_budget_of_their_sample(three_shots: Path) -> None:
    budget = VideoSettings(min_pixels=4 * 28 * 28, total_pixels=100 * 28 * 28)
    sample = {"path": str(three_shots)}
    pictures = dataset("frames")(Both(), Chat(), budget)("k", sample)["llm_input"]["multi_modal_data"]["image"]
    assert len(pictures) >= 8
    assert 50 * 28 * 28 < sum(p.shape[0] * p.shape[1] for p in pictures) <= budget.total_pixels
    with pytest.raises(BadVideo, match="2 videos in one sample: the dataset `frames`"):
        dataset("qwen_video")(Both(), Chat(), budget)("k", sample)


class Parts:
    """Shows these parts."""

    name, dataset_name = "parts", "qwen_video"

    def __init__(self, *parts: Any):
        self.parts = list(parts)

    def build_messages(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [*self.parts, {"type": "text", "text": "?"}]}]

    def parse(self, text: str, sample: dict[str, Any]) -> str:
        return text


def shown(name: str, video: VideoSettings, *parts: Any) -> Any:
    return dataset(name)(Parts(*parts), Chat(), video)("k", {})["llm_input"]


def test_pictures_are_never_more_than_an_engine_holds_room_for(three_shots: Path) -> None:
    budget, video = (
        VideoSettings(max_frames=8, fps=10, min_pixels=4 * 28 * 28),
        {"type": "video", "video": str(three_shots)},
    )
    for parts in ([video, video], [{**video, "max_frames": 90}], [{**video, "nframes": 100}]):
        assert len(shown("frames", budget, *parts)["multi_modal_data"]["image"]) == 8
    for parts in ([{**video, "nframes": 100}] * 2, [video] * 5):
        with pytest.raises(BadVideo, match=r"pictures in one sample, more than video\.max_frames 8"):
            shown("frames", budget, *parts)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (112, 84), (255, 0, 0)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.mark.parametrize("name", ["qwen_video", "frames", "first_frame"])
def test_pictures_in_every_form_that_qwens_utilities_take(picture: Path, name: str) -> None:
    data = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    forms = [
        {"type": "image", "image": str(picture)},
        {"type": "image", "image": f"file://{picture}"},
        {"type": "image", "image": Image.open(picture)},
        {"type": "image", "image": data},
        {"image": data},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": str(picture)},
    ]
    for part in forms:
        asked = shown(name, SMALL, part)
        assert asked["prompt"] == "1 0 image text"
        (image,) = asked["multi_modal_data"]["image"]
        assert image.shape == (84, 112, 3)
        assert tuple(image[40, 40]) == (255, 0, 0)


def test_a_video_may_be_a_list_of_frames(picture: Path) -> None:
    frames = [str(picture), Image.open(picture)] * 10
    video = {"type": "video", "video": frames, "sample_fps": 4.0}
    asked = shown("qwen_video", SMALL, video)
    assert asked["prompt"] == "0 1 video text"
    assert asked["multi_modal_data"]["video"][0][0].shape == (4, 84, 112, 3)
    assert asked["mm_processor_kwargs"]["video_metadata"] == {"fps": 0.8, "total_num_frames": 4}, "20 frames are 5 s"
    assert len(shown("frames", SMALL, video)["multi_modal_data"]["image"]) == 4
    assert len(shown("first_frame", SMALL, video)["multi_modal_data"]["image"]) == 1
    assert shown("qwen_video", SMALL, {"video": frames[:1]})["multi_modal_data"]["video"][0][0].shape[0] == 2


def test_a_video_url_is_a_video(three_shots: Path) -> None:
    part = {"type": "video_url", "video_url": {"url": str(three_shots)}}
    assert shown("qwen_video", SMALL, part)["prompt"] == "0 1 video text"


@pytest.mark.parametrize("name", ["qwen_video", "frames", "first_frame", "text"])
@pytest.mark.parametrize("part", [{"type": "audio", "audio": "a.wav"}, {"type": "text"}, {}, "text", None])
def test_a_part_that_is_nothing_of_these_is_refused(name: str, part: Any) -> None:
    with pytest.raises(BadVideo, match="neither text, image nor video"):
        shown(name, SMALL, part)


@pytest.mark.parametrize(
    "part", [{"video": []}, {"video": [3]}, {"image": "data:image/png;base64,?"}, {"image": "data:x"}, {"image": 3}]
)
def test_media_that_are_none_are_refused(part: dict[str, Any]) -> None:
    with pytest.raises(BadVideo):
        shown("qwen_video", SMALL, part)


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
