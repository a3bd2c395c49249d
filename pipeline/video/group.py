"""One group of pictures in work in the sparse pass, and what is known of how the encoder ends them."""

import math
from dataclasses import dataclass, field

import av
import numpy as np

from pipeline.video.gop_decoder import GopDecoder
from pipeline.video.gops import Gop

IRREGULAR = 0.9  # a group shorter than this fraction of the longest so far was ended by the encoder for a reason
DUE_FRAMES = 5  # ... and one that is no more than this shorter was not: its next key frame was due (count)
SEVERAL = 3  # so many cuts at early key frames tell that the encoder looks for cuts, so many groups what is due (count)


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
    known: dict[int, np.ndarray] = field(default_factory=dict)  # thumbnails from before it was decoded again, by time
    lead: list[np.ndarray] = field(default_factory=list)  # thumbnails of the last frames decoded before the key frame
    lead_is_exact: bool = False  # ... and they are the very last
    evident_cut: bool = False  # a shot starts with the key frame, by _evident_cut
    after_whole: bool = False  # the group before was decoded whole: the timeline decides about the key frame
    closing: bool = False  # the groups before it are done with: its frames may be offered as pictures


class KeySchedule:
    """What the lengths of the groups so far tell of why the encoder ended them."""

    def __init__(self) -> None:
        self._longest = 0  # packets in the longest group so far
        self._num_longest = 0  # groups so far that are as long: if there are several, their key frames were due
        self._evident_cuts = 0  # cuts so far of which the encoder told

    def push(self, length: int) -> None:
        """The next group's length (packets)."""
        self._num_longest = 0 if length > self._longest + DUE_FRAMES else self._num_longest
        self._longest = max(self._longest, length)
        self._num_longest += length >= self._longest - DUE_FRAMES

    def cut(self) -> None:
        """A shot starts with the key frame after a group that ended early."""
        self._evident_cuts += 1

    def ended_early(self, length: int) -> bool:
        """Did the encoder end a group of so many packets for a reason?"""
        return length < IRREGULAR * self._longest

    def is_due(self, length: int) -> bool:
        """Did an encoder that looks for cuts end a group of so many packets without having found one?"""
        looks_for_cuts = self._evident_cuts >= SEVERAL
        return looks_for_cuts and self._num_longest >= SEVERAL and length >= self._longest - DUE_FRAMES
