"""A dry run: the production graph, operators and engines, on tiny random stand-ins for the big models."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.models import standins
from pipeline.settings import CurateSettings

if TYPE_CHECKING:
    from pipeline.report import Report

VIDEOS = 3  # unless --limit says otherwise
MAX_TOKENS = 640  # random weights fill every string to its bound


def with_stand_ins(settings: CurateSettings) -> CurateSettings:
    """The same settings on stand-ins: tiny models, one replica, any machine, a few videos."""
    annotate = settings.annotate.model_copy(
        update={
            "vllm": settings.annotate.vllm.model_copy(
                update={
                    "model": str(_stand_in("qwen2.5-vl")),
                    "max_model_len": standins.MAX_TOKENS,
                    "engine_kwargs": {},
                }
            ),
            "max_tokens": max(settings.annotate.max_tokens, MAX_TOKENS),
        }
    )
    resources = settings.resources.model_copy(update={"vllm_replicas": 1, "accelerator_type": None})
    update = {"annotate": annotate, "resources": resources, "limit": settings.limit or VIDEOS}
    if settings.embed.embedder == "clip":
        update["embed"] = settings.embed.model_copy(update={"clip_model": str(_stand_in("clip"))})
    return settings.model_copy(update=update)


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
    kept, rejected, failed = (report.clips[verdict] for verdict in ("kept", "rejected", "failed"))
    lines = [
        "",
        "DRY RUN: answers and embeddings come from random weights and mean nothing.",
        f"checked  settings, {report.videos['total']} real inputs opened and split, {kept + rejected + failed} clips settled",
        f"checked  safety screen on real weights ({settings.screen.model})",
    ]
    annotated = int(report.stages.get("annotate", {}).get("rows", 0))
    embedded = int(report.stages.get("embed", {}).get("rows", 0))
    if settings.annotate.annotator == "vllm":
        lines.append(
            f"checked  vLLM engine, chat template, structured output: {annotated} requests, {embedded} valid answers"
        )
    if settings.embed.embedder == "clip":
        lines.append(f"checked  CLIP forward and the embedding column: {embedded} clips")
    lines.append("checked  tables written, reconciled" if not report.problems else "FAILED   the books do not balance")
    lines.append("not checked  real weights, GPU memory and speed, hub access")
    return "\n".join(lines)
