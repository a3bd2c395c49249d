"""The videos: how many, of what kind, and which of them the output folder has already."""

import math

from pipeline.curate import what_makes_results
from pipeline.deploy.prices import Rates
from pipeline.errors import BadVideo, UserError
from pipeline.plan.found import Plan, size
from pipeline.progress import duration
from pipeline.records import books, lease, tables
from pipeline.schema import VIDEO_FAILED
from pipeline.settings import PlanSettings
from pipeline.sources import VideoRef, find_videos, open_videos
from pipeline.tasks import Task
from pipeline.video.decode import VideoInfo, VideoReader


def look_at_videos(settings: PlanSettings, chosen: Task | None, rates: Rates, plan: Plan) -> None:
    """List the inputs, leave out what is finished, open a few of the rest, and reckon with their mean."""
    try:
        found = find_videos(settings.input, settings.input_list, settings.limit, settings.source, settings.output)
    except UserError as error:
        plan.problems.append(str(error))
        return
    seen = _books(settings, chosen, plan) if chosen else None
    refs = [ref for ref in found.videos if not (seen and _is_finished(ref.video_id, settings, seen))]
    plan.videos, plan.finished = len(refs), len(found.videos) - len(refs)
    unreadable = [ref for ref in refs if ref.problem]
    errors = [f"{ref.uri}: {ref.problem}" for ref in unreadable[:3]]
    sample = _sample([ref for ref in refs if not ref.problem], settings.probe)
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


def _books(settings: PlanSettings, chosen: Task, plan: Plan) -> tables.Scan | None:
    """What the output folder says is done; None where it cannot be read or belongs to a run of other settings."""
    try:
        if not settings.dry_run:  # the stand-ins, which are built for a dry run, are part of its settings
            books.check_settings(settings.output, what_makes_results(settings, chosen))
        lease.await_silence(settings.output)
        return tables.scan(settings.output)
    except UserError as error:
        plan.problems.append(str(error))
    except Exception:  # a bucket that denies: whether it can be written to is asked, and told, elsewhere
        pass
    return None


def _is_finished(video_id: str, settings: PlanSettings, seen: tables.Scan) -> bool:
    again = settings.retry_failed and video_id in seen.videos and seen.videos[video_id].status == VIDEO_FAILED
    return seen.finished(video_id) and not again


def _too_many_fail(settings: PlanSettings, plan: Plan, unreadable: int, probed: int) -> list[str]:
    """A few probes tell nothing of a small fraction of many videos, unless all of them fail."""
    failed = probed - len(plan.probed)
    if probed and failed == probed:
        return [f"none of the {probed} videos that were opened can be used"]
    bad = unreadable + (failed if unreadable + probed == plan.videos else 0)
    if bad <= settings.max_failed_fraction * (plan.videos + plan.finished):
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
    before = f" ({plan.finished} more are finished)" if plan.finished else ""
    if not plan.videos:
        return [f"videos    none is left to do{before}"]
    if not plan.probed:
        return [f"videos    {plan.videos}{before}"]
    codecs = sorted({info.video_codec for info in plan.probed})
    sides = sorted({f"{info.width}x{info.height}" for info in plan.probed})
    return [
        f"videos    {plan.videos}{before}, about {duration(plan.seconds)} and {size(plan.num_bytes)} in all "
        f"({len(plan.probed)} probed: {', '.join(codecs)}; {', '.join(sides[:4])})",
        f"clips     about {plan.clips:,.0f}",
    ]
