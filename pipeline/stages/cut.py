"""The clip files: kept clips are cut out of their videos, which are opened once more for it."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from pipeline import storage
from pipeline.schema import KEPT
from pipeline.settings import CurateSettings
from pipeline.sources import VideoRef, open_videos
from pipeline.sources.opening import Opener
from pipeline.stages.ledger import Ledger
from pipeline.stages.rows import Row, fail, to_table
from pipeline.video.clipfile import Job
from pipeline.video.clips import Span
from pipeline.video.cut import write_clips

FOLDER = "clips"


@dataclass(frozen=True)
class Cut:
    """Writes clips/{clip_id}.mp4 for each kept clip of a batch; one that cannot be written fails. 1 -> 1.

    Here and not in the split, because only here it is known which clips are kept. The name comes from the clip, so a
    retried task overwrites its own file.
    """

    settings: CurateSettings
    ledger: Ledger

    def __call__(self, clips: pa.Table) -> pa.Table:
        rows = clips.to_pylist()
        by_video: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["verdict"] == KEPT:
                by_video[row["ref"]].append(row)
        refs = {VideoRef(**json.loads(packed)): packed for packed in by_video}
        in_order = sorted(refs, key=lambda ref: (ref.path, ref.row_group or 0, ref.row or 0))
        for ref, opener in open_videos(in_order, self.settings.source.video_column):
            waiting = sorted(by_video[refs[ref]], key=lambda row: row["start_s"])
            with self.ledger.busy("cut", len(waiting)):
                self._cut(opener, waiting)
        return to_table(rows, clips.schema)

    def _cut(self, opener: Opener, rows: Sequence[Row]) -> None:
        names = {row["clip_id"]: f"{FOLDER}/{row['clip_id']}.mp4" for row in rows}
        try:
            with opener() as source, self._folder() as folder:
                jobs = {
                    Job(Span(row["start_s"], row["end_s"], row["num_frames"]), f"{folder}/{row['clip_id']}.mp4"): row
                    for row in rows
                }
                written = write_clips(
                    source,
                    list(jobs),
                    self.settings.clips,
                    max_megapixels=self.settings.split.max_megapixels,
                    threads=self.settings.resources.decode_threads,
                )
                for clip in written:
                    row = jobs[clip.job]
                    if clip.error:
                        fail(row, f"clip file: {clip.error}")
                        continue
                    name = names[row["clip_id"]]
                    storage.publish(clip.job.path, storage.join(self.settings.output, name))
                    row["clip_path"] = name
        except Exception as error:  # a video that is gone, a full disk: the clips fail, the run goes on
            problem = f"{type(error).__name__}: {error}"
        else:
            problem = "none was written"
        for row in rows:
            if row["verdict"] == KEPT and row["clip_path"] is None:
                fail(row, f"clip file: {problem}")

    @contextmanager
    def _folder(self) -> Iterator[str]:
        """Where files are written first: the place itself where it is local, else a temporary folder."""
        if storage.is_remote(self.settings.output):
            with tempfile.TemporaryDirectory(prefix="cutroom-clips-") as folder:
                yield folder
        else:
            yield storage.make_folder(storage.join(self.settings.output, FOLDER))
