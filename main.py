#!/usr/bin/env python3
"""Arguments -> settings -> one job."""

import sys

from pipeline import cli
from pipeline.settings import CaptionSettings, CurateSettings, PlanSettings, SummarizeSettings, TasksSettings

JOBS = {
    "curate": (CurateSettings, "pipeline.curate"),
    "caption": (CaptionSettings, "pipeline.caption"),
    "summarize": (SummarizeSettings, "pipeline.summarize"),
    "plan": (PlanSettings, "pipeline.plan"),
    "tasks": (TasksSettings, "pipeline.list_tasks"),
}

if __name__ == "__main__":
    sys.exit(cli.run(JOBS, sys.argv[1:], before_work=cli.set_native_chatter_aside))
