"""One video: shots -> clips -> quality and frames, by the sparse pass or the dense one.

Memory is bounded by the longest clip and, in the sparse pass, the longest group of pictures.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.decode import VideoReader
from pipeline.video.images import Images
from pipeline.video.measured import TIME_TOLERANCE_S, Clip, ClipMaker, SplitDone, rejection
from pipeline.video.shots import CutDetector, CutThresholds
from pipeline.video.sparse import sparse_clips

__all__ = ["Clip", "SplitDone", "rejection", "split"]


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
    early end fails the last clip and is told in SplitDone.error. The sparse pass sees damage only in what it decodes.
    """
    maker = ClipMaker(shots, frames, quality)
    shortest_s = shots.min_clip_s - TIME_TOLERANCE_S
    with VideoReader(source, max_megapixels=shots.max_megapixels, threads=threads) as reader:
        sparse = sparse_clips(source, reader, maker, shots, frames) if shots.detector == "sparse" else None
        held: list[Clip] = []  # until the video is known to be long enough to have clips at all
        for clip in dense_clips(reader, maker, shots, frames) if sparse is None else sparse:
            held.append(clip)
            if clip.span.end_s >= shortest_s:
                yield from held
                held.clear()
        # the container may declare none, or a wrong one: what was read is the duration
        info = replace(reader.info, duration_s=reader.end_s)
        if reader.end_s < shortest_s:
            yield SplitDone(info, reader.ended_early, f"{reader.end_s:.2f} s long, shorter than the shortest clip")
            return
        yield from held
        yield from maker.finish(reader.end_s, reader.ended_early, reader.info)
        yield SplitDone(info, reader.ended_early, None)


def dense_clips(reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings) -> Iterator[Clip]:
    """Decode and compare every frame: the reference that the sparse pass is measured against."""
    detector = CutDetector(CutThresholds(shots.min_change, shots.min_change_ratio))
    images = Images(frames.max_side_px)
    undecided: deque[float] = deque()
    for frame in reader.frames():
        info = reader.info
        thumb = images.thumbnail(frame.image)
        maker.sample(frame.time_s, thumb[:, :, 2], images.later(frame.image, frame.quarter_turns, reader))
        if frame.damaged:
            maker.damaged(frame.time_s)
        undecided.append(frame.time_s)
        for starts_shot in detector.push(thumb):
            yield from maker.frame(undecided.popleft(), starts_shot, info)
    for starts_shot in detector.flush():
        yield from maker.frame(undecided.popleft(), starts_shot, reader.info)
