"""What else would make a run fail: versions, credentials, models, an output that cannot be written."""

import os
from importlib.metadata import version

from pipeline import storage
from pipeline.deploy.files import REQUIREMENTS, check_files
from pipeline.deploy.image import check_image, requirements
from pipeline.errors import UserError, one_line
from pipeline.settings import CurateSettings


def versions(folder: str) -> list[str]:
    """The image's Ray, the pinned one and the one here are the same."""
    if gone := check_files(folder):
        return gone
    pinned, here = requirements(folder)["ray"].partition("==")[2], version("ray")
    other = [f"ray {here} is installed here, {REQUIREMENTS} pins {pinned}: make setup"] if here != pinned else []
    return check_image(folder) + other


def credentials(settings: CurateSettings) -> list[str]:
    """Tokens that are needed and not in the environment. (Buckets were asked when they were listed.)"""
    found = []
    if any(uri.startswith("hf://") for uri in [*settings.input, *settings.input_list]) and not os.environ.get(
        "HF_TOKEN"
    ):
        found.append("no HF_TOKEN in the environment: hf:// inputs may need it (accept the licence on the hub, too)")
    default = type(settings.annotate.openai).model_fields["base_url"].default
    endpoint = settings.annotate.annotator == "openai" and settings.annotate.openai.base_url == default
    if endpoint and not os.environ.get("OPENAI_API_KEY"):
        found.append("no OPENAI_API_KEY in the environment: annotate.annotator openai needs it")
    return found


def models(settings: CurateSettings) -> list[str]:
    """Models that are neither a folder nor in the hub's cache nor to be had from the hub."""
    if settings.dry_run:
        return []
    wanted = {"annotate.vllm.model": settings.annotate.vllm.model} if settings.annotate.annotator == "vllm" else {}
    if settings.embed.embedder == "clip":
        wanted["embed.clip_model"] = settings.embed.clip_model
    return [problem for key, model in wanted.items() if (problem := _unreachable(key, model))]


def _unreachable(key: str, model: str) -> str | None:
    if os.path.isdir(model):
        return None if os.path.isfile(os.path.join(model, "config.json")) else f"{key}: no config.json in {model}"
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(model, "config.json"), str):
            return None
        HfApi().model_info(model, timeout=5)
    except Exception as error:  # no network, no such model, no permission: each has a class of its own
        return f"{key}: {model} cannot be reached: {one_line(error, 160)}"
    return None


def output(output: str) -> list[str]:
    """Whether the output can be written to."""
    try:
        storage.check_writable(output)
    except UserError as error:
        return [str(error)]
    return []
