"""What can be known about the deploy files before anything is sent: each function returns a list of problems.

Nothing here starts Ray, logs in or talks to anybody. `problems(folder)` asks everything; a problem is one line that
names the file, the place in it, and what to do.
"""

import os
import re
import shlex
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline import cli
from pipeline.errors import UserError
from pipeline.settings import CurateSettings, ResourceSettings, gpus_per_engine

JOB, SCHEDULE, COMPUTE, OLD_ENV, IMAGE = (
    "job.yaml",
    "schedule.yaml",
    "cluster_compute.yaml",
    "cluster_env.yaml",
    "Containerfile",
)
REQUIREMENTS, PRICES = "requirements.txt", "configs/prices.yaml"
FROM_THE_PLATFORM = {"ray", "anyscale"}  # Ray comes with the base image, the client is for the one who submits
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|_KEY\b|CREDENTIAL", re.IGNORECASE)
CRON = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
CRON_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of the week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
Problems = list[str]


def problems(folder: str) -> Problems:
    """Everything that is wrong with the deploy files in a folder."""
    found = missing(folder)
    if found:
        return found
    found = [*against_models(folder), *image(folder), *prices(folder)]
    for name in (JOB, SCHEDULE):
        found += job(folder, name)
    return found + cron(folder)


def missing(folder: str) -> Problems:
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
                found.append(f"{name}: not valid YAML: {' '.join(str(error).split())}")
    return found


# The formats, by Anyscale's own models


def against_models(folder: str) -> Problems:
    """What the `anyscale` package refuses: unknown keys, wrong types, impossible machines."""
    from anyscale.compute_config.models import ComputeConfig  # imported here: it takes seconds
    from anyscale.job.models import JobConfig
    from anyscale.schedule.models import ScheduleConfig

    models = {JOB: JobConfig, SCHEDULE: ScheduleConfig, COMPUTE: ComputeConfig}
    found: Problems = []
    for name, model in models.items():
        found += _refusals(name, lambda model=model, name=name: model.from_yaml(str(Path(folder, name))))
    return found + _refusals(OLD_ENV, lambda: _old_environment(_load(folder, OLD_ENV)))


def _refusals(name: str, build: Callable[[], Any]) -> Problems:
    try:
        build()
    except Exception as error:  # the models raise whatever they like
        return [f"{name}: {' '.join(str(error).split())}"]
    return []


def _old_environment(content: dict[str, Any]) -> None:
    from anyscale.sdk.anyscale_client.models.create_cluster_environment_configuration_schema import (
        CreateClusterEnvironmentConfigurationSchema,
    )
    from anyscale.sdk.anyscale_client.models.python_modules import PythonModules

    python = PythonModules(**content.get("python", {}))
    CreateClusterEnvironmentConfigurationSchema(**{**content, "python": python})


# The image: one base, one list of packages, in three places


def image(folder: str) -> Problems:
    """The base image's Ray, and the packages of Containerfile, cluster_env.yaml and requirements.txt, are the same."""
    wanted = requirements(folder)
    ray_version = wanted["ray"].partition("==")[2]
    base, packages, variables = containerfile(Path(folder, IMAGE).read_text())
    old = _load(folder, OLD_ENV)
    listed = _by_name((old.get("python") or {}).get("pip_packages") or [])
    found = [
        problem
        for name, tag in ((IMAGE, base), (OLD_ENV, str(old.get("base_image"))))
        if (problem := image_problem(name, tag, ray_version))
    ]
    if base != old.get("base_image"):
        found.append(f"{OLD_ENV}: base_image is {old.get('base_image')}, {IMAGE} is FROM {base}")
    production = {name: line for name, line in wanted.items() if name not in FROM_THE_PLATFORM}
    found += _differences(IMAGE, packages, REQUIREMENTS, production)
    found += _differences(OLD_ENV, listed, IMAGE, packages)
    old_variables = {key: str(value) for key, value in (old.get("env_vars") or {}).items()}
    if old_variables != variables:
        found.append(f"{OLD_ENV}: env_vars are {old_variables}, {IMAGE} sets {variables}")
    if old.get("debian_packages") or old.get("post_build_cmds"):
        found.append(f"{OLD_ENV}: debian_packages and post_build_cmds have no counterpart in {IMAGE}")
    return found


def image_problem(name: str, tag: str, ray_version: str) -> str | None:
    """Why this base image does not go with the pinned Ray, if so. Tags are NAME:RAY-pyXY-cuXYZ."""
    version = re.match(r"^[^:]+:(\d+\.\d+\.\d+)(?=-|$)", tag)
    if version is None:
        return f"{name}: no Ray version in the tag of {tag}"
    if version[1] != ray_version:
        return f"{name}: the image has Ray {version[1]}, {REQUIREMENTS} pins {ray_version}: change them together"
    return None


