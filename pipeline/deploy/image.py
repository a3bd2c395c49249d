"""The image: one base and one list of packages, in three places."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.deploy.files import IMAGE, OLD_ENV, REQUIREMENTS, Problems, load
from pipeline.deploy.secrets import by_their_look, in_image

PIP_INSTALL = re.compile(r"pip install ([^&|;]*)")
FROM_THE_PLATFORM = {"ray", "anyscale"}  # Ray comes with the base image, the client is for the one who submits


def check_image(folder: str) -> Problems:
    """The base image's Ray, and the packages of Containerfile, cluster_env.yaml and requirements.txt, are the same."""
    wanted = requirements(folder)
    ray_version = wanted["ray"].partition("==")[2]
    base, packages, variables, others = containerfile(Path(folder, IMAGE).read_text())
    old = load(folder, OLD_ENV)
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
    conda = (old.get("python") or {}).get("conda_packages")
    if old.get("debian_packages") or old.get("post_build_cmds") or conda:
        found.append(f"{OLD_ENV}: debian_packages, conda_packages and post_build_cmds have no counterpart in {IMAGE}")
    found += [f"{IMAGE}: {command}: has no counterpart in {OLD_ENV}, and is not checked" for command in others]
    found += in_image(IMAGE, variables) + by_their_look(folder, IMAGE) + by_their_look(folder, OLD_ENV)
    return found


def image_problem(name: str, tag: str, ray_version: str) -> str | None:
    """Why this base image does not go with the pinned Ray, if so. Tags are NAME:RAY-pyXY-cuXYZ."""
    version = re.match(r"^[^:]+:(\d+\.\d+\.\d+)(?=-|$)", tag)
    if version is None:
        return f"{name}: no Ray version in the tag of {tag}"
    if version[1] != ray_version:
        return f"{name}: the image has Ray {version[1]}, {REQUIREMENTS} pins {ray_version}: change them together"
    if "ray-llm" not in tag or "-cu" not in tag:
        return f"{name}: {tag} is no image for vLLM on GPUs: anyscale/ray-llm:...-cu..."
    return None


def containerfile(text: str) -> tuple[str, dict[str, str], dict[str, str], list[str]]:
    """Base image, pip packages by name, environment variables, and all that is none of these."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    commands = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    base, packages, variables, others = "", {}, {}, []
    for command in filter(None, map(str.strip, commands)):
        word, _, rest = command.partition(" ")
        if word == "FROM" and not base:
            base = rest.strip()
        elif word == "ENV" and "=" in rest:
            variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "RUN" and (found := PIP_INSTALL.fullmatch(rest.strip())):
            packages |= _by_name(part for part in shlex.split(found[1]) if not part.startswith("-"))
        else:
            others.append(" ".join(command.split())[:80])
    return base, packages, variables, others


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
