"""What a vision-language model is sent for a clip, and what its answer is worth."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.errors import UserError, one_line
from pipeline.schema import arrow_type
from pipeline.tasks import Task


@dataclass(frozen=True)
class Reply:
    """What a model said, or why it said nothing."""

    text: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


def count(value: Any) -> int | None:
    """A token count, or None for what is none (NaN, where others of the batch have one)."""
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**31
    return int(value) if is_count else None


@dataclass(frozen=True)
class Answer:
    """A validated answer, or why there is none."""

    fields: dict[str, Any] = field(default_factory=dict)
    reject: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


def judge(task: Task, reply: Reply) -> Answer:
    """A reply as an answer; anything the task cannot validate becomes an error, never a guess."""
    text, tokens = reply.text, (reply.input_tokens, reply.output_tokens)
    if reply.error:
        return Answer({}, None, reply.error, *tokens)
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
        return Answer({}, None, reason[:500], *tokens)
    return Answer(fields, reject, None, *tokens)


def chat_messages(task: Task, num_frames: int) -> list[dict[str, Any]]:
    """The request as chat messages with a placeholder for each frame, as chat templates of transformers take it."""
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(num_frames)]
    return [{"role": "user", "content": [*content, {"type": "text", "text": task.prompt}]}]


def openai_messages(task: Task, frames: list[bytes]) -> list[dict[str, Any]]:
    """The same request with the JPEG frames inside, as OpenAI-compatible endpoints take it."""
    return filled(chat_messages(task, len(frames)), [[frame] for frame in frames])


def filled(messages: list[dict[str, Any]], media: list[list[bytes]]) -> list[dict[str, Any]]:
    """Chat messages with each picture or video, in order, as the JPEG pictures that stand for it: OpenAI's form."""
    waiting = iter(media)

    def parts(content: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for part in content:
            if "text" in part and part.get("type", "text") == "text":
                yield {"type": "text", "text": part["text"]}
                continue
            for jpeg in next(waiting):
                url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
                yield {"type": "image_url", "image_url": {"url": url}}

    return [
        {**message, "content": content if isinstance(content := message["content"], str) else list(parts(content))}
        for message in messages
    ]


@lru_cache(maxsize=8)
def _processor(model: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(model)


@lru_cache(maxsize=8)
def _model_type(model: str) -> str:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model).model_type


@dataclass(frozen=True)
class Chat:
    """A model's own chat template. model: hub name or local folder."""

    model: str

    def load(self) -> None:
        """Have it on this machine. Raises UserError, as the rest of this class would raise anything."""
        try:
            _processor(self.model)
            _model_type(self.model)
        except Exception as error:  # transformers raises OSError, ValueError and others, also where the hub is away
            raise UserError(f"--annotate.vllm.model {self.model}: cannot be loaded: {one_line(error)}") from error

    @property
    def model_type(self) -> str:
        """The model's family in the terms of transformers, such as `qwen2_5_vl`."""
        return _model_type(self.model)

    @property
    def patch_px(self) -> int:
        """Side of the model's square patches (pixels)."""
        return int(getattr(getattr(_processor(self.model), "image_processor", None), "patch_size", 14))

    def prompt(self, messages: list[dict[str, Any]], *, images: int, videos: int) -> str:
        """Chat messages as the model reads them.

        Raises ValueError unless the template has exactly one place for each picture and video: an engine takes fewer or
        more than places without a word.
        """
        processor = _processor(self.model)
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for kind, count in (("image", images), ("video", videos)):
            token = getattr(processor, f"{kind}_token", None)
            places = text.count(token) if token else 0
            if places != count and (token or kind == "video"):
                raise ValueError(
                    f"the chat template of {self.model} has {places} places for {count} {kind}s"
                    + (": take the dataset `frames`" if kind == "video" else "")
                )
        return text


def prompt(model: str, task: Task, num_frames: int) -> str:
    """The request about a clip's frames as the model's own chat template writes it."""
    return Chat(model).prompt(chat_messages(task, num_frames), images=num_frames, videos=0)
