"""Caption: any task over JSONL samples, one answer a sample, in one streaming graph."""

import hashlib
import inspect
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import storage, tasks
from pipeline.curate import say, stream
from pipeline.dry_run import caption_with_stand_ins
from pipeline.errors import UserError
from pipeline.progress import counting, duration
from pipeline.records.books import agree_on_settings
from pipeline.records.lease import Lease
from pipeline.records.shards import Files, Merged, merge, settled
from pipeline.records.tally import Tally
from pipeline.report import TOP, listed, problem_lines, stage_counts, too_many
from pipeline.settings import CaptionSettings, result_settings
from pipeline.sources.samples import Line, read_samples
from pipeline.stages import cluster, samples
from pipeline.stages.ledger import Ledger
from pipeline.tasks.datasets import Frames, QwenVideo

TOKEN_PIXELS = 28 * 28  # of two frames, for Qwen2.5-VL; models with larger patches take fewer tokens
PROMPT_TOKENS = 256  # room left for the question and the chat template (tokens)


def run(settings: CaptionSettings) -> int:
    """Caption; the exit code is 0 when every sample is done or has its reason, 1 when too many failed.

    Raises UserError for the caller's mistakes.
    """
    began = time.time()
    # workers have working folders of their own
    locations = {"input": storage.absolute(settings.input), "output": storage.absolute(settings.output)}
    settings = settings.model_copy(update=locations)
    settings = caption_with_stand_ins(settings) if settings.dry_run else settings
    task, dataset = choose(settings)
    files = Files(settings.output, task.name)
    next(read_samples(settings.input, settings.data))  # a mistake in --input is told before anything is written
    with Lease(settings.output) as lease:
        if not settings.data.resume:
            files.remove()
            storage.remove(storage.join(settings.output, "run", _settings_name(task)))
        results = what_makes_results(settings, task)
        agree_on_settings(settings.output, results, settings.model_dump(mode="json"), _settings_name(task))
        waiting = unsettled(settings, files)
        say(f"{len(waiting)} samples to do")
        tally = Tally()
        if waiting:
            say(cluster.connect(settings.resources))
            ledger = Ledger.start(files.next_rank())
            look = samples.Look(settings, task, dataset, ledger)
            per_task = cluster.inputs_per_task(len(waiting), settings.resources)
            answered = samples.ask(samples.read(waiting, per_task), look)
            stream(samples.settle(answered, look, files, lease.token), ledger, len(waiting), counting("samples"))
            tally = ledger.read()
        merged = merge(files, limited(settings), lease.token)
    return _close(settings, files, merged, tally, time.time() - began)


def choose(settings: CaptionSettings) -> tuple[Any, type]:
    """The task and the dataset that the settings name."""
    if settings.module:
        cluster.ship(tasks.load_module(settings.module))
    task = tasks.task(settings.task)
    if isinstance(task, tasks.Task) and not task.prompt:
        raise UserError(f"the task {task.name!r} asks nothing: it is for the annotator of its name in `curate`")
    dataset = tasks.dataset(settings.data.dataset or task.dataset_name)
    is_ours = isinstance(dataset, type) and issubclass(dataset, tasks.Dataset)
    if settings.annotate.annotator == "openai" and not is_ours:
        raise UserError(f"annotate.annotator openai cannot show what the dataset {dataset.__name__} makes: take vllm")
    if dataset in (QwenVideo, Frames) and settings.annotate.annotator == "vllm":
        _check_budget(settings)
    return task, dataset


def _check_budget(settings: CaptionSettings) -> None:
    """Told now rather than by the engine, once for each long video."""
    tokens, vllm = settings.video.total_pixels // TOKEN_PIXELS, settings.annotate.vllm
    if tokens + settings.annotate.max_tokens + PROMPT_TOKENS > vllm.max_model_len:
        raise UserError(
            f"video.total_pixels {settings.video.total_pixels} are {tokens} tokens; with annotate.max_tokens "
            f"{settings.annotate.max_tokens} and {PROMPT_TOKENS} for the question they are more than "
            f"annotate.vllm.max_model_len {vllm.max_model_len}"
        )


def what_makes_results(settings: CaptionSettings, task: Any) -> dict[str, Any]:
    """The settings that change results, without those of the annotator that is not used."""
    results = result_settings(settings)
    for unused in {"vllm", "openai"} - {settings.annotate.annotator}:
        del results["annotate"][unused]
    results["task_fingerprint"] = hashlib.sha256(_text_of(task).encode()).hexdigest()[:12]
    if settings.module:
        del results["module"]  # wherever it lies
        results["module_fingerprint"] = hashlib.sha256(Path(settings.module).expanduser().read_bytes()).hexdigest()[:12]
    return results


def _text_of(task: Any) -> str:
    """Everything about a task that changes its results."""
    if hasattr(task, "fingerprint"):
        return task.fingerprint()
    try:
        return inspect.getsource(type(task))
    except (OSError, TypeError) as error:
        raise UserError(
            f"the task {task.name!r} is of a class without source, so that its changes cannot be noticed: "
            "write it as a `class`, or give it a method fingerprint() -> str"
        ) from error


def _settings_name(task: Any) -> str:
    return f"settings.{task.name}.json"


def unsettled(settings: CaptionSettings, files: Files) -> list[Line]:
    """The samples that have neither an answer nor, unless --retry-failed, a reason, of the first --limit lines."""
    waiting: list[Line] = []
    with settled(files) as seen:
        for line in limited(settings):
            known = line.key in seen.done or (line.key in seen.failed and not settings.retry_failed)
            if line.problem is None and not known:
                waiting.append(line)
    return waiting


def limited(settings: CaptionSettings) -> Iterator[Line]:
    """The lines that the run is about: the first --limit ones."""
    for index, line in enumerate(read_samples(settings.input, settings.data)):
        if index == settings.limit:
            return
        yield line


def _close(settings: CaptionSettings, files: Files, merged: Merged, tally: Tally, seconds: float) -> int:
    """Write run/summary.TASK.json, say what came out, and give the exit code."""
    total, in_this_run = merged.done + merged.failed, sum(tally.clips.values())
    reasons = dict(Counter(merged.reasons).most_common(TOP))
    summary = {
        "samples": {"done": merged.done, "failed": merged.failed, "waiting": merged.waiting, "kept": merged.kept},
        "errors": reasons,
        "stages": stage_counts(tally),
        "tokens": dict(tally.tokens),
        "dry_run": settings.dry_run,
        "this_run": {"seconds": round(seconds, 1), "samples": in_this_run},
    }
    location = storage.join(settings.output, "run", f"summary.{files.task}.json")
    storage.write(location, json.dumps(summary, indent=2).encode())
    waiting = f", {merged.waiting} waiting" if merged.waiting else ""
    problems = problem_lines(
        f"{merged.waiting} samples have no answer and no error" if merged.waiting else None,
        too_many(merged.failed, total, "samples", settings.max_failed_fraction),
    )
    lines = ["", f"samples  {total + merged.waiting}: {merged.done} done, {merged.failed} failed{waiting}"]
    lines += listed(reasons)
    lines += [f"time     {duration(seconds)}: {in_this_run} samples", "", f"output   {storage.shown(files.merged)}"]
    lines += [f"errors   {storage.shown(files.errors)}"] if merged.failed else []
    if merged.kept:
        lines.append(f"kept     {storage.shown(files.kept)}: {merged.kept} of samples that are not in this input")
    if settings.dry_run:
        lines += ["", "DRY RUN: answers come from random weights and mean nothing."]
    print("\n".join([*lines, *problems]))
    return 1 if problems else 0
