"""The operators of `summarize`: videos are read clip by clip, and a model says what each clip shows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pipeline.errors import BadVideo
from pipeline.models.pictures import decode
from pipeline.models.summarizers import ClipFrames, Summarizer
from pipeline.settings import SummarizeSettings
from pipeline.sources import VideoRef, local_file, open_videos
from pipeline.sources.opening import Opener
from pipeline.stages.ledger import Ledger
from pipeline.tasks.registry import PICTURES
from pipeline.video.frames import jpeg
from pipeline.video.sampling import FrameSampler
from pipeline.video.vision import MAX_MEGAPIXELS, open_picture

MAX_SIDE_PX = 512  # of the frames that models are given (pixels)
JPEG_QUALITY = 90  # on their way there (1-100)
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
    """References, each with its place in the order -> clips with frames, as they are read. 1 -> N; a video that ends
    in an error gives one more row, with the reason."""

    settings: SummarizeSettings
    ledger: Ledger

    def __call__(self, refs: pa.Table) -> Iterator[pa.Table]:
        rows = {row["uri"]: row for row in refs.to_pylist()}
        named = [VideoRef(**{key: value for key, value in row.items() if key != "order"}) for row in rows.values()]
        for ref, opener in open_videos(named, self.settings.source.video_column):
            row: Row = dict.fromkeys(CLIPS.names)
            row.update(order=rows[ref.uri]["order"], video_path=ref.uri)
            try:
                with self.ledger.busy("read", 1):
                    for clip in self._clips(ref, opener):
                        yield pa.Table.from_pylist([{**row, **clip}], CLIPS)
                verdict = "done"
            except Exception as error:  # whatever a decoder or a storage client raises, the run goes on
                reason = str(error) if isinstance(error, BadVideo) else f"{type(error).__name__}: {error}"
                yield pa.Table.from_pylist([{**row, "error": reason[:500]}], CLIPS)
                verdict = "failed"
            self.ledger.settled([{"verdict": verdict}])

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

    def _clip(self, index: int, start_s: float, end_s: float, frames: list[bytes]) -> Row:
        return {"clip_index": index, "start_sec": round(start_s, 3), "end_sec": round(end_s, 3), "frames": frames}

    def _jpeg(self, picture: np.ndarray) -> bytes:
        size = _smaller(picture.shape[1], picture.shape[0])
        if size != (picture.shape[1], picture.shape[0]):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return jpeg(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), JPEG_QUALITY)


def spans(duration_s: float, fps: float, clip_s: float) -> list[tuple[float, float]]:
    """(start, end) of the clips of a video in seconds: clip_s each, the last what is left. What is left of one frame or
    less belongs to the clip before."""
    count = max(1, int(np.ceil((duration_s - 1.001 / fps) / clip_s)))
    return [(i * clip_s, (i + 1) * clip_s if i < count - 1 else duration_s) for i in range(count)]


def _smaller(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass
class Summarize:
    """Clips -> their summaries, by a model that is loaded once. 1 -> 1; a clip the model fails on gets the reason."""

    make: Callable[[str], Summarizer]
    device: str
    ledger: Ledger

    def __post_init__(self) -> None:
        self._model = self.make(self.device)

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        with self.ledger.busy("summarize", len(rows)):
            self._say([row for row in rows if row["error"] is None])
        return pa.Table.from_pylist(rows, pa.schema(RESULTS))

    def _say(self, rows: list[Row]) -> None:
        """One call for all; when it fails, one for each, so that one bad clip fails one row."""
        if not rows:
            return
        try:
            said = self._model([_frames_of(row) for row in rows])
            if len(said) != len(rows) or not all(isinstance(text, str) for text in said):
                raise TypeError(f"the model gave {len(said)} answers for {len(rows)} clips, or some that are no text")
        except Exception as error:  # a user's model may raise anything
            if len(rows) == 1:
                rows[0]["error"] = f"{type(error).__name__}: {error}"[:500]
                return
            for row in rows:
                self._say([row])
            return
        for row, text in zip(rows, said, strict=True):
            row["summary"] = text


def _frames_of(row: Row) -> ClipFrames:
    frames = [decode(frame) for frame in row["frames"]]
    return ClipFrames(row["video_path"], row["start_sec"], row["end_sec"], frames)
