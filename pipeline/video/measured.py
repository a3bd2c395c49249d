"""From frame times, cuts and samples to measured clips: what the dense and the sparse pass share."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.clips import Span, Windower
from pipeline.video.decode import VideoInfo
from pipeline.video.frames import Picture, Sample, Sampler, jpeg, pick
from pipeline.video.quality import Quality, measure
from pipeline.video.transitions import TransitionFinder

TIME_TOLERANCE_S = 1e-3  # 24 frames at 24 fps are 1 s, whatever the time base rounds them to
MOTION_PAIRS = 4  # at most so many pairs of frames in a clip have their motion measured (count)


@dataclass(frozen=True)
class Clip:
    """A span of the video `info`. `reason` is why it is rejected, `error` why it failed; with neither it is fit to go
    on, and `frames` holds its pictures as JPEG bytes. quality: None where the verdict is known without measuring."""

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


class ClipMaker:
    """Takes what a pass sees, in order of time, and hands out clips as their spans become known.

    With split.trim_transitions, a dissolve or fade becomes a span of its own, rejected as `transition`: so the clips on
    both sides are free of it, and the spans still tile the video. For that, frame times wait until what is decoded
    after them has settled whether they are in one.
    Memory: the frames of one clip (see Sampler) and the frame times of the longest clip.
    """

    def __init__(self, shots: SplitSettings, frames: FrameSettings, quality: QualitySettings):
        self._shots, self._frames, self._quality = shots, frames, quality
        self._windower = Windower(shots.min_clip_s, shots.max_clip_s)
        gaps = shots.detector == "sparse"
        coarse = gaps and frames.timing == "near-key"
        self._sampler = Sampler(frames.per_clip, shots.min_clip_s, shots.max_clip_s, gaps=gaps, coarse=coarse)
        self.stretch_s, self.least_gap_s = self._sampler.stretch_s, self._sampler.least_gap_s  # see there
        self._damaged_s: deque[float] = deque()
        self._finder = TransitionFinder() if shots.trim_transitions and shots.detector != "transnetv2" else None
        self._waiting: deque[tuple[float, bool]] = deque()  # frames: time (s), starts a shot
        self._transitions: deque[tuple[float, float]] = deque()  # [start, end) in s, until no clip can be in them
        self._was_inside = False  # was the last frame handed on inside a transition?

    def sample(self, time_s: float, gray: np.ndarray, picture: Picture, *, new: bool = False) -> None:
        """A decoded frame: its time (s), its gray thumbnail (uint8), and a way to make its picture (BGR uint8).

        new: it shows something new, so that it may be the only frame of a shot that is ever offered.
        """
        self._sampler.offer(time_s, gray, picture, new=new)
        if self._finder:
            self._finder.push(time_s, gray)

    @property
    def clip_start_s(self) -> float:
        """Where the last clip starts that frames settled so far and transitions found so far tell of (s)."""
        found = self._finder.found if self._finder else ()
        return max([self._windower.start_s, *(end_s for _, end_s in (*self._transitions, *found))])

    def is_short_of_pictures(self, start_s: float, end_s: float) -> bool:
        """Has a clip [start_s, end_s) fewer pictures so far than are wanted of it?"""
        return self._sampler.count(start_s, end_s) < self._frames.per_clip

    def transition(self, start_s: float, end_s: float) -> None:
        """The frames in [start_s, end_s) are a transition; to be told before `frame` is called for them."""
        if self._shots.trim_transitions:
            self._transitions.append((start_s, end_s))

    def skip(self) -> None:
        """Frames before the next sample were not decoded."""
        self._sampler.skip()

    def damaged(self, time_s: float) -> None:
        """The frame at time_s is damaged: the clip it falls in fails."""
        self._damaged_s.append(time_s)

    def frame(self, time_s: float, starts_shot: bool, info: VideoInfo) -> Iterator[Clip]:
        """The next frame of the video, decoded or not: its time (s) and whether a shot starts with it."""
        self._waiting.append((time_s, starts_shot))
        if starts_shot and self._finder:
            self._finder.cut(time_s)
        while self._waiting and (self._finder is None or self._waiting[0][0] < self._finder.settled_s):
            for span in self._release():
                yield self._clip(span, info)

    def finish(self, end_s: float, ended_early: str | None, info: VideoInfo) -> Iterator[Clip]:
        """The clips still open when the video ends at end_s; `ended_early` fails the last."""
        if self._finder:
            self._finder.end(end_s)
        spans = [span for _ in range(len(self._waiting)) for span in self._release()]
        spans += self._windower.flush(end_s)
        for i, span in enumerate(spans):
            yield self._clip(span, info, error=ended_early if i == len(spans) - 1 else None)

    def _release(self) -> list[Span]:
        """Hand on the frame that waited longest; a transition starts and ends a span, and hides cuts inside it."""
        time_s, starts_shot = self._waiting.popleft()
        found = self._finder.found if self._finder else deque()
        while found and found[0][0] <= time_s:
            self._transitions.append(found.popleft())
        inside = self._inside(time_s)
        starts = inside != self._was_inside or (starts_shot and not inside)
        self._was_inside = inside
        return self._windower.push(time_s, starts)

    def _inside(self, time_s: float) -> bool:
        return any(start_s <= time_s < end_s for start_s, end_s in self._transitions)

    def _clip(self, span: Span, info: VideoInfo, error: str | None = None) -> Clip:
        """The clip of a span. Its pictures are made and measured only if the verdict hangs on them."""
        samples = self._sampler.take(span.start_s, span.end_s)
        error = error or self._damage(span)
        reason = None if error else self._unfit(span, samples)
        while self._transitions and self._transitions[0][1] <= span.end_s - self._shots.max_clip_s:
            self._transitions.popleft()
        if error or reason:
            return Clip(info, span, None, reason, error, [])
        pairs = [sample.motion for sample in samples if sample.motion is not None and sample.motion.gap_s > 0]
        pairs = pairs[:: -(-len(pairs) // MOTION_PAIRS) or 1]
        pictures = [sample.picture() for sample in pick(samples, self._frames.per_clip, span.start_s, span.end_s)]
        quality = measure(pictures, pairs)
        reason = rejection(quality, self._quality)
        jpegs = [] if reason else [jpeg(picture, self._frames.jpeg_quality) for picture in pictures]
        return Clip(info, span, quality, reason, None, jpegs)

    def _damage(self, span: Span) -> str | None:
        inside = 0
        while self._damaged_s and self._damaged_s[0] < span.end_s:
            inside += self._damaged_s.popleft() >= span.start_s
        return f"{inside} damaged frame{'s' if inside > 1 else ''}" if inside else None

    def _unfit(self, span: Span, samples: list[Sample]) -> str | None:
        """Why a clip is rejected whatever it shows."""
        if self._inside(span.start_s):
            return "transition"
        if span.end_s - span.start_s < self._shots.min_clip_s - TIME_TOLERANCE_S:
            return "too_short"
        return None if samples else "no_picture"


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
