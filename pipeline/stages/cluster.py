"""Join a running Ray cluster or start a local one, and set Ray Data up for small rows and quick hand-over."""

import logging
import math
import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

# Read when ray is imported: no usage reports, and patience with a machine that is busy when Ray starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")

import ray
from ray import cloudpickle
from ray.data import DataContext

from pipeline import labels
from pipeline.errors import UserError
from pipeline.settings import ResourceSettings

# While engines start on GPUs, Ray Data takes their idleness for a jam and lets one block after the other through to
# them, budget or not, until the object store spills: no more than one in this time (seconds)
RELEASE_S = 10.0
NO_PROGRESS_S = 24 * 3600  # GPUs may take hours to come; Ray's half hour would give the run up


def connect(resources: ResourceSettings) -> str:
    """Join the cluster that RAY_ADDRESS or `ray start` names, else start one here; returns what it is, in a line."""
    warnings.filterwarnings("ignore")
    if not ray.is_initialized():
        # a Ray of the run's own needs no dashboard; `ray start --head` brings one
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    logging.getLogger("ray").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = int(resources.block_mb * 1e6)
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    if has_gpus(resources):
        context.output_backpressure_guard_release_interval_s = RELEASE_S
    total = ray.cluster_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    return (
        f"Ray {ray.__version__}: {nodes} node{'s' if nodes > 1 else ''}, {total.get('CPU', 0):g} CPUs, "
        f"{total.get('GPU', 0):g} GPUs"
    )


def num_cpus(resources: ResourceSettings) -> float:
    """CPUs of the nodes where CPU work may run."""
    return _total("CPU", resources.cpu_label_selector)


def num_gpus(resources: ResourceSettings) -> int:
    """GPUs of the nodes where engines may run."""
    kind = resources.accelerator_type
    return int(_total("GPU", resources.gpu_label_selector, f"accelerator_type:{kind}" if kind else "GPU"))


def has_gpus(resources: ResourceSettings) -> bool:
    """Are there GPUs, or do the settings tell that some will come to a cluster that is still growing?"""
    return bool(num_gpus(resources) or resources.accelerator_type or resources.gpu_label_selector)


def _total(resource: str, selector: Mapping[str, str], of_nodes_with: str = "CPU") -> float:
    """Of the living nodes with these labels, and with some of another resource."""
    nodes = [node for node in ray.nodes() if node["Alive"] and labels.matches(node["Labels"], selector)]
    having = [node["Resources"] for node in nodes if of_nodes_with in node["Resources"]]
    return sum(resources.get(resource, 0.0) for resources in having)


def actors(configured: int | None, resources: ResourceSettings) -> int:
    """Actors of a model pool: as configured, else as usual. Raises UserError where there are no CPUs yet."""
    return configured or usual_actors(_counted(resources))


def actor_cpus(resources: ResourceSettings) -> float:
    """CPUs that an actor reserves: as configured, else as usual. Raises UserError where there are no CPUs yet."""
    return resources.cpus_per_actor or usual_actor_cpus(_counted(resources))


def split_cpus(resources: ResourceSettings) -> float:
    """CPUs that a task that decodes videos reserves: as configured, else as usual."""
    return resources.cpus_per_split or usual_split_cpus(num_cpus(resources))


def usual_split_cpus(cpus: float) -> float:
    """One CPU, since decoding is the heaviest CPU work by far; a single one is shared with the actors, which would
    otherwise leave it no room for ever."""
    return 0.5 if 0 < cpus < 2 else 1.0


def usual_actors(cpus: float) -> int:
    """Actors of a model pool on so many CPUs: one for every 4."""
    return max(1, math.floor(cpus / 4))


def usual_actor_cpus(cpus: float) -> float:
    """What each reserves: one CPU, or a fraction where that would leave none for the split (which would then starve
    without a word)."""
    return min(1.0, cpus / 8)


def _counted(resources: ResourceSettings) -> float:
    """The CPUs, of which there must be some: pools that are sized by an empty cluster stay too small for ever."""
    if cpus := num_cpus(resources):
        return cpus
    selector = resources.cpu_label_selector
    raise UserError(
        f"the cluster has no CPUs{f' on nodes with {labels.shown(selector)}' if selector else ''} yet, by which pools "
        "could be sized: give resources.cpus_per_actor, screen_actors, label_actors, embed_actors"
    )


def inputs_per_task(count: int, resources: ResourceSettings) -> int:
    """Of so many videos or samples, how many one task opens: few enough for every core to have work."""
    cores = num_cpus(resources) or resources.split_tasks or 1
    return min(resources.videos_per_task, max(1, round(count / (2 * cores))))


def on_cpu_nodes(resources: ResourceSettings, cpus: float) -> dict[str, Any]:
    """The arguments of a map operator that reserves so many CPUs where the settings want CPU work to run."""
    return {"num_cpus": cpus, **label_selector(resources.cpu_label_selector)}


def on_gpu_nodes(resources: ResourceSettings) -> dict[str, Any]:
    """The arguments of a map operator whose workers have a GPU each, where the settings want GPU work to run."""
    kind = {"accelerator_type": resources.accelerator_type} if resources.accelerator_type else {}
    return {"num_gpus": 1, **kind, **label_selector(resources.gpu_label_selector)}


def label_selector(selector: dict[str, str]) -> dict[str, Any]:
    """The selector as an argument of a Ray operator; none where there are none, which means any node."""
    return {"label_selector": dict(selector)} if selector else {}


def ship(module: ModuleType) -> None:
    """Let workers on other machines have a user's module without its file: pickle it by value."""
    cloudpickle.register_pickle_by_value(module)
