"""What main.py can do: settings, and the module whose run(settings) does it."""

from pipeline.settings import CaptionSettings, CurateSettings, PlanSettings, SummarizeSettings, TasksSettings

JOBS = {
    "curate": (CurateSettings, "pipeline.curate"),
    "caption": (CaptionSettings, "pipeline.caption"),
    "summarize": (SummarizeSettings, "pipeline.summarize"),
    "plan": (PlanSettings, "pipeline.plan"),
    "tasks": (TasksSettings, "pipeline.list_tasks"),
}
