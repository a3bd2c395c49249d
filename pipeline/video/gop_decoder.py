"""Decode one group of pictures packet by packet, as far as wanted."""

from collections.abc import Sequence

import av
import av.error

# Decoders that can leave out frames that no other frame refers to, decided packet by packet.
DROPS_NON_REFERENCE = {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"}


class GopDecoder:
    """A decoder that is restarted for each group, so that a group can be left before its end."""

    def __init__(self, context: av.VideoCodecContext):
        self._context = context
        if not context.is_open:
            context.thread_type = "SLICE"  # frame threads would decode ahead of what is wanted
        self.packets: list[av.Packet] = []
        self._next = 0
        self._drained = True
        self.damaged_packets = 0  # in a row
        self.any_damage = False  # in this group so far

    def skip_loop_filter(self) -> None:
        """Leave out in-loop deblocking except on key frames: a fifth of the work of H.264. Only before `start`."""
        self._context.options = {**self._context.options, "skip_loop_filter": "nokey"}

    def start(self, packets: Sequence[av.Packet]) -> None:
        """Begin a group: its packets in decode order, a key frame first."""
        if self._context.is_open:
            self._context.flush_buffers()
        self.packets, self._next, self.any_damage, self._drained = list(packets), 0, False, False

    def extend(self, packets: Sequence[av.Packet]) -> None:
        """More packets that follow those of the group in decode order."""
        self.packets += packets

    def go_on(self, packets: Sequence[av.Packet]) -> None:
        """As `extend`, for the next piece of an endless group: what was taken is let go of."""
        self.packets, self._next = [*self.packets[self._next :], *packets], 0

    @property
    def next(self) -> int:
        """Index of the packet that `feed` would take (the number of packets when all are taken)."""
        return self._next

    @property
    def exhausted(self) -> bool:
        return self._next >= len(self.packets)

    def feed(self, *, needed: bool = True) -> list[av.VideoFrame]:
        """Take the next packet; return the frames that are now ready, in presentation order (decoders lag behind).

        needed=False leaves the frame out, unless others refer to it. An undecodable packet is counted, not raised.
        """
        packet = self.packets[self._next]
        self._next += 1
        self._context.skip_frame = "DEFAULT" if needed else "NONREF"
        return self._decode(packet)

    def drain(self) -> list[av.VideoFrame]:
        """The frames still inside the decoder. Only `start` may follow."""
        if self._drained:
            return []
        self._drained = True
        return self._decode(None)

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError:
            self.damaged_packets += 1
            self.any_damage = True
            return []
        if frames:
            self.damaged_packets = 0
        self.any_damage = self.any_damage or any(frame.is_corrupt for frame in frames)
        return frames
