"""The default task: what is this clip, is it safe, what does it show, how good does it look."""

from typing import Literal

from pydantic import BaseModel, Field

from pipeline.tasks.registry import Task, register_task

Category = Literal[
    "education",
    "entertainment",
    "sports",
    "nature",
    "news",
    "cooking",
    "music",
    "gaming",
    "vlog",
    "tutorial",
    "other",
]


class CurateAnswer(BaseModel):
    """What the clips table gets from the curate task."""

    category: Category
    is_safe: bool
    description: str = Field(min_length=1, max_length=300)
    visual_quality: Literal["high", "medium", "low"]


CURATE = register_task(
    Task(
        name="curate",
        prompt=(
            "These are frames of one video clip, in order. Judge it as a whole and answer with one JSON object:\n"
            "category: the kind of video it is from, one of education, entertainment, sports, nature, news, cooking, "
            "music, gaming, vlog, tutorial, other;\n"
            "is_safe: false if a frame shows nudity, sexual content, gore, graphic violence or self-harm, else true;\n"
            "description: one sentence that says who or what is seen and what happens;\n"
            "visual_quality: high, medium or low, by sharpness, exposure and compression."
        ),
        response=CurateAnswer,
        reject=lambda answer: None if answer.is_safe else "unsafe",
    )
)
