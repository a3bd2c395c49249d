"""The task of the embedded classifier, which is asked nothing: it names what it sees."""

from pydantic import BaseModel, Field

from pipeline.tasks.registry import Task, register_task


class LabelsAnswer(BaseModel):
    """What the clips table gets from the labels annotator: ImageNet classes, likeliest first."""

    label: str = Field(max_length=100)
    labels: list[str] = Field(max_length=20)
    label_scores: list[float] = Field(max_length=20)
    """probability of each label, mean over the clip's frames (0-1)"""


LABELS = register_task(Task(name="labels", prompt="", response=LabelsAnswer))
