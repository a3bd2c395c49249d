"""The registry of tasks and datasets. A user's own file adds to it without touching the package."""

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from pipeline.errors import UserError
from pipeline.schema import clips_schema

Sample = dict[str, Any]
Messages = list[dict[str, Any]]


class SampleTask(Protocol):
    """What `caption` needs of a task. Any class with these can be registered; it is made once, without arguments.

    name: as in `--task`. dataset_name: the registered dataset that shows samples to the model.
    response (optional): a pydantic model; the answer is then held to its JSON schema while it is generated.
    """

    name: str
    dataset_name: str

    def build_messages(self, sample: Sample) -> Messages:
        """The sample's chat messages: content is a text, or parts such as {"type": "video", "video": path},
        {"type": "image", "image": path} and {"type": "text", "text": ...}. A picture may also be a PIL image or a data
        URI, a video a list of pictures (sample_fps of them a second), and both be in OpenAI's form (image_url,
        video_url). A part may bring its own budget (fps, nframes, max_frames, min_pixels, max_pixels, total_pixels,
        video_start, video_end)."""
        ...

    def parse(self, text: str, sample: Sample) -> Any:
        """The model's text as what is written: a dictionary, a pydantic model, anything JSON. Raises ValueError, with
        the reason, for an answer that is none."""
        ...


@dataclass(frozen=True)
class Task:
    """What is asked about a clip (curate) or a whole sample (caption), and how its answer is judged.

    prompt: the question; the frames come before it.
    response: the answer's pydantic model. Bound every string (max_length) and list, so that max_tokens is enough, and
        prefer Literal to free text where values are known. Its fields become columns of the clips table.
    reject: answer -> the reason to reject the clip, or None to keep it.
    dataset_name: how samples are shown to the model.
    """

    name: str
    prompt: str
    response: type[BaseModel]
    reject: Callable[[Any], str | None] = lambda answer: None
    dataset_name: str = "qwen_video"

    def build_messages(self, sample: Sample) -> Messages:
        """The sample's video or picture, then the question."""
        return ask(sample, self.prompt)

    def parse(self, text: str, sample: Sample | None = None) -> BaseModel:
        """The model's text as a validated answer. Raises ValueError, with the reason, for anything that is not one."""
        try:
            return self.response.model_validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"the answer is not valid: {f'{where}: ' if where else ''}{first['msg']}") from error

    def json_schema(self) -> dict[str, Any]:
        """The response model as JSON schema, for structured outputs. Free strings may hold no control characters,
        quotes or backslashes: a decoder that is free to emit them writes strings that no JSON parser takes."""
        return json_schema(self.response)

    def fingerprint(self) -> str:
        """Everything about the task that changes its results, as text for the settings."""
        return json.dumps({"prompt": self.prompt, "schema": self.response.model_json_schema()}, sort_keys=True)


PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # file name endings that are pictures, not videos


def ask(sample: Sample, question: str) -> Messages:
    """One user message: what `sample["path"]` names, if anything, and the question."""
    path = sample.get("path")
    kind = "image" if path and str(path).lower().endswith(PICTURES) else "video"
    parts = [{"type": kind, kind: path}] if path else []
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def json_schema(response: type[BaseModel]) -> dict[str, Any]:
    """A response model as the JSON schema for structured outputs. Raises ValueError for a dictionary with free keys,
    which endpoints know no strict schema of."""
    schema = response.model_json_schema()
    _constrain(schema)
    return schema


