"""Groups of pictures (GOPs): the packets from one key frame up to the next, and what their sizes tell without decoding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av

MAX_GOP_BYTES = 64_000_000  # a longer group is handed out in pieces, so that memory stays bounded
MAX_GOP_PACKETS = 1_000

SPIKE_RATIO = 2.5  # a packet this many times its neighbours' median may hold a new shot
SPIKE_OF_KEY = 0.02  # ... if it is at least this fraction of the key frame: new content cannot cost less
NEW_OF_KEY = 0.25  # a packet of at least this fraction of the key frame may hold a new shot, whatever its neighbours
COLLAPSE_RATIO = 0.1  # a packet below this fraction of its neighbours' median may be a cut to black
SIZE_NEIGHBOURS = 6  # packets before (and after) that a size is compared with (count)


@dataclass
class Gop:
    """packets: in decode order; the first is a key frame, unless the group `continues` the one before.

    In an open GOP, packets shown before the key frame (`leading`) follow it: they belong to the group before, which
    they refer to.
    """

    packets: list[av.Packet]
    continues: bool = False
    continued: bool = False

    @property
    def key_pts(self) -> int:
        return pts_of(self.packets[0])

    @property
    def leading(self) -> list[av.Packet]:
        return [] if self.continues else [p for p in self.packets if pts_of(p) < self.key_pts]

    @property
    def own(self) -> list[av.Packet]:
        """The packets in decode order without the leading ones."""
        return self.packets if self.continues else [p for p in self.packets if pts_of(p) >= self.key_pts]


def read_gops(packets: Iterable[av.Packet]) -> Iterator[Gop]:
    """Packets in decode order -> groups. What comes before the first key frame cannot be decoded and is left out."""
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


def anchors(packets: list[av.Packet]) -> list[int]:
    """Indices of the packets shown later than all before them: in a group with B-frames, the frames these refer to."""
    found, latest = [], None
    for i, packet in enumerate(packets):
        if latest is None or pts_of(packet) > latest:
            latest = pts_of(packet)
            found.append(i)
    return found


def suspects(sizes: list[int], key_bytes: int) -> list[bool]:
    """Which anchors of a group may start a shot, by size alone. sizes: bytes of its anchors without the key frame.

    A P-frame right after a cut holds mostly intra blocks, so it costs a good part of a key frame and much more than its
    neighbours; after a cut to black it costs next to nothing. (The idea of compressed-domain shot detection: Yeo & Liu,
    IEEE TCSVT 1995.) One answer for each anchor.
    """
    found = []
    for i, size in enumerate(sizes):
        before, after = sizes[max(0, i - SIZE_NEIGHBOURS) : i], sizes[i + 1 : i + 1 + SIZE_NEIGHBOURS]
        usual = _median(before if len(before) >= 2 else after)
        spike = size >= SPIKE_RATIO * usual and size >= SPIKE_OF_KEY * key_bytes
        collapse = size <= COLLAPSE_RATIO * usual and usual >= SPIKE_OF_KEY * key_bytes
        found.append(spike or collapse or size >= NEW_OF_KEY * key_bytes)
    return found


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0


def pts_of(packet: av.Packet) -> int:
    """When a packet's frame is shown (ticks); the sparse pass is not used where packets have none."""
    return packet.pts if packet.pts is not None else packet.dts or 0
