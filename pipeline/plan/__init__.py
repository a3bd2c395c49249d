"""Plan: what a curate run with these settings would do, need and cost, and every reason why it would fail.

Nothing is started and nothing is spent: inputs are listed, a few videos are probed, the rest is arithmetic on
configs/prices.yaml, whose rates and prices are there to be edited.
"""

from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.curate import choose_task
from pipeline.deploy import preflight
from pipeline.deploy.files import COMPUTE, PRICES
from pipeline.deploy.formats import compute_problem
from pipeline.deploy.machines import node_groups, this_machine
from pipeline.deploy.placement import cpu_work, placement
from pipeline.deploy.prices import read_prices
from pipeline.dry_run import made_small
from pipeline.errors import UserError
from pipeline.plan.cost import look_at_cost
from pipeline.plan.found import Plan, size
from pipeline.plan.inputs import look_at_videos
from pipeline.plan.stages import look_at_stages
from pipeline.settings import PlanSettings
from pipeline.storage import read_yaml
from pipeline.tasks import Task

ROOT = Path(__file__).parents[2]


def run(settings: PlanSettings) -> int:
    """Print the plan; 0, or 2 when the run would fail. Raises UserError for a price table that is none."""
    plan = make(settings)
    print(plan.text())
    return plan.exit_code


def make(settings: PlanSettings) -> Plan:
    """Everything that can be known. Problems are collected, so that one look shows them all."""
    settings = settings.model_copy(update={"output": storage.absolute(settings.output)})
    settings = made_small(settings) if settings.dry_run else settings
    prices, plan = read_prices(settings.prices or str(ROOT / PRICES)), Plan()
    compute, table = _compute(settings), {name: node.model_dump() for name, node in prices.nodes.items()}
    plan.machines = [this_machine()] if compute is None else node_groups(compute, table)
    chosen = _task(settings, plan)
    look_at_videos(settings, chosen, prices.rates, plan)
    look_at_stages(settings, prices, plan)
    _look_at_models(settings, plan)
    if plan.videos:
        look_at_cost(compute, prices, plan)
    if compute is None:
        plan.problems += cpu_work(settings, plan.machines, on_cluster=False)
        if settings.annotate.annotator == "vllm" and not plan.machines[0].gpus and not settings.dry_run:
            plan.problems.append("annotate.annotator vllm: no GPU here: vLLM's CPU build is for dry runs (--dry-run)")
    else:
        plan.problems += placement(settings, compute, table) + preflight.versions(str(ROOT))
    plan.notes += preflight.tokens(settings, on_cluster=compute is not None)
    plan.problems += [*preflight.keys(settings), *preflight.output(settings.output)]
    if compute is not None and not storage.is_remote(settings.output):
        plan.notes.append(f"--output {settings.output} is a folder: every machine of the cluster must see it")
    return plan


def _compute(settings: PlanSettings) -> dict[str, Any] | None:
    """The compute config of the cluster that the run is meant for; None where it is meant for this machine."""
    resources = settings.resources
    asks = resources.cpu_label_selector or resources.gpu_label_selector or resources.accelerator_type
    if settings.compute is None and not asks:
        return None
    location = settings.compute or str(ROOT / COMPUTE)
    content = read_yaml(location, "--compute")
    if problem := "not a mapping" if not isinstance(content, dict) else compute_problem(content):
        raise UserError(f"{location}: not a compute config: {problem}")
    return content


def _task(settings: PlanSettings, plan: Plan) -> Task | None:
    try:
        return choose_task(settings)
    except UserError as error:
        plan.problems.append(str(error))
        return None


def _look_at_models(settings: PlanSettings, plan: Plan) -> None:
    """Whether the weights can be had, and the disk that they take of a node."""
    for model in preflight.models(settings):
        plan.problems += [model.problem] if model.problem else []
        stage = next(stage for stage in plan.stages if stage.name == model.stage)
        where = " and ".join(group.name for group in stage.groups)
        if model.num_bytes and where:
            plan.lines.append(f"disk      {where}: {size(model.num_bytes)} a node for {model.name}")
