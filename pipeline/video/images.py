"""From a decoded frame to what the rest looks at: a small HSV thumbnail, and a picture of the size models get."""

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.video.decode import VideoInfo, VideoReader
from pipeline.video.frames import Picture
from pipeline.video.shots import thumbnail

MAX_HELD_BYTES = 4_000_000  # of a decoded frame that waits for its picture: some two dozen do; 1080p has 3.1 MB
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
PLANAR_8BIT = {f"{kind}{sampling}p" for kind in ("yuv", "yuvj") for sampling in (420, 422, 444, 440, 411)}


class Images:
    """Converts frames; one for each pass over a video, because the scaler's set-up is kept between frames.

    max_side_px: longer side of a picture; a smaller video is not enlarged.
    """

    def __init__(self, max_side_px: int):
        self._max_side_px = max_side_px
        self._reformat = VideoReformatter()

    def thumbnail(self, image: av.VideoFrame) -> np.ndarray:
        """HSV thumbnail, uint8 (54, 96, 3), of the frame as stored (not turned upright)."""
        if image.format.name not in PLANAR_8BIT:
            image = self._reformat.reformat(image, format="yuv420p", threads=1)
        planes = [_plane(image, i) for i in range(3)]
        full_range = image.color_range == FULL_RANGE or image.format.name.startswith("yuvj")
        return thumbnail((planes[0], planes[1], planes[2]), full_range=full_range)

    def later(self, image: av.VideoFrame, quarter_turns: int, reader: VideoReader) -> Picture:
        """The picture of a frame, made when it is asked for; at once where holding the frame would cost much more."""
        if sum(plane.buffer_size for plane in image.planes) > MAX_HELD_BYTES:
            made = self.picture(image, quarter_turns, reader.info)
            return lambda: made
        return lambda: self.picture(image, quarter_turns, reader.info)

    def picture(self, image: av.VideoFrame, quarter_turns: int, info: VideoInfo) -> np.ndarray:
        """BGR uint8 (height, width, 3) as displayed: pixel aspect ratio applied, turned upright."""
        width, height = _fit(info.width, info.height, self._max_side_px)
        if quarter_turns % 2:
            width, height = height, width
        # one thread: the caller's decoder threads are the policy, and splitting so small a job costs more than it gains
        small = self._reformat.reformat(
            image, width=width, height=height, format="bgr24", interpolation=Interpolation.BILINEAR, threads=1
        )
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), quarter_turns))


def _plane(image: av.VideoFrame, index: int) -> np.ndarray:
    """One 8-bit plane as an array (height, width), without copying."""
    plane = image.planes[index]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _fit(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The size (px) with the same aspect ratio whose longer side is at most max_side."""
    scale = min(1.0, max_side / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
