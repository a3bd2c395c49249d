"""A dry run: the production graph, operators and engines, on tiny random stand-ins for the big models."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.models import standins
from pipeline.settings import AnnotateSettings, AskSettings, CaptionSettings, CurateSettings, ResourceSettings

if TYPE_CHECKING:
    from pipeline.report import Report

Model = TypeVar("Model", AnnotateSettings, AskSettings)
VIDEOS = 3  # or samples, unless --limit says otherwise
VIDEO_PIXELS = 3072 * 28 * 28  # of frame pairs: leaves a quarter of the stand-in's tokens to prompt and answer
MAX_TOKENS = 640  # random weights fill every string to its bound


Curate = TypeVar("Curate", bound=CurateSettings)


def made_small(settings: Curate) -> Curate:
    """The same settings for one replica, any machine, a few videos."""
    return settings.model_copy(update={"resources": _resources(settings.resources), "limit": settings.limit or VIDEOS})


def with_stand_ins(settings: CurateSettings) -> CurateSettings:
    """The same settings, made small, on tiny models."""
    update: dict[str, Any] = {"annotate": _model(settings.annotate)}
    if settings.embed.embedder == "clip":
        update["embed"] = settings.embed.model_copy(update={"clip_model": str(_stand_in("clip"))})
    return made_small(settings).model_copy(update=update)


def caption_with_stand_ins(settings: CaptionSettings) -> CaptionSettings:
    """The same for samples, whose videos must fit the stand-in."""
    pixels = min(settings.video.total_pixels, VIDEO_PIXELS)
    update = {
        "video": settings.video.model_copy(update={"total_pixels": pixels}),
        "annotate": _model(settings.annotate),
        "resources": _resources(settings.resources),
        "limit": settings.limit or VIDEOS,
    }
    return settings.model_copy(update=update)


def _model(settings: Model) -> Model:
    vllm = settings.vllm.model_copy(
        update={
            "model": str(_stand_in("qwen2.5-vl")),
            "max_model_len": min(settings.vllm.max_model_len, standins.MAX_TOKENS),
            "engine_kwargs": {},
        }
    )
    update: dict[str, Any] = {"vllm": vllm, "max_tokens": max(settings.max_tokens, MAX_TOKENS)}
    if settings.annotator == "openai":
        update["annotator"] = "vllm"  # nothing is asked outside, nor paid for
    return settings.model_copy(update=update)


def _resources(settings: ResourceSettings) -> ResourceSettings:
    anywhere = {"cpu_label_selector": {}, "gpu_label_selector": {}, "accelerator_type": None}
    few = {"vllm_replicas": 1, "split_tasks": None, "cut_tasks": None, "cpus_per_actor": None}
    pools = dict.fromkeys(("screen_actors", "embed_actors", "label_actors"))
    return settings.model_copy(update=anywhere | few | pools)


def _stand_in(name: str) -> Path:
    """Built once a machine; the name is the same in every dry run, so that one can be resumed."""
    folder = Path(tempfile.gettempdir()) / f"cutroom-stand-ins-{os.getuid()}" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent))
        build = {"qwen2.5-vl": standins.build_qwen2_5_vl, "clip": standins.build_clip}[name]
        build(work)
        try:
            work.rename(folder)
        except OSError:  # another run was quicker
            shutil.rmtree(work)
    return folder


def checked(settings: CurateSettings, report: "Report") -> str:
    """What this dry run has shown, and what it cannot show."""
    rows = {stage: int(counts["rows"]) for stage, counts in report.stages.items()}
    clips, kept = sum(report.clips.values()), report.clips["kept"]
    good, bad = "checked    ", "NOT SHOWN  "
    lines = [
        "",
        "DRY RUN: answers and embeddings come from random weights and mean nothing.",
        f"{good if clips else bad} settings, sources, split: {report.videos['total']} videos, {clips} clips",
        f"{good if rows.get('screen') else bad} safety screen, real weights: {rows.get('screen', 0)} clips",
    ]
    if settings.annotate.annotator == "vllm":
        asked = rows.get("annotate", 0)
        lines.append(f"{good if kept else bad} vLLM, chat template, structured output: {asked} asked, {kept} kept")
    if settings.embed.embedder == "clip":
        lines.append(f"{good if kept else bad} CLIP and the embedding column: {kept} clips")
    lines.append(f"{bad if report.problems else good} tables, resume, reconcile")
    lines.append(f"{bad} the real weights, GPU memory, speed, access to the hub")
    return "\n".join(lines)
