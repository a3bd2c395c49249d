"""Measure a clip: brightness, contrast, sharpness, motion; and say why a clip is not good enough."""

import threading
from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

SHARPNESS_SIDE_PX = 320  # pictures are brought to this longer side before the Laplacian, so that values compare
# ... and thumbnails to this one before optical flow. It misses what moves by more than some pixels between two frames:
# from thumbnails of 96 px, known shifts of 4 and 8 % of the longer side are measured as 3.6 and 1.8, from 48 px as 4.0
# and 7.4, in a quarter of the time.
FLOW_SIDE_PX = 48


@dataclass(frozen=True)
class Quality:
    """brightness and contrast in luma levels 0-255, sharpness as Laplacian variance at a longer side of 320 px,
    motion as optical-flow speed in percent of the longer side per second."""

    brightness: float
    contrast: float
    sharpness: float
    motion: float


@dataclass(frozen=True)
class MotionPair:
    """Two gray thumbnails (uint8, height x width) of one shot, gap_s seconds apart."""

    before: np.ndarray
    after: np.ndarray
    gap_s: float


def measure(pictures: list[np.ndarray], pairs: list[MotionPair]) -> Quality:
    """pictures: BGR uint8 (height, width, 3), at least one; pairs may be empty (motion 0: nothing was seen to move)."""
    lumas = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in pictures]
    levels = [cv2.meanStdDev(luma) for luma in lumas]
    return Quality(
        brightness=float(np.mean([mean for mean, _ in levels])),
        contrast=float(np.mean([deviation for _, deviation in levels])),
        sharpness=float(np.mean([sharpness(luma) for luma in lumas])),
        motion=float(np.mean([flow_speed(pair) for pair in pairs])) if pairs else 0.0,
    )


def sharpness(luma: np.ndarray) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) at a longer side of SHARPNESS_SIDE_PX."""
    if size_px := _smaller(luma, SHARPNESS_SIDE_PX):
        luma = _scaler.shrink(luma, *size_px)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))
    return float(deviation[0, 0] ** 2)


class _Scaler(threading.local):
    """Area means by swscale, in a third of OpenCV's time. It keeps its set-up from one picture to the next, so each
    thread has one of its own."""

    def __init__(self) -> None:
        self._reformat = VideoReformatter()

    def shrink(self, luma: np.ndarray, width: int, height: int) -> np.ndarray:
        frame = av.VideoFrame.from_ndarray(luma, format="gray")
        return self._reformat.reformat(
            frame, width=width, height=height, interpolation=Interpolation.AREA, threads=1
        ).to_ndarray()


_scaler = _Scaler()


def flow_speed(pair: MotionPair) -> float:
    """Mean length of dense optical flow (Farneback, SCIA 2003) between frames a moment apart, % of longer side per s.

    Neighbouring frames, not frames spread over the clip: flow across seconds measures scene change, not motion.
    """
    before, after = pair.before, pair.after
    if size_px := _smaller(before, FLOW_SIDE_PX):
        before, after = (cv2.resize(gray, size_px, interpolation=cv2.INTER_AREA) for gray in (before, after))
    flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 2, 5, 1.1, 0)  # type: ignore[call-overload]
    length_px = float(cv2.magnitude(flow[:, :, 0], flow[:, :, 1]).mean())
    return 100 * length_px / max(before.shape) / pair.gap_s


def _smaller(gray: np.ndarray, side_px: int) -> tuple[int, int] | None:
    """(width, height) of it brought to this longer side; None where it is no longer than that."""
    scale = side_px / max(gray.shape)
    height, width = (max(1, round(side * scale)) for side in gray.shape)
    return (width, height) if scale < 1 else None
