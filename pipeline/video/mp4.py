"""Write one small MP4 file (ISO/IEC 14496-12, -14, -15): one video track, at most one audio track, index in front.

Why not ffmpeg's muxer: it starts a file with B-frames with an edit list, and players differ in which pictures an edit
list hides. Here the video track has none: composition offsets are signed (`ctts` version 1), so the first picture is at
time 0 and every picture in the file is shown. The sample description is ours as well: parameter sets of two encoders
in one `avcC`, the display matrix and the colour description of the source.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby, pairwise
from typing import BinaryIO, NamedTuple

CHUNK_S = 0.5  # audio and video alternate in pieces of this length, so that a player can start before the file is there
COPY_BYTES = 1 << 20
IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
Matrix = tuple[int, ...]


class Sample(NamedTuple):
    """One coded picture or audio frame, in decode order. pts: when it is shown, in ticks of its track's timescale."""

    pts: int
    num_bytes: int
    is_key: bool


class Colour(NamedTuple):
    """Colour description by the code points of ISO/IEC 23091-2 (2: unspecified)."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


@dataclass
class Track:
    """A track of the file. `entry` is its sample description; the samples' bytes come from `data` in decode order.

    The first video sample is shown at tick 0. Audio may begin before 0, with what a decoder needs to start up: players
    begin at 0 all the same; or after 0, and they wait. end: tick at which the track ends.
    """

    entry: bytes
    timescale: int
    data: BinaryIO
    end: int
    samples: list[Sample] = field(default_factory=list)
    is_video: bool = True
    width: int = 0
    height: int = 0
    matrix: Matrix = IDENTITY

    @property
    def decode_ticks(self) -> list[int]:
        """When each sample is decoded: as often and as regularly as pictures are shown, whatever their order."""
        return sorted(sample.pts for sample in self.samples)


def avc_entry(config: bytes, width: int, height: int, *, pixel_aspect: Fraction, colour: Colour) -> bytes:
    """Sample description of H.264 whose parameter sets all stand in `config` (an AVCDecoderConfigurationRecord)."""
    return _video_entry(b"avc1", _box(b"avcC", config), width, height, pixel_aspect, colour)


def hevc_entry(
    config: bytes, width: int, height: int, *, pixel_aspect: Fraction, colour: Colour, in_band: bool
) -> bytes:
    """Sample description of HEVC. in_band: parameter sets also stand in front of pictures (`hev1`)."""
    kind = b"hev1" if in_band else b"hvc1"
    return _video_entry(kind, _box(b"hvcC", config), width, height, pixel_aspect, colour)


def aac_entry(config: bytes, channels: int, rate: int) -> bytes:
    """Sample description of AAC. config: an AudioSpecificConfig; rate in Hz."""
    decoder = struct.pack(">BBBHII", 0x40, 0x15, 0, 0, 0, 0) + _descriptor(5, config)
    stream = struct.pack(">HB", 0, 0) + _descriptor(4, decoder) + _descriptor(6, b"\x02")
    shown_rate = rate if rate < 1 << 16 else 0  # the field has 16 bits; the config is what decoders go by
    fields = struct.pack(">6xH8xHHHHI", 1, channels, 16, 0, 0, shown_rate << 16)
    return _box(b"mp4a", fields, _full_box(b"esds", _descriptor(3, stream)))


def write_mp4(out: BinaryIO, video: Track, audio: Track | None = None) -> int:
    """Write the file and return its size (bytes). Memory: the sample tables; the samples are copied through."""
    tracks = [video, audio] if audio is not None and audio.samples else [video]
    order = _interleave(tracks)
    kind = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso6mp41")
    body_bytes = sum(sample.num_bytes for track in tracks for sample in track.samples)
    wide = body_bytes + (1 << 24) >= 1 << 32  # the tables need far less than these 16 MiB
    head = struct.pack(">I4sQ", 1, b"mdat", body_bytes + 16) if wide else struct.pack(">I4s", body_bytes + 8, b"mdat")
    start = len(kind) + len(_moov(tracks, order, 0, wide)) + len(head)
    out.write(kind + _moov(tracks, order, start, wide) + head)
    for chunk in order:
        _copy(tracks[chunk.track].data, out, chunk.num_bytes)
    return start + body_bytes


class _Chunk(NamedTuple):
    track: int
    num_samples: int
    num_bytes: int


def _interleave(tracks: Sequence[Track]) -> list[_Chunk]:
    pieces = []
    for number, track in enumerate(tracks):
        ticks = track.decode_ticks
        timed = zip(ticks, track.samples, strict=True)
        for when, group in groupby(timed, key=lambda pair: int(pair[0] / track.timescale / CHUNK_S)):
            sizes = [sample.num_bytes for _, sample in group]
            pieces.append((when, number, _Chunk(number, len(sizes), sum(sizes))))
    return [piece[2] for piece in sorted(pieces, key=lambda piece: piece[:2])]


def _moov(tracks: Sequence[Track], order: Sequence[_Chunk], start: int, wide: bool) -> bytes:
    scale = tracks[0].timescale
    length = max(_rescale(track.end, track.timescale, scale) for track in tracks)
    fields = struct.pack(">IIIIIH10x9i24xI", 0, 0, scale, length, 1 << 16, 1 << 8, *IDENTITY, len(tracks) + 1)
    boxes = [_full_box(b"mvhd", fields)]
    for number, track in enumerate(tracks):
        offsets, at = [], start
        for chunk in order:
            if chunk.track == number:
                offsets.append(at)
            at += chunk.num_bytes
        counts = [chunk.num_samples for chunk in order if chunk.track == number]
        boxes.append(_trak(number + 1, track, scale, _chunk_tables(counts, offsets, wide)))
    return _box(b"moov", *boxes)


def _trak(number: int, track: Track, movie_scale: int, chunks: bytes) -> bytes:
    length = _rescale(track.end, track.timescale, movie_scale)
    volume = 0 if track.is_video else 1 << 8
    fields = struct.pack(
        ">IIIIIQHHHH9iII",
        *(0, 0, number, 0, length, 0, 0, 0, volume, 0),
        *track.matrix,
        *(track.width << 16, track.height << 16),
    )
    media_length = track.end - track.samples[0].pts if not track.is_video else track.end
    media = _full_box(b"mdhd", struct.pack(">IIIIHH", 0, 0, track.timescale, media_length, 0x55C4, 0))
    handler, name = (b"vide", b"video\0") if track.is_video else (b"soun", b"audio\0")
    media += _full_box(b"hdlr", struct.pack(">I4s12x", 0, handler), name)
    kind = _full_box(b"vmhd", bytes(8), flags=1) if track.is_video else _full_box(b"smhd", bytes(4))
    local = _box(b"dinf", _full_box(b"dref", struct.pack(">I", 1), _full_box(b"url ", flags=1)))
    table = _box(b"stbl", _full_box(b"stsd", struct.pack(">I", 1), track.entry), _sample_tables(track), chunks)
    edits = b"" if track.is_video else _edits(track, movie_scale)
    media = _box(b"mdia", media, _box(b"minf", kind, local, table))
    return _box(b"trak", _full_box(b"tkhd", fields, flags=3), edits, media)


def _edits(track: Track, movie_scale: int) -> bytes:
    """Audio that starts before the clip is skipped up to it; audio that starts later is waited for."""
    first = track.samples[0].pts
    length = _rescale(track.end - max(0, first), track.timescale, movie_scale)
    entries = [struct.pack(">IiHH", length, max(0, -first), 1, 0)]
    if first > 0:
        entries.insert(0, struct.pack(">IiHH", _rescale(first, track.timescale, movie_scale), -1, 1, 0))
    return _box(b"edts", _full_box(b"elst", struct.pack(">I", len(entries)), *entries))


def _sample_tables(track: Track) -> bytes:
    ticks = track.decode_ticks
    steps = [b - a for a, b in pairwise(ticks)] + [max(1, track.end - ticks[-1])]
    sizes = [sample.num_bytes for sample in track.samples]
    tables = _full_box(b"stts", _runs(steps, ">II"))
    offsets = [sample.pts - tick for sample, tick in zip(track.samples, ticks, strict=True)]
    if any(offsets):
        tables += _full_box(b"ctts", _runs(offsets, ">Ii"), version=1)
        least, greatest = min(offsets), max(offsets)
        tables += _full_box(b"cslg", struct.pack(">5i", -least, least, greatest, 0, track.end))
    tables += _full_box(b"stsz", struct.pack(f">II{len(sizes)}I", 0, len(sizes), *sizes))
    keys = [number for number, sample in enumerate(track.samples, 1) if sample.is_key]
    if len(keys) < len(sizes):
        tables += _full_box(b"stss", struct.pack(f">I{len(keys)}I", len(keys), *keys))
    return tables


def _chunk_tables(counts: Sequence[int], offsets: Sequence[int], wide: bool) -> bytes:
    rows = [(number, count) for number, count in enumerate(counts, 1) if number == 1 or counts[number - 2] != count]
    table = b"".join(struct.pack(">III", first, count, 1) for first, count in rows)
    kind, item = (b"co64", "Q") if wide else (b"stco", "I")
    return _full_box(b"stsc", struct.pack(">I", len(rows)), table) + _full_box(
        kind, struct.pack(f">I{len(offsets)}{item}", len(offsets), *offsets)
    )


def _runs(values: Sequence[int], row: str) -> bytes:
    runs = [(len(list(group)), value) for value, group in groupby(values)]
    return struct.pack(">I", len(runs)) + b"".join(struct.pack(row, count, value) for count, value in runs)


def _video_entry(kind: bytes, config: bytes, width: int, height: int, pixel_aspect: Fraction, colour: Colour) -> bytes:
    fields = struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    extra = b""
    if pixel_aspect != 1:
        extra += _box(b"pasp", struct.pack(">II", pixel_aspect.numerator, pixel_aspect.denominator))
    if colour != (2, 2, 2, False):
        codes = struct.pack(">HHHB", colour.primaries, colour.transfer, colour.matrix, colour.full_range << 7)
        extra += _box(b"colr", b"nclx", codes)
    return _box(kind, fields, config, extra)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _descriptor(tag: int, body: bytes) -> bytes:
    size = len(body)  # seven bits a byte, four bytes always: what other writers do
    return bytes([tag, size >> 21 & 127 | 128, size >> 14 & 127 | 128, size >> 7 & 127 | 128, size & 127]) + body


def _rescale(ticks: int, scale: int, to_scale: int) -> int:
    return round(Fraction(ticks * to_scale, scale))


def _copy(source: BinaryIO, out: BinaryIO, num_bytes: int) -> None:
    while num_bytes:
        block = source.read(min(num_bytes, COPY_BYTES))
        if not block:
            raise EOFError("fewer bytes than the samples need")
        out.write(block)
        num_bytes -= len(block)
