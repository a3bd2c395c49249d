"""Bitstreams of NAL units (H.264, HEVC) as far as cutting needs them. Units are held without start code or length."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar


class Splice:
    """One run of copied pictures in a clip, in decode order, that begins behind pictures it does not go with.

    Where numbering or types have to change for that, it is done here; by default nothing has to.
    """

    def first(self, units: list[bytes], *, at_start: bool) -> list[bytes]:
        """The key picture that the run begins with. at_start: nothing stands before it in the file."""
        return units

    def next(self, units: list[bytes]) -> list[bytes]:
        """A picture behind it. Raises ValueError when it leans on what is not there."""
        return units


class Codec(ABC):
    """What differs between the codecs. Numbers of NAL unit types are those of ITU-T H.264 and H.265."""

    name: ClassVar[str]
    encoder: ClassVar[str]
    parameter_types: ClassVar[frozenset[int]]
    delimiter_type: ClassVar[int]
    repeats_parameter_sets: ClassVar[bool]
    """whether runs of different encoders bring their parameter sets along, in the samples"""

    @abstractmethod
    def kind(self, unit: bytes) -> int:
        """The NAL unit type."""

    @abstractmethod
    def starts_gop(self, units: Sequence[bytes]) -> bool:
        """Whether pictures that are shown after this one need none that is decoded before it."""

    @abstractmethod
    def is_sync(self, units: Sequence[bytes]) -> bool:
        """Whether a player may start here."""

    @abstractmethod
    def is_reference(self, units: Sequence[bytes]) -> bool:
        """Whether another picture may need this one; True where it cannot be told."""

    @abstractmethod
    def can_drop(self, leading: Sequence[Sequence[bytes]]) -> bool:
        """Whether a run may begin at a key picture without these, which follow it and are shown before it."""

    @abstractmethod
    def splice(self, parameter_sets: Sequence[bytes]) -> Splice:
        """A new run of copied pictures, of a stream with these parameter sets."""

    @abstractmethod
    def config(self, parameter_sets: Sequence[bytes]) -> bytes:
        """The decoder configuration record of ISO/IEC 14496-15, for units with lengths of four bytes."""

    @abstractmethod
    def config_sets(self, record: bytes) -> tuple[list[bytes], int]:
        """Parameter sets of such a record, and how many bytes its unit lengths have."""


class Bitstream:
    """How one stream stores its units. extradata: a configuration record, or parameter sets behind start codes.

    Raises ValueError when there are no parameter sets.
    """

    def __init__(self, codec: Codec, extradata: bytes | None):
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


def join_lengths(units: Iterable[bytes], length_bytes: int = 4) -> bytes:
    """Every unit behind its length, as an MP4 file stores them."""
    return b"".join(len(unit).to_bytes(length_bytes) + unit for unit in units)
