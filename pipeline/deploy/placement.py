"""What the settings ask for, against what the machines offer."""

import re
from collections.abc import Mapping
from typing import Any

from pipeline.deploy.files import COMPUTE, PRICES, Problems, load
from pipeline.settings import CurateSettings, ResourceSettings, gpus_per_engine

GIB_OF = {None: 2.0**-30, "Ki": 2.0**-20, "Mi": 2.0**-10, "Gi": 1.0, "Ti": 2.0**10}


def placement(settings: CurateSettings, compute: dict[str, Any], nodes: Mapping[str, Any]) -> Problems:
    """Labels and GPUs that no node group offers, and pools that do not fit into what is offered."""
    resources, groups = settings.resources, node_groups(compute, nodes)
    cpu_groups = [group for group in groups if offers(group, resources.cpu_label_selector)]
    found: Problems = []
    if not cpu_groups:
        found.append(_no_group("cpu_label_selector", resources.cpu_label_selector))
    elif (needed := reserved_cpus(settings)) > (cpus := sum(g["cpus"] * g["max_nodes"] for g in cpu_groups)):
        found.append(
            f"resources: the pools reserve {needed:g} CPUs, {COMPUTE} offers {cpus:g}: what does not fit never starts"
        )
    elif (actors := fixed_cpus(settings)) + resources.cpus_per_split > (least := _least(cpu_groups)):
        found.append(
            f"resources: the actors reserve {actors:g} CPUs; while one node is missing there are {least:g}: the split "
            "would wait for it without a word"
        )
    if settings.annotate.annotator == "vllm":
        found += _engines(settings, [group for group in groups if group["gpus"]])
    if any((compute.get("head_node", {}).get("resources") or {}).get(kind) != 0 for kind in ("CPU", "GPU")):
        found.append(f"{COMPUTE}: head_node: resources: {{CPU: 0, GPU: 0}} keeps work away from the head")
    return found


def _engines(settings: CurateSettings, groups: list[dict[str, Any]]) -> Problems:
    resources, each = settings.resources, gpus_per_engine(settings.annotate.vllm)
    labelled = [group for group in groups if offers(group, resources.gpu_label_selector)]
    if not labelled:
        return [_no_group("gpu_label_selector", resources.gpu_label_selector)]
    kind = resources.accelerator_type
    fitting = [group for group in labelled if kind is None or group["accelerator"] == kind]
    if not fitting:
        offered = ", ".join(sorted({str(group["accelerator"]) for group in labelled}))
        return [f"resources.accelerator_type {kind}: {COMPUTE} offers {offered}"]
    gpus = sum(group["gpus"] * group["max_nodes"] for group in fitting)
    wanted = (resources.vllm_replicas or 1) * each
    return (
        [f"resources.vllm_replicas: the engines need {wanted} GPUs, {COMPUTE} offers {gpus}"] if wanted > gpus else []
    )


def _no_group(setting: str, labels: Mapping[str, str]) -> str:
    asked = ", ".join(f"{key}={value}" for key, value in labels.items()) or "any"
    return f"resources.{setting}: no worker group of {COMPUTE} offers {asked}: its operators would wait for ever"


def node_groups(compute: dict[str, Any], nodes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The worker groups: name, instance_type, labels, max_nodes, spot; cpus, gpus, accelerator, memory_gib of a node.

    nodes: instance types by name, as configs/prices.yaml has them; unknown ones count as empty.
    """
    groups = []
    for group in compute.get("worker_nodes") or []:
        kind = group.get("instance_type")
        own, known = group.get("required_resources") or {}, nodes.get(kind, {})
        labels = {**(group.get("required_labels") or {}), **(group.get("labels") or {})}
        accelerator = own.get("accelerator") or known.get("accelerator") or labels.get("ray.io/accelerator-type")
        groups.append(
            {
                "name": group.get("name") or kind,
                "instance_type": kind,
                "labels": labels,
                "max_nodes": group.get("max_nodes", 10),
                "spot": group.get("market_type", "ON_DEMAND") != "ON_DEMAND",
                "cpus": own.get("CPU", known.get("cpus", 0)),
                "gpus": own.get("GPU", known.get("gpus", 0)),
                "accelerator": accelerator,
                "memory_gib": known.get("memory_gib") or _gib(own.get("memory")),
            }
        )
    return groups


def _gib(memory: str | int | None) -> float:
    """`32Gi`, `1Ti`, or bytes."""
    found = re.fullmatch(r"([\d.]+)\s*([KMGT]i)?", str(memory or 0))
    return float(found[1]) * GIB_OF[found[2]] if found else 0.0


def offers(group: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """True when the group's nodes carry all these labels."""
    return all(group["labels"].get(key) == value for key, value in labels.items())


def pools(settings: CurateSettings) -> dict[str, int]:
    """Workers of each CPU stage as far as the settings give them; the light ones count as one."""
    resources: ResourceSettings = settings.resources
    sizes = {"split": resources.split_tasks or 1}
    if settings.screen.model != "none":
        sizes["screen"] = resources.screen_actors or 1
    if settings.annotate.annotator == "labels":
        sizes["annotate"] = resources.label_actors or 1
    elif settings.annotate.annotator == "vllm":
        sizes["answers"] = 1
    else:
        sizes["annotate"] = 1
    if settings.embed.embedder != "none":
        sizes["embed"] = resources.embed_actors or 1
    if settings.clips.mode != "none":
        sizes["cut"] = resources.cut_tasks or 1
    return sizes | {"write": 1}


def reserved_cpus(settings: CurateSettings) -> float:
    """CPUs that all stages reserve when each runs at its full width."""
    resources = settings.resources
    return sum(
        size * (resources.cpus_per_split if stage == "split" else resources.cpus_per_actor or 1.0)
        for stage, size in pools(settings).items()
    )


def fixed_cpus(settings: CurateSettings) -> float:
    """CPUs of the actors, which hold them from beginning to end."""
    resources, sizes = settings.resources, pools(settings)
    return sum(sizes.get(stage, 0) for stage in ("screen", "annotate", "embed")) * (resources.cpus_per_actor or 1.0)


def _least(groups: list[dict[str, Any]]) -> float:
    """CPUs of the groups while the largest of several nodes is missing."""
    nodes = [group["cpus"] for group in groups for _ in range(group["max_nodes"])]
    return sum(nodes) - (max(nodes) if len(nodes) > 1 else 0)


def check_prices(folder: str) -> Problems:
    """Every machine of cluster_compute.yaml has a line in configs/prices.yaml."""
    compute, table = load(folder, COMPUTE), load(folder, PRICES)
    used = [compute.get("head_node") or {}, *(compute.get("worker_nodes") or [])]
    kinds = {node["instance_type"] for node in used if node.get("instance_type")}
    return [
        f"{PRICES}: nodes: no {kind}, which {COMPUTE} uses" for kind in sorted(kinds - set(table.get("nodes") or {}))
    ]
