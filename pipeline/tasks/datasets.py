"""How a sample is put in front of a model: its messages, pictures and videos as one engine request.

qwen_video shows videos as videos, through Qwen's own utilities; frames shows them as pictures in a row, for models that
know no videos; first_frame shows one picture; text shows none.
"""

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol, TypedDict

import numpy as np
from PIL import Image

from pipeline.errors import BadVideo, UserError, one_line
from pipeline.settings import VideoSettings
from pipeline.sources import local_file, open_file
from pipeline.tasks.registry import Messages, Sample, SampleTask, register_dataset
from pipeline.video.budget import PAIR, thinned, with_defaults
from pipeline.video.vision import Video, read_first, read_picture, read_video, see

# models of which vLLM drops the metadata that come with a video; the newer ones refuse to be told it twice
RATE_BESIDE = {"qwen2_vl", "qwen2_5_vl"}


class LlmInput(TypedDict):
    """What vLLM takes: pictures are RGB uint8 (height, width, 3), a video is a pair of uint8 (frames, height, width, 3)
    and its metadata (pipeline.video.vision.Video)."""

    prompt: str
    multi_modal_data: dict[str, list[Any]] | None
    mm_processor_kwargs: dict[str, Any] | None


Item = TypedDict("Item", {"__key": str, "raw": Sample, "llm_input": LlmInput})


class Chat(Protocol):
    """The model's chat template (pipeline.models.vlm.Chat)."""

    patch_px: int
    model_type: str

    def prompt(self, messages: Messages, *, images: int, videos: int) -> str: ...


class Dataset:
    """The base of the datasets: called with a sample's key and the sample, it gives the item that is sent.

    task: builds the messages. chat: the model's template; None where no prompt is needed. video: the budget.
    Raises BadVideo, with the reason, for a sample that cannot be shown; UserError never.
    """

    name = ""

    def __init__(self, task: SampleTask, chat: Chat | None, video: VideoSettings):
        self.task, self.chat, self.video = task, chat, video

    def __call__(self, key: str, sample: Sample) -> Item:
        assert self.chat is not None
        messages, images, videos = self.look(sample)
        media = {"image": images, "video": [(video.pictures, video.metadata) for video in videos]}
        prompt = self.chat.prompt(messages, images=len(images), videos=len(videos))
        return {
            "__key": key,
            "raw": sample,
            "llm_input": {
                "prompt": prompt,
                "multi_modal_data": {kind: shown for kind, shown in media.items() if shown} or None,
                "mm_processor_kwargs": self.processor_kwargs(videos),
            },
        }

    def look(self, sample: Sample) -> tuple[Messages, list[np.ndarray], list[Video]]:
        """The messages, and the pictures and videos that stand in them, in order."""
        messages = plain(self.task.build_messages(sample))
        with ExitStack() as files:
            parts = list(vision_parts(messages))
            for part in parts:
                part.update(with_defaults(part, self.video, len(parts)))
                _open(part, files)
            shown = self.show(messages)
        if len(shown[1]) > self.video.max_frames:  # engines hold room for so many
            raise BadVideo(
                f"{len(shown[1])} pictures in one sample, more than video.max_frames {self.video.max_frames}"
            )
        return shown

    def show(self, messages: Messages) -> tuple[Messages, list[np.ndarray], list[Video]]:
        """The same for messages whose files are local and whose parts have their budgets."""
        raise NotImplementedError

    def processor_kwargs(self, videos: list[Video]) -> dict[str, Any] | None:
        """What the model's processor must know of them."""
        return None


@register_dataset
class QwenVideo(Dataset):
    """Videos as videos, within their budgets, by qwen_vl_utils.process_vision_info."""

    name = "qwen_video"

    def show(self, messages: Messages) -> tuple[Messages, list[np.ndarray], list[Video]]:
        images, videos = see(messages, self.chat.patch_px if self.chat else 14)
        return messages, images, videos

    def processor_kwargs(self, videos: list[Video]) -> dict[str, Any] | None:
        """Frames are sampled and resized already. The frame rate gives the model its sense of time; without it 24 a
        second would be taken for granted. Two digits of it: vLLM keeps a processor for each value it meets."""
        if not videos:
            return None
        if len(videos) > 1:  # the older models take one frame rate a request
            raise BadVideo(f"{len(videos)} videos in one sample: the dataset `frames` shows them as pictures")
        done: dict[str, Any] = {"do_sample_frames": False, "do_resize": False}
        if self.chat is None or self.chat.model_type not in RATE_BESIDE:
            return done
        metadata = {"fps": float(f"{videos[0].fps:.2g}"), "total_num_frames": len(videos[0].pictures)}
        return {**done, "video_metadata": metadata}


