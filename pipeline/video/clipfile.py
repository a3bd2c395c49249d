"""One clip on its way to a file: pictures in decode order, then the sound, then the file at once under its name."""

import contextlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Literal, NamedTuple, cast

from pipeline.video.clips import Span
from pipeline.video.encode import Encoded, Look
from pipeline.video.mp4 import Matrix, Sample, Track, avc_entry, hevc_entry, write_mp4
from pipeline.video.nal import Codec, join_lengths

MEMORY_BYTES = 32 << 20  # of a clip's pictures; what is more waits in a temporary file


class Job(NamedTuple):
    """A clip to write: its span, and the local path of its file."""

    span: Span
    path: str


@dataclass(frozen=True)
class ClipFile:
    """What was written for one span.

    mode: `copy`: every picture is the source's; `smart`: some were encoded; `reencode`: all were.
    reason: why a smart cut was not possible, where one was asked for. error: why there is no file.
    """

    job: Job
    mode: Literal["copy", "smart", "reencode"]
    num_frames: int = 0
    num_copied: int = 0
    num_bytes: int = 0
    video_codec: str = ""
    audio_codec: str | None = None
    reason: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Shape:
    """How the pictures of a file are to be shown: coded as `look` says, in pixels of pixel_aspect, turned by matrix."""

    look: Look
    pixel_aspect: Fraction
    matrix: Matrix


class ClipWriter:
    """Collects the samples of one clip. Times are ticks of shape.look.time_base from the start of the clip."""

    def __init__(self, job: Job, codec: Codec, shape: Shape):
        self.job = job
        self._codec, self._shape = codec, shape
        self._data = cast(BinaryIO, SpooledTemporaryFile(max_size=MEMORY_BYTES))  # noqa: SIM115 (closed by `close`)
        self._samples: list[Sample] = []
        self._sets: list[list[bytes]] = []  # of each origin, in the order in which they came
        self._last_sets: list[bytes] | None = None
        self.num_copied = 0

    @property
    def num_frames(self) -> int:
        """Pictures taken so far."""
        return len(self._samples)

    @property
    def first_pts(self) -> int | None:
        """Time of the first picture to be shown; 0 in a sound clip."""
        return min((sample.pts for sample in self._samples), default=None)

    def add(self, pictures: Iterable[Encoded], parameter_sets: list[bytes], *, copied: bool) -> None:
        """Append pictures in decode order. A run with other parameter sets than before starts with a key picture."""
        for picture in pictures:
            units = picture.units
            if self._last_sets not in (None, parameter_sets) and self._codec.repeats_parameter_sets:
                units = [*parameter_sets, *units]
            if parameter_sets not in self._sets:
                self._sets.append(parameter_sets)
            self._last_sets = parameter_sets
            data = join_lengths(units)
            self._data.write(data)
            self._samples.append(Sample(picture.pts, len(data), self._codec.is_sync(units)))
            self.num_copied += copied

    def save(self, end_pts: int, sound: Track | None) -> ClipFile:
        """Write the file; end_pts: tick at which the last picture's time is over. Raises OSError; closes the writer."""
        time_base = self._shape.look.time_base
        self._data.seek(0)
        video = Track(
            entry=self._entry(),
            timescale=time_base.denominator,
            data=self._data,
            end=end_pts * time_base.numerator,
            samples=[sample._replace(pts=sample.pts * time_base.numerator) for sample in self._samples],
            width=round(self._shape.look.width * self._shape.pixel_aspect),
            height=self._shape.look.height,
            matrix=self._shape.matrix,
        )
        with contextlib.closing(self._data):
            num_bytes = _write_atomically(self.job.path, video, sound)
        whole = self.num_copied == len(self._samples)
        return ClipFile(
            job=self.job,
            mode="copy" if whole else "smart" if self.num_copied else "reencode",
            num_frames=len(self._samples),
            num_copied=self.num_copied,
            num_bytes=num_bytes,
            video_codec=self._codec.name,
            audio_codec="aac" if sound else None,
        )

    def close(self) -> None:
        """Give up; nothing is written."""
        self._data.close()

    def _entry(self) -> bytes:
        look, aspect = self._shape.look, self._shape.pixel_aspect
        if self._codec.name == "h264":
            config = self._codec.config([unit for sets in self._sets for unit in sets])
            return avc_entry(config, look.width, look.height, pixel_aspect=aspect, colour=look.colour)
        config, mixed = self._codec.config(self._sets[0]), len(self._sets) > 1
        return hevc_entry(config, look.width, look.height, pixel_aspect=aspect, colour=look.colour, in_band=mixed)


def failed(job: Job, error: str) -> ClipFile:
    """The answer for a clip that could not be written."""
    return ClipFile(job, "reencode", error=error)


def with_reason(clip: ClipFile, reason: str | None) -> ClipFile:
    """The same, saying why it was not cut smartly."""
    return replace(clip, reason=reason)


def _write_atomically(path: str, video: Track, sound: Track | None) -> int:
    """A reader sees the whole file or none: it is written under another name in the same folder and renamed."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as out:
            num_bytes = write_mp4(out, video, sound)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return num_bytes
