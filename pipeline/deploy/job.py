"""job.yaml, and the job in schedule.yaml: what Anyscale's models let pass, and the platform or main.py does not."""

import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.deploy.files import COMPUTE, PRICES, SCHEDULE, Problems, load
from pipeline.deploy.image import image_problem, requirements
from pipeline.deploy.placement import placement
from pipeline.deploy.secrets import by_their_look, written_out
from pipeline.deploy.upload import check_upload
from pipeline.errors import UserError
from pipeline.settings import CurateSettings


def check_job(folder: str, name: str) -> Problems:
    """job.yaml, or the job in schedule.yaml: what the model lets pass and the platform or main.py does not."""
    content = load(folder, name)
    content = content.get("job_config", {}) if name == SCHEDULE else content
    found = _image_source(folder, name, content) + _paths(folder, name, content)
    found += written_out(name, content.get("env_vars") or {}) + by_their_look(folder, name)
    if not content.get("max_retries"):
        found.append(f"{name}: max_retries is 0 or missing: a lost spot node would end the job, which could resume")
    if not content.get("timeout_s"):
        found.append(f"{name}: no timeout_s: a job that hangs would be paid for until somebody looks")
    found += _machines_name(folder, name, content)
    settings, problems = _entrypoint(folder, name, content)
    where = _compute(folder, content)
    if settings and where:
        problems += placement(settings, where, load(folder, PRICES).get("nodes", {}))
    return found + problems


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


def _machines_name(folder: str, name: str, content: dict[str, Any]) -> Problems:
    """The compute config is the one that cluster_compute.yaml says how to create."""
    given = content.get("compute_config")
    created = re.findall(r"compute-config create -n (\S+)", Path(folder, COMPUTE).read_text())
    if not isinstance(given, str) or not created or given.partition(":")[0] in created:
        return []
    return [f"{name}: compute_config: {given}, but {COMPUTE} is created as {created[0]}"]


def _entrypoint(folder: str, name: str, content: dict[str, Any]) -> tuple[CurateSettings | None, Problems]:
    """The settings that it gives main.py, and what is wrong with it."""
    where = f"{name}: entrypoint"
    try:
        words = shlex.split(str(content.get("entrypoint", "")))
    except ValueError as error:
        return None, [f"{where}: {error}"]
    if words[:3] != ["python", "main.py", "curate"]:
        return None, [f"{where}: {' '.join(words[:3])!r} is not `python main.py curate`"]
    try:
        settings = cli.parse(CurateSettings, "curate", _in_folder(folder, words[3:]), {})
    except UserError as error:
        return None, [f"{where}: {error}"]
    found = check_upload(folder, name, content, settings, _value(words, "--config"))
    if not settings.input and not settings.input_list:
        found.append(f"{where}: no input, neither in it nor in its --config")
    if not re.match(r"^(\$\{?ANYSCALE_ARTIFACT_STORAGE|[a-z0-9]+://)", settings.output):
        found.append(f"{where}: --output {settings.output} is on a machine that goes away with the job: give a URI")
    return settings, found


def _value(words: list[str], option: str) -> str:
    """What an option is given, in either form; nothing where it is not there."""
    joined = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    apart = [after for word, after in pairwise(words) if word == option]
    return [*joined, *apart, ""][0]


def _in_folder(folder: str, words: list[str]) -> list[str]:
    """The arguments with the path of --config as it is from here."""
    config = _value(words, "--config")
    paths = {config: os.path.join(folder, config), f"--config={config}": f"--config={os.path.join(folder, config)}"}
    return [paths.get(word, word) for word in words] if config else words


def _compute(folder: str, content: dict[str, Any]) -> dict[str, Any] | None:
    """The job's machines: inline, or those of cluster_compute.yaml, from which the named config is made."""
    given = content.get("compute_config")
    return given if isinstance(given, dict) else load(folder, COMPUTE)