class _Pictures(Dataset):
    """Videos as pictures: each part of a video becomes parts of pictures."""

    def show(self, messages: Messages) -> tuple[Messages, list[np.ndarray], list[Video]]:
        images: list[np.ndarray] = []
        for message in messages:
            if isinstance(message["content"], list):
                message["content"] = [shown for part in message["content"] for shown in self._part(part, images)]
        return messages, images, []

    def _part(self, part: dict[str, Any], images: list[np.ndarray]) -> Iterator[dict[str, Any]]:
        kind = kind_of(part)
        if kind is None:
            yield part
            return
        pictures = [read_picture(part)] if kind == "image" else self.of_video(part)
        images.extend(pictures)
        yield from ({"type": "image"} for _ in pictures)

    def of_video(self, part: dict[str, Any]) -> list[np.ndarray]:
        """The pictures that stand for a video, RGB uint8 (height, width, 3) each."""
        raise NotImplementedError


@register_dataset
class Frames(_Pictures):
    """Videos as their frames, each a picture, within the same budgets: for models that know no videos."""

    name = "frames"

    def of_video(self, part: dict[str, Any]) -> list[np.ndarray]:
        """Evenly spread."""
        as_pictures = {**part, "total_pixels": part["total_pixels"] // PAIR}  # each costs what two frames of a video do
        for name in {"nframes", "max_frames"} & part.keys():
            as_pictures[name] = min(float(part[name]), self.video.max_frames)
        return list(read_video(as_pictures).pictures)


@register_dataset
class FirstFrame(_Pictures):
    """The first frame of each video, as a picture."""

    name = "first_frame"

    def of_video(self, part: dict[str, Any]) -> list[np.ndarray]:
        """One."""
        return [read_first(part)]


@register_dataset
class Text(Dataset):
    """Texts alone: what the messages name is not opened."""

    name = "text"

    def look(self, sample: Sample) -> tuple[Messages, list[np.ndarray], list[Video]]:
        messages = plain(self.task.build_messages(sample))
        for message in messages:
            if isinstance(message["content"], list):
                message["content"] = [part for part in message["content"] if kind_of(part) is None]
        return messages, [], []


def kind_of(part: dict[str, Any]) -> str | None:
    """`image`, `video` or None for any other part of a message."""
    if part.get("type") == "text":
        return None
    named = {part.get("type"), *part}
    return next((kind for kind in ("image", "video") if named & {kind, f"{kind}_url"}), None)


def plain(messages: Messages) -> Messages:
    """The messages anew, each part in the one spelling {"type": kind, kind: ...}. Raises BadVideo for a part that is
    neither text, picture nor video."""
    return [
        {**message, "content": [_plain(part) for part in message["content"]]}
        if isinstance(message["content"], list)
        else dict(message)
        for message in messages
    ]


def _plain(part: Any) -> dict[str, Any]:
    kind = kind_of(part) if isinstance(part, dict) else None
    if kind:
        shown = part.get(kind) or part.get(f"{kind}_url")
        shown = shown.get("url") if isinstance(shown, dict) else shown  # OpenAI's spelling
        return {**{name: value for name, value in part.items() if name != f"{kind}_url"}, "type": kind, kind: shown}
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    raise BadVideo(f"a part of a message is neither text, image nor video: {str(part)[:100]}")


def vision_parts(messages: Messages) -> Iterator[dict[str, Any]]:
    """The parts that are pictures or videos, in order."""
    for message in messages:
        if isinstance(message["content"], list):
            yield from (part for part in message["content"] if kind_of(part) is not None)


def _open(part: dict[str, Any], files: ExitStack) -> None:
    """Have what the part names on this machine while `files` is open: decord reads no other. Raises BadVideo."""
    kind = kind_of(part) or ""
    if kind == "video" and isinstance(part["video"], list | tuple) and part["video"]:
        part["video"], part["sample_fps"] = thinned(part)  # what is not shown is not fetched
        part["video"] = [_local(frame, "image", files) for frame in part["video"]]
    else:
        part[kind] = _local(part[kind], kind, files)


def _local(shown: Any, kind: str, files: ExitStack) -> Any:
    if kind == "image" and isinstance(shown, Image.Image):
        return shown
    if not isinstance(shown, str) or not shown:
        raise BadVideo(f"the {kind} is no path: {str(shown)[:100]!r}")
    try:
        if kind == "image" and shown.startswith("data:"):
            return io.BytesIO(base64.b64decode(shown.partition("base64,")[2], validate=True))
        return files.enter_context(local_file(open_file(shown)))
    except UserError as error:  # a scheme that nobody knows
        raise BadVideo(str(error)) from error
    except binascii.Error as error:
        raise BadVideo(f"not a readable picture: {one_line(error)}") from error
