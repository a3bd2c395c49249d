"""One pass over one video: shots -> clips -> quality and frames. Memory is bounded by the longest clip."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.clips import Span, Windower
from pipeline.video.decode import TimedFrame, VideoInfo, VideoReader
from pipeline.video.frames import Sampler, jpeg, pick
from pipeline.video.quality import Quality, measure
from pipeline.video.shots import CutDetector, CutThresholds, thumbnail

TIME_TOLERANCE_S = 1e-3  # 24 frames at 24 fps are 1 s, whatever the time base rounds them to
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
PLANAR_8BIT = {f"{kind}{sampling}p" for kind in ("yuv", "yuvj") for sampling in (420, 422, 444, 440, 411)}


@dataclass(frozen=True)
class Clip:
    """A span of the video `info`, measured. `reason` is why it is rejected, `error` why it failed; with neither it is
    fit to go on, and `frames` holds its pictures as JPEG bytes."""

    info: VideoInfo
    span: Span
    quality: Quality | None
    reason: str | None
    error: str | None
    frames: list[bytes]


@dataclass(frozen=True)
class SplitDone:
    """Comes after the last clip: what the video is, why it is not whole if it is not, or why it has no clips."""

    info: VideoInfo
    error: str | None
    no_clips: str | None


def split(
    source: str | BinaryIO,
    *,
    shots: SplitSettings,
    frames: FrameSettings,
    quality: QualitySettings,
    threads: int = 1,
) -> Iterator[Clip | SplitDone]:
    """Clips of one video in order, as soon as each is complete; SplitDone at the end.

    The spans tile the video from its first frame to its last; a video that is as a whole shorter than the shortest clip
    has none. source: a local path or a seekable binary file object.
    Raises BadVideo when the video cannot be opened or holds no frame. Damage further in fails the clip it falls in; an
    early end fails the last clip and is told in SplitDone.error.
    """
    with VideoReader(source, max_megapixels=shots.max_megapixels, threads=threads) as reader:
        cutter = _Cutter(shots, frames, quality)
        held: list[Clip] = []  # until the video is long enough to have clips at all
        for frame in reader.frames():
            held += cutter.push(frame, reader.info)
            if reader.end_s >= shots.min_clip_s - TIME_TOLERANCE_S:
                yield from held
                held.clear()
        # the container may declare none, or a wrong one: what was decoded is the duration
        info = replace(reader.info, duration_s=reader.end_s)
        if reader.end_s < shots.min_clip_s - TIME_TOLERANCE_S:
            error = reader.ended_early
            yield SplitDone(info, error, f"{reader.end_s:.2f} s long, shorter than the shortest clip")
            return
        yield from cutter.flush(reader.end_s, reader.ended_early)
        yield SplitDone(info, reader.ended_early, None)


class _Cutter:
    """The state of one pass: a detector that answers two frames late, and what was seen since the last clip ended."""

    def __init__(self, shots: SplitSettings, frames: FrameSettings, quality: QualitySettings):
        self._shots, self._frames, self._quality = shots, frames, quality
        self._detector = CutDetector(CutThresholds(shots.min_change, shots.min_change_ratio))
        self._windower = Windower(shots.min_clip_s, shots.max_clip_s)
        self._sampler = Sampler(frames.per_clip, shots.min_clip_s)
        self._undecided: deque[float] = deque()
        self._damaged_s: deque[float] = deque()
        self._reformat = VideoReformatter()
        self._info: VideoInfo | None = None

    def push(self, frame: TimedFrame, info: VideoInfo) -> Iterator[Clip]:
        self._info = info
        thumb = self._thumbnail(frame.image)
        self._sampler.offer(frame.time_s, thumb[:, :, 2], lambda: self._picture(frame, info))
        self._undecided.append(frame.time_s)
        if frame.damaged:
            self._damaged_s.append(frame.time_s)
        for starts_shot in self._detector.push(thumb):
            for span in self._windower.push(self._undecided.popleft(), starts_shot):
                yield self._clip(span)

    def flush(self, end_s: float, ended_early: str | None) -> Iterator[Clip]:
        spans: list[Span] = []
        for starts_shot in self._detector.flush():
            spans += self._windower.push(self._undecided.popleft(), starts_shot)
        spans += self._windower.flush(end_s)
        for i, span in enumerate(spans):
            yield self._clip(span, error=ended_early if i == len(spans) - 1 else None)

    def _clip(self, span: Span, error: str | None = None) -> Clip:
        samples = self._sampler.take(span.start_s, span.end_s)
        chosen = pick(samples, self._frames.per_clip, span.start_s, span.end_s) if samples else []
        pairs = [sample.motion for sample in samples if sample.motion is not None and sample.motion.gap_s > 0]
        quality = measure([sample.picture for sample in chosen], pairs[:: max(1, len(pairs) // 8)]) if chosen else None
        error = error or self._damage(span)
        reason = None if error else self._reason(span, quality)
        fit = not (error or reason)
        assert self._info is not None
        return Clip(
            self._info,
            span,
            quality,
            reason,
            error,
            [jpeg(s.picture, self._frames.jpeg_quality) for s in chosen] if fit else [],
        )

    def _damage(self, span: Span) -> str | None:
        inside = 0
        while self._damaged_s and self._damaged_s[0] < span.end_s:
            inside += self._damaged_s.popleft() >= span.start_s
        return f"{inside} damaged frame{'s' if inside > 1 else ''}" if inside else None

    def _reason(self, span: Span, quality: Quality | None) -> str | None:
        if span.end_s - span.start_s < self._shots.min_clip_s - TIME_TOLERANCE_S:
            return "too_short"
        return rejection(quality, self._quality) if quality else "no_picture"

    def _thumbnail(self, image: av.VideoFrame) -> np.ndarray:
        if image.format.name not in PLANAR_8BIT:
            image = self._reformat.reformat(image, format="yuv420p")
        planes = [_plane(image, i) for i in range(3)]
        full_range = image.color_range == FULL_RANGE or image.format.name.startswith("yuvj")
        return thumbnail((planes[0], planes[1], planes[2]), full_range=full_range)

    def _picture(self, frame: TimedFrame, info: VideoInfo) -> np.ndarray:
        width, height = _fit(info.width, info.height, self._frames.max_side_px)
        if frame.quarter_turns % 2:
            width, height = height, width
        small = self._reformat.reformat(
            frame.image, width=width, height=height, format="bgr24", interpolation=Interpolation.BILINEAR
        )
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), frame.quarter_turns))


def rejection(quality: Quality, limits: QualitySettings) -> str | None:
    """The first limit a clip does not meet, as the reason that goes into the table."""
    if quality.brightness < limits.min_brightness:
        return "too_dark"
    if quality.brightness > limits.max_brightness:
        return "too_bright"
    if quality.contrast < limits.min_contrast:
        return "low_contrast"
    if quality.sharpness < limits.min_sharpness:
        return "blurry"
    if quality.motion < limits.min_motion:
        return "static"
    return None


def _plane(image: av.VideoFrame, index: int) -> np.ndarray:
    """One 8-bit plane as an array (height, width), without copying."""
    plane = image.planes[index]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _fit(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The size (px) with the same aspect ratio whose longer side is at most max_side."""
    scale = min(1.0, max_side / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
