"""Secrets stand in deploy files by name only, and never in an image."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.deploy.files import Problems

NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|(API)?KEY|CRED(ENTIAL)?S?)(_|$)", re.IGNORECASE)
VALUE = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16})\b")  # hub, OpenAI, AWS


def written_out(name: str, variables: Mapping[str, Any]) -> Problems:
    """env_vars of a job: NAME: ${NAME}, and nothing else."""
    return [
        f"{name}: env_vars: {key} has its value written out: write ${{{key}}}, and revoke what was there"
        for key, value in variables.items()
        if NAME.search(key) and value not in (f"${{{key}}}", f"${key}")
    ]


def in_image(name: str, variables: Mapping[str, Any]) -> Problems:
    """Variables of an image are there for everybody who can pull it."""
    return [f"{name}: {key} does not belong into an image: hand it to the job" for key in variables if NAME.search(key)]


def by_their_look(folder: str, name: str) -> Problems:
    """Anything in a file that looks like a key."""
    lines = Path(folder, name).read_text().splitlines()
    return [
        f"{name}: line {number} holds what looks like a key: take it out, and revoke it"
        for number, line in enumerate(lines, 1)
        if VALUE.search(line)
    ]
