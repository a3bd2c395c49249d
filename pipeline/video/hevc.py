"""HEVC (ITU-T H.265): where a clip may begin, and its record in an MP4 file."""

import struct
from collections.abc import Sequence

from pipeline.video.nal import Codec, Splice, join_lengths

BLA_N_LP, CRA = 18, 21


class Hevc(Codec):
    """4:2:0 HEVC; bit_depth 8 or 10."""

    name = "hevc"
    encoder = "libx265"
    parameter_types = frozenset({32, 33, 34})
    delimiter_type = 35
    repeats_parameter_sets = True  # x265 numbers its sets from 0, as most encoders do: the later ones replace them

    def __init__(self, bit_depth: int = 8):
        self._bit_depth = bit_depth

    def kind(self, unit: bytes) -> int:
        return unit[0] >> 1 & 63

    def starts_gop(self, units: Sequence[bytes]) -> bool:
        return any(16 <= self.kind(unit) <= CRA for unit in units)

    def is_sync(self, units: Sequence[bytes]) -> bool:
        return self.starts_gop(units)

    def is_reference(self, units: Sequence[bytes]) -> bool:
        return True  # a picture of a `_N` type may still be needed by a higher temporal layer

    def can_drop(self, leading: Sequence[Sequence[bytes]]) -> bool:
        return True  # no picture behind the leading ones may lean on them

    def splice(self, parameter_sets: Sequence[bytes]) -> Splice:
        return _BrokenLink()

    def config(self, parameter_sets: Sequence[bytes]) -> bytes:
        sps = next(unit for unit in parameter_sets if self.kind(unit) == 33).replace(b"\0\0\3", b"\0\0")
        layers, nested = (sps[2] >> 1 & 7) + 1, sps[2] & 1
        depth = 0xF8 | (self._bit_depth - 8)
        # profile, tier and level as they stand in the SPS; 0xFC | 1: 4:2:0; 3: lengths of four bytes
        record = bytes([1]) + sps[3:15] + bytes([0xF0, 0, 0xFC, 0xFC | 1, depth, depth, 0, 0])
        record += bytes([layers << 3 | nested << 2 | 3, len(self.parameter_types)])
        for kind in sorted(self.parameter_types):
            units = [unit for unit in parameter_sets if self.kind(unit) == kind]
            record += struct.pack(">BH", 0x80 | kind, len(units)) + join_lengths(units, 2)
        return record

    def config_sets(self, record: bytes) -> tuple[list[bytes], int]:
        sets, at = [], 23
        for _ in range(record[22]):
            count, at = int.from_bytes(record[at + 1 : at + 3]), at + 3
            for _ in range(count):
                size = int.from_bytes(record[at : at + 2])
                sets.append(record[at + 2 : at + 2 + size])
                at += 2 + size
        return sets, (record[21] & 3) + 1


class _BrokenLink(Splice):
    """A CRA picture becomes BLA_N_LP, "broken link access": parameter sets may only change at a picture that starts the
    decoder afresh, and H.265 has this type for spliced streams. Only the type in the unit's header differs."""

    def first(self, units: list[bytes], *, at_start: bool) -> list[bytes]:
        if at_start:
            return units
        return [
            bytes([unit[0] & 0x81 | BLA_N_LP << 1]) + unit[1:] if unit[0] >> 1 & 63 == CRA else unit for unit in units
        ]
