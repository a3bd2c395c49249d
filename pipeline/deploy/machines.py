"""The machines that a run may have: the groups of a compute config, or the one it is started on."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import labels

GIB_OF = {None: 2.0**-30, "Ki": 2.0**-20, "Mi": 2.0**-10, "Gi": 1.0, "Ti": 2.0**10}
BUILT_IN = "ray.io/"  # labels that Ray or the platform puts on nodes by itself


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one kind. cpus, gpus, memory_gib are of one node, cpus and gpus as Ray is told of them."""

    name: str
    instance_type: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    min_nodes: int = 1
    max_nodes: int = 1
    spot: bool = False
    cpus: float = 0.0
    gpus: int = 0
    accelerator: str | None = None
    memory_gib: float = 0.0

    def offers(self, selector: Mapping[str, str]) -> bool:
        """True when its nodes match; what a compute config cannot tell of a node (its zone) is taken to match."""
        known = {key: value for key, value in selector.items() if key in self.labels or not key.startswith(BUILT_IN)}
        return labels.matches(self.labels, known)

    def __str__(self) -> str:
        return f"{self.name} ({self.max_nodes} x {self.instance_type})" if self.instance_type else self.name


def node_groups(compute: Mapping[str, Any], nodes: Mapping[str, Any]) -> list[NodeGroup]:
    """The worker groups of a compute config.

    nodes: instance types by name, as configs/prices.yaml has them; unknown ones count as empty.
    """
    return [_group(group, nodes.get(group.get("instance_type"), {})) for group in compute.get("worker_nodes") or []]


def _group(group: Mapping[str, Any], known: Mapping[str, Any]) -> NodeGroup:
    own, told = group.get("required_resources") or {}, group.get("resources") or {}
    name, market = group.get("name") or group.get("instance_type"), group.get("market_type", "ON_DEMAND")
    written = {**(group.get("required_labels") or {}), **(group.get("labels") or {})}
    accelerator = own.get("accelerator") or known.get("accelerator") or written.get("ray.io/accelerator-type")
    sure = {
        "ray.io/accelerator-type": accelerator,
        "ray.io/market-type": {"SPOT": "spot", "ON_DEMAND": "on-demand"}.get(market),
    }
    return NodeGroup(
        name=str(name),
        instance_type=group.get("instance_type"),
        labels={key: value for key, value in sure.items() if value} | written,
        min_nodes=group.get("min_nodes", 0),
        max_nodes=group.get("max_nodes", 10),
        spot=market != "ON_DEMAND",
        cpus=told.get("CPU", own.get("CPU", known.get("cpus", 0))),
        gpus=int(told.get("GPU", own.get("GPU", known.get("gpus", 0)))),
        accelerator=accelerator,
        memory_gib=known.get("memory_gib") or _gib(own.get("memory")),
    )


def _gib(memory: str | int | None) -> float:
    """`32Gi`, `1Ti`, or bytes."""
    found = re.fullmatch(r"([\d.]+)\s*([KMGT]i)?", str(memory or 0))
    return float(found[1]) * GIB_OF[found[2]] if found else 0.0


def this_machine() -> NodeGroup:
    """The machine it is asked on, as a group of one."""
    cards = Path("/proc/driver/nvidia/gpus")
    return NodeGroup(
        name="this machine",
        cpus=len(os.sched_getaffinity(0)),
        gpus=len(list(cards.iterdir())) if cards.is_dir() else 0,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
    )


def total_cpus(groups: Iterable[NodeGroup]) -> float:
    """CPUs of the groups when all nodes are there."""
    return sum(group.cpus * group.max_nodes for group in groups)


def cpus_at_start(groups: Iterable[NodeGroup]) -> float:
    """CPUs of the nodes that are always there: what a run can count when it starts."""
    return sum(group.cpus * group.min_nodes for group in groups)


def total_gpus(groups: Iterable[NodeGroup]) -> int:
    """GPUs of the groups when all nodes are there."""
    return sum(group.gpus * group.max_nodes for group in groups)
