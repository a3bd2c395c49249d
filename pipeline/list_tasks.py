"""List what is registered: the tasks with the fields of their answers, and the datasets."""

import inspect
from typing import Annotated, Any, get_args, get_origin

from pipeline import tasks
from pipeline.settings import TasksSettings


def run(settings: TasksSettings) -> int:
    """Print them; always 0. Raises UserError for a module that cannot be loaded."""
    if settings.module:
        tasks.load_module(settings.module)
    print("tasks")
    for name, task in sorted(tasks.tasks().items()):
        print(f"  {name} ({_jobs(task)}; dataset {task.dataset_name})")
        for field, kind in _fields(task):
            print(f"    {field:<16} {kind}")
    print("\ndatasets")
    for name, dataset in sorted(tasks.datasets().items()):
        print(f"  {name:<12} {(inspect.getdoc(dataset) or '').partition(chr(10))[0]}")
    return 0


def _jobs(task: Any) -> str:
    if not isinstance(task, tasks.Task):
        return "caption"
    return "curate, caption" if task.prompt else "curate, with the annotator of its name"


def _fields(task: Any) -> list[tuple[str, str]]:
    """The answer's fields with their types; a task without a response model writes what its parse gives."""
    response = getattr(task, "response", None)
    if response is None:
        return [("(free text)", (inspect.getdoc(task.parse) or "").partition(". ")[0])]
    return [(name, _kind(field.annotation)) for name, field in response.model_fields.items()]


def _kind(annotation: Any) -> str:
    """A field's type without its bounds: `list[str]`, `Literal['a', 'b']`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(args[0])
    if origin is list and args:
        return f"list[{_kind(args[0])}]"
    return inspect.formatannotation(annotation)
