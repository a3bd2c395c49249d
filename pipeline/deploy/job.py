"""job.yaml, and the job in schedule.yaml: what Anyscale's models let pass, and the platform or main.py does not."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.deploy.files import COMPUTE, PRICES, SCHEDULE, Problems, load
from pipeline.deploy.image import image_problem, requirements
from pipeline.deploy.placement import placement
from pipeline.errors import UserError
from pipeline.settings import CurateSettings

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|_KEY\b|CREDENTIAL", re.IGNORECASE)


def check_job(folder: str, name: str) -> Problems:
    """job.yaml, or the job in schedule.yaml: what the model lets pass and the platform or main.py does not."""
    content = load(folder, name)
    content = content.get("job_config", {}) if name == SCHEDULE else content
    found = _image_source(folder, name, content) + _paths(folder, name, content) + _secrets(name, content)
    if not content.get("max_retries"):
        found.append(f"{name}: max_retries is 0 or missing: a lost spot node would end the job, which could resume")
    if not content.get("timeout_s"):
        found.append(f"{name}: no timeout_s: a job that hangs would be paid for until somebody looks")
    settings = _settings(folder, name, str(content.get("entrypoint", "")))
    if isinstance(settings, str):
        return [*found, settings]
    where = _compute(folder, content)
    return found + placement(settings, where, load(folder, PRICES).get("nodes", {})) if where else found


def _image_source(folder: str, name: str, content: dict[str, Any]) -> Problems:
    given = [key for key in ("image_uri", "containerfile") if content.get(key)]
    if len(given) != 1:
        return [f"{name}: {' and '.join(given) or 'neither image_uri nor containerfile'}: give exactly one of them"]
    uri = str(content.get("image_uri", ""))
    if uri and not uri.startswith("anyscale/image/"):  # an image of the user's own has no tag that tells
        problem = image_problem(name, uri, requirements(folder)["ray"].partition("==")[2])
        return [problem] if problem else []
    return []


def _paths(folder: str, name: str, content: dict[str, Any]) -> Problems:
    listed = content.get("requirements")
    paths = {"containerfile": content.get("containerfile"), "working_dir": content.get("working_dir")}
    paths |= {"requirements": listed if isinstance(listed, str) else None}
    return [
        f"{name}: {key}: no {path} in {folder}"
        for key, path in paths.items()
        if path and "://" not in path and not Path(folder, path).exists()
    ]


def _secrets(name: str, content: dict[str, Any]) -> Problems:
    """Secrets stand here by name only: NAME: ${NAME}."""
    return [
        f"{name}: env_vars: {key} has its value written out: write ${{{key}}}, and revoke what was there"
        for key, value in (content.get("env_vars") or {}).items()
        if SECRET.search(key) and value != f"${{{key}}}"
    ]


def _settings(folder: str, name: str, entrypoint: str) -> CurateSettings | str:
    """The settings that the entrypoint gives main.py, or the problem with it."""
    try:
        words = shlex.split(entrypoint)
    except ValueError as error:
        return f"{name}: entrypoint: {error}"
    if words[:3] != ["python", "main.py", "curate"]:
        return f"{name}: entrypoint: {' '.join(words[:3])!r} is not `python main.py curate`"
    arguments = [_in_folder(folder, words[3:], i) for i in range(len(words) - 3)]
    try:
        settings = cli.parse(CurateSettings, "curate", arguments, {})
    except UserError as error:
        return f"{name}: entrypoint: {error}"
    if not settings.input and not settings.input_list:
        return f"{name}: entrypoint: no input, neither in it nor in its --config"
    if not re.match(r"^(\$\{?ANYSCALE_ARTIFACT_STORAGE|[a-z0-9]+://)", settings.output):
        return f"{name}: entrypoint: --output {settings.output} is on a machine that goes away with the job: give a URI"
    return settings


def _in_folder(folder: str, words: list[str], index: int) -> str:
    """The value of --config as a path from here."""
    word = words[index]
    if word.startswith("--config="):
        return f"--config={os.path.join(folder, word.removeprefix('--config='))}"
    return os.path.join(folder, word) if index and words[index - 1] == "--config" else word


def _compute(folder: str, content: dict[str, Any]) -> dict[str, Any] | None:
    """The job's machines: inline, or those of cluster_compute.yaml, from which the named config is made."""
    given = content.get("compute_config")
    return given if isinstance(given, dict) else load(folder, COMPUTE)
