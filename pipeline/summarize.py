"""Summarize: what every 30 seconds of videos and pictures show, as one JSONL file."""

import inspect
import json
import os
import posixpath
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.exceptions import RayActorError

from pipeline import storage
from pipeline.curate import say
from pipeline.errors import UserError
from pipeline.interrupts import insisted
from pipeline.models.summarizers import BUILT_IN, Summarizer, make_summarizer
from pipeline.progress import Progress, counting, duration
from pipeline.records.summaries import Results, errors_beside
from pipeline.report import TOP, problem_lines, too_many
from pipeline.settings import SummarizeSettings
from pipeline.sources import Found, find_videos
from pipeline.stages import cluster
from pipeline.stages.graph import REFS
from pipeline.stages.ledger import Ledger
from pipeline.stages.summarize import NOT_MADE, ReadClips, Summarize
from pipeline.tasks.registry import PICTURES, load_module


def run(settings: SummarizeSettings) -> int:
    """Summarize; the exit code is 0 when all is done, 1 when too much failed. Raises UserError for mistakes."""
    began = time.time()
    check_output(settings.output)
    make = choose_model(settings)
    found = find(settings)
    say(f"{len(found.videos)} {'input' if len(found.videos) == 1 else 'inputs'}")
    say(cluster.connect(settings.resources))
    gpus = count_gpus(settings)
    ledger = Ledger.start()
    clips = read(settings, found, ledger)  #               CPU  1 -> N  frames of each clip, and where a video ends
    said = summarize(settings, clips, make, gpus, ledger)  # GPU or CPU  1 -> 1  a model in a pool of actors
    results = Results()
    with Progress(ledger.read, len(found.videos), counting("videos")), insisted(), told(settings.model):
        for row in said.iter_rows():
            results.add(row)
    results.close(found)
    results.write(storage.absolute(settings.output))
    return _close(settings, found, results, time.time() - began)


def check_output(output: str) -> None:
    """Raise UserError for what cannot become a file, before hours of work."""
    location = storage.absolute(output)
    fs, path = storage.filesystem(location)
    if output.endswith("/") or "/" not in path:  # a bucket's name has none
        raise UserError(f"--output {output}: is no file: name one, such as {storage.join(output, 'results.jsonl')}")
    for file in (location, errors_beside(location)):
        if not storage.is_remote(file) and fs.isdir(file):
            raise UserError(f"--output {output}: {storage.shown(file)} is a folder: name a file")
    storage.check_writable(posixpath.dirname(location))


def choose_model(settings: SummarizeSettings) -> Callable[[str], Summarizer]:
    """What makes the model on a device (`cpu`, `cuda`): a built-in one, or the user's class."""
    if settings.model in BUILT_IN:
        make = partial(make_summarizer, settings.model, weights=settings.weights, top_k=settings.top_k)
        if settings.model == "resnet50":
            make(device="cpu")  # whether its weights can be had is told before anything starts
        return lambda device: make(device=device)
    path, _, name = settings.model.rpartition(":")
    if not path:
        raise UserError(f"--model {settings.model}: it is {', '.join(BUILT_IN)}, or FILE.py:CLASS")
    module = load_module(path, "--model")
    own: Callable[[str], Summarizer] | None = getattr(module, name, None)
    if not callable(own):
        raise UserError(f"--model {settings.model}: the file has no class {name}")
    try:
        inspect.signature(own).bind("cpu")
    except TypeError as error:
        raise UserError(f"--model {settings.model}: is not made with a device alone: {error}") from error
    except ValueError:  # of C code, which does not say what it takes
        pass
    cluster.ship(module)
    return own


@contextmanager
def told(model: str) -> Iterator[None]:
    """Within, a model that a worker cannot make is told as the caller's mistake (UserError)."""
    try:
        yield
    except RayActorError as error:
        if not error.actor_init_failed:
            raise
        last = str(error).strip().splitlines()[-1]
        raise UserError(f"--model {model}: {NOT_MADE}{last.partition(NOT_MADE)[2] or last}") from error


