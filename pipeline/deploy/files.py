"""The deploy files: their names, and what is in them."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import one_line

JOB, SCHEDULE, COMPUTE, OLD_ENV, IMAGE = (
    "job.yaml",
    "schedule.yaml",
    "cluster_compute.yaml",
    "cluster_env.yaml",
    "Containerfile",
)
REQUIREMENTS, PRICES = "requirements.txt", "configs/prices.yaml"
Problems = list[str]  # one line each: the file, the place in it, what to do


def check_files(folder: str) -> Problems:
    """Files that are not there, or not YAML."""
    found: Problems = []
    for name in (JOB, SCHEDULE, COMPUTE, OLD_ENV, IMAGE, REQUIREMENTS, PRICES):
        path = Path(folder, name)
        if not path.is_file():
            found.append(f"{name}: no such file in {folder}")
        elif name.endswith(".yaml"):
            try:
                if not isinstance(yaml.safe_load(path.read_text()), dict):
                    found.append(f"{name}: not a mapping")
            except yaml.YAMLError as error:
                found.append(f"{name}: not valid YAML: {one_line(error, 1000)}")
        elif name == REQUIREMENTS and not re.search(r"^ray\b.*==\d", path.read_text(), re.MULTILINE):
            found.append(f"{name}: no `ray==` with its version, which the image must have, too")
    return found


def load(folder: str, name: str) -> dict[str, Any]:
    """The content of one of them, which is there and is YAML."""
    return yaml.safe_load(Path(folder, name).read_text()) or {}
