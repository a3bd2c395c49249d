"""What a vision-language model is sent for a clip, and what its answer is worth."""

import base64
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.schema import arrow_type
from pipeline.tasks import Task


@dataclass(frozen=True)
class Answer:
    """A validated answer, or why there is none."""

    fields: dict[str, Any] = field(default_factory=dict)
    reject: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


def judge(task: Task, text: str | None, input_tokens: int | None, output_tokens: int | None) -> Answer:
    """The model's text as an answer; anything the task cannot validate becomes an error, never a guess."""
    try:
        if not text:
            raise ValueError("the model gave no answer")
        parsed = task.parse(text)
        reject = task.reject(parsed)
        if reject is not None and not (isinstance(reject, str) and reject):
            raise TypeError(f"the task's reject gave {reject!r}: it must give a reason or None")
        fields = parsed.model_dump(mode="json")
        for name, field in task.response.model_fields.items():
            pa.array([fields[name]], arrow_type(field.annotation))  # a value no column holds must not end the run
    except Exception as error:  # a user's task may raise anything; the clip fails with it, the run goes on
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return Answer(error=reason[:500], input_tokens=input_tokens, output_tokens=output_tokens)
    return Answer(fields, reject, None, input_tokens, output_tokens)


def chat_messages(task: Task, num_frames: int) -> list[dict[str, Any]]:
    """The request as chat messages with a placeholder for each frame, as chat templates of transformers take it."""
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(num_frames)]
    return [{"role": "user", "content": [*content, {"type": "text", "text": task.prompt}]}]


def openai_messages(task: Task, frames: list[bytes]) -> list[dict[str, Any]]:
    """The same request with the JPEG frames inside, as OpenAI-compatible endpoints take it."""
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(frame).decode()}}
        for frame in frames
    ]
    return [{"role": "user", "content": [*content, {"type": "text", "text": task.prompt}]}]


@lru_cache(maxsize=8)
def _processor(model: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(model)


def prompt(model: str, task: Task, num_frames: int) -> str:
    """The request as the model's own chat template writes it.

    Raises ValueError unless the template has exactly one place for each frame: an engine takes fewer or more frames
    than places without a word.
    """
    processor = _processor(model)
    text = processor.apply_chat_template(chat_messages(task, num_frames), tokenize=False, add_generation_prompt=True)
    token = getattr(processor, "image_token", None)
    if token and text.count(token) != num_frames:
        raise ValueError(f"the chat template of {model} has {text.count(token)} places for {num_frames} frames")
    return text
