"""H.264 (ITU-T H.264): where a clip may begin, and how a picture inside a stream is made to begin one.

A clip can begin at an IDR picture as it is. Many streams mark most of their key pictures otherwise: an I picture with a
recovery point message whose exact_match_flag promises that decoding may start there. For a decoder to accept it behind
the pictures of another encoder it has to be an IDR picture. The pictures' data stay as they are; in the slice headers
(7.3.3) the type changes, and with it what counts from the last IDR picture: frame_num and pic_order_cnt_lsb, up to the
next IDR picture, and orders to forget pictures that are not there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.video.nal import Codec, Splice, join_lengths

SLICE, IDR, SEI, SPS, PPS = 1, 5, 6, 7, 8
RECOVERY_POINT = 6  # SEI payload type
P, B, I = 0, 1, 2  # noqa: E741 (slice types as the standard names them)
HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
HEADER_BYTES = 512  # a slice header is shorter than this
IDR_PIC_ID = 7  # must differ between IDR pictures next to each other; encoders count from 0 or alternate 0 and 1


class H264(Codec):
    """8-bit 4:2:0 H.264."""

    name = "h264"
    encoder = "libx264"
    parameter_types = frozenset({SPS, PPS})
    delimiter_type = 9
    repeats_parameter_sets = False  # every encoder's sets have their own numbers and stand in the sample description

    def kind(self, unit: bytes) -> int:
        return unit[0] & 31

    def starts_gop(self, units: Sequence[bytes]) -> bool:
        if self.is_sync(units):
            return True
        slices = [unit for unit in units if self.kind(unit) == SLICE]
        return bool(slices) and any(map(_is_exact_recovery_point, units)) and all(map(_is_intra, slices))

    def is_sync(self, units: Sequence[bytes]) -> bool:
        return any(self.kind(unit) == IDR for unit in units)

    def is_reference(self, units: Sequence[bytes]) -> bool:
        return any(unit[0] & 0x60 for unit in units if SLICE <= self.kind(unit) <= IDR)

    def can_drop(self, leading: Sequence[Sequence[bytes]]) -> bool:
        return not any(map(self.is_reference, leading))  # reference pictures are counted: dropping one leaves a gap

    def splice(self, parameter_sets: Sequence[bytes]) -> Splice:
        return _Renumber(parameter_sets)

    def config(self, parameter_sets: Sequence[bytes]) -> bytes:
        sps = [unit for unit in parameter_sets if self.kind(unit) == SPS]
        pps = [unit for unit in parameter_sets if self.kind(unit) == PPS]
        profile, level = max(unit[1] for unit in sps), max(unit[3] for unit in sps)
        compatible = 0xFF
        for unit in sps:
            compatible &= unit[2]
        record = bytes([1, profile, compatible, level, 0xFF, 0xE0 | len(sps)]) + join_lengths(sps, 2)
        record += bytes([len(pps)]) + join_lengths(pps, 2)
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


def unused_id(parameter_sets: Iterable[bytes]) -> int | None:
    """A number (1-31) that no sequence or picture parameter set among these has; None when there is none."""
    used = {_Bits(unit[4 if unit[0] & 31 == SPS else 1 :][:8]).ue() for unit in parameter_sets}
    return next((number for number in range(1, 32) if number not in used), None)


class _Bits:
    """Reads numbers from the front of some bytes. Raises ValueError at their end."""

    def __init__(self, data: bytes):
        self.text = f"{int.from_bytes(data):0{8 * len(data)}b}" if data else ""
        self.at = 0

    def u(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        self.at += count
        if self.at > len(self.text):
            raise ValueError("a header is longer than expected")
        return int(self.text[self.at - count : self.at], 2) if count else 0

    def ue(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = self.text.index("1", self.at) - self.at
        self.at += zeros
        return self.u(zeros + 1) - 1

    def skip_ue(self, count: int) -> None:
        """Step over Exp-Golomb numbers, signed or not."""
        for _ in range(count):
            self.ue()

    def se(self) -> int:
        """A signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True)
class _Sequence:
    """What a sequence parameter set says about slice headers (7.3.2.1)."""

    number: int
    frame_num_bits: int
    order_bits: int  # of pic_order_cnt_lsb; 0 where order follows from frame_num

    @staticmethod
    def parse(unit: bytes) -> "_Sequence":
        bits = _Bits(_unescaped(unit)[1:])
        profile = bits.u(24) >> 16
        number = bits.ue()
        if profile in HIGH_PROFILES:
            if bits.ue() != 1:
                raise ValueError("not 4:2:0")
            bits.skip_ue(2)
            bits.u(1)
            if bits.u(1):
                for index in range(8):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
        frame_num_bits = bits.ue() + 4
        order_type = bits.ue()
        if order_type == 1:
            raise ValueError("picture order type 1")
        order_bits = bits.ue() + 4 if order_type == 0 else 0
        bits.ue()
        bits.u(1)
        bits.skip_ue(2)
        if not bits.u(1):
            raise ValueError("interlaced coding")
        return _Sequence(number, frame_num_bits, order_bits)


