"""One video: shots -> clips -> quality and frames, by the sparse pass, the dense one or the network.

Memory is bounded by the longest clip and, in the sparse pass, the longest group of pictures.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.decode import VideoReader
from pipeline.video.dense import dense_clips
from pipeline.video.images import Images
from pipeline.video.measured import TIME_TOLERANCE_S, Clip, ClipMaker, SplitDone, rejection
from pipeline.video.shot_network import SIZE_PX, ShotEnds, ShotNetwork
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
    early end fails the last clip and is told in SplitDone.error; so does split.max_seconds_per_video, not counting the
    time that clips wait to be taken. The sparse pass sees damage only in what it decodes.
    """
    maker = ClipMaker(shots, frames, quality)
    shortest_s = shots.min_clip_s - TIME_TOLERANCE_S
    with VideoReader(source, max_megapixels=shots.max_megapixels, threads=threads) as reader:
        reader.allow(shots.max_seconds_per_video)
        held: list[Clip] = []  # until the video is known to be long enough to have clips at all
        for clip in _clips(source, reader, maker, shots, frames, threads):
            held.append(clip)
            if clip.span.end_s >= shortest_s:
                with reader.paused():  # whoever takes the clips may make us wait for long
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


def _clips(
    source: str | BinaryIO,
    reader: VideoReader,
    maker: ClipMaker,
    shots: SplitSettings,
    frames: FrameSettings,
    threads: int,
) -> Iterator[Clip]:
    if shots.detector == "transnetv2":
        return network_clips(reader, maker, frames, ShotNetwork(threads))
    sparse = sparse_clips(source, reader, maker, shots, frames) if shots.detector == "sparse" else None
    return dense_clips(reader, maker, shots, frames) if sparse is None else sparse


def network_clips(reader: VideoReader, maker: ClipMaker, frames: FrameSettings, network: ShotNetwork) -> Iterator[Clip]:
    """Decode every frame and have the network tell where shots end: the accurate and by far the slowest choice."""
    images, ends = Images(frames.max_side_px, decodes_all=True), ShotEnds()
    undecided: deque[float] = deque()  # frames that the network has not answered for yet (s)

    def told(probabilities: list[float]) -> Iterator[Clip]:
        for probability in probabilities:
            time_s, run = undecided.popleft(), ends.pending
            starts_shot, transition = ends.push(time_s, probability)
            if ends.pending:
                continue
            if transition:
                maker.transition(*transition)
            for inside_s in run:
                yield from maker.frame(inside_s, False, reader.info)
            yield from maker.frame(time_s, starts_shot, reader.info)

    for frame in reader.frames(images.handful):
        gray = images.thumbnail(frame.image)[:, :, 2]
        maker.sample(frame.time_s, gray, images.later(frame.image, frame.quarter_turns, reader))
        if frame.damaged:
            maker.damaged(frame.time_s)
        undecided.append(frame.time_s)
        yield from told(network.push(images.small(frame.image, SIZE_PX)))
    yield from told(network.flush())
    for inside_s in ends.pending:
        yield from maker.frame(inside_s, False, reader.info)
