"""The operators of `summarize`: videos are read clip by clip, and a model says what each clip shows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pipeline.errors import BadVideo, UserError, one_line, reason
from pipeline.models.pictures import decode
from pipeline.models.summarizers import ClipFrames, Summarizer
from pipeline.schema import storable
from pipeline.settings import FrameSettings, SummarizeSettings
from pipeline.sources import VideoRef, local_file, open_videos
from pipeline.sources.opening import Opener
from pipeline.stages.ledger import Ledger
from pipeline.tasks.registry import PICTURES
from pipeline.video.frames import jpeg
from pipeline.video.sampling import FrameSampler
from pipeline.video.vision import MAX_MEGAPIXELS, open_picture

AS_CURATES = FrameSettings()  # size and quality of the frames that models are given
MAX_FRAMES_AT_ONCE = 256  # decoded together, unless a single clip has more: some 200 MB
NOT_MADE = "cannot be made: "
LEFT_OVER_S = 0.1  # a frame may stand for minutes, which are a clip of their own (seconds)
RESULTS = {
    "order": pa.int64(),
    "video_path": pa.string(),
    "clip_index": pa.int64(),
    "start_sec": pa.float64(),
    "end_sec": pa.float64(),
    "summary": pa.string(),
    "error": pa.string(),
}
CLIPS = pa.schema({**RESULTS, "frames": pa.list_(pa.binary())})
Row = dict[str, Any]


@dataclass(frozen=True)
class ReadClips:
    """References, each with its place in the order -> clips with frames, as they are read. 1 -> N + 1.

    Each video ends in one row without a clip: with the reason when it failed. Whoever misses that row knows that the
    video was not read to its end, even where a worker died and the next one was refused the video.
    """

    settings: SummarizeSettings
    ledger: Ledger

    def __call__(self, refs: pa.Table) -> Iterator[pa.Table]:
        rows = {row["uri"]: row for row in refs.to_pylist()}
        named = [VideoRef(**{key: value for key, value in row.items() if key != "order"}) for row in rows.values()]
        for ref, opener in open_videos(named, self.settings.source.video_column):
            row: Row = dict.fromkeys(CLIPS.names)
            row.update(order=rows[ref.uri]["order"], video_path=ref.uri)
            try:
                self.ledger.begin(ref.video_id)
                with self.ledger.busy("read", 1):
                    for clip in self._clips(ref, opener):
                        yield pa.Table.from_pylist([{**row, **clip}], CLIPS)
            except BadVideo as error:
                row["error"] = storable(str(error)[:500])
            except Exception as error:  # whatever a decoder or a storage client raises, the run goes on
                row["error"] = storable(reason(error))
            yield pa.Table.from_pylist([row], CLIPS)
            verdict = "failed" if row["error"] else "done"
            self.ledger.settled([{"verdict": verdict}])
            self.ledger.end(ref.video_id, verdict, None)

    def _clips(self, ref: VideoRef, opener: Opener) -> Iterator[Row]:
        with local_file(opener) as path:
            if ref.path.lower().endswith(PICTURES):
                picture = np.asarray(open_picture(path))
                yield self._clip(0, 0.0, self.settings.clip_s, [self._jpeg(picture)])
                return
            sampler = FrameSampler(path, max_megapixels=MAX_MEGAPIXELS)
            for index, (start_s, end_s) in enumerate(spans(sampler.duration_s, sampler.fps, self.settings.clip_s)):
                times = np.arange(start_s, end_s - 1e-6, self.settings.frame_every_sec)
                size = _smaller(sampler.width, sampler.height)
                frames = [self._jpeg(sampler.picture(i, *size)) for i in sampler.shown_at(times.tolist())]
                yield self._clip(index, start_s, end_s, frames)
            if sampler.ended_early:
                raise BadVideo(sampler.ended_early)

    def _clip(self, index: int, start_s: float, end_s: float, frames: list[bytes]) -> Row:
        return {"clip_index": index, "start_sec": round(start_s, 3), "end_sec": round(end_s, 3), "frames": frames}

    def _jpeg(self, picture: np.ndarray) -> bytes:
        size = _smaller(picture.shape[1], picture.shape[0])
        if size != (picture.shape[1], picture.shape[0]):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return jpeg(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), AS_CURATES.jpeg_quality)


def spans(duration_s: float, fps: float, clip_s: float) -> list[tuple[float, float]]:
    """(start, end) of the clips of a video in seconds: clip_s each, the last what is left. What is left of one frame or
    less, and under LEFT_OVER_S, belongs to the clip before."""
    count = max(1, int(np.ceil((duration_s - min(1.001 / fps, LEFT_OVER_S)) / clip_s)))
    return [(i * clip_s, (i + 1) * clip_s if i < count - 1 else duration_s) for i in range(count)]


def _smaller(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, AS_CURATES.max_side_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass
class Summarize:
    """Clips -> their summaries, by a model that is loaded once. 1 -> 1; a clip the model fails on gets the reason.

    A model that cannot be made is a UserError of one line: what comes back of it from a worker is text.
    """

    make: Callable[[str], Summarizer]
    device: str
    ledger: Ledger

    def __post_init__(self) -> None:
        try:
            self._model = self.make(self.device)
        except Exception as error:  # a user's model may raise anything
            raise UserError(f"{NOT_MADE}{type(error).__name__}: {one_line(error)}") from error

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.select(list(RESULTS)).to_pylist()
        jpegs = clips["frames"]
        with self.ledger.busy("summarize", len(rows)):
            for some in few_frames([len(frames) if frames.is_valid else 0 for frames in jpegs]):
                self._say([rows[i] for i in some], [jpegs[i].as_py() for i in some])
        return pa.Table.from_pylist(rows, pa.schema(RESULTS))

    def _say(self, rows: list[Row], jpegs: list[list[bytes]]) -> None:
        """One call for all; when it fails, one for each, so that one bad clip fails one row."""
        try:
            said = self._model([_frames_of(row, frames) for row, frames in zip(rows, jpegs, strict=True)])
            if len(said) != len(rows) or not all(isinstance(text, str) for text in said):
                raise TypeError(f"the model gave {len(said)} answers for {len(rows)} clips, or some that are no text")
            for text in said:
                text.encode()  # half of a surrogate pair is no text that a table or a file can hold
        except Exception as error:  # a user's model may raise anything
            if len(rows) == 1:
                rows[0]["error"] = storable(reason(error))
                return
            for row, frames in zip(rows, jpegs, strict=True):
                self._say([row], [frames])
            return
        for row, text in zip(rows, said, strict=True):
            row["summary"] = str(text)


def few_frames(counts: list[int]) -> Iterator[list[int]]:
    """The indices of the clips that have frames, in groups of at most MAX_FRAMES_AT_ONCE, or of one clip."""
    group: list[int] = []
    for index, count in enumerate(counts):
        if group and sum(counts[i] for i in group) + count > MAX_FRAMES_AT_ONCE:
            yield group
            group = []
        if count:
            group.append(index)
    if group:
        yield group


def _frames_of(row: Row, jpegs: list[bytes]) -> ClipFrames:
    return ClipFrames(row["video_path"], row["start_sec"], row["end_sec"], [decode(frame) for frame in jpegs])
