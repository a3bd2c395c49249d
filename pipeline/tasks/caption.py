"""Tasks over whole videos: a free description, and one in fields."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from pipeline.tasks.registry import Messages, Sample, Task, ask, register_task


@register_task
class Describe:
    """A description in the model's own words. The sample's `prompt`, where it has one, is asked instead."""

    name = "describe"
    dataset_name = "qwen_video"
    prompt = (
        "Describe this video in detail: who or what is seen, what happens and in which order, where, and how it looks."
    )

    def build_messages(self, sample: Sample) -> Messages:
        """The video, then the question."""
        return ask(sample, sample.get("prompt") or self.prompt)

    def parse(self, text: str, sample: Sample) -> dict[str, Any]:
        """{"caption": text}. Raises ValueError when it is empty."""
        if not text.strip():
            raise ValueError("the model gave no answer")
        return {"caption": text.strip()}


class StructuredCaption(BaseModel):
    """The fields of a structured caption."""

    summary: str = Field(min_length=1, max_length=200)
    """one sentence"""
    subjects: list[Annotated[str, Field(max_length=40)]] = Field(max_length=5)
    """who or what is seen, most important first"""
    actions: list[Annotated[str, Field(max_length=60)]] = Field(max_length=5)
    """what happens, in order"""
    setting: str = Field(max_length=80)
    """where and when"""
    camera: str = Field(max_length=80)
    """shot size, angle and movement"""


STRUCTURED_CAPTION = register_task(
    Task(
        name="structured_caption",
        prompt=(
            "Describe this video with one JSON object:\n"
            "summary: one sentence; subjects: up to five of who or what is seen, most important first;\n"
            "actions: up to five things that happen, in order; setting: where and when;\n"
            "camera: shot size, angle and movement."
        ),
        response=StructuredCaption,
    )
)
