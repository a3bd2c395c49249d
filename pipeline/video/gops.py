"""Groups of pictures (GOPs): packets from one key frame to the next, and what their sizes tell without decoding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import av

MAX_GOP_BYTES = 32_000_000  # a longer group is handed out in pieces, so that memory stays bounded
MAX_GOP_PACKETS = 1_000

# All sizes are compared as ratios; the figures were chosen on films with every cut known (benchmarks/split.py).
SPIKE = 6.0  # a packet's ratio to the largest of those before it, times that to the median after it: perhaps a new shot
MIN_RISE = 2.5  # and it is at least this many times the largest of those before it ...
SURE_SPIKE = 20.0  # ... or this spike and SURE_RISE: a shot of a few frames, so that the cut before is near
SURE_RISE = 1.2
MIN_OF_KEY = 0.05  # and at least this fraction of the larger key frame around it: new content cannot cost less
BUSY_OF_KEY = 0.3  # from this fraction of the same, any packet above its neighbours may hold one, with BUSY_SPIKE
BUSY_SPIKE = 1.3
COLLAPSE = 0.1  # packets that stay below this fraction of the median before them may follow a cut to black
NEAR_PACKETS = 3  # packets before that a rise is measured from (count)
WIDE_PACKETS = 6  # packets before or after that a median is taken of (count)
RUN_PACKETS = 5  # packets in a row whose mean is compared with the median of all (count)
WAKING = 3.0  # a packet this many times as large as the first few: what stood still begins to move ...
MIN_WAKING_OF_KEY = 0.015  # ... if it is at least this fraction of the key frame
EVEN = 1.7  # where no such mean is this many times that median, nothing happened that costs bytes: no cut, no dissolve


@dataclass
class Gop:
    """packets: in decode order; the first is a key frame, unless the group `continues` the one before.

    In an open GOP, packets shown before the key frame (`leading`) follow it: they belong to the group before, which
    they refer to. jumps: its time stamps do not go on where those of the group before end, as where recordings are
    joined; no two groups may be taken apart by time stamps there, so it has no leading packets.
    """

    packets: list[av.Packet]
    continues: bool = False
    continued: bool = False
    jumps: bool = False

    @property
    def key_pts(self) -> int:
        return pts_of(self.packets[0])

    @property
    def leading(self) -> list[av.Packet]:
        key_pts = self.key_pts
        return [] if self.continues or self.jumps else [p for p in self.packets if pts_of(p) < key_pts]

    @property
    def own(self) -> list[av.Packet]:
        """The packets in decode order without the leading ones."""
        key_pts = self.key_pts
        return self.packets if self.continues or self.jumps else [p for p in self.packets if pts_of(p) >= key_pts]

    @property
    def is_timed(self) -> bool:
        """Does each packet have a time stamp of its own?"""
        times = {packet.pts for packet in self.packets}
        return None not in times and len(times) == len(self.packets)


def read_gops(packets: Iterable[av.Packet]) -> Iterator[Gop]:
    """Packets in decode order -> groups. What comes before the first key frame cannot be decoded and is left out."""
    latest: int | None = None  # the last time stamp of the groups so far, since the last jump
    for gop in _packets_by_group(packets):
        times = [pts_of(packet) for packet in gop.packets]
        gop.jumps = not gop.continues and latest is not None and min(times) <= latest
        latest = max(times) if latest is None or gop.jumps else max(latest, *times)
        yield gop


def _packets_by_group(packets: Iterable[av.Packet]) -> Iterator[Gop]:
    gop: Gop | None = None
    num_bytes = 0
    for packet in packets:
        if not packet.size or (gop is None and not packet.is_keyframe):
            continue
        full = gop is not None and (num_bytes > MAX_GOP_BYTES or len(gop.packets) >= MAX_GOP_PACKETS)
        if gop is None or packet.is_keyframe or full:
            if gop is not None:
                gop.continued = full and not packet.is_keyframe
                yield gop
            gop = Gop([], continues=not packet.is_keyframe)
            num_bytes = 0
        gop.packets.append(packet)
        num_bytes += packet.size
    if gop is not None:
        yield gop


def shown_pts(gop: Gop, following: Gop | None) -> list[int]:
    """When the group's frames are shown, in order (ticks), with those that follow the next key frame in the file."""
    packets = gop.own + (following.leading if following else [])
    return sorted({pts_of(p) for p in packets if not p.is_discard})


