"""H.264 and HEVC bitstreams as far as cutting needs them: NAL units, where a clip may begin, parameter sets.

Numbers of NAL unit types and the layout of the configuration records are those of ITU-T H.264 / H.265 and of
ISO/IEC 14496-15. Units are held without start code and without length.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol


class Codec(Protocol):
    """What differs between the two codecs."""

    name: ClassVar[str]
    encoder: ClassVar[str]
    parameter_types: ClassVar[frozenset[int]]
    delimiter_type: ClassVar[int]

    def kind(self, unit: bytes) -> int:
        """The NAL unit type."""
        ...

    def starts_gop(self, units: Sequence[bytes]) -> bool:
        """Whether nothing from this picture on, in decode order, needs a picture before it (leading pictures apart)."""
        ...

    def is_leading(self, units: Sequence[bytes]) -> bool:
        """Whether this picture is shown before the key picture that it follows in the file."""
        ...

    def is_reference(self, units: Sequence[bytes]) -> bool:
        """Whether another picture may need this one; True where it cannot be told."""
        ...

    def spliced(self, units: Sequence[bytes], parameter_sets: Sequence[bytes]) -> list[bytes]:
        """A key picture as it must stand behind pictures of another encoder, which its parameter sets replace."""
        ...

    def config(self, parameter_sets: Sequence[bytes]) -> bytes:
        """The decoder configuration record of an MP4 file; lengths of units have four bytes."""
        ...

    def config_sets(self, record: bytes) -> tuple[list[bytes], int]:
        """Parameter sets of such a record, and how many bytes its unit lengths have."""
        ...


class H264:
    """8-bit 4:2:0 H.264."""

    name = "h264"
    encoder = "libx264"
    parameter_types = frozenset({7, 8})
    delimiter_type = 9

    def kind(self, unit: bytes) -> int:
        return unit[0] & 31

    def starts_gop(self, units: Sequence[bytes]) -> bool:
        return any(self.kind(unit) == 5 for unit in units)

    def is_leading(self, units: Sequence[bytes]) -> bool:
        return False  # what follows an IDR picture is also shown after it

    def is_reference(self, units: Sequence[bytes]) -> bool:
        return any(unit[0] & 0x60 for unit in units if 1 <= self.kind(unit) <= 5)

    def spliced(self, units: Sequence[bytes], parameter_sets: Sequence[bytes]) -> list[bytes]:
        return list(units)  # both encoders' sets have their own numbers and stand in the sample description

    def config(self, parameter_sets: Sequence[bytes]) -> bytes:
        sps = [unit for unit in parameter_sets if self.kind(unit) == 7]
        pps = [unit for unit in parameter_sets if self.kind(unit) == 8]
        profile, level = max(unit[1] for unit in sps), max(unit[3] for unit in sps)
        compatible = 0xFF
        for unit in sps:
            compatible &= unit[2]
        record = bytes([1, profile, compatible, level, 0xFF, 0xE0 | len(sps)]) + _with_lengths(sps, 2)
        record += bytes([len(pps)]) + _with_lengths(pps, 2)
        if profile in (100, 110, 122, 144):
            record += bytes([0xFC | 1, 0xF8, 0xF8, 0])  # 4:2:0, 8 bits, 8 bits, no extension
        return record

    def config_sets(self, record: bytes) -> tuple[list[bytes], int]:
        sets, at = [], 5
        for mask in (0x1F, 0xFF):
            count, at = record[at] & mask, at + 1
            for _ in range(count):
                size = int.from_bytes(record[at : at + 2])
                sets.append(record[at + 2 : at + 2 + size])
                at += 2 + size
        return sets, (record[4] & 3) + 1


class Hevc:
    """4:2:0 HEVC; bit_depth 8 or 10."""

    name = "hevc"
    encoder = "libx265"
    parameter_types = frozenset({32, 33, 34})
    delimiter_type = 35

    def __init__(self, bit_depth: int = 8):
        self._bit_depth = bit_depth

    def kind(self, unit: bytes) -> int:
        return unit[0] >> 1 & 63

    def starts_gop(self, units: Sequence[bytes]) -> bool:
        return any(16 <= self.kind(unit) <= 21 for unit in units)

    def is_leading(self, units: Sequence[bytes]) -> bool:
        return any(6 <= self.kind(unit) <= 9 for unit in units)

    def is_reference(self, units: Sequence[bytes]) -> bool:
        return True  # a picture of a `_N` type may still be needed by a higher temporal layer

    def spliced(self, units: Sequence[bytes], parameter_sets: Sequence[bytes]) -> list[bytes]:
        """The sets go in front, and a CRA picture becomes BLA_N_LP, "broken link": new sets may only start at a picture
        that starts the decoder afresh, and H.265 has this type for spliced streams. Nothing else in it changes."""
        broken = [bytes([unit[0] & 0x81 | 18 << 1]) + unit[1:] if self.kind(unit) == 21 else unit for unit in units]
        return [*parameter_sets, *broken]

    def config(self, parameter_sets: Sequence[bytes]) -> bytes:
        sps = next(unit for unit in parameter_sets if self.kind(unit) == 33).replace(b"\0\0\3", b"\0\0")
        layers, nested = (sps[2] >> 1 & 7) + 1, sps[2] & 1
        depth = 0xF8 | (self._bit_depth - 8)
        record = bytes([1]) + sps[3:15] + bytes([0xF0, 0, 0xFC, 0xFC | 1, depth, depth, 0, 0])
        record += bytes([layers << 3 | nested << 2 | 3, len(self.parameter_types)])
        for kind in sorted(self.parameter_types):
            units = [unit for unit in parameter_sets if self.kind(unit) == kind]
            record += struct.pack(">BH", 0x80 | kind, len(units)) + _with_lengths(units, 2)
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


class Bitstream:
    """How one stream stores its units. extradata: a configuration record, or parameter sets behind start codes.

    Raises ValueError when there are no parameter sets.
    """

    def __init__(self, codec: Codec, extradata: bytes | None):
        self._codec = codec
        self._length_bytes = 0  # 0: start codes (Annex B)
        if extradata and extradata[0] == 1:
            sets, self._length_bytes = codec.config_sets(extradata)
        else:
            sets = split_start_codes(extradata or b"")
        self.parameter_sets = [unit for unit in sets if unit and codec.kind(unit) in codec.parameter_types]
        if not {codec.kind(unit) for unit in self.parameter_sets} >= codec.parameter_types:
            raise ValueError("no parameter sets in the stream's header")

    def units(self, data: bytes) -> list[bytes]:
        """The units of one packet. Raises ValueError when a length does not fit."""
        units = split_lengths(data, self._length_bytes) if self._length_bytes else split_start_codes(data)
        return [unit for unit in units if unit]


def split_lengths(data: bytes, length_bytes: int) -> list[bytes]:
    """Units that each follow their length. Raises ValueError when a length does not fit."""
    units, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + length_bytes])
        at += length_bytes
        if at + size > len(data):
            raise ValueError("a NAL unit is longer than its packet")
        units.append(data[at : at + size])
        at += size
    return units


def split_start_codes(data: bytes) -> list[bytes]:
    """Units that each follow a start code (00 00 01)."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]


def join_lengths(units: Iterable[bytes]) -> bytes:
    """One packet as an MP4 file stores it: every unit behind its length in four bytes."""
    return _with_lengths(units, 4)


def unused_id(parameter_sets: Iterable[bytes]) -> int | None:
    """A number (1-31) that no H.264 sequence or picture parameter set among these has; None when there is none."""
    used = {_unsigned_exp_golomb(unit[4 if unit[0] & 31 == 7 else 1 :]) for unit in parameter_sets}
    return next((number for number in range(1, 32) if number not in used), None)


def _unsigned_exp_golomb(data: bytes) -> int:
    bits = "".join(f"{byte:08b}" for byte in data[:4])
    zeros = bits.index("1")
    return int(bits[zeros : 2 * zeros + 1], 2) - 1


def _with_lengths(units: Iterable[bytes], length_bytes: int) -> bytes:
    return b"".join(len(unit).to_bytes(length_bytes) + unit for unit in units)
