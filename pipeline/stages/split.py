"""Videos in, clips out. What is decided here (rejected clips, the videos' own rows) is settled here."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import BadVideo, reason
from pipeline.ids import clip_id
from pipeline.records.books import Books
from pipeline.schema import VIDEO_FAILED, VIDEO_NO_CLIPS, VIDEO_OK, in_flight
from pipeline.settings import CurateSettings
from pipeline.sources import VideoRef, open_videos
from pipeline.sources.opening import Opener
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import Row, fail, reject, to_table, undecided
from pipeline.video.split import Clip, SplitDone, split
from pipeline.video.threads import share


@dataclass(frozen=True)
class SplitVideos:
    """The split operator: a block of references -> tables of undecided clips, as they are found.

    Cardinality 1 -> N. A generator, so that a long video's first clips reach the models while it is being decoded. It
    must give the same tables when Ray runs it again, so it looks only at its input.
    """

    settings: CurateSettings
    books: Books
    settings_hash: str
    ledger: Ledger

    def __call__(self, refs: pa.Table) -> Iterator[pa.Table]:
        schema = in_flight(self.books.clips)
        inputs = {row["video_id"]: row for row in refs.to_pylist()}
        videos: list[Row] = []
        settled: list[Row] = []
        for ref, opener in open_videos([_ref(row) for row in inputs.values()], self.settings.source.video_column):
            already = frozenset(inputs[ref.video_id]["settled"] or ())
            video: Row = {}
            for row in self._video(ref, opener, video):
                if row["clip_id"] in already:
                    continue
                if undecided([row]):
                    yield to_table([row], schema)
                else:
                    settled.append(row)
            videos.append(video)
        self.books.settle(settled)
        self.books.record(videos)
        self.ledger.settled(settled)
        for video in videos:
            self.ledger.end(video["video_id"], video["status"], video.get("duration_s"))
        yield to_table([], schema)

    def _video(self, ref: VideoRef, opener: Opener, video: Row) -> Iterator[Row]:
        """The clips of one video; `video` becomes its row of the videos table."""
        video.update(video_id=ref.video_id, video_uri=ref.uri, status=VIDEO_OK, error=None, num_clips=0)
        try:
            self.ledger.begin(ref.video_id)
            with opener() as source, self.ledger.busy("split", 1):
                yield from self._clips(ref, source, video)
        except BadVideo as error:
            video.update(status=VIDEO_FAILED, error=str(error))
        except Exception as error:  # whatever a decoder or a storage client raises, the run goes on without this video
            video.update(status=VIDEO_FAILED, error=reason(error))

    def _clips(self, ref: VideoRef, source: Any, video: Row) -> Iterator[Row]:
        settings = self.settings
        share(settings.resources.decode_threads)
        parts = split(
            source,
            shots=settings.split,
            frames=settings.frames,
            quality=settings.quality,
            threads=settings.resources.decode_threads,
        )
        for part in parts:
            if isinstance(part, Clip):
                yield self._row(ref, part, video["num_clips"])
                video["num_clips"] += 1
            else:
                video.update(_describe(part))
        self.ledger.split(video["num_clips"])

    def _row(self, ref: VideoRef, clip: Clip, index: int) -> Row:
        span, info = clip.span, clip.info
        row: Row = dict.fromkeys(self.books.clips.names)
        row.update(
            clip_id=clip_id(ref.video_id, span.start_s, span.end_s),
            video_id=ref.video_id,
            video_uri=ref.uri,
            clip_index=index,
            start_s=round(span.start_s, 6),  # what is finer than a microsecond is arithmetic, not time
            end_s=round(span.end_s, 6),
            duration_s=round(span.end_s - span.start_s, 6),
            num_frames=span.num_frames,
            fps=info.fps,
            width=info.width,
            height=info.height,
            video_codec=info.video_codec,
            settings_hash=self.settings_hash,
            frames=clip.frames,
            ref=json.dumps(asdict(ref)),
        )
        if clip.quality:
            row.update(asdict(clip.quality))
        if clip.error:
            fail(row, clip.error)
        elif clip.reason:
            reject(row, clip.reason)
        return row


def _describe(done: SplitDone) -> Row:
    """A video's columns once its end was reached."""
    columns = asdict(done.info)
    if done.error:
        return {**columns, "status": VIDEO_FAILED, "error": done.error}
    if done.no_clips:
        return {**columns, "status": VIDEO_NO_CLIPS, "error": done.no_clips}
    return columns


def _ref(row: Row) -> VideoRef:
    return VideoRef(**{key: row[key] for key in ("video_id", "uri", "path", "row_group", "row", "problem")})