def leading_of(following: Gop | None) -> list[av.Packet]:
    """The packets behind the next key frame that are shown before it, and the key frame, which they refer to."""
    leading = following.leading if following else []
    return [following.packets[0], *leading] if following and leading else []


def anchors(packets: list[av.Packet]) -> list[int]:
    """Indices of the packets shown later than all before them: in a group with B-frames, the frames these refer to."""
    found, latest = [], None
    for i, packet in enumerate(packets):
        pts = pts_of(packet)
        if latest is None or pts > latest:
            latest = pts
            found.append(i)
    return found


class Suspicion(IntEnum):
    """May a packet start a shot, by its size alone?"""

    NONE = 0
    POSSIBLE = 1
    LIKELY = 2


def suspects(
    sizes: list[int], key_bytes: int, next_key_bytes: int, *, alike: bool = False, tail: int = 0
) -> list[Suspicion]:
    """May each anchor of a group start a shot, by size alone?

    sizes: bytes of the group's anchors without the key frame. A P-frame right after a cut holds mostly intra blocks, so
    it costs a good part of a key frame, much more than its neighbours; after a cut to black it costs next to nothing.
    (The idea of shot detection in the compressed domain: Yeo & Liu, IEEE TCSVT 1995.)
    alike: the key frames at both ends show the same, so that only a shot that comes and goes could hide between them.
    tail: so many of the last anchors may be small without meaning black: encoders save on what the next key frame ends.
    """
    return [
        _suspicion(i, sizes, max(key_bytes, next_key_bytes), busy=not alike, black=i < len(sizes) - tail)
        for i in range(len(sizes))
    ]


def are_even(sizes: list[int]) -> bool:
    """Do a group's anchors (bytes, without the key frame) all cost about the same, as in a shot that goes on moving?"""
    runs = [sum(sizes[i : i + RUN_PACKETS]) / RUN_PACKETS for i in range(len(sizes) - RUN_PACKETS + 1)]
    return bool(runs) and max(runs) < EVEN * _median(sizes)


def waking(sizes: list[int], key_bytes: int) -> int | None:
    """Index of the first anchor that shows motion, if the first few show none. sizes: bytes, without the key frame."""
    still = _median(sizes[:NEAR_PACKETS])
    least = max(WAKING * still, MIN_WAKING_OF_KEY * key_bytes)
    return next((i for i, size in enumerate(sizes) if size >= least), None)


def _suspicion(i: int, sizes: list[int], key_bytes: int, *, busy: bool, black: bool) -> Suspicion:
    size, near = sizes[i], sizes[max(0, i - NEAR_PACKETS) : i]
    before, after = sizes[max(0, i - WIDE_PACKETS) : i], sizes[i + 1 : i + 1 + WIDE_PACKETS]
    usual, later = _median(before or after), _median(after or before)
    rise = size / max(1, max(near, default=later))
    spike = rise * size / max(1, later)
    rises = (spike >= SPIKE and rise >= MIN_RISE) or (spike >= SURE_SPIKE and rise >= SURE_RISE)
    if rises and size >= MIN_OF_KEY * key_bytes:
        return Suspicion.LIKELY
    if busy and size >= BUSY_OF_KEY * key_bytes and size * size >= usual * later and spike >= BUSY_SPIKE:
        return Suspicion.POSSIBLE
    soon = _median(sizes[i + 1 : i + 1 + NEAR_PACKETS])
    collapses = max(size, soon) <= COLLAPSE * usual and usual >= MIN_OF_KEY * key_bytes
    return Suspicion.POSSIBLE if black and collapses else Suspicion.NONE


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0


def pts_of(packet: av.Packet) -> int:
    """When a packet's frame is shown (ticks); the sparse pass is not used where packets have none."""
    return packet.pts if packet.pts is not None else packet.dts or 0
