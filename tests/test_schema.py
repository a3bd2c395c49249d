from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, Optional

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from pipeline.schema import CLIP_COLUMNS, VIDEO_COLUMNS, arrow_type, clips_schema, in_flight, videos_schema
from pipeline.tasks.curate import CurateAnswer

DESIGNED_CLIPS = """
clip_id video_id video_uri clip_index start_s end_s duration_s num_frames fps width height
video_codec brightness contrast sharpness motion nsfw_score verdict reason error task annotator
input_tokens output_tokens embedding embedder clip_path preview_path settings_hash category is_safe
description visual_quality
"""
DESIGNED_VIDEOS = """
video_id video_uri status error num_clips duration_s fps width height video_codec pixel_format
audio_codec num_bytes
"""


class Colour(Enum):
    RED = "red"


class Stars(IntEnum):
    ONE = 1


class Answer(BaseModel):
    word: str


def test_the_tables_have_the_columns_that_readers_rely_on() -> None:
    assert clips_schema(CurateAnswer).names == DESIGNED_CLIPS.split()
    assert videos_schema().names == DESIGNED_VIDEOS.split()


def test_every_column_says_what_it_means_once() -> None:
    for columns in (CLIP_COLUMNS, VIDEO_COLUMNS):
        assert all(column.meaning for column in columns)
        assert len({column.name for column in columns}) == len(columns)


def test_frames_and_the_way_back_to_the_video_travel_but_are_not_in_the_table() -> None:
    schema = clips_schema(Answer)
    assert {"frames", "ref"}.isdisjoint(schema.names)
    assert in_flight(schema).names == [*schema.names, "frames", "ref"]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, pa.string()),
        (bool, pa.bool_()),
        (int, pa.int64()),
        (float, pa.float64()),
        (Colour, pa.string()),
        (Stars, pa.int64()),
        (Literal["a", "b"], pa.string()),
        (Literal[True], pa.bool_()),
        (str | None, pa.string()),
        (list[str], pa.list_(pa.string())),
        (list[int] | None, pa.list_(pa.int64())),
        (list[list[float]], pa.list_(pa.list_(pa.float64()))),
        (list[Literal["a", "b"]], pa.list_(pa.string())),
        (tuple[int, ...], pa.list_(pa.int64())),
        (set[str], pa.list_(pa.string())),
        (list[Annotated[str, Field(max_length=20)]], pa.list_(pa.string())),
        (Optional[Annotated[int, Field(ge=0)]], pa.int64()),  # noqa: UP045
    ],
)
def test_types_of_answers(annotation: Any, expected: pa.DataType) -> None:
    assert arrow_type(annotation) == expected


@pytest.mark.parametrize("annotation", [dict[str, int], dict, list, Any, object, int | str, Answer, bytes])
def test_types_without_a_column_are_refused(annotation: Any) -> None:
    with pytest.raises(ValueError, match="has no column type"):
        arrow_type(annotation)


@pytest.mark.parametrize("annotation", [Literal["a", 1], tuple[int, str]])
def test_a_mixture_of_types_is_refused_before_an_answer_breaks_the_table(annotation: Any) -> None:
    with pytest.raises(ValueError, match="has no column type"):
        arrow_type(annotation)


@pytest.mark.parametrize("name", ["clip_id", "frames", "verdict", "embedding"])
def test_an_answer_may_not_take_a_column_of_the_table(name: str) -> None:
    model = type("Clash", (BaseModel,), {"__annotations__": {name: str}})
    with pytest.raises(ValueError, match=name):
        clips_schema(model)


def test_rows_with_every_answer_type_go_into_the_table() -> None:
    class Rich(BaseModel):
        colour: Colour
        stars: Stars
        tags: set[str]
        pair: tuple[float, float]
        maybe: int | None

    answer = Rich(colour=Colour.RED, stars=Stars.ONE, tags={"x"}, pair=(0.5, 1), maybe=None)
    row = {"clip_id": "c", "verdict": "kept", **answer.model_dump(mode="json")}
    table = pa.Table.from_pylist([row], clips_schema(Rich))
    assert table.select(["colour", "stars", "tags", "pair", "maybe"]).to_pylist() == [
        {"colour": "red", "stars": 1, "tags": ["x"], "pair": [0.5, 1.0], "maybe": None}
    ]
