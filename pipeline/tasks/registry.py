"""The registry of tasks. A user's own file adds to it without touching the package."""

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import UserError
from pipeline.schema import clips_schema


@dataclass(frozen=True)
class Task:
    """What is asked about a clip, and how its answer is judged.

    prompt: the question; the frames come before it.
    response: the answer's pydantic model. Bound every string (max_length) and list, so that max_tokens is enough, and
        prefer Literal to free text where values are known. Its fields become columns of the clips table.
    reject: answer -> the reason to reject the clip, or None to keep it.
    """

    name: str
    prompt: str
    response: type[BaseModel]
    reject: Callable[[Any], str | None] = lambda answer: None

    def parse(self, text: str) -> BaseModel:
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
        schema = self.response.model_json_schema()
        _constrain(schema)
        return schema

    def fingerprint(self) -> str:
        """Everything about the task that changes its results, as text for the settings."""
        return json.dumps({"prompt": self.prompt, "schema": self.response.model_json_schema()}, sort_keys=True)


def _constrain(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "object":
            node["additionalProperties"] = False
            node["required"] = list(node.get("properties", ()))  # a default would be a guess
        if node.get("type") == "string" and not {"enum", "const", "pattern", "format"} & node.keys():
            low, high = node.pop("minLength", 0), node.pop("maxLength", "")
            node["pattern"] = f"^[ !#-\\[\\]-\U0010ffff]{{{low},{high}}}$"
        for value in node.values():
            _constrain(value)
    elif isinstance(node, list):
        for value in node:
            _constrain(value)


_TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Add a task under its name. Raises UserError when the name is taken or a field cannot become a column."""
    if task.name in _TASKS and _TASKS[task.name] != task:
        raise UserError(f"task {task.name!r} is registered twice: give one of them another name")
    try:
        clips_schema(task.response)
    except ValueError as error:
        raise UserError(f"task {task.name!r}: {error}") from error
    _TASKS[task.name] = task
    return task


def tasks() -> dict[str, Task]:
    """All registered tasks by name."""
    return dict(_TASKS)


def task(name: str) -> Task:
    """One task by name; UserError names the ones there are."""
    known = tasks()
    if name not in known:
        raise UserError(
            f"no task {name!r}: there are {', '.join(sorted(known))} (annotate.module adds your own file's)"
        )
    return known[name]


def load_module(path: str) -> ModuleType:
    """Run a user's Python file so that it can register tasks. Raises UserError when it is missing or fails."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"annotate.module: no file {path}")
    name = f"cutroom_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"annotate.module: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    for again in [each.name for each in _TASKS.values() if each.response.__module__ == name]:
        del _TASKS[again]  # the file was loaded before: it may have changed
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"annotate.module: {path} failed: {type(error).__name__}: {error}") from error
    return module
