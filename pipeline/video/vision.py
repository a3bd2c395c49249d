"""The pictures and videos of chat messages, within their budgets. What depends on qwen_vl_utils stands here."""

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import BadVideo, one_line
from pipeline.settings import SplitSettings
from pipeline.video.budget import count_frames, frame_pixels, frame_size, thinned
from pipeline.video.sampling import FrameSampler

MAX_MEGAPIXELS = SplitSettings().max_megapixels  # larger frames and pictures are refused unopened
ONE_STEP = 2  # a picture's budget is that of a video of two frames, which is one step of time
FACTOR_PX = 28  # sides are multiples of this unless the model's patches say otherwise


@dataclass(frozen=True)
class Video:
    """Frames at even distances: RGB uint8 (frames, height, width, 3), fps of them a second."""

    pictures: np.ndarray
    fps: float

    @property
    def metadata(self) -> dict[str, Any]:
        """In the terms of vLLM and transformers, of the frames as they are: each shown at its index / fps."""
        count = len(self.pictures)
        told = {"fps": self.fps, "total_num_frames": count, "frames_indices": list(range(count))}
        return {**told, "duration": count / self.fps, "do_sample_frames": False}


def read_video(part: dict[str, Any], factor: int = FACTOR_PX) -> Video:
    """The frames of a message's part {"video": local path, fps or nframes, video_start, video_end (seconds), ...}, or
    {"video": [pictures as in read_picture], sample_fps, ...}.

    One frame is held at full size at a time, so memory is bounded by the budget. Raises BadVideo.
    """
    if isinstance(part["video"], list):
        frames, fps = thinned(part)
        size = frame_size(*open_picture(frames[0]).size, factor, *frame_pixels(part, len(frames)))
        return Video(np.stack([_resized(open_picture(frame), size) for frame in frames]), fps)
    sampler = FrameSampler(part["video"], max_megapixels=MAX_MEGAPIXELS)
    start_s = min(max(float(part.get("video_start") or 0.0), 0.0), sampler.duration_s)
    end = part.get("video_end")
    if sampler.ended_early and (end is None or float(end) > sampler.duration_s):
        raise BadVideo(sampler.ended_early)
    end_s = min(float(end), sampler.duration_s) if end is not None else sampler.duration_s
    if end_s <= start_s:
        raise BadVideo(f"nothing between video_start {start_s:g} s and video_end {end_s:g} s")
    inside = int(np.count_nonzero((sampler.times_s >= start_s) & (sampler.times_s < end_s)))
    frames = count_frames(part, max(1, inside), end_s - start_s)
    step_s = (end_s - start_s) / frames
    size = frame_size(sampler.width, sampler.height, factor, *frame_pixels(part, frames))
    indices = sampler.shown_at([start_s + step_s * (i + 0.5) for i in range(frames)])
    return Video(np.stack(list(_pictures(sampler, indices, *size))), 1 / step_s)


def _pictures(sampler: FrameSampler, indices: Iterable[int], width: int, height: int) -> Iterator[np.ndarray]:
    last, picture = None, None
    for index in indices:
        if index != last or picture is None:
            last, picture = index, sampler.picture(index, width, height)
        yield picture


def read_first(part: dict[str, Any], factor: int = FACTOR_PX) -> np.ndarray:
    """The first frame of a message's video part as RGB uint8 (height, width, 3). Raises BadVideo."""
    if isinstance(part["video"], list):
        return read_picture({**part, "image": part["video"][0]}, factor)
    sampler = FrameSampler(part["video"], max_megapixels=MAX_MEGAPIXELS)
    size = frame_size(sampler.width, sampler.height, factor, *frame_pixels(part, ONE_STEP))
    return sampler.picture(0, *size)


def read_picture(part: dict[str, Any], factor: int = FACTOR_PX) -> np.ndarray:
    """A message's picture part {"image": local path, open file or PIL image, ...} as RGB uint8 (height, width, 3).
    Raises BadVideo."""
    picture = open_picture(part["image"])
    return _resized(picture, frame_size(*picture.size, factor, *frame_pixels(part, ONE_STEP)))


def _resized(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def open_picture(source: str | BinaryIO | Image.Image) -> Image.Image:
    """A picture, upright, in RGB. Raises BadVideo."""
    try:
        with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as image:
            if image.width * image.height > MAX_MEGAPIXELS * 1e6:
                raise BadVideo(f"a picture of {image.width}x{image.height} px is over {MAX_MEGAPIXELS:g} megapixels")
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise BadVideo("no such file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else one_line(error)
        raise BadVideo(f"not a readable picture: {reason}") from error


def see(messages: list[dict[str, Any]], patch_px: int) -> tuple[list[np.ndarray], list[Video]]:
    """qwen_vl_utils.process_vision_info, with files read as everywhere here: its own readers hold every frame at full
    size, answer a broken file with another reader's error, and know no variable frame rate. Raises BadVideo."""
    os.environ.setdefault("FORCE_QWENVL_VIDEO_READER", "decord")
    import qwen_vl_utils.vision_process

    vision_process: Any = qwen_vl_utils.vision_process  # its annotations are not those of what it takes and gives
    factor = patch_px * vision_process.SPATIAL_MERGE_SIZE

    def hand_over(part: dict[str, Any]) -> tuple[Any, dict[str, Any], float]:
        import torch

        video: Video = part["read"]
        return torch.from_numpy(video.pictures).permute(0, 3, 1, 2), video.metadata, video.fps

    for name in vision_process.VIDEO_READER_BACKENDS:
        vision_process.VIDEO_READER_BACKENDS[name] = hand_over
    for part in (part for message in messages if isinstance(message["content"], list) for part in message["content"]):
        if "image" in part:
            picture = read_picture(part, factor)
            part.update(image=Image.fromarray(picture), resized_height=picture.shape[0], resized_width=picture.shape[1])
        elif "video" in part:
            video = read_video(part, factor)
            height, width = video.pictures.shape[1:3]  # as it is: the budget was met while reading
            part.update(read=video, video="read", resized_height=height, resized_width=width)
    images, videos = vision_process.process_vision_info(messages, return_video_metadata=True, image_patch_size=patch_px)
    return (
        [np.asarray(image) for image in images or ()],
        [Video(frames.permute(0, 2, 3, 1).byte().numpy(), metadata["fps"]) for frames, metadata in videos or ()],
    )