def _constrain(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "object":
            if "properties" not in node:
                raise ValueError(
                    "a dictionary's keys must be known: take a model, or a list of models with a name each"
                )
            node["additionalProperties"] = False
            node["required"] = list(node.get("properties", ()))  # a default would be a guess
        if node.get("type") == "string" and not {"enum", "const", "pattern", "format"} & node.keys():
            low, high = node.pop("minLength", 0), node.pop("maxLength", "")
            # surrogates, which UTF-8 cannot hold, would come out as several characters each
            node["pattern"] = f"^[ !#-\\[\\]-\ud7ff\ue000-\U0010ffff]{{{low},{high}}}$"
        for value in node.values():
            _constrain(value)
    elif isinstance(node, list):
        for value in node:
            _constrain(value)


_TASKS: dict[str, Any] = {}
_DATASETS: dict[str, type] = {}
TASK_PARTS = ("dataset_name", "build_messages", "parse")


def register_task(task: Any) -> Any:
    """Add a task under its name: `register_task(Task(...))`, or above a class `@register_task` or, to give the name
    there, `@register_task("name")`; a class is kept as one instance. Returns what it was given.

    Raises UserError when the name is taken, a part is missing, or a field cannot become a column.
    """
    if isinstance(task, str):
        return lambda named: register_task(_named(named, task))
    made = task() if isinstance(task, type) else task
    name = getattr(made, "name", None)
    missing = [part for part in TASK_PARTS if not hasattr(made, part)]
    if not isinstance(name, str) or not name.replace("-", "_").isidentifier() or missing:
        what = f"has no {missing[0]}" if missing else f"is named {name!r}: a name is letters, digits, - and _"
        raise UserError(f"task {name or made!r} {what}")
    if name in _TASKS and _TASKS[name] != made:
        raise UserError(f"task {name!r} is registered twice: give one of them another name")
    response = getattr(made, "response", None)
    if response is not None and not (isinstance(response, type) and issubclass(response, BaseModel)):
        raise UserError(f"task {name!r}: its response is no pydantic model: {str(response)[:100]}")
    try:
        if isinstance(made, Task):
            clips_schema(made.response)
        if response is not None:
            json_schema(response)
    except ValueError as error:
        raise UserError(f"task {name!r}: {error}") from error
    _TASKS[name] = made
    return task


def register_dataset(dataset: Any) -> Any:
    """Add a dataset: above a class `@register_dataset` (its `name`), or `@register_dataset("name")`.

    The class is called with (task, chat, video) and then with (key, sample); see pipeline.tasks.datasets.Dataset.
    Raises UserError when the name is taken.
    """
    if isinstance(dataset, str):
        return lambda named: register_dataset(_named(named, dataset))
    name = getattr(dataset, "name", None)
    if not isinstance(name, str):
        raise UserError(f"dataset {dataset!r} has no name")
    if name in _DATASETS:
        raise UserError(f"dataset {name!r} is registered twice: give one of them another name")
    _DATASETS[name] = dataset
    return dataset


def _named(named: Any, name: str) -> Any:
    named.name = name
    return named


def tasks() -> dict[str, Any]:
    """All registered tasks by name."""
    return dict(_TASKS)


def datasets() -> dict[str, type]:
    """All registered datasets by name."""
    return dict(_DATASETS)


def task(name: str) -> Any:
    """One task by name; UserError names the ones there are."""
    return _find(name, _TASKS, "task")


def dataset(name: str) -> type:
    """One dataset by name; UserError names the ones there are."""
    return _find(name, _DATASETS, "dataset")


def _find(name: str, known: dict[str, Any], what: str) -> Any:
    if name not in known:
        raise UserError(f"no {what} {name!r}: there are {', '.join(sorted(known))} (--module adds your own file's)")
    return known[name]


def load_module(path: str, option: str = "--module") -> ModuleType:
    """Run a user's Python file so that it can register tasks. Raises UserError when it is missing or fails.

    option: what named it, for the error.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{option}: no file {path}")
    name = f"cutroom_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{option}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    for known in (_TASKS, _DATASETS):  # the file was loaded before: it may have changed
        for again in [each for each, entry in known.items() if _module_of(entry) == name]:
            del known[again]
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{option}: {path} failed: {type(error).__name__}: {error}") from error
    return module


def _module_of(entry: Any) -> str:
    """The module that a task or dataset was written in."""
    return entry.response.__module__ if isinstance(entry, Task) else entry.__module__
