"""The sound of a clip: AAC is copied packet by packet, anything else decoded, trimmed to the sample and encoded."""

import io
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import av.error
import numpy as np

from pipeline.video.encode import GLOBAL_HEADER
from pipeline.video.mp4 import Sample, Track, aac_entry

PREROLL_S = 0.1  # packets in front of a clip that a decoder may need to start up (Opus asks for 0.08 s)
MAX_LAG_S = 10  # sound that lies further behind its pictures in the file is not waited for
MAX_DRIFT_S = 0.05  # decoded sound further than this from its time stamp is moved there; less is rounding
AAC_FRAME = 1024  # samples
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


@dataclass(frozen=True)
class _Packet:
    start_s: Fraction
    end_s: Fraction
    packet: av.Packet


class Sound:
    """The audio stream of a source. Packets are taken in as they come and kept until no clip needs them any more."""

    def __init__(self, stream: av.AudioStream | None, kbps: float):
        self.stream = stream if stream is not None and stream.codec_context is not None else None
        self._kbps = kbps
        self._packets: deque[_Packet] = deque()
        self.end_s = Fraction(-(10**9))  # end of the last packet taken in (seconds of the file's clock)

    def push(self, packet: av.Packet) -> None:
        """Take one packet of the stream; those without a time stamp follow the one before."""
        tick = packet.time_base
        start_s = packet.pts * tick if packet.pts is not None else self.end_s
        self.end_s = max(self.end_s, start_s + (packet.duration or 0) * tick)
        if packet.size:
            self._packets.append(_Packet(start_s, start_s + (packet.duration or 0) * tick, packet))

    def has(self, until_s: Fraction, shown_s: Fraction) -> bool:
        """Whether the sound up to until_s is there, or need not be waited for, now that pictures have come to shown_s
        (seconds of the file's clock)."""
        return self.stream is None or self.end_s >= until_s or shown_s >= until_s + MAX_LAG_S

    def forget(self, before_s: Fraction) -> None:
        """Drop what no clip that starts at before_s (seconds of the file's clock) or later can need."""
        while self._packets and self._packets[0].end_s < before_s - Fraction(PREROLL_S):
            self._packets.popleft()

    def track(self, start_s: Fraction, end_s: Fraction) -> Track | None:
        """The sound of [start_s, end_s), seconds of the file's clock; None where there is none."""
        if self.stream is None:
            return None
        held = list(self._packets)
        first = bisect_right(held, start_s, key=lambda item: item.end_s)
        last = bisect_left(held, end_s, key=lambda item: item.start_s)
        if first >= last:
            return None
        context = self.stream.codec_context
        if context.name == "aac" and context.extradata:
            items = held[max(0, first - 1) : last]  # an AAC frame overlaps with the one before
            return _copied(context, context.extradata, items, start_s, end_s)
        warm_up = bisect_right(held, start_s - Fraction(PREROLL_S), key=lambda item: item.end_s)
        return _encoded(context, held[warm_up:last], start_s, end_s, self._kbps)


def _copied(
    context: av.AudioCodecContext, config: bytes, items: list[_Packet], start_s: Fraction, end_s: Fraction
) -> Track:
    scale = context.rate
    ticks = [round((item.start_s - start_s) * scale) for item in items]
    kept = [i for i in range(len(items)) if i == 0 or ticks[i] > ticks[i - 1]]
    samples = [Sample(ticks[i], items[i].packet.size, True) for i in kept]
    data = io.BytesIO(b"".join(bytes(items[i].packet) for i in kept))
    end = round((min(items[-1].end_s, end_s) - start_s) * scale)
    entry = aac_entry(config, context.channels, context.rate)
    return Track(entry, scale, data, max(end, ticks[-1] + 1), samples, is_video=False)


def _encoded(
    source: av.AudioCodecContext, items: list[_Packet], start_s: Fraction, end_s: Fraction, kbps: float
) -> Track | None:
    rate = source.rate if source.rate in AAC_RATES else 48000
    layout = "mono" if source.channels == 1 else "stereo"
    wave = _decoded(source, [item.packet for item in items], rate, layout, start_s, end_s)
    if not wave.shape[1]:
        return None
    context = cast(av.AudioCodecContext, av.CodecContext.create("aac", "w"))
    context.sample_rate, context.layout, context.format = rate, layout, "fltp"
    context.bit_rate, context.flags = round(kbps * 1000), context.flags | GLOBAL_HEADER
    context.time_base = Fraction(1, rate)
    packets = []
    for at in range(0, wave.shape[1], AAC_FRAME):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, at : at + AAC_FRAME]), "fltp", layout)
        frame.rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        packets += context.encode(frame)
    packets += context.encode(None)
    samples = [Sample(packet.pts or 0, packet.size, True) for packet in packets]
    entry = aac_entry(context.extradata or b"", len(wave), rate)
    data = io.BytesIO(b"".join(map(bytes, packets)))
    return Track(entry, rate, data, wave.shape[1], samples, is_video=False)


def _decoded(
    context: av.AudioCodecContext,
    packets: Iterable[av.Packet],
    rate: int,
    layout: str,
    start_s: Fraction,
    end_s: Fraction,
) -> np.ndarray:
    """Samples of [start_s, end_s) as float32 (channels, samples), silence where there are none in between."""
    resampler = av.AudioResampler("fltp", layout, rate)
    wave = np.zeros((1 if layout == "mono" else 2, max(0, round((end_s - start_s) * rate))), np.float32)
    context.flush_buffers()
    at, end = None, 0
    for frame in _frames(context, packets):
        when = None
        if frame.pts is not None and frame.time_base is not None:
            when = round((frame.pts * frame.time_base - start_s) * rate)
        if at is None or (when is not None and abs(when - at) > MAX_DRIFT_S * rate):
            at = when or 0
        frame.pts = None
        for part in resampler.resample(frame):
            values = part.to_ndarray()
            low, high = max(at, 0), min(at + values.shape[1], wave.shape[1])
            if low < high:
                wave[:, low:high] = values[:, low - at : high - at]
                end = max(end, high)
            at += values.shape[1]
    return wave[:, :end]


def _frames(context: av.AudioCodecContext, packets: Iterable[av.Packet]) -> Iterable[av.AudioFrame]:
    for packet in (*packets, None):
        try:
            yield from context.decode(packet)
        except av.error.FFmpegError:
            continue  # a damaged packet is a moment of silence
