"""One group of pictures in work in the sparse pass."""

import math
from dataclasses import dataclass, field

import av
import numpy as np

from pipeline.video.gop_decoder import GopDecoder
from pipeline.video.gops import Gop


@dataclass
class Seen:
    """A decoded frame: when it is shown (ticks), its HSV thumbnail, and itself until it was offered as a picture."""

    pts: int
    thumb: np.ndarray
    image: av.VideoFrame | None


@dataclass
class Group:
    """A group of pictures in work. own: its packets in decode order, from the key frame on.

    seen: its decoded frames so far, in presentation order. whole: the times (ticks) around its suspects, where frames
    are decoded without exception; reach: the last of them.
    """

    gop: Gop
    decoder: GopDecoder
    own: list[av.Packet]
    whole: set[int] = field(default_factory=set)
    reach: int = 0
    before: float = math.inf  # when the next key frame is shown (ticks), once that is known
    seen: list[Seen] = field(default_factory=list)
    waiting: list[tuple[int, av.VideoFrame]] = field(default_factory=list)  # decoded, but not looked at; with times
    known: dict[int, np.ndarray] = field(default_factory=dict)  # thumbnails from before it was decoded again, by time
    lead: list[np.ndarray] = field(default_factory=list)  # thumbnails of the last frames decoded before the key frame
    lead_is_exact: bool = False  # ... and they are the very last
    evident_cut: bool = False  # a shot starts with the key frame, by Endings.evident_cut
    after_whole: bool = False  # the group before was decoded whole: the timeline decides about the key frame
    closing: bool = False  # the groups before it are done with: its frames may be offered as pictures
