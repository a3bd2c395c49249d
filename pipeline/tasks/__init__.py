"""What a vision-language model is asked: a prompt, a response model, and what to do with the answer."""

from pipeline.tasks import curate, labels  # importing them registers them
from pipeline.tasks.registry import Task, load_module, register_task, task, tasks

__all__ = ["Task", "curate", "labels", "load_module", "register_task", "task", "tasks"]
