"""The stages with their workers, machines and work; whether they fit, and whether they keep each other busy."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pipeline.deploy.files import PRICES
from pipeline.deploy.machines import NodeGroup, cpus_at_start, total_cpus, total_gpus
from pipeline.deploy.placement import actor_cpus, fixed_cpus, gpu_groups, not_given, pools, split_cpus
from pipeline.deploy.prices import Prices
from pipeline.plan.found import Plan, Stage
from pipeline.settings import PlanSettings, gpus_per_engine

HD_PIXELS = 1280 * 720  # what the split's rate is given for
OBJECT_STORE = 0.3  # the part of a node's memory that Ray takes for its object store
IDLE = 0.5  # a side that is busy for less than this part of the time is worth a word


def look_at_stages(settings: PlanSettings, prices: Prices, plan: Plan) -> None:
    """Work out the stages; say what they are, what they take of each node, and what is out of proportion."""
    plan.stages = list(_stages(settings, prices, plan))
    plan.pace = _pace(plan)
    for stage in plan.stages:
        share = f"busy {stage.busy_s / plan.pace[1]:4.0%} of the time" if plan.pace[1] else ""
        reserved, where = f"{stage.workers} x {stage.reserves}", " or ".join(map(str, stage.groups)) or "nowhere"
        plan.lines.append(f"{stage.name:<9} {reserved:<16} {stage.gib:4.1f} GiB each  {share}  on {where}")
    _look_at_balance(plan)
    _look_at_sharing(plan)
    _look_at_memory(settings, plan)


def _pace(plan: Plan) -> tuple[str, float]:
    """The slowest stage, or all cores together: workers that reserve less than a core share it."""
    slowest = max(plan.stages, key=lambda stage: stage.busy_s)
    on_cpus = [stage for stage in plan.stages if not stage.gpus]
    cores = total_cpus(on_cpus[0].groups)
    together = sum(stage.cpu_s for stage in on_cpus) / cores if cores else 0.0
    return ("the number of cores", together) if together > slowest.busy_s else (slowest.name, slowest.busy_s)


def _stages(settings: PlanSettings, prices: Prices, plan: Plan) -> Iterator[Stage]:
    """The stages in order, with the work that the expected videos and clips make."""
    resources, rates, memory = settings.resources, prices.rates, prices.memory
    groups = _offering(plan.machines, resources.cpu_label_selector)
    sizes, frames = _sizes(settings, groups, plan), settings.frames.per_clip
    annotated = plan.clips * plan.kept
    pixels = [info.width * info.height for info in plan.probed]
    scale = sum(pixels) / len(pixels) / HD_PIXELS if pixels else 1.0
    start = cpus_at_start(groups)
    light = actor_cpus(settings, start) or 1.0  # a run that finds no CPUs to count says so

    def stage(name: str, gib: float, cpu_s: float, cpus: float = light) -> Stage:
        return Stage(name, sizes[name], f"{cpus:g} CPU", groups, cpus, gib, cpu_s / sizes[name], cpu_s)

    work = plan.seconds * rates.split_cpu_s_per_video_s * scale
    yield stage("split", memory.split_gib, work, split_cpus(settings, start))
    if "screen" in sizes:
        looked_at = plan.clips * rates.survive_quality
        yield stage("screen", memory.screen_gib, looked_at * frames * rates.screen_cpu_s_per_frame)
    if settings.annotate.annotator == "labels":
        yield stage("annotate", memory.labels_gib, annotated * frames * rates.labels_cpu_s_per_frame)
    elif settings.annotate.annotator == "openai":
        yield Stage("annotate", 1, "an endpoint", groups, light, 1.0, annotated / rates.openai_clips_per_s)
    else:
        yield _engines(settings, prices, plan, annotated)
    if (name := settings.embed.embedder) != "none":
        each = getattr(rates.embed_cpu_s_per_frame, name)
        yield stage("embed", getattr(memory.embed_gib, name), annotated * frames * each)
    if "cut" in sizes:  # tasks, not actors: they take what room the others leave
        work = plan.seconds * plan.kept * getattr(rates.cut_cpu_s_per_video_s, settings.clips.mode) * scale
        yield stage("cut", memory.cut_gib, work)


def _engines(settings: PlanSettings, prices: Prices, plan: Plan, clips: float) -> Stage:
    resources, each = settings.resources, gpus_per_engine(settings.annotate.vllm)
    groups = tuple(gpu_groups(settings, plan.machines))
    engines = resources.vllm_replicas or max(1, total_gpus(groups) // each)
    kind = resources.accelerator_type or next((group.accelerator for group in groups if group.accelerator), None)
    rate = prices.rates.vllm_clips_per_s.get(kind or "")
    if rate is None:
        table = settings.prices or PRICES
        plan.notes.append(f"{table}: rates.vllm_clips_per_s has no {kind or 'CPU'}: the engines' time is left out")
    reserves, busy_s = f"{each} {kind or 'GPU'}", clips / (rate * engines) if rate else 0.0
    return Stage("annotate", engines, reserves, groups, 1.0, prices.memory.vllm_host_gib, busy_s, gpus=engines * each)


def _offering(machines: Sequence[NodeGroup], selector: Mapping[str, str]) -> tuple[NodeGroup, ...]:
    return tuple(group for group in machines if group.offers(selector))


def _sizes(settings: PlanSettings, groups: Sequence[NodeGroup], plan: Plan) -> dict[str, int]:
    """Workers of each CPU stage: the pools as the run would size them when it starts, tasks by the room they leave."""
    start, cpus, resources = cpus_at_start(groups), total_cpus(groups), settings.resources
    if 0 < start < cpus and (unset := not_given(settings)):
        plan.notes.append(
            f"resources.{', '.join(unset)}: not given, so sized by the {start:g} CPUs that are there at the start, not "
            f"by the {cpus:g} there may be"
        )
    sizes = pools(settings, start)
    room = math.floor((cpus - fixed_cpus(settings, start)) / split_cpus(settings, start))
    if "cut" in sizes:
        sizes["cut"] = resources.cut_tasks or max(1, room // 2)  # it takes turns with the split
    return sizes | {"split": resources.split_tasks or max(1, room)}


def _look_at_balance(plan: Plan) -> None:
    """How many clips the CPU stages give, and how many the engines take."""
    engines = next((stage for stage in plan.stages if stage.gpus and stage.busy_s), None)
    name, cpu_s = _pace(replace(plan, stages=[stage for stage in plan.stages if not stage.gpus]))
    if engines is None or not cpu_s:
        return
    clips = plan.clips * plan.kept
    given, taken = clips / cpu_s, clips / engines.busy_s
    plan.lines.append(f"balance   CPUs give {given:.3g} clips a second ({name} limits them), GPUs take {taken:.3g}")
    if given < IDLE * taken:
        plan.notes.append(f"the GPUs wait for {name} most of the time: more CPU nodes, or fewer GPUs")
    elif taken < IDLE * given:
        plan.notes.append("the CPUs wait for the GPUs most of the time: fewer CPU nodes, or more GPUs")


def _look_at_sharing(plan: Plan) -> None:
    """GPU nodes that take CPU work too, although there are nodes for it alone."""
    with_engines = [group for stage in plan.stages if stage.gpus for group in stage.groups]
    for_cpu_work = next(stage.groups for stage in plan.stages if not stage.gpus)
    alone = [str(group) for group in for_cpu_work if group not in with_engines]
    for group in for_cpu_work:
        if alone and group in with_engines:
            plan.notes.append(
                f"resources.cpu_label_selector lets CPU work onto {group} too, beside the engines: ask for a "
                f"label that only {' and '.join(alone)} has"
            )


def _look_at_memory(settings: PlanSettings, plan: Plan) -> None:
    """The workers that share a node at the worst must fit beside Ray's object store."""
    for group in plan.machines:
        here = [stage for stage in plan.stages if group in stage.groups]
        if not here or not group.memory_gib:
            continue
        needed = _most_gib(here, group, settings)
        room = group.memory_gib * (1 - OBJECT_STORE)
        plan.lines.append(
            f"memory    {group.name}: at most {needed:.1f} of {room:.1f} GiB a node beside the object store"
        )
        if needed > room:
            plan.problems.append(
                f"memory: the workers on a node of {group.name} may need {needed:.1f} GiB, {room:.1f} are free: fewer "
                "workers (resources.*_actors, split_tasks), more CPUs for each (cpus_per_actor), or larger nodes"
            )


def _most_gib(stages: Sequence[Stage], group: NodeGroup, settings: PlanSettings) -> float:
    """What the workers take that Ray may put on one node: engines by its GPUs; of the others those that take the most
    for a CPU, as many as its CPUs allow."""
    engines = [stage for stage in stages if stage.gpus]
    gib = sum(stage.gib * group.gpus / gpus_per_engine(settings.annotate.vllm) for stage in engines)
    free = group.cpus - sum(stage.cpus * group.gpus for stage in engines)
    for stage in sorted((s for s in stages if not s.gpus), key=lambda s: s.gib / s.cpus, reverse=True):
        workers = max(0, min(stage.workers, math.floor(free / stage.cpus)))
        gib += workers * stage.gib
        free -= workers * stage.cpus
    return gib
