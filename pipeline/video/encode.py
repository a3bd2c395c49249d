"""Encode pictures with x264 or x265, with the look (size, colour, pixel aspect) that the caller states."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.settings import ClipFileSettings
from pipeline.video.mp4 import IDENTITY, Colour, Matrix
from pipeline.video.nal import Codec, split_start_codes

GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets once, beside the packets
UNSPECIFIED, RGB, BT709 = 2, 0, 1  # code points of ISO/IEC 23091-2
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
H264_PROFILES = {"Constrained Baseline": "baseline", "Baseline": "baseline", "Main": "main"}


@dataclass(frozen=True)
class Look:
    """What encoded pictures share. width, height in px as coded; time_base in seconds a tick."""

    width: int
    height: int
    pixel_format: str
    time_base: Fraction
    rate: Fraction
    pixel_aspect: Fraction
    colour: Colour
    profile: str | None = None

    @staticmethod
    def of(frame: av.VideoFrame, stream: av.VideoStream) -> "Look":
        """The look of a stream's decoded pictures."""
        context = stream.codec_context
        colour = Colour(frame.color_primaries, frame.color_trc, frame.colorspace, is_full_range(frame))
        return Look(
            width=frame.width,
            height=frame.height,
            pixel_format=frame.format.name,
            time_base=stream.time_base or Fraction(1, av.time_base),
            rate=stream.average_rate or stream.guessed_rate or Fraction(25),
            pixel_aspect=context.sample_aspect_ratio or Fraction(1),
            colour=colour,
            profile=context.profile,
        )


class Encoded(NamedTuple):
    """One coded picture: its time (ticks) and its NAL units."""

    pts: int
    units: list[bytes]


class VideoEncoder:
    """One run of pictures, from a key picture on.

    parameter_id: number of its H.264 parameter sets, so that they can stand beside the source's in one file.
    threads: encoder threads. Raises av.error.FFmpegError when the encoder refuses the look or a picture.
    """

    def __init__(
        self, codec: Codec, look: Look, settings: ClipFileSettings, *, parameter_id: int = 0, threads: int = 1
    ):
        self._codec, self._look = codec, look
        self._reformat = VideoReformatter()
        context = cast(av.VideoCodecContext, av.CodecContext.create(codec.encoder, "w"))
        context.width, context.height, context.pix_fmt = look.width, look.height, look.pixel_format
        context.time_base, context.framerate = look.time_base, look.rate
        context.sample_aspect_ratio = look.pixel_aspect
        context.color_primaries, context.color_trc = look.colour.primaries, look.colour.transfer
        context.colorspace, context.color_range = look.colour.matrix, FULL_RANGE if look.colour.full_range else 1
        context.flags |= GLOBAL_HEADER
        context.thread_count = threads
        context.options = {"crf": f"{settings.crf:g}", "preset": settings.preset} | self._own(parameter_id, threads)
        self._context = context
        context.open()

    @property
    def parameter_sets(self) -> list[bytes]:
        """The stream's parameter sets."""
        units = split_start_codes(self._context.extradata or b"")
        return [unit for unit in units if self._codec.kind(unit) in self._codec.parameter_types]

    def push(self, frame: av.VideoFrame, pts: int) -> list[Encoded]:
        """Encode one picture that is shown at tick pts; returns those that are ready, in decode order."""
        frame = self._fitted(frame)
        frame.pts, frame.time_base = pts, self._look.time_base
        frame.pict_type = 0  # the decoder's choice of I, P or B would be taken as an order
        return self._units(self._context.encode(frame))

    def flush(self) -> list[Encoded]:
        """The rest. The encoder cannot be used afterwards."""
        return self._units(self._context.encode(None))

    def _own(self, parameter_id: int, threads: int) -> dict[str, str]:
        if self._codec.name == "hevc":
            pools = f"pools={threads}" if threads > 1 else "pools=none:frame-threads=1"
            return {"x265-params": f"log-level=none:info=0:open-gop=0:{pools}"}
        profile = H264_PROFILES.get(self._look.profile or "", "high")
        return {"profile": profile, "x264-params": f"sps-id={parameter_id}"}

    def _fitted(self, frame: av.VideoFrame) -> av.VideoFrame:
        look = self._look
        if (frame.width, frame.height, frame.format.name) == (look.width, look.height, look.pixel_format):
            return frame
        colour_range = 2 if look.colour.full_range else 1
        return self._reformat.reformat(
            frame,
            width=look.width,
            height=look.height,
            format=look.pixel_format,
            interpolation=Interpolation.BICUBIC,
            src_color_range=colour_range if not frame.format.is_rgb else None,
            dst_color_range=colour_range,
            dst_colorspace=BT709 if frame.format.is_rgb else None,
        )

    def _units(self, packets: Iterable[av.Packet]) -> list[Encoded]:
        coded = []
        for packet in packets:
            units = [unit for unit in split_start_codes(bytes(packet)) if unit]
            sets = self._codec.parameter_types
            kept = [unit for unit in units if self._codec.kind(unit) not in sets]
            coded.append(Encoded(packet.pts or 0, kept))
        return coded


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether luma uses all of 0-255 (8 bits) rather than 16-235."""
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """How a player turns and mirrors the picture: nine fixed-point numbers, as in an MP4 track header."""
    data = cast(Mapping[SideDataType, SideData], frame.side_data).get(SideDataType.DISPLAYMATRIX)
    return struct.unpack("=9i", bytes(data)) if data is not None else IDENTITY
