"""Time, output and money."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.deploy.machines import NodeGroup
from pipeline.deploy.prices import Prices
from pipeline.plan.found import Plan, size
from pipeline.progress import duration


def look_at_cost(compute: Mapping[str, Any] | None, prices: Prices, plan: Plan) -> None:
    """How long, how much output and, on machines that are rented, for how much."""
    name, seconds = plan.pace
    plan.lines.append(f"time      about {duration(seconds)} once all nodes are there; {name} sets the pace")
    files = f", {size(plan.num_bytes * plan.kept)} of clip files" if any(s.name == "cut" for s in plan.stages) else ""
    plan.lines.append(f"output    about {size(plan.clips * prices.output_kib_per_clip * 1024)} of tables{files}")
    if compute is not None:
        _look_at_prices(compute, prices, plan, (seconds + 60 * prices.node_start_min) / 3600)


def _look_at_prices(compute: Mapping[str, Any], prices: Prices, plan: Plan, hours: float) -> None:
    """An hour with all nodes that are used, at spot prices where spot is asked for, and if none were to be had."""
    spot_usd, usd = 0.0, 0.0
    for group, count in _rented(compute, plan):
        node = prices.nodes.get(str(group.instance_type))
        if node is None:
            plan.notes.append(f"no price for {group.instance_type or group.name}: it is left out of the cost")
            continue
        usd += count * node.usd_per_hour
        spot_usd += count * ((group.spot and node.spot_usd_per_hour) or node.usd_per_hour)
    without = f", {usd * hours:,.2f} ({usd:,.2f}) where no spot is to be had" if usd > spot_usd else ""
    plan.lines.append(f"cost      about {spot_usd * hours:,.2f} USD ({spot_usd:,.2f} an hour with all nodes){without}")


def _rented(compute: Mapping[str, Any], plan: Plan) -> Iterator[tuple[NodeGroup, int]]:
    """The head, and the nodes that the stages use: GPU nodes as many as the engines fill."""
    yield NodeGroup(name="head", instance_type=(compute.get("head_node") or {}).get("instance_type")), 1
    for group in plan.machines:
        here = [stage for stage in plan.stages if group in stage.groups]
        if all(stage.gpus for stage in here):
            yield group, min(group.max_nodes, sum(math.ceil(stage.gpus / group.gpus) for stage in here))
        else:
            yield group, group.max_nodes
