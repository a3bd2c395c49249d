"""Time, output and money."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.deploy.files import PRICES
from pipeline.deploy.machines import NodeGroup, node_groups
from pipeline.deploy.prices import Prices
from pipeline.plan.found import Plan, size
from pipeline.progress import duration


def look_at_cost(compute: Mapping[str, Any] | None, prices: Prices, plan: Plan) -> None:
    """How long, how much output and, on machines that are rented, for how much."""
    longest = max(plan.stages, key=lambda stage: stage.busy_s)
    plan.lines.append(
        f"time      about {duration(longest.busy_s)} once all nodes are there; {longest.name} sets the pace"
    )
    files = f", {size(plan.num_bytes * plan.kept)} of clip files" if any(s.name == "cut" for s in plan.stages) else ""
    plan.lines.append(f"output    about {size(plan.clips * prices.output_kib_per_clip * 1024)} of tables{files}")
    if compute is not None:
        _look_at_prices(compute, prices, plan, longest.busy_s / 3600)


def _look_at_prices(compute: Mapping[str, Any], prices: Prices, plan: Plan, hours: float) -> None:
    """An hour with all nodes, at spot prices where spot is asked for, and if none were to be had."""
    spot_usd, usd = 0.0, 0.0
    for group in _rented(compute):
        node = prices.nodes.get(str(group.instance_type))
        if node is None:
            plan.problems.append(f"{PRICES}: nodes: no {group.instance_type}: its price is unknown")
            continue
        usd += group.max_nodes * node.usd_per_hour
        spot_usd += group.max_nodes * ((group.spot and node.spot_usd_per_hour) or node.usd_per_hour)
    without = f", {usd * hours:,.2f} ({usd:,.2f}) where no spot is to be had" if usd > spot_usd else ""
    plan.lines.append(f"cost      about {spot_usd * hours:,.2f} USD ({spot_usd:,.2f} an hour with all nodes){without}")


def _rented(compute: Mapping[str, Any]) -> Iterator[NodeGroup]:
    yield NodeGroup(name="head", instance_type=(compute.get("head_node") or {}).get("instance_type"))
    yield from node_groups(compute, {})
