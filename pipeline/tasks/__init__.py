"""What a vision-language model is asked: a prompt, a response model, and what to do with the answer."""

from pipeline.tasks import caption, curate, labels  # importing them registers them
from pipeline.tasks.datasets import Dataset, Item
from pipeline.tasks.registry import (
    SampleTask,
    Task,
    ask,
    dataset,
    datasets,
    json_schema,
    load_module,
    register_dataset,
    register_task,
    task,
    tasks,
)

__all__ = [
    "Dataset",
    "Item",
    "SampleTask",
    "Task",
    "ask",
    "caption",
    "curate",
    "dataset",
    "datasets",
    "json_schema",
    "labels",
    "load_module",
    "register_dataset",
    "register_task",
    "task",
    "tasks",
]
