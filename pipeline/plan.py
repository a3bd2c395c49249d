"""Plan: what a curate run with these settings would do, need and cost, and every reason why it would fail.

Nothing is started and nothing is spent: inputs are listed, a few videos are probed, the rest is arithmetic on
configs/prices.yaml, whose rates and prices are there to be edited.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.curate import choose_task
from pipeline.deploy import preflight
from pipeline.deploy.files import COMPUTE, PRICES
from pipeline.deploy.placement import node_groups, offers, placement, pools
from pipeline.deploy.prices import Prices, Rates, read_prices
from pipeline.errors import BadVideo, UserError
from pipeline.progress import duration
from pipeline.settings import PlanSettings, gpus_per_engine
from pipeline.sources import VideoRef, find_videos, open_videos
from pipeline.stages import cluster
from pipeline.storage import read_yaml
from pipeline.video.decode import VideoInfo, VideoReader

HD_PIXELS = 1280 * 720  # what the split's rate is given for
OBJECT_STORE = 0.3  # the part of a node's memory that Ray takes for its object store
IDLE = 0.5  # a side that is busy for less than this part of the time is worth a word
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Stage:
    """One stage: how many workers, what each reserves and takes, on which node group, and its work in all.

    busy_s: seconds that the whole pool is busy; gpus: what all its workers take.
    """

    name: str
    workers: int
    reserves: str
    group: str
    gib: float
    busy_s: float
    gpus: int = 0


@dataclass
class Plan:
    """What was found out. kept: the fraction of the clips that passes quality and screen.

    `problems` is why the run would fail, `notes` what is worth knowing.
    """

    videos: int = 0
    probed: list[VideoInfo] = field(default_factory=list)
    seconds: float = 0.0
    num_bytes: float = 0.0
    clips: float = 0.0
    kept: float = 1.0
    stages: list[Stage] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """2 when the run would fail."""
        return 2 if self.problems else 0


def run(settings: PlanSettings) -> int:
    """Print the plan; 0, or 2 when the run would fail. Raises UserError for a price table that is none."""
    plan = make(settings)
    print("\n".join([*plan.lines, *_marked("note", plan.notes), *_marked("PROBLEM", plan.problems)]))
    print(
        f"\nwould fail: {len(plan.problems)} problems" if plan.problems else "\nno problem found; nothing was started"
    )
    return plan.exit_code


def make(settings: PlanSettings) -> Plan:
    """Everything that can be known. Problems are collected, so that one look shows them all."""
    prices, plan = read_prices(settings.prices or str(ROOT / PRICES)), Plan()
    on_cluster, compute = _machines(settings)
    table = {name: node.model_dump() for name, node in prices.nodes.items()}
    groups = node_groups(compute, table)
    plan.machines = groups if on_cluster else [_this_machine()]
    _check_settings(settings, plan)
    _look_at_videos(settings, prices.rates, plan)
    plan.stages = list(stages(settings, prices, plan))
    _describe_stages(plan)
    if plan.videos:
        _describe_time_and_cost(compute if on_cluster else None, prices, plan)
    _check_memory(settings, plan)
    if on_cluster:
        plan.problems += placement(settings, compute, table)
        plan.problems += preflight.versions(str(ROOT))
    plan.problems += [*preflight.credentials(settings), *preflight.models(settings), *preflight.output(settings.output)]
    return plan


# Machines


def _machines(settings: PlanSettings) -> tuple[bool, dict[str, Any]]:
    """Whether the run is meant for a cluster, and its compute config."""
    resources = settings.resources
    asks = resources.cpu_label_selector or resources.gpu_label_selector or resources.accelerator_type
    if settings.compute is None and not asks:
        return False, {}
    location = settings.compute or str(ROOT / COMPUTE)
    content = read_yaml(location, "--compute")
    if not isinstance(content, dict):
        raise UserError(f"{location}: not a compute config")
    return True, content


def _this_machine() -> dict[str, Any]:
    cards = Path("/proc/driver/nvidia/gpus")
    return {
        "name": "this machine",
        "instance_type": None,
        "labels": {},
        "max_nodes": 1,
        "spot": False,
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": len(list(cards.iterdir())) if cards.is_dir() else 0,
        "accelerator": None,
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
    }


# Videos


def _look_at_videos(settings: PlanSettings, rates: Rates, plan: Plan) -> None:
    """List the inputs, open a few, and reckon with their mean."""
    try:
        found = find_videos(settings.input, settings.input_list, settings.limit, settings.source, settings.output)
    except UserError as error:
        plan.problems.append(str(error))
        return
    plan.videos = len(found.videos)
    unreadable = [ref for ref in found.videos if ref.problem]
    errors = [f"{ref.uri}: {ref.problem}" for ref in unreadable[:3]]
    sample = _sample([ref for ref in found.videos if not ref.problem], settings.probe)
    for ref in sample:
        try:
            plan.probed.append(_probe(ref, settings))
        except BadVideo as error:
            errors.append(f"{ref.uri}: {error}")
    plan.notes += errors
    plan.problems += _too_many_fail(settings, plan, len(unreadable), len(sample))
    durations = [info.duration_s for info in plan.probed if info.duration_s]
    plan.seconds = plan.videos * sum(durations) / len(durations) if durations else 0.0
    plan.num_bytes = plan.videos * sum(info.num_bytes or 0 for info in plan.probed) / (len(plan.probed) or 1)
    plan.kept = rates.survive_quality * (rates.survive_screen if settings.screen.model != "none" else 1.0)
    plan.clips = math.ceil(plan.seconds * max(rates.clips_per_video_s, 1 / settings.split.max_clip_s))
    plan.lines += _described(plan)


def _too_many_fail(settings: PlanSettings, plan: Plan, unreadable: int, probed: int) -> list[str]:
    """A few probes tell nothing of a small fraction of many videos, unless all of them fail."""
    failed = probed - len(plan.probed)
    if probed and failed == probed:
        return [f"none of the {probed} videos that were opened can be used"]
    bad = unreadable + (failed if unreadable + probed == plan.videos else 0)
    if bad <= settings.max_failed_fraction * plan.videos:
        return []
    return [
        f"{bad} of {plan.videos} videos cannot be used: more than --max-failed-fraction "
        f"{settings.max_failed_fraction:g} would end the run with exit code 1"
    ]


def _sample(refs: list[VideoRef], count: int) -> list[VideoRef]:
    """A few, evenly spread. Of a shard's row group only the first row: the others lie behind it."""
    cheap = [ref for ref in refs if not ref.row]
    step = max(1, len(cheap) // count)
    return cheap[::step][:count]


def _probe(ref: VideoRef, settings: PlanSettings) -> VideoInfo:
    """Open it and decode one frame. Raises BadVideo."""
    _, opener = next(iter(open_videos([ref], settings.source.video_column)))
    with opener() as source, VideoReader(source, max_megapixels=settings.split.max_megapixels) as reader:
        next(reader.frames())
        return reader.info


def _described(plan: Plan) -> list[str]:
    if not plan.probed:
        return [f"videos    {plan.videos}"]
    codecs = sorted({info.video_codec for info in plan.probed})
    sides = sorted({f"{info.width}x{info.height}" for info in plan.probed})
    return [
        f"videos    {plan.videos}, about {duration(plan.seconds)} and {_bytes(plan.num_bytes)} in all "
        f"({len(plan.probed)} probed: {', '.join(codecs)}; {', '.join(sides[:4])})",
        f"clips     about {plan.clips:,.0f}",
    ]


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


# Stages


def stages(settings: PlanSettings, prices: Prices, plan: Plan) -> Iterator[Stage]:
    """The stages in order, with the work that the expected videos and clips make."""
    resources, rates, memory = settings.resources, prices.rates, prices.memory
    group = _group(plan.machines, resources.cpu_label_selector, gpus=False)
    sizes, frames = _sizes(settings, plan.machines), settings.frames.per_clip
    looked_at = plan.clips * rates.survive_quality
    annotated = plan.clips * plan.kept
    pixels = [info.width * info.height for info in plan.probed]
    scale = sum(pixels) / len(pixels) / HD_PIXELS if pixels else 1.0
    reserves = f"{resources.cpus_per_actor or 1:g} CPU"
    work = plan.seconds * rates.split_cpu_s_per_video_s * scale
    cores = f"{resources.cpus_per_split:g} CPU"
    yield Stage("split", sizes["split"], cores, group, memory.split_gib, work / sizes["split"])
    if "screen" in sizes:
        work = looked_at * frames * rates.screen_cpu_s_per_frame
        yield Stage("screen", sizes["screen"], reserves, group, memory.screen_gib, work / sizes["screen"])
    yield _annotate(settings, prices, plan, annotated, group)
    if (name := settings.embed.embedder) != "none":
        work = annotated * frames * rates.embed_cpu_s_per_frame[name]
        yield Stage("embed", sizes["embed"], reserves, group, memory.embed_gib[name], work / sizes["embed"])
    if "cut" in sizes:  # tasks, not actors: they take what room the others leave
        work = plan.seconds * plan.kept * rates.cut_cpu_s_per_video_s[settings.clips.mode] * scale
        yield Stage("cut", sizes["cut"], reserves, group, memory.cut_gib, work / sizes["cut"])


def _annotate(settings: PlanSettings, prices: Prices, plan: Plan, clips: float, cpu_group: str) -> Stage:
    annotator, resources, rates = settings.annotate.annotator, settings.resources, prices.rates
    if annotator == "openai":
        return Stage("annotate", 1, "an endpoint", cpu_group, 1.0, clips / rates.openai_clips_per_s)
    if annotator == "labels":
        workers = _sizes(settings, plan.machines)["annotate"]
        work = clips * settings.frames.per_clip * rates.labels_cpu_s_per_frame
        return Stage("annotate", workers, "1 CPU", cpu_group, prices.memory.labels_gib, work / workers)
    each = gpus_per_engine(settings.annotate.vllm)
    group = _group(plan.machines, resources.gpu_label_selector, gpus=True)
    engines = resources.vllm_replicas or max(1, _total(plan.machines, "gpus") // each)
    kind = resources.accelerator_type or next((g["accelerator"] for g in plan.machines if g["accelerator"]), None)
    rate = rates.vllm_clips_per_s.get(kind or "")
    if not _total(plan.machines, "gpus") and not settings.dry_run:
        plan.problems.append("annotate.annotator vllm: no GPU here: vLLM's CPU build is for dry runs (--dry-run)")
    elif rate is None:
        plan.notes.append(
            f"{settings.prices or PRICES}: rates.vllm_clips_per_s has no {kind}: the engines' time is left out"
        )
    busy_s = clips / (rate * engines) if rate else 0.0
    return Stage(
        "annotate", engines, f"{each} {kind or 'GPU'}", group, prices.memory.vllm_host_gib, busy_s, gpus=engines * each
    )


def _sizes(settings: PlanSettings, machines: list[dict[str, Any]]) -> dict[str, int]:
    """Workers of each CPU stage: as configured, else what the run would take on this many CPUs."""
    cpus, resources = _total(machines, "cpus"), settings.resources
    pool = cluster.usual_actors(cpus)
    sizes = dict(pools(settings))
    configured = {
        "screen": resources.screen_actors,
        "embed": resources.embed_actors,
        "annotate": resources.label_actors,
    }
    for name, given in configured.items():
        if name in sizes and not (name == "annotate" and settings.annotate.annotator == "openai"):
            sizes[name] = given or pool
    taken = sum(sizes[name] for name in configured if name in sizes) * cluster.usual_actor_cpus(cpus)
    room = math.floor((cpus - taken) / resources.cpus_per_split)
    if "cut" in sizes:
        sizes["cut"] = resources.cut_tasks or max(1, room // 2)  # it takes turns with the split
    return sizes | {"split": resources.split_tasks or max(1, room)}


def _total(machines: list[dict[str, Any]], what: str) -> int:
    return int(sum(group[what] * group["max_nodes"] for group in machines))


def _group(machines: list[dict[str, Any]], labels: Mapping[str, str], *, gpus: bool) -> str:
    fitting = [group for group in machines if offers(group, labels) and (group["gpus"] or not gpus)]
    names = [
        f"{g['name']} ({g['max_nodes']} x {g['instance_type']})" if g["instance_type"] else g["name"] for g in fitting
    ]
    return " or ".join(names) or "nowhere"


def _describe_stages(plan: Plan) -> None:
    longest = max((stage.busy_s for stage in plan.stages), default=0.0)
    for stage in plan.stages:
        share = f"busy {stage.busy_s / longest:4.0%} of the time" if longest else ""
        reserved = f"{stage.workers} x {stage.reserves}"
        plan.lines.append(f"{stage.name:<9} {reserved:<16} {stage.gib:4.1f} GiB each  {share}  on {stage.group}")


# Time, money, memory


def _describe_time_and_cost(compute: Mapping[str, Any] | None, prices: Prices, plan: Plan) -> None:
    longest = max(plan.stages, key=lambda stage: stage.busy_s)
    plan.lines.append(
        f"time      about {duration(longest.busy_s)} once all nodes are there; {longest.name} sets the pace"
    )
    gpu = next((stage for stage in plan.stages if stage.gpus), None)
    if gpu and longest.busy_s and gpu.busy_s and gpu.busy_s < IDLE * longest.busy_s:
        plan.notes.append(f"the GPUs wait for {longest.name} most of the time: more CPU nodes, or fewer GPUs")
    files = f", {_bytes(plan.num_bytes * plan.kept)} of clip files" if any(s.name == "cut" for s in plan.stages) else ""
    plan.lines.append(f"output    about {_bytes(plan.clips * prices.output_kib_per_clip * 1024)} of tables{files}")
    if compute is None:
        return
    usd, unpriced = 0.0, []
    for name, count, spot in _rented(compute):
        node = prices.nodes.get(name)
        if node is None:
            unpriced.append(name)
            continue
        usd += count * (node.spot_usd_per_hour if spot and node.spot_usd_per_hour else node.usd_per_hour)
    plan.lines.append(f"cost      about {usd * longest.busy_s / 3600:,.2f} USD ({usd:,.2f} an hour with all nodes)")
    plan.problems += [f"{PRICES}: nodes: no {name}: its price is unknown" for name in unpriced]


def _rented(compute: Mapping[str, Any]) -> Iterator[tuple[str, int, bool]]:
    """Instance type, nodes at most, spot or not."""
    yield str((compute.get("head_node") or {}).get("instance_type")), 1, False
    for group in node_groups(dict(compute), {}):
        yield str(group["instance_type"]), group["max_nodes"], group["spot"]


def _check_memory(settings: PlanSettings, plan: Plan) -> None:
    """The workers that share a node must fit beside Ray's object store."""
    for group in plan.machines:
        gpu_group = any(
            s.name == "annotate" and s.group.startswith(group["name"]) and group["gpus"] for s in plan.stages
        )
        here = [stage for stage in plan.stages if stage.group.startswith(group["name"])]
        if not here or not group["memory_gib"]:
            continue
        nodes = 1 if gpu_group and settings.resources.gpu_label_selector else group["max_nodes"]
        each = group["gpus"] / gpus_per_engine(settings.annotate.vllm) if nodes != group["max_nodes"] else None
        needed = sum(stage.gib * (each or stage.workers / nodes) for stage in here)
        room = group["memory_gib"] * (1 - OBJECT_STORE)
        plan.lines.append(f"memory    {group['name']}: {needed:.1f} of {room:.1f} GiB a node beside the object store")
        if needed > room:
            plan.problems.append(
                f"memory: the workers on a node of {group['name']} need {needed:.1f} GiB, {room:.1f} are free: fewer "
                "workers (resources.*_actors, split_tasks), or larger nodes"
            )


# What else would make it fail


def _check_settings(settings: PlanSettings, plan: Plan) -> None:
    try:
        choose_task(settings)
    except UserError as error:
        plan.problems.append(str(error))


def _marked(mark: str, lines: list[str]) -> list[str]:
    return [f"{mark:<9} {' '.join(line.split())}" for line in lines]