def find(settings: SummarizeSettings) -> Found:
    """The inputs, each once, in their order. Raises UserError when an input names nothing at all."""
    uris = [uri for named in settings.uris for uri in _split(named)]
    if not uris and not settings.uri_file:
        raise UserError("name videos or pictures with --uris or --uri-file")
    endings = [*settings.source.extensions, *(ending.lstrip(".") for ending in PICTURES)]
    source = settings.source.model_copy(update={"extensions": endings})
    try:
        return find_videos(uris, settings.uri_file, None, source)
    except UserError as error:  # the options have other names here
        raise UserError(str(error).replace("--input-list", "--uri-file").replace("--input", "--uris")) from error


def _split(named: str) -> list[str]:
    """Several URIs, separated by commas, unless the whole is the name of a file."""
    if not storage.is_remote(named) and os.path.exists(storage.local_path(named)):
        return [named]
    return [uri.strip() for uri in named.split(",") if uri.strip()]


def count_gpus(settings: SummarizeSettings) -> int:
    """Actors with a GPU each; 0 for CPU actors. Raises UserError for GPUs that are not there and nobody will bring."""
    there = cluster.num_gpus(settings.resources)
    if settings.num_gpu_actors is None:
        return there
    will_come = settings.resources.gpu_label_selector or settings.resources.accelerator_type
    if settings.num_gpu_actors > there and not will_come:
        raise UserError(f"--num-gpu-actors {settings.num_gpu_actors}: this cluster has {there} GPUs")
    return settings.num_gpu_actors


def read(settings: SummarizeSettings, found: Found, ledger: Ledger) -> ray.data.Dataset:
    """One block an input, so that --read-parallelism is what it says."""
    columns = [*(field for field in REFS if field.name != "settled"), pa.field("order", pa.int64())]
    blocks = [
        pa.Table.from_pylist([{**asdict(ref), "order": order}], pa.schema(columns))
        for order, ref in enumerate(found.videos)
    ]
    resources = settings.resources
    return ray.data.from_arrow(blocks).map_batches(
        ReadClips(settings, ledger),
        batch_size=None,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=settings.read_parallelism) if settings.read_parallelism else None,
        **cluster.on_cpu_nodes(resources, cluster.split_cpus(resources)),
    )


def summarize(
    settings: SummarizeSettings, clips: ray.data.Dataset, make: Callable[[str], Summarizer], gpus: int, ledger: Ledger
) -> ray.data.Dataset:
    """The model pool: a GPU an actor, or CPU actors as for the classifiers of `curate`."""
    resources = settings.resources
    place = (
        cluster.on_gpu_nodes(resources)
        if gpus
        else cluster.on_cpu_nodes(resources, cluster.actor_cpus(resources))  # which needs CPUs to count
    )
    return clips.map_batches(
        Summarize,
        fn_constructor_args=(make, "cuda" if gpus else "cpu", ledger),
        batch_size=settings.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=gpus or cluster.actors(resources.label_actors, resources)),
        **place,
    )


def _close(settings: SummarizeSettings, found: Found, results: Results, seconds: float) -> int:
    """Say what came out, and give the exit code."""
    total, bad = len(found.videos), len(results.bad)
    missing = total - len(results.seen)
    output = storage.shown(storage.absolute(settings.output))
    problems = problem_lines(
        f"{missing} inputs have no row and no error" if missing else None,
        too_many(bad, total, "inputs", settings.max_failed_fraction),
    )
    lines = ["", f"inputs   {total}: {total - bad - missing} ok, {bad} failed", f"clips    {len(results.done)}"]
    for row in map(json.loads, islice(results.failed.lines(), TOP)):
        lines.append(f"         {row['video_path']}: {row['error']}")
    lines += [f"time     {duration(seconds)}", "", f"output   {output}"]
    lines += [f"errors   {errors_beside(output)}"] if results.failed else []
    print("\n".join([*lines, *problems]))
    return 1 if problems else 0
