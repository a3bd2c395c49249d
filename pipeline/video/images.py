"""From a decoded frame to what the rest looks at: a small HSV thumbnail, and a picture of the size models get."""

import weakref
from collections import deque

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.video.decode import VideoInfo, VideoReader
from pipeline.video.frames import Picture
from pipeline.video.shots import thumbnail

# Decoded frames that wait to be made into pictures (bytes). Where every frame is decoded, it is the fewer that are in
# use at once the better the processor's cache serves the decoder; where few are, they must be enough to choose from.
WAITING_BYTES, WAITING_BYTES_OF_ALL = 56_000_000, 28_000_000  # 40 and 20 of 720p
HELD_BYTES = 28_000_000  # of decoded frames that may be held besides those: 20 of 720p
# So many frames are decoded before they are looked at (count): decoding drives all else out of the processor's cache,
# and looking takes a seventh less time if that happens once for several.
HANDFUL = 8
HALF_COLOUR = {"yuv420p", "yuvj420p"}
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
PLANAR_8BIT = {f"{kind}{sampling}p" for kind in ("yuv", "yuvj") for sampling in (420, 422, 444, 440, 411)}


class Images:
    """Converts frames; one for each pass over a video, because the scaler's set-up is kept between frames.

    max_side_px: longer side of a picture; a smaller video is not enlarged. decodes_all: is every frame decoded?
    """

    def __init__(self, max_side_px: int, *, decodes_all: bool):
        self._max_side_px = max_side_px
        self._waiting_bytes = WAITING_BYTES_OF_ALL if decodes_all else WAITING_BYTES
        self._reformat = VideoReformatter()
        self._shrink = VideoReformatter()  # one for each kind of job, as each keeps the set-up of its last one
        self._waiting: deque[weakref.ref[_LaterPicture]] = deque()

    def thumbnail(self, image: av.VideoFrame) -> np.ndarray:
        """HSV thumbnail, uint8 (54, 96, 3), of the frame as stored (not turned upright)."""
        if image.format.name not in PLANAR_8BIT:
            image = self._reformat.reformat(image, format="yuv420p", threads=1)
        planes = [_array(plane) for plane in image.planes]
        full_range = image.color_range == FULL_RANGE or image.format.name.startswith("yuvj")
        return thumbnail((planes[0], planes[1], planes[2]), full_range=full_range)

    def small(self, image: av.VideoFrame, size_px: tuple[int, int]) -> np.ndarray:
        """RGB uint8 (height, width, 3) of the frame as stored, at a size of its own (width, height)."""
        width, height = size_px
        return self._shrink.reformat(
            image, width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1
        ).to_ndarray()

    def later(self, image: av.VideoFrame, quarter_turns: int, reader: VideoReader) -> Picture:
        """The picture of a frame, made when it is first asked for, or when too many frames wait for that."""
        picture = _LaterPicture(self, image, quarter_turns, reader)
        self._waiting.append(weakref.ref(picture))
        limit = self._waiting_bytes // _num_bytes(image)
        if len(self._waiting) > limit:
            self._waiting = deque(ref for ref in self._waiting if (one := ref()) is not None and one.image is not None)
            if len(self._waiting) > limit and (oldest := self._waiting.popleft()()) is not None:
                oldest()
        return picture

    @staticmethod
    def num_held(image: av.VideoFrame | None) -> int:
        """So many decoded frames like this one may be held besides those that wait for their picture (count)."""
        return HELD_BYTES // _num_bytes(image) if image else 0

    @staticmethod
    def handful(image: av.VideoFrame) -> int:
        """So many frames like this one are decoded before they are looked at: fewer where they are large (count)."""
        return max(1, min(HANDFUL, Images.num_held(image) // 2))

    def picture(self, image: av.VideoFrame, quarter_turns: int, info: VideoInfo) -> np.ndarray:
        """BGR uint8 (height, width, 3) as displayed: pixel aspect ratio applied, turned upright."""
        width, height = _fit(info.width, info.height, self._max_side_px)
        if quarter_turns % 2:
            width, height = height, width
        # one thread: splitting so small a job costs more than it gains (see threads.py). Most videos have half as much
        # colour as luma across and down, and so do JPEGs: shrunk as it is, it costs less than half.
        if image.format.name in HALF_COLOUR:
            image = self._shrink.reformat(
                image, width=width, height=height, format="yuv420p", interpolation=Interpolation.BILINEAR, threads=1
            )
        small = self._reformat.reformat(
            image, width=width, height=height, format="bgr24", interpolation=Interpolation.BILINEAR, threads=1
        )
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), quarter_turns))


class _LaterPicture:
    """A Picture that holds the decoded frame (many times larger) until it is made."""

    def __init__(self, images: Images, image: av.VideoFrame, quarter_turns: int, reader: VideoReader):
        self._images, self._quarter_turns, self._reader = images, quarter_turns, reader
        self.image: av.VideoFrame | None = image
        self._made: np.ndarray | None = None

    def __call__(self) -> np.ndarray:
        if self._made is None:
            assert self.image is not None
            self._made = self._images.picture(self.image, self._quarter_turns, self._reader.info)
            self.image = None
        return self._made


def _num_bytes(image: av.VideoFrame) -> int:
    return sum(plane.buffer_size for plane in image.planes)


def _array(plane: VideoPlane) -> np.ndarray:
    """An 8-bit plane as an array (height, width), without copying."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _fit(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The size (px) with the same aspect ratio whose longer side is at most max_side."""
    scale = min(1.0, max_side / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