def containerfile(text: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Base image, pip packages by name, environment variables."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    commands = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    base, packages, variables = "", {}, {}
    for command in commands:
        word, _, rest = command.strip().partition(" ")
        if word == "FROM":
            base = rest.strip()
        elif word == "ENV":
            key, _, value = rest.partition("=")
            variables[key.strip()] = value.strip().strip('"')
        elif word == "RUN" and (found := re.search(r"pip install (.*)", rest)):
            packages |= _by_name(part for part in shlex.split(found[1]) if not part.startswith("-"))
    return base, packages, variables


def requirements(folder: str) -> dict[str, str]:
    """The lines of requirements.txt by package name."""
    lines = [line.partition("#")[0].strip() for line in Path(folder, REQUIREMENTS).read_text().splitlines()]
    return _by_name(line for line in lines if line)


def _by_name(lines: Iterable[str]) -> dict[str, str]:
    return {re.split(r"[\[=<>!~ ;]", line, maxsplit=1)[0].lower().replace("_", "-"): line for line in lines}


def _differences(name: str, these: Mapping[str, str], other: str, those: Mapping[str, str]) -> Problems:
    return [
        f"{name}: {these.get(package) or f'no {package}'}, {other} has {those.get(package) or f'no {package}'}"
        for package in sorted({*these, *those})
        if these.get(package) != those.get(package)
    ]


# The job


def job(folder: str, name: str) -> Problems:
    """job.yaml, or the job in schedule.yaml: what the model lets pass and the platform or main.py does not."""
    content = _load(folder, name)
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
    return found + placement(settings, where, _load(folder, PRICES).get("nodes", {})) if where else found


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
    return given if isinstance(given, dict) else _load(folder, COMPUTE)


# What the settings ask for, against what the machines offer


def placement(settings: CurateSettings, compute: dict[str, Any], nodes: Mapping[str, Any]) -> Problems:
    """Labels and GPUs that no node group offers, and pools that do not fit into what is offered."""
    resources, groups = settings.resources, node_groups(compute, nodes)
    cpu_groups = [group for group in groups if offers(group, resources.cpu_label_selector)]
    found: Problems = []
    if not cpu_groups:
        found.append(_no_group("cpu_label_selector", resources.cpu_label_selector))
    elif (needed := reserved_cpus(settings)) > (cpus := sum(g["cpus"] * g["max_nodes"] for g in cpu_groups)):
        found.append(
            f"resources: the pools reserve {needed:g} CPUs, {COMPUTE} offers {cpus:g}: what does not fit never starts"
        )
    if settings.annotate.annotator == "vllm":
        found += _engines(settings, [group for group in groups if group["gpus"]])
    if any((compute.get("head_node", {}).get("resources") or {}).get(kind) != 0 for kind in ("CPU", "GPU")):
        found.append(f"{COMPUTE}: head_node: resources: {{CPU: 0, GPU: 0}} keeps work away from the head")
    return found


def _engines(settings: CurateSettings, groups: list[dict[str, Any]]) -> Problems:
    resources, each = settings.resources, gpus_per_engine(settings.annotate.vllm)
    labelled = [group for group in groups if offers(group, resources.gpu_label_selector)]
    if not labelled:
        return [_no_group("gpu_label_selector", resources.gpu_label_selector)]
    kind = resources.accelerator_type
    fitting = [group for group in labelled if kind is None or group["accelerator"] == kind]
    if not fitting:
        offered = ", ".join(sorted({str(group["accelerator"]) for group in labelled}))
        return [f"resources.accelerator_type {kind}: {COMPUTE} offers {offered}"]
    gpus = sum(group["gpus"] * group["max_nodes"] for group in fitting)
    wanted = (resources.vllm_replicas or 1) * each
    return (
        [f"resources.vllm_replicas: the engines need {wanted} GPUs, {COMPUTE} offers {gpus}"] if wanted > gpus else []
    )


def _no_group(setting: str, labels: Mapping[str, str]) -> str:
    asked = ", ".join(f"{key}={value}" for key, value in labels.items()) or "any"
    return f"resources.{setting}: no worker group of {COMPUTE} offers {asked}: its operators would wait for ever"


def node_groups(compute: dict[str, Any], nodes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The worker groups: name, instance_type, labels, max_nodes, spot; cpus, gpus, accelerator, memory_gib of a node.

    nodes: instance types by name, as configs/prices.yaml has them; unknown ones count as empty.
    """
    groups = []
    for group in compute.get("worker_nodes") or []:
        kind = group.get("instance_type")
        own, known = group.get("required_resources") or {}, nodes.get(kind, {})
        labels = {**(group.get("required_labels") or {}), **(group.get("labels") or {})}
        accelerator = own.get("accelerator") or known.get("accelerator") or labels.get("ray.io/accelerator-type")
        groups.append(
            {
                "name": group.get("name") or kind,
                "instance_type": kind,
                "labels": labels,
                "max_nodes": group.get("max_nodes", 10),
                "spot": group.get("market_type", "ON_DEMAND") != "ON_DEMAND",
                "cpus": own.get("CPU", known.get("cpus", 0)),
                "gpus": own.get("GPU", known.get("gpus", 0)),
                "accelerator": accelerator,
                "memory_gib": known.get("memory_gib") or _gib(own.get("memory")),
            }
        )
    return groups


def _gib(memory: str | int | None) -> float:
    found = re.match(r"^([\d.]+)\s*(Gi|Mi)?", str(memory or 0))
    number, unit = (float(found[1]), found[2]) if found else (0.0, None)
    return number if unit == "Gi" else number / 1024 if unit == "Mi" else number / 2**30


def offers(group: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """True when the group's nodes carry all these labels."""
    return all(group["labels"].get(key) == value for key, value in labels.items())


def pools(settings: CurateSettings) -> dict[str, int]:
    """Workers of each CPU stage as far as the settings give them; the light ones count as one."""
    resources: ResourceSettings = settings.resources
    sizes = {"split": resources.split_tasks or 1}
    if settings.screen.model != "none":
        sizes["screen"] = resources.screen_actors or 1
    if settings.annotate.annotator == "labels":
        sizes["annotate"] = resources.label_actors or 1
    elif settings.annotate.annotator == "vllm":
        sizes["requests, answers"] = 2
    else:
        sizes["annotate"] = 1
    sizes["embed"] = resources.embed_actors or 1
    if settings.clips.mode != "none":
        sizes["cut"] = resources.cut_tasks or 1
    return sizes | {"write": 1}


def reserved_cpus(settings: CurateSettings) -> float:
    """CPUs that all stages reserve when each runs at its full width."""
    resources = settings.resources
    return sum(
        size * (resources.cpus_per_split if stage == "split" else resources.cpus_per_actor or 1.0)
        for stage, size in pools(settings).items()
    )


def prices(folder: str) -> Problems:
    """Every machine of cluster_compute.yaml has a line in configs/prices.yaml."""
    compute, table = _load(folder, COMPUTE), _load(folder, PRICES)
    used = [compute.get("head_node") or {}, *(compute.get("worker_nodes") or [])]
    kinds = {node["instance_type"] for node in used if node.get("instance_type")}
    return [
        f"{PRICES}: nodes: no {kind}, which {COMPUTE} uses" for kind in sorted(kinds - set(table.get("nodes") or {}))
    ]


# The schedule


def cron(folder: str) -> Problems:
    """The schedule's five fields and its time zone, which the platform would only refuse when it is applied."""
    content = _load(folder, SCHEDULE)
    found = [
        f"{SCHEDULE}: cron_expression: {problem}" for problem in cron_problems(str(content.get("cron_expression")))
    ]
    zone = content.get("timezone")
    if not zone:
        found.append(f"{SCHEDULE}: no timezone: name it, UTC or one like Europe/Berlin")
    elif zone != "UTC" and zone not in zoneinfo.available_timezones():
        found.append(f"{SCHEDULE}: timezone: no {zone!r} in the time zone database")
    return found


def cron_problems(expression: str) -> Problems:
    """What is wrong with a cron expression of five fields: * or lists of values and ranges, with steps, or names."""
    fields = expression.split()
    if len(fields) != len(CRON):
        return [f"{expression!r} has {len(fields)} fields, not minute, hour, day, month, day of the week"]
    found: Problems = []
    for text, (name, low, high) in zip(fields, CRON, strict=True):
        if not all(_cron_part(part, low, high, CRON_NAMES.get(name, [])) for part in text.lower().split(",")):
            found.append(f"{text!r} is no {name} ({low}-{high})")
    return found


def _cron_part(part: str, low: int, high: int, names: list[str]) -> bool:
    body, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return False
    if body == "*":
        return True
    values = [names.index(end) + low if end in names else end for end in body.split("-")]
    numbers = [int(value) for value in values if str(value).isdigit()]
    return len(numbers) == len(values) <= 2 and numbers == sorted(numbers) and low <= numbers[0] and numbers[-1] <= high


def _load(folder: str, name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(folder, name).read_text()) or {}
