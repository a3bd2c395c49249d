"""Write clips of a video as MP4 files: cut without encoding where that is exact, encoded whole where it is not."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import BinaryIO

import av
import av.error

from pipeline.errors import BadVideo
from pipeline.settings import ClipFileSettings
from pipeline.video.clipfile import ClipFile, Job, Shape, with_reason
from pipeline.video.clips import Span
from pipeline.video.decode import VideoReader, open_container, video_stream
from pipeline.video.encode import Look, display_matrix
from pipeline.video.h264 import H264
from pipeline.video.hevc import Hevc
from pipeline.video.nal import Codec
from pipeline.video.reencode import reencode
from pipeline.video.smart import SmartCutter, Unfit

SMART_FORMATS: dict[str, dict[str, Codec]] = {
    "h264": {"yuv420p": H264(), "yuvj420p": H264()},  # what browsers play
    "hevc": {"yuv420p": Hevc(), "yuvj420p": Hevc(), "yuv420p10le": Hevc(10)},
}
PROGRESSIVE = {0, 1}  # AV_FIELD_UNKNOWN, AV_FIELD_PROGRESSIVE


def write_clips(
    source: str | BinaryIO,
    jobs: Sequence[Job],
    settings: ClipFileSettings,
    *,
    max_megapixels: float = 36.0,
    threads: int = 1,
) -> Iterator[ClipFile]:
    """Write one MP4 file for each job, yielding its ClipFile as soon as it is there.

    The source (a local path or a seekable binary file object) is read once from front to back, and once more if some
    clips have to be encoded whole; these come last. Jobs are sorted by start; spans are those of `split`. Memory: the
    longest GOP (at most 128 MB) and what a decoder and an encoder hold; longer clips wait in a temporary file.
    max_megapixels: larger frames are refused. threads: decoder and encoder threads.
    Raises BadVideo when the video cannot be opened or holds no frame, OSError when a file cannot be written, ValueError
    when jobs are not sorted or a span is empty. A clip that cannot be made is yielded with `error`.
    """
    if any(job.span.start_s >= job.span.end_s for job in jobs):
        raise ValueError("a span ends before it starts")
    if any(a.span.start_s > b.span.start_s for a, b in pairwise(jobs)):
        raise ValueError("spans are not sorted by start")
    if settings.mode == "none" or not jobs:
        return
    reasons: dict[Job, str | None] = dict.fromkeys(jobs)
    if settings.mode == "smart":
        for result in _smart(source, list(jobs), settings, max_megapixels, threads):
            if isinstance(result, ClipFile):
                reasons.pop(result.job, None)
                yield result
            else:
                reasons[result.job] = result.reason
    left = [job for job in jobs if job in reasons]
    if left:
        for clip in reencode(source, left, settings, max_megapixels=max_megapixels, threads=threads):
            yield with_reason(clip, reasons[clip.job])


def write_clip(
    source: str | BinaryIO,
    span: Span,
    path: str,
    settings: ClipFileSettings,
    *,
    max_megapixels: float = 36.0,
    threads: int = 1,
) -> ClipFile:
    """Write one clip to a local path; as write_clips. Raises BadVideo also when this clip cannot be made."""
    jobs = [Job(span, path)]
    clips = list(write_clips(source, jobs, settings, max_megapixels=max_megapixels, threads=threads))
    if not clips:
        raise ValueError("clips.mode is none")
    if clips[0].error:
        raise BadVideo(clips[0].error)
    return clips[0]


def _smart(
    source: str | BinaryIO, jobs: list[Job], settings: ClipFileSettings, max_megapixels: float, threads: int
) -> Iterator[ClipFile | Unfit]:
    with VideoReader(source, max_megapixels=max_megapixels, threads=threads) as reader:
        first = next(reader.frames()).image
    first_pts = first.pts
    container = open_container(source)
    try:
        stream = video_stream(container)
        reason = _unfit(stream, first, settings)
        if reason or first_pts is None:
            yield from (Unfit(job, reason or "frames without time stamps") for job in jobs)
            return
        codec = SMART_FORMATS[settings.codec][first.format.name]
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
        shape = Shape(Look.of(first, stream), aspect, display_matrix(first))
        try:
            cutter = SmartCutter(container, stream, codec, shape, settings, threads)
        except ValueError as error:
            yield from (Unfit(job, str(error)) for job in jobs)
            return
        yield from cutter.run(jobs, first_pts)
    finally:
        container.close()


def _unfit(stream: av.VideoStream, first: av.VideoFrame, settings: ClipFileSettings) -> str | None:
    """Why no clip of this video can be cut smartly; None when it can be tried."""
    name, pixel_format = stream.codec_context.codec.canonical_name, first.format.name
    if name != settings.codec:
        return f"{name} is not {settings.codec} (clips.codec)"
    if pixel_format not in SMART_FORMATS[name]:
        return f"{name} in {pixel_format} is not copied"
    if settings.fps is not None:
        return "the frame rate is changed (clips.fps)"
    if settings.max_side_px is not None and max(first.width, first.height) > settings.max_side_px:
        return "the size is changed (clips.max_side_px)"
    if first.interlaced_frame or stream.codec_context.field_order not in PROGRESSIVE:
        return "interlaced"
    if first.width % 2 or first.height % 2:
        return "odd frame size"
    return None if _has_encoder(SMART_FORMATS[name][pixel_format], pixel_format) else f"no encoder for {name}"


def _has_encoder(codec: Codec, pixel_format: str) -> bool:
    try:
        formats = av.Codec(codec.encoder, "w").video_formats or []
    except (av.error.FFmpegError, ValueError):
        return False
    return pixel_format in {known.name for known in formats}