@dataclass(frozen=True)
class _Picture:
    """What a picture parameter set says about slice headers (7.3.2.2)."""

    number: int
    sequence: int
    is_cabac: bool
    has_bottom_order: bool
    active_references: tuple[int, int]
    is_weighted: bool
    has_explicit_weights: bool
    has_deblocking: bool
    has_redundant: bool

    @staticmethod
    def parse(unit: bytes) -> "_Picture":
        bits = _Bits(_unescaped(unit)[1:])
        number, sequence, is_cabac, has_bottom_order = bits.ue(), bits.ue(), bits.u(1), bits.u(1)
        if bits.ue():
            raise ValueError("slice groups")
        active, is_weighted, weights = (bits.ue() + 1, bits.ue() + 1), bits.u(1), bits.u(2)
        bits.skip_ue(3)
        deblocking, _, redundant = bits.u(1), bits.u(1), bits.u(1)
        flags = (bool(is_weighted), weights == 1, bool(deblocking), bool(redundant))
        return _Picture(number, sequence, bool(is_cabac), bool(has_bottom_order), active, *flags)


class _Renumber(Splice):
    """A run of copied pictures whose first one becomes an IDR picture if it is none. Raises ValueError for streams
    with parts of the standard that are not known here (interlaced coding, long-term references, slice groups)."""

    def __init__(self, parameter_sets: Sequence[bytes]):
        self._parameter_sets = parameter_sets
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, _Picture] = {}
        self._is_active = False
        self._frame_num = self._order = 0  # of the first picture, in the source
        self._count = 0  # reference pictures since

    def first(self, units: list[bytes], *, at_start: bool) -> list[bytes]:
        self._is_active = not any(unit[0] & 31 == IDR for unit in units)
        if not self._is_active:
            return units
        if not self._sequences:
            sps = (_Sequence.parse(unit) for unit in self._parameter_sets if unit[0] & 31 == SPS)
            pps = (_Picture.parse(unit) for unit in self._parameter_sets if unit[0] & 31 == PPS)
            self._sequences = {item.number: item for item in sps}
            self._pictures = {item.number: item for item in pps}
        slice_unit = next(unit for unit in units if unit[0] & 31 == SLICE)
        header = self._header(_unescaped(slice_unit))
        self._frame_num, self._order, self._count = header.frame_num, header.order, 0
        kept = [unit for unit in units if unit[0] & 31 != SEI or not _is_exact_recovery_point(unit)]
        return [self._rewritten(unit, to_idr=True) if unit[0] & 31 == SLICE else unit for unit in kept]

    def next(self, units: list[bytes]) -> list[bytes]:
        if any(unit[0] & 31 == IDR for unit in units):
            self._is_active = False  # from here on the stream counts afresh by itself
        if not self._is_active:
            return units
        if any(2 <= unit[0] & 31 <= 4 for unit in units):
            raise ValueError("data partitions")
        return [self._rewritten(unit, to_idr=False) if unit[0] & 31 == SLICE else unit for unit in units]

    def _header(self, data: bytes) -> "_SliceHeader":
        bits = _Bits(data[1 : 1 + HEADER_BYTES])
        bits.ue()
        kind = bits.ue() % 5
        picture = self._pictures.get(bits.ue())
        if picture is None or picture.sequence not in self._sequences or kind > I:
            raise ValueError("a slice of an unknown kind")
        return _SliceHeader(bits, kind, self._sequences[picture.sequence], picture, is_reference=bool(data[0] & 0x60))

    def _rewritten(self, unit: bytes, *, to_idr: bool) -> bytes:
        data = _unescaped(unit)
        header = self._header(data)
        modulus = 1 << header.sequence.frame_num_bits
        count = self._count + (header.frame_num - self._frame_num - self._count) % modulus
        if header.is_reference:
            self._count = count
        order_bits = header.sequence.order_bits
        text = header.bits.text
        head = text[: header.frame_num_at] + f"{count % modulus:0{header.sequence.frame_num_bits}b}"
        if to_idr:
            head += _exp_golomb(IDR_PIC_ID)
        if order_bits:
            head += f"{(header.order - self._order) % (1 << order_bits):0{order_bits}b}"
        middle = header.order_at + order_bits
        start, end, marking = header.marking(count, to_idr=to_idr)
        if text[start:end] == marking and not to_idr:
            return _escaped(data[:1] + _to_bytes(head + text[middle:]) + data[1 + len(text) // 8 :])
        head += text[middle:start] + marking + text[end : header.end()]
        kind = bytes([data[0] & 0x60 | IDR]) if to_idr else data[:1]
        return _escaped(kind + header.with_data(head, data[1:]))


class _SliceHeader:
    """A slice header, read as far as asked."""

    def __init__(self, bits: _Bits, kind: int, sequence: _Sequence, picture: _Picture, *, is_reference: bool):
        self.bits, self.sequence, self.is_reference = bits, sequence, is_reference
        self._kind, self._picture = kind, picture
        self.frame_num_at = bits.at
        self.frame_num = bits.u(sequence.frame_num_bits)
        self.order_at = bits.at
        self.order = bits.u(sequence.order_bits)
        if sequence.order_bits and picture.has_bottom_order:
            bits.se()
        if picture.has_redundant:
            bits.ue()

    def marking(self, count: int, *, to_idr: bool) -> tuple[int, int, str]:
        """Where dec_ref_pic_marking (7.3.3.3) stands, and what it becomes.

        count: reference pictures since the run began. Orders to forget an earlier picture fall away.
        """
        if not self.is_reference:
            return self.bits.at, self.bits.at, ""
        self._skip_references(count)
        bits, start = self.bits, self.bits.at
        kept = "1"
        if not bits.u(1):
            return start, bits.at, "00" if to_idr else "0"
        while operation := bits.ue():
            if operation != 1:
                raise ValueError("long-term references")
            distance = bits.ue() + 1
            if distance <= count:
                kept += _exp_golomb(1) + _exp_golomb(distance - 1)
        marking = kept + _exp_golomb(0) if kept != "1" else "0"
        return start, bits.at, "00" if to_idr else marking

    def end(self) -> int:
        """Where the slice's data begin; to be asked after `marking`."""
        bits = self.bits
        if self._picture.is_cabac and self._kind != I:
            bits.ue()
        bits.se()
        if self._picture.has_deblocking and bits.ue() != 1:
            bits.skip_ue(2)
        return bits.at

    def with_data(self, head: str, data: bytes) -> bytes:
        """A new header in front of the slice's data; to be asked after `end`. data: from the old header's start on."""
        if self._picture.is_cabac:  # data start at a whole byte, behind ones
            return _to_bytes(head + "1" * (-len(head) % 8)) + data[-(-self.bits.at // 8) :]
        rest = f"{int.from_bytes(data):0{8 * len(data)}b}"[self.bits.at :].rstrip("0")
        return _to_bytes(head + rest)

    def _skip_references(self, count: int) -> None:
        """Step over which pictures this one refers to. Raises ValueError when one is from before the run."""
        bits, active = self.bits, list(self._picture.active_references)
        lists, modulus = {P: 1, B: 2, I: 0}[self._kind], 1 << self.sequence.frame_num_bits
        if self._kind == B:
            bits.u(1)
        if lists and bits.u(1):
            active[:lists] = [bits.ue() + 1 for _ in range(lists)]
        for _ in range(lists):
            if not bits.u(1):
                continue
            number = count
            while (operation := bits.ue()) != 3:
                if operation > 1:
                    raise ValueError("long-term references")
                distance = bits.ue() + 1
                number += distance if operation else -distance
                number = count - (count - number) % modulus  # the numbers wrap; what is meant lies before this picture
                if number < 0:
                    raise ValueError("a reference to a picture before the key picture")
        if (self._kind == P and self._picture.is_weighted) or (self._kind == B and self._picture.has_explicit_weights):
            bits.skip_ue(2)
            for _ in range(sum(active[:lists])):
                for values in (2, 4):
                    if bits.u(1):
                        bits.skip_ue(values)


def _is_intra(unit: bytes) -> bool:
    bits = _Bits(unit[1:17])
    bits.ue()
    return bits.ue() % 5 == I


def _is_exact_recovery_point(unit: bytes) -> bool:
    """Whether this is a message that decoding may start at this very picture and is exact from here on (D.2.8)."""
    if unit[0] & 31 != SEI:
        return False
    data, at = _unescaped(unit), 1
    while at + 2 < len(data):
        numbers = []
        for _ in range(2):  # payload type and size: a sum of bytes, up to one that is not 255
            number = 0
            while at < len(data) and data[at] == 255:
                number, at = number + 255, at + 1
            numbers.append(number + data[at] if at < len(data) else 0)
            at += 1
        kind, size = numbers
        if kind == RECOVERY_POINT:
            bits = _Bits(data[at : at + size])
            return bits.ue() == 0 and bits.u(1) == 1
        at += size
    return False


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    if not bits.u(1):
        return
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _exp_golomb(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _to_bytes(bits: str) -> bytes:
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size)


def _unescaped(unit: bytes) -> bytes:
    """Without emulation prevention bytes (7.4.1.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _escaped(data: bytes) -> bytes:
    return re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)
