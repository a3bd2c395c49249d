"""What the settings ask for, against what the machines offer."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import labels
from pipeline.deploy.files import COMPUTE, PRICES, Problems, load
from pipeline.deploy.machines import NodeGroup, cpus_at_start, node_groups, total_cpus, total_gpus
from pipeline.settings import CurateSettings, gpus_per_engine
from pipeline.stages import cluster

ACTOR_POOLS = {"screen": "screen_actors", "annotate": "label_actors", "embed": "embed_actors"}  # and their settings
ENGINE_CPUS_PER_GPU = 1.0  # what Ray Data reserves beside each


def placement(settings: CurateSettings, compute: dict[str, Any], nodes: Mapping[str, Any]) -> Problems:
    """Labels and GPUs that no node group offers, and pools that do not fit into what is offered."""
    groups = node_groups(compute, nodes)
    found = cpu_work(settings, groups)
    if settings.annotate.annotator == "vllm":
        found += _engines(settings, groups)
    if any(((compute.get("head_node") or {}).get("resources") or {}).get(kind) != 0 for kind in ("CPU", "GPU")):
        found.append("head_node: resources: {CPU: 0, GPU: 0} keeps work away from the head")
    return found


def cpu_work(settings: CurateSettings, machines: Sequence[NodeGroup], *, on_cluster: bool = True) -> Problems:
    """Pools of CPU workers that these machines cannot hold."""
    resources = settings.resources
    groups = [group for group in machines if group.offers(resources.cpu_label_selector)]
    if not groups:
        return [_no_group("cpu_label_selector", resources.cpu_label_selector)]
    start, cpus, least = cpus_at_start(groups), total_cpus(groups), _least(groups)
    if not start and (missing := not_given(settings)):
        return [
            f"resources.{', '.join(missing)}: not given, and with min_nodes 0 there are no CPUs by which the run could "
            "size its pools when it starts"
        ]
    split, largest = split_cpus(settings, start), max(group.cpus for group in groups)
    if (each := max(split, actor_cpus(settings, start))) > largest:
        return [f"resources: one worker reserves {each:g} CPUs, no node has more than {largest:g}"]
    if on_cluster and (needed := reserved_cpus(settings, start)) > cpus:
        return [
            f"resources: the pools reserve {needed:g} CPUs, the nodes offer {cpus:g}: what does not fit never starts"
        ]
    if (actors := fixed_cpus(settings, start)) + split > least:
        when = "while one node is missing " if least < cpus else ""
        return [
            f"resources: the actors reserve {actors:g} CPUs; {when}there are {least:g}: the split would wait for one "
            "without a word"
        ]
    return []


def gpu_groups(settings: CurateSettings, machines: Sequence[NodeGroup]) -> list[NodeGroup]:
    """The machines where engines may run."""
    kind, selector = settings.resources.accelerator_type, settings.resources.gpu_label_selector
    labelled = [group for group in machines if group.gpus and group.offers(selector)]
    return [group for group in labelled if kind is None or group.accelerator == kind]


def _engines(settings: CurateSettings, groups: Sequence[NodeGroup]) -> Problems:
    resources, each = settings.resources, gpus_per_engine(settings.annotate.vllm)
    labelled = [group for group in groups if group.gpus and group.offers(resources.gpu_label_selector)]
    if not labelled:
        return [_no_group("gpu_label_selector", resources.gpu_label_selector)]
    fitting = gpu_groups(settings, groups)
    if not fitting:
        offered = ", ".join(sorted({str(group.accelerator) for group in labelled}))
        return [f"resources.accelerator_type {resources.accelerator_type}: the nodes offer {offered}"]
    if not resources.vllm_replicas and not any(group.min_nodes for group in fitting):
        return ["resources.vllm_replicas: not given, and with min_nodes 0 there are no GPUs to count at the start"]
    together = settings.annotate.vllm.engine_kwargs.get("tensor_parallel_size", 1)
    if together > (most := max(group.gpus for group in fitting)):
        return [f"annotate.vllm.engine_kwargs: tensor_parallel_size {together}: no node has more than {most} GPU"]
    wanted, gpus = (resources.vllm_replicas or 1) * each, total_gpus(fitting)
    if wanted > gpus:
        return [f"resources.vllm_replicas: the engines need {wanted} GPUs, the nodes offer {gpus}"]
    return [problem for group in fitting if (problem := _no_core_for_requests(settings, group, groups))]


def _no_core_for_requests(settings: CurateSettings, group: NodeGroup, groups: Sequence[NodeGroup]) -> str | None:
    """Requests are made on the GPU nodes, with the cores that the engines leave."""
    request = actor_cpus(settings, cpus_at_start(groups))
    if group.gpus * ENGINE_CPUS_PER_GPU + request <= group.cpus:
        return None
    return (
        f"resources: a node of {group.name} has {group.cpus:g} CPUs: its engines reserve "
        f"{group.gpus * ENGINE_CPUS_PER_GPU:g}, and the making of their requests {request:g} more"
    )


def _no_group(setting: str, selector: Mapping[str, str]) -> str:
    return f"resources.{setting}: no worker group offers {labels.shown(selector)}: its operators would wait for ever"


def not_given(settings: CurateSettings) -> list[str]:
    """The settings of pools that this run has and that it would size by counting CPUs when it starts."""
    resources, has = settings.resources, actor_pools(settings)
    unset = ["cpus_per_actor"] if resources.cpus_per_actor is None else []
    return unset + [ACTOR_POOLS[stage] for stage in has if getattr(resources, ACTOR_POOLS[stage]) is None]


def actor_pools(settings: CurateSettings) -> list[str]:
    """The stages that are pools of CPU actors whose size can be set."""
    has = {
        "screen": settings.screen.model != "none",
        "annotate": settings.annotate.annotator == "labels",
        "embed": settings.embed.embedder != "none",
    }
    return [stage for stage, there in has.items() if there]


def actor_cpus(settings: CurateSettings, cpus: float) -> float:
    """What an actor reserves in a run that finds so many CPUs when it starts."""
    return settings.resources.cpus_per_actor or cluster.usual_actor_cpus(cpus)


def split_cpus(settings: CurateSettings, cpus: float) -> float:
    """What a task that splits reserves in such a run."""
    return settings.resources.cpus_per_split or cluster.usual_split_cpus(cpus)


def pools(settings: CurateSettings, cpus: float) -> dict[str, int]:
    """Workers of each CPU stage in a run that finds so many CPUs when it starts; tasks without a cap count as one."""
    resources = settings.resources
    sizes = {"split": resources.split_tasks or 1}
    for stage in actor_pools(settings):
        sizes[stage] = getattr(resources, ACTOR_POOLS[stage]) or cluster.usual_actors(cpus)
    sizes |= {"vllm": {"answers": 1}, "openai": {"annotate": 1}}.get(settings.annotate.annotator, {})
    if settings.clips.mode != "none":
        sizes["cut"] = resources.cut_tasks or 1
    return sizes | {"write": 1}


def reserved_cpus(settings: CurateSettings, cpus: float) -> float:
    """CPUs that all stages reserve when each runs at its full width."""
    return sum(
        size * (split_cpus if stage == "split" else actor_cpus)(settings, cpus)
        for stage, size in pools(settings, cpus).items()
    )


def fixed_cpus(settings: CurateSettings, cpus: float) -> float:
    """CPUs of the actors, which hold them from beginning to end."""
    sizes = pools(settings, cpus)
    return sum(sizes.get(stage, 0) for stage in ACTOR_POOLS) * actor_cpus(settings, cpus)


def _least(groups: Sequence[NodeGroup]) -> float:
    """CPUs of the groups while the largest of several nodes is missing."""
    nodes = [group.cpus for group in groups for _ in range(group.max_nodes)]
    return sum(nodes) - (max(nodes) if len(nodes) > 1 else 0)


def check_prices(folder: str) -> Problems:
    """Every machine of cluster_compute.yaml has a line in configs/prices.yaml."""
    compute, table = load(folder, COMPUTE), load(folder, PRICES)
    used = [compute.get("head_node") or {}, *(compute.get("worker_nodes") or [])]
    kinds = {node["instance_type"] for node in used if node.get("instance_type")}
    return [
        f"{PRICES}: nodes: no {kind}, which {COMPUTE} uses" for kind in sorted(kinds - set(table.get("nodes") or {}))
    ]
