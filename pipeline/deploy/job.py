"""job.yaml, and the job in schedule.yaml: what Anyscale's models let pass, and the platform or main.py does not."""

import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline import cli
from pipeline.curate import choose_task
from pipeline.deploy.files import COMPUTE, IMAGE, JOB, PRICES, REQUIREMENTS, SCHEDULE, Problems, load
from pipeline.deploy.image import image_problem, requirements
from pipeline.deploy.placement import placement
from pipeline.deploy.secrets import by_their_look, written_out
from pipeline.deploy.upload import check_upload
from pipeline.errors import UserError
from pipeline.jobs import JOBS
from pipeline.settings import CurateSettings

# the same place each time, and not on the cluster, which goes away
OUTPUT = re.compile(
    r"^(\$ANYSCALE_ARTIFACT_STORAGE/|\$\{ANYSCALE_ARTIFACT_STORAGE(%/)?\}/|(?!file:)[a-z0-9]+://)[^$]*$"
)


def check_job(folder: str, name: str) -> Problems:
    """job.yaml, or the job in schedule.yaml: what the model lets pass and the platform or main.py does not."""
    content = _job(folder, name)
    found = _image_source(folder, name, content) + _paths(folder, name, content)
    found += written_out(name, content.get("env_vars") or {}) + by_their_look(folder, name)
    if not content.get("max_retries"):
        found.append(f"{name}: max_retries is 0 or missing: a lost spot node would end the job, which could resume")
    if not content.get("timeout_s"):
        found.append(f"{name}: no timeout_s: a job that hangs would be paid for until somebody looks")
    found += _machines_name(folder, name, content)
    settings, problems = _entrypoint(folder, name, content)
    if isinstance(settings, CurateSettings):
        problems += _run(folder, name, content, settings)
    return found + problems


def check_same_output(folder: str) -> Problems:
    """The nightly run continues what the job began."""
    both = [_entrypoint(folder, name, _job(folder, name))[0] for name in (JOB, SCHEDULE)]
    outputs = [settings.output for settings in both if isinstance(settings, CurateSettings)]
    if len(set(outputs)) < 2:
        return []
    return [f"{SCHEDULE}: --output {outputs[1]}, {JOB} has {outputs[0]}: the nights would begin anew"]


def _job(folder: str, name: str) -> dict[str, Any]:
    content = load(folder, name)
    return content.get("job_config") or {} if name == SCHEDULE else content


def _image_source(folder: str, name: str, content: dict[str, Any]) -> Problems:
    given = [key for key in ("image_uri", "containerfile") if content.get(key)]
    if len(given) != 1:
        return [f"{name}: {' and '.join(given) or 'neither image_uri nor containerfile'}: give exactly one of them"]
    uri, file = str(content.get("image_uri", "")), content.get("containerfile")
    if uri.startswith("anyscale/ray"):  # an image of the user's own has no tag that tells
        problem = image_problem(name, uri, requirements(folder)["ray"].partition("==")[2])
        bare = f"{name}: {uri} has none of {REQUIREMENTS}: name it as `requirements`, too, or give the containerfile"
        return [problem] if problem else [bare] if not content.get("requirements") else []
    if file and Path(folder, file).is_file() and not Path(folder, file).samefile(Path(folder, IMAGE)):
        return [f"{name}: containerfile: {file} is not {IMAGE}, which is the one that is checked"]
    return []


def _paths(folder: str, name: str, content: dict[str, Any]) -> Problems:
    listed, working_dir = content.get("requirements"), content.get("working_dir")
    if not working_dir:
        return [f"{name}: no working_dir: nothing would be uploaded, main.py neither"]
    paths = {"containerfile": content.get("containerfile"), "working_dir": working_dir}
    paths |= {"requirements": listed if isinstance(listed, str) else None}
    return [
        f"{name}: {key}: no {path} in {folder}"
        for key, path in paths.items()
        if path and "://" not in path and not Path(folder, path).exists()
    ]


def _machines_name(folder: str, name: str, content: dict[str, Any]) -> Problems:
    """The compute config is the one that cluster_compute.yaml says how to create."""
    given = content.get("compute_config")
    if not given:
        return [f"{name}: no compute_config: the default's nodes carry no labels, and the run would wait for ever"]
    created = re.findall(r"compute-config create -n (\S+)", Path(folder, COMPUTE).read_text())
    if not isinstance(given, str) or not created or given.partition(":")[0] in created:
        return []
    return [f"{name}: compute_config: {given}, but {COMPUTE} is created as {created[0]}"]


def _entrypoint(folder: str, name: str, content: dict[str, Any]) -> tuple[BaseModel | None, Problems]:
    """The settings that it gives main.py, and why there are none, if so."""
    where, text = f"{name}: entrypoint", str(content.get("entrypoint", ""))
    try:
        words = shlex.split(text)
    except ValueError as error:
        return None, [f"{where}: {error}"]
    if len(words) < 3 or words[0] not in ("python", "python3") or words[1] != "main.py" or words[2] not in JOBS:
        return None, [f"{where}: {' '.join(words[:3])!r} is not `python main.py` and one of {', '.join(JOBS)}"]
    environment = {key: str(value) for key, value in (content.get("env_vars") or {}).items()}
    try:
        return cli.parse(JOBS[words[2]][0], words[2], _in_folder(folder, words[3:]), environment), []
    except UserError as error:
        return None, [f"{where}: {error}"]


def _run(folder: str, name: str, content: dict[str, Any], settings: CurateSettings) -> Problems:
    """What is wrong with the settings of a curate run, there."""
    where, text = f"{name}: entrypoint", str(content["entrypoint"])
    found = check_upload(folder, name, content, settings, _value(shlex.split(text), "--config"))
    if not settings.input and not settings.input_list:
        found.append(f"{where}: no input, neither in it nor in its --config")
    if not OUTPUT.match(settings.output) or re.search(r"'[^']*\$", text):
        found.append(
            f"{where}: --output {settings.output} is not there the next time: give a URI that is always the same, or "
            "what begins with ${ANYSCALE_ARTIFACT_STORAGE%/}/, in double quotes"
        )
    found += [f"{where}: {problem}" for problem in _task(folder, settings)]
    if name == SCHEDULE:  # `schedule apply` has no --env
        needs = {"HF_TOKEN": any(uri.startswith("hf://") for uri in settings.input)}
        needs |= {"OPENAI_API_KEY": settings.annotate.annotator == "openai"}
        given = content.get("env_vars") or {}
        missing = [key for key, asked in needs.items() if asked and key not in given]
        found += [f"{name}: env_vars: no {key}, which the run needs: {key}: ${{{key}}}" for key in missing]
    machines = content.get("compute_config")
    machines = machines if isinstance(machines, dict) else load(folder, COMPUTE)
    nodes = load(folder, PRICES).get("nodes", {})
    return found + [f"{name}: {problem}" for problem in placement(settings, machines, nodes)]


def _task(folder: str, settings: CurateSettings) -> Problems:
    """What curate would refuse at once."""
    module = settings.annotate.module
    if module and not Path(folder, module).is_file():
        return []  # told with the upload
    here = {"module": module and os.path.join(folder, module)}
    try:
        choose_task(settings.model_copy(update={"annotate": settings.annotate.model_copy(update=here)}))
    except UserError as error:
        return [str(error)]
    return []


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
