"""Moving pictures whose cuts are known, and how the passes split them."""

import io
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video import sparse
from pipeline.video.decode import VideoReader
from pipeline.video.measured import ClipMaker
from pipeline.video.split import Clip, SplitDone, split

FPS = 24
SIZE = (320, 180)
X264 = "libx264"
NO_SCENECUT = {"x264-params": "keyint=48:min-keyint=48:scenecut=0", "preset": "veryfast"}
DEFAULT = {"preset": "veryfast"}


def texture(seed: int) -> np.ndarray:
    """A picture of its own colours and shapes, larger than the frame so that a camera can move over it."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (9, 16, 3), np.uint8)
    return cv2.resize(small, (3 * SIZE[0], 3 * SIZE[1]), interpolation=cv2.INTER_CUBIC)


def shot(seed: int, count: int, speed: float = 1.0) -> list[np.ndarray]:
    """count frames of a camera that moves over a texture by `speed` pixels a frame."""
    picture = texture(seed)
    return [picture[int(i * speed / 3) :][: SIZE[1], int(i * speed) :][:, : SIZE[0]] for i in range(count)]


def write(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = X264,
    options: dict[str, str] = DEFAULT,
    gop: int = 48,
    pts: Sequence[int] | None = None,
    rate: int = FPS,
) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = pts[i] if pts else i, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def run(source: "str | io.BytesIO", detector: str = "sparse", **frames: str) -> tuple[list[Clip], SplitDone]:
    shots = SplitSettings(detector=detector, min_clip_s=0.25, max_clip_s=1000)  # type: ignore[arg-type]
    *clips, done = split(source, shots=shots, frames=FrameSettings(**frames), quality=QualitySettings())  # type: ignore
    assert isinstance(done, SplitDone)
    return [clip for clip in clips if isinstance(clip, Clip)], done


def cuts(source: "str | io.BytesIO", detector: str = "sparse") -> list[int]:
    """Frame numbers at which clips start, without the first; the spans must tile the video, each with a picture."""
    clips, done = run(source, detector)
    for before, after in pairwise(clips):
        assert before.span.end_s == after.span.start_s
    assert all(clip.quality for clip in clips), "a shot of which no picture was taken"
    assert clips[0].span.start_s == 0
    assert clips[-1].span.end_s == pytest.approx(done.info.duration_s)
    return list(np.cumsum([clip.span.num_frames for clip in clips])[:-1])


def was_sparse(source: str) -> bool:
    """Would the sparse pass be taken for this file?"""
    with VideoReader(source, max_megapixels=36) as reader:
        maker = ClipMaker(SplitSettings(), FrameSettings(), QualitySettings())
        return sparse.sparse_clips(source, reader, maker, SplitSettings(), FrameSettings()) is not None


LENGTHS = [40, 17, 61, 30, 25, 90, 33]
STARTS = [int(n) for n in np.cumsum(LENGTHS)[:-1]]


def montage() -> list[np.ndarray]:
    return [picture for seed, count in enumerate(LENGTHS) for picture in shot(seed, count)]
