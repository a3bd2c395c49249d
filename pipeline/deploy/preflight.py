"""What else would make a run fail: versions, credentials, models, an output that cannot be written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from pipeline import storage
from pipeline.deploy.files import REQUIREMENTS, check_files
from pipeline.deploy.image import check_image, requirements
from pipeline.errors import UserError, one_line
from pipeline.settings import CurateSettings

HUB = os.environ.get("HF_ENDPOINT")  # None is the hub
HUB_TIMEOUT_S = 5.0
WEIGHTS = (".safetensors", ".bin")


def versions(folder: str) -> list[str]:
    """The image's Ray, the pinned one and the one here are the same."""
    if gone := check_files(folder):
        return gone
    pinned, here = requirements(folder)["ray"].partition("==")[2], version("ray")
    other = [f"ray {here} is installed here, {REQUIREMENTS} pins {pinned}: make setup"] if here != pinned else []
    return check_image(folder) + other


def tokens(settings: CurateSettings, *, on_cluster: bool) -> list[str]:
    """What to know of the hub's token. (Whether inputs can be read was asked when they were listed.)"""
    from huggingface_hub import get_token

    if not any(uri.startswith("hf://") for uri in [*settings.input, *settings.input_list]):
        return []
    if get_token() is None:
        return [
            "no HF_TOKEN in the environment: a data set with a licence needs it (accept the licence on the hub, too)"
        ]
    if on_cluster and not os.environ.get("HF_TOKEN"):
        return ["the hub's token is on this machine only: hand it to the job with --env HF_TOKEN=..."]
    return []


def keys(settings: CurateSettings) -> list[str]:
    """API keys that are needed and not in the environment."""
    default = type(settings.annotate.openai).model_fields["base_url"].default
    endpoint = settings.annotate.annotator == "openai" and settings.annotate.openai.base_url == default
    if endpoint and not os.environ.get("OPENAI_API_KEY"):
        return ["no OPENAI_API_KEY in the environment: annotate.annotator openai needs it"]
    return []


@dataclass(frozen=True)
class Model:
    """A model that a stage loads: the bytes of its weights where they are known, and why it cannot be had, if so."""

    stage: str
    name: str
    num_bytes: int = 0
    problem: str | None = None


def models(settings: CurateSettings) -> list[Model]:
    """The models that are not in a package."""
    return [] if settings.dry_run else [_model(*named) for named in named_models(settings)]


def named_models(settings: CurateSettings) -> list[tuple[str, str, str]]:
    """(stage, setting, name or folder) of each."""
    vllm = [("annotate", "annotate.vllm.model", settings.annotate.vllm.model)]
    clip = [("embed", "embed.clip_model", settings.embed.clip_model)]
    return vllm * (settings.annotate.annotator == "vllm") + clip * (settings.embed.embedder == "clip")


def _model(stage: str, key: str, name: str) -> Model:
    """Looked for in a folder, in the hub's cache, on the hub."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if os.path.isdir(name):
        there = os.path.isfile(os.path.join(name, "config.json"))
        return Model(stage, name, _weights(_files(name)), None if there else f"{key}: no config.json in {name}")
    try:
        if isinstance(cached := try_to_load_from_cache(name, "config.json"), str):
            return Model(stage, name, _weights(_files(os.path.dirname(cached))))
        info = HfApi(HUB).model_info(name, timeout=HUB_TIMEOUT_S, files_metadata=True)
        HfApi(HUB).auth_check(name)  # a gated model shows its files to everybody
        return Model(stage, name, _weights({file.rfilename: file.size or 0 for file in info.siblings or ()}))
    except Exception as error:  # no network, no such model, no permission: each has a class of its own
        return Model(stage, name, problem=f"{key}: {name} cannot be reached: {one_line(error, 160)}")


def _files(folder: str) -> dict[str, int]:
    """Bytes by name."""
    return {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()}


def _weights(files: Mapping[str, int]) -> int:
    """Bytes of the weights in the form that is loaded: safetensors where there are any."""
    by_ending = {ending: sum(n for name, n in files.items() if name.endswith(ending)) for ending in WEIGHTS}
    return next((total for total in by_ending.values() if total), 0)


def output(output: str) -> list[str]:
    """Whether the output can be written to."""
    try:
        storage.check_writable(output)
    except UserError as error:
        return [str(error)]
    return []
