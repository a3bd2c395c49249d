"""The tables: every column, its type, unit and meaning. What reads the output and what writes it share this."""

import types
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel


class Column(NamedTuple):
    """One column: its Arrow type, and its meaning with the unit."""

    name: str
    type: pa.DataType
    meaning: str


def storable(text: str) -> str:
    """The text as a column holds it: half of a surrogate pair, which JSON can spell and UTF-8 cannot, becomes `?`."""
    return text.encode("utf-8", "replace").decode()


KEPT, REJECTED, FAILED = VERDICTS = ("kept", "rejected", "failed")
VIDEO_OK, VIDEO_NO_CLIPS, VIDEO_FAILED = "ok", "no_clips", "failed"

CLIP_COLUMNS = [
    Column("clip_id", pa.string(), "video_id and the span in milliseconds: the same clip has the same id in every run"),
    Column("video_id", pa.string(), "the video it comes from"),
    Column("video_uri", pa.string(), "where that video is"),
    Column("clip_index", pa.int32(), "its place in the video, from 0"),
    Column("start_s", pa.float64(), "start (presentation time from the video's first frame, seconds)"),
    Column("end_s", pa.float64(), "end, exclusive (seconds)"),
    Column("duration_s", pa.float64(), "end_s - start_s (seconds)"),
    Column("num_frames", pa.int32(), "frames shown in the span (count)"),
    Column("fps", pa.float64(), "the video's average frame rate (frames per second)"),
    Column("width", pa.int32(), "as displayed (pixels)"),
    Column("height", pa.int32(), "as displayed (pixels)"),
    Column("video_codec", pa.string(), "h264, hevc, vp9, ..."),
    Column("brightness", pa.float32(), "mean luma (0-255)"),
    Column("contrast", pa.float32(), "standard deviation of luma (0-255 levels)"),
    Column("sharpness", pa.float32(), "Laplacian variance at a longer side of 320 px"),
    Column("motion", pa.float32(), "mean optical-flow speed (percent of the longer side per second)"),
    Column("nsfw_score", pa.float32(), "highest NSFW probability of its frames (0-1); null: not screened"),
    Column("verdict", pa.string(), "kept, rejected or failed: stored in the folder name, `verdict=kept`"),
    Column("reason", pa.string(), "why it was rejected"),
    Column("error", pa.string(), "what went wrong where it failed"),
    Column("task", pa.string(), "the task the annotator was given"),
    Column("annotator", pa.string(), "who annotated: annotator and model"),
    Column("input_tokens", pa.int32(), "tokens in the request (count)"),
    Column("output_tokens", pa.int32(), "tokens in the answer (count)"),
    Column("embedding", pa.list_(pa.float32()), "mean of the frames' embeddings, unit length"),
    Column("embedder", pa.string(), "the model that made the embedding"),
    Column("clip_path", pa.string(), "the clip's video file, relative to the output folder; null: none was written"),
    Column("preview_path", pa.string(), "its preview, likewise"),
    Column("settings_hash", pa.string(), "the settings it was made with: run/settings.json has them"),
]

VIDEO_COLUMNS = [
    Column("video_id", pa.string(), "from the video's location: the same video has the same id in every run"),
    Column("video_uri", pa.string(), "where it is; for a parquet shard with #row=N"),
    Column("status", pa.string(), "ok; no_clips: shorter than the shortest clip; failed"),
    Column("error", pa.string(), "why it is not ok"),
    Column("num_clips", pa.int32(), "its rows in the clips table (count)"),
    Column("duration_s", pa.float64(), "seconds"),
    Column("fps", pa.float64(), "average frame rate (frames per second)"),
    Column("width", pa.int32(), "as displayed (pixels)"),
    Column("height", pa.int32(), "as displayed (pixels)"),
    Column("video_codec", pa.string(), "h264, hevc, vp9, ..."),
    Column("pixel_format", pa.string(), "yuv420p, yuv420p10le, ..."),
    Column("audio_codec", pa.string(), "null: no sound"),
    Column("num_bytes", pa.int64(), "size of the file (bytes)"),
]

# What travels between the stages and is never written: JPEG frames, and where the video is (a VideoRef as JSON).
FRAMES, REF = pa.field("frames", pa.list_(pa.binary())), pa.field("ref", pa.string())


def clips_schema(response_model: type[BaseModel]) -> pa.Schema:
    """The clips table with the fields of a task's response model, all nullable."""
    columns = [pa.field(c.name, c.type) for c in CLIP_COLUMNS]
    answer = [pa.field(name, arrow_type(field.annotation)) for name, field in response_model.model_fields.items()]
    taken = {c.name for c in CLIP_COLUMNS} | {FRAMES.name, REF.name}
    if clash := taken & {field.name for field in answer}:
        raise ValueError(f"a response model may not name a field {', '.join(sorted(clash))}: the clips table has it")
    return pa.schema(columns + answer)


def in_flight(schema: pa.Schema) -> pa.Schema:
    """The rows that travel between the stages: the clips table, the frames, and where the video is."""
    return schema.append(FRAMES).append(REF)


def videos_schema() -> pa.Schema:
    """The videos table."""
    return pa.schema([pa.field(c.name, c.type) for c in VIDEO_COLUMNS])


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a response field: str, bool, int, float, an enum or Literal, lists and optionals of these.

    Raises ValueError for anything else.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        if len(inner) == 1:
            return arrow_type(inner[0])
    if origin is Annotated:
        return arrow_type(args[0])
    kinds: set[pa.DataType] = set()  # of the values that one column has to hold: more than one is too many
    if origin is Literal:
        kinds = {arrow_type(type(arg)) for arg in args if arg is not None}
    elif origin in (list, tuple, set, frozenset):
        kinds = {pa.list_(arrow_type(arg)) for arg in args if arg is not Ellipsis}
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        kinds = {arrow_type(type(member.value)) for member in annotation}
    elif isinstance(annotation, type):
        for python, arrow in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64()), (str, pa.string())):
            if issubclass(annotation, python):
                return arrow
    if len(kinds) == 1:
        return kinds.pop()
    raise ValueError(f"a response field of type {annotation} has no column type: use str, bool, int, float or lists")
