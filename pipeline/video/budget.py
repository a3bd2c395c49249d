"""Pixel and frame budgets of whole videos, in the terms of Qwen's own utilities: arithmetic that never refuses."""

import math
from typing import Any

from pipeline.settings import VideoSettings

PAIR = 2  # frames that the model merges into one step of time
MAX_RATIO = 200  # longer side to shorter; the model's own resize refuses more


def with_defaults(part: dict[str, Any], settings: VideoSettings, parts: int) -> dict[str, Any]:
    """A vision part of a message with the settings' budget where it brings none of its own; the sample's total_pixels
    and max_frames are shared by all of its vision parts (count)."""
    budget = settings.model_dump()
    budget["total_pixels"] //= parts
    budget["max_frames"] = max(PAIR, budget["max_frames"] // parts)
    if "nframes" in part:
        del budget["fps"], budget["min_frames"], budget["max_frames"]
    return {**budget, **part}


def count_frames(part: dict[str, Any], available: int, duration_s: float) -> int:
    """How many frames to take of a video or span of so many frames and seconds: even, at least 2, and no more than its
    total_pixels hold at min_pixels a frame. More than there are when there is only one, which then stands twice."""
    if "nframes" in part:
        wanted = float(part["nframes"])
    else:
        wanted = max(duration_s * part["fps"], part["min_frames"])
        wanted = min(wanted, part["max_frames"])
    most = min(available, PAIR * part["total_pixels"] / part["min_pixels"])
    return max(PAIR, PAIR * math.floor(min(wanted, most) / PAIR))


def thinned(part: dict[str, Any]) -> tuple[list[Any], float]:
    """Of a video that comes as a list of frames, those that its budget holds, evenly spread from the first to the last,
    and how many of them are a second. sample_fps says it of the list; 2 is what Qwen's utilities take for granted."""
    frames, fps = part["video"], float(part.get("sample_fps") or 2.0)
    count = count_frames({**part, "fps": fps}, len(frames), len(frames) / fps)
    last = len(frames) - 1
    return [frames[round(last * i / (count - 1))] for i in range(count)], fps * count / len(frames)


def frame_pixels(part: dict[str, Any], frames: int) -> tuple[int, int]:
    """(min_pixels, max_pixels) of each of so many frames, the larger bound as the total allows."""
    share = part["total_pixels"] * PAIR / frames
    most = max(int(min(part["max_pixels"], share)), 28 * 28)
    return min(int(part["min_pixels"]), most), most


def frame_size(width: int, height: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(width, height): multiples of `factor` pixels within the bounds, as near to the aspect ratio as can be."""
    short = max(min(width, height), math.ceil(max(width, height) / MAX_RATIO))
    width, height = max(width, short), max(height, short)
    scale = 1.0
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
    elif width * height < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
    columns, rows = (max(1, round(side * scale / factor)) for side in (width, height))
    while columns * rows * factor**2 > max_pixels and columns * rows > 1:
        if columns >= rows:
            columns -= 1
        else:
            rows -= 1
    return columns * factor, rows * factor
