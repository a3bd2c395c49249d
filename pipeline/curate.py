"""Curate: raw video in, clean annotated clips out, in one streaming graph."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import ray.data

from pipeline import storage
from pipeline.dry_run import checked, with_stand_ins
from pipeline.errors import UserError
from pipeline.interrupts import insisted
from pipeline.progress import Progress, Show, line
from pipeline.records.books import Books, agree_on_settings, open_books, settings_hash
from pipeline.records.lease import Lease
from pipeline.records.tally import Tally
from pipeline.report import close
from pipeline.schema import clips_schema
from pipeline.settings import CurateSettings, result_settings
from pipeline.sources import find_videos
from pipeline.stages import cluster
from pipeline.stages.graph import Graph
from pipeline.stages.ledger import Ledger
from pipeline.tasks import Task, load_module, task
from pipeline.video import shot_network


def run(settings: CurateSettings) -> int:
    """Curate; the exit code is 0 when all is done and reconciled, 1 when too much failed or the books do not balance.

    Raises UserError for the caller's mistakes.
    """
    began = time.time()
    # workers have working folders of their own
    settings = settings.model_copy(update={"output": storage.absolute(settings.output)})
    settings = with_stand_ins(settings) if settings.dry_run else settings
    chosen = choose_task(settings)
    results = what_makes_results(settings, chosen)
    found = find_videos(settings.input, settings.input_list, settings.limit, settings.source, settings.output)
    ids = [ref.video_id for ref in found.videos]
    with Lease(settings.output) as lease:
        agree_on_settings(settings.output, results, settings.model_dump(mode="json"))
        seen = open_books(settings.output, ids, retry_failed=settings.retry_failed)
        waiting = [ref for ref in found.videos if not seen.finished(ref.video_id)]
        books = Books(settings.output, clips_schema(chosen.response), lease.token)
        say(f"{len(found.videos)} videos, {len(found.videos) - len(waiting)} of them finished before")
        tally = Tally()
        if waiting:
            say(cluster.connect(settings.resources))
            ledger = Ledger.start()
            graph = Graph(settings, chosen, books, settings_hash(results), ledger)
            videos = graph.read(waiting, seen.clips)
            stream(assemble(graph, videos), ledger, len(waiting))
            tally = ledger.read()
        report = close(settings, found, len(waiting), tally, chosen, time.time() - began)
    print(report.text())
    if settings.dry_run:
        print(checked(settings, report))
    return report.exit_code


def assemble(graph: Graph, videos: ray.data.Dataset) -> ray.data.Dataset:
    """The pipeline. What a stage rejects or fails is settled and goes no further than it must."""
    clips = graph.split(videos)  #       CPU  1 -> N     one decode pass: shots -> clips -> quality, frames
    clips = graph.screen(clips)  #       CPU  1 -> 0..1  NSFW classifier on the frames
    clips = graph.annotate(clips)  #     GPU  1 -> 1     task prompt on the frames -> validated fields
    clips = graph.embed(clips)  #        CPU  1 -> 1     mean of the frames' embeddings, unit length
    clips = graph.cut(clips)  #          CPU  1 -> 1     clip files of what is kept
    return graph.settle(clips)  #        CPU  N -> 1     kept | rejected(reason) | failed(error)


def stream(settled: ray.data.Dataset, ledger: Ledger, total: int, show: Show = line) -> None:
    """Run the graph to its end; progress goes to stderr."""
    with Progress(ledger.read, total, show), insisted():
        for _ in settled.iter_batches(batch_size=None, prefetch_batches=0):
            pass


def choose_task(settings: CurateSettings) -> Task:
    """The task that the settings name, checked against the annotator and the screen."""
    annotate = settings.annotate
    if annotate.module:
        cluster.ship(load_module(annotate.module))
    chosen = task(annotate.task or ("labels" if annotate.annotator == "labels" else "curate"))
    if not isinstance(chosen, Task):
        raise UserError(
            f"the task {chosen.name!r} has no response model: its answers are no columns; `caption` runs it"
        )
    if (annotate.annotator == "labels") != (chosen.name == "labels"):
        raise UserError(
            f"annotate.annotator {annotate.annotator} cannot do the task {chosen.name!r}: "
            "the labels annotator has a task of its own, which no other has"
        )
    if settings.screen.model == "none" and "is_safe" not in chosen.response.model_fields:
        raise UserError(f"screen.model none leaves safety to is_safe, which the task {chosen.name!r} does not answer")
    if settings.split.detector == "transnetv2" and not shot_network.is_installed():
        raise UserError(shot_network.MISSING)
    if settings.split.min_clip_s > settings.split.max_clip_s / 2:
        raise UserError("--split.min-clip-s is more than half of --split.max-clip-s: windows could not keep both")
    return chosen


def what_makes_results(settings: CurateSettings, chosen: Task) -> dict[str, Any]:
    """The settings that change results, without those of annotators and embedders that are not used."""
    results = result_settings(settings)
    annotate = results["annotate"]
    for unused in {"vllm", "openai"} - {settings.annotate.annotator}:
        del annotate[unused]
    annotate["task"] = chosen.name
    if chosen.name == "labels":
        del annotate["temperature"], annotate["max_tokens"]
    else:
        del annotate["top_k"]
        annotate["task_fingerprint"] = hashlib.sha256(chosen.fingerprint().encode()).hexdigest()[:12]
    if settings.annotate.module:
        annotate["module_fingerprint"] = hashlib.sha256(
            Path(settings.annotate.module).expanduser().read_bytes()
        ).hexdigest()[:12]
    if settings.embed.embedder != "clip":
        del results["embed"]["clip_model"]
    return results


def say(text: str) -> None:
    """A line for the person in front of it; stdout is for the report."""
    print(text, file=sys.stderr, flush=True)
