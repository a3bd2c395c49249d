"""The schedule's five fields and its time zone, which the platform would only refuse when it is applied."""

import datetime
import zoneinfo
from itertools import pairwise
from typing import Any

from pipeline.deploy.files import SCHEDULE, Problems, load

DAY_S = 86_400
CRON = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
CRON_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of the week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}


def check_schedule(folder: str) -> Problems:
    """The schedule's five fields and its time zone, which the platform would only refuse when it is applied."""
    content = load(folder, SCHEDULE)
    found = [
        f"{SCHEDULE}: cron_expression: {problem}" for problem in cron_problems(str(content.get("cron_expression")))
    ]
    found = found or _too_long(content)
    zone = content.get("timezone")
    if not zone:
        found.append(f"{SCHEDULE}: no timezone: name it, UTC or one like Europe/Berlin")
    elif zone != "UTC" and zone not in zoneinfo.available_timezones():
        found.append(f"{SCHEDULE}: timezone: no {zone!r} in the time zone database")
    return found


def _too_long(content: dict[str, Any]) -> Problems:
    """A run whose tries may last until the next one finds its own output in use then."""
    config, gap_s = content.get("job_config") or {}, _shortest_gap_s(str(content.get("cron_expression")))
    if gap_s is None:
        return [f"{SCHEDULE}: cron_expression: there is no such day"]
    timeout_s, tries = config.get("timeout_s"), 1 + (config.get("max_retries") or 0)
    if not timeout_s or timeout_s * tries < gap_s:
        return []
    return [
        f"{SCHEDULE}: timeout_s x (1 + max_retries) is {timeout_s * tries / 3600:.0f} h: longer than the "
        f"{gap_s / 3600:g} h to the next run, which would find the output in use"
    ]


def _shortest_gap_s(expression: str) -> int | None:
    """The shortest time between two runs (seconds); None when there is no day for one in four years."""
    fields = [_values(text, *place) or set() for text, place in zip(expression.split(), CRON, strict=True)]
    minutes, hours, days, months, weekdays = fields
    any_day, any_weekday = (field == "*" for field in expression.split()[2:5:2])
    times = sorted(60 * (60 * hour + minute) for hour in hours for minute in minutes)
    first, runs = datetime.date(2027, 1, 1), []
    for number in range(4 * 365 + 1):
        day = first + datetime.timedelta(days=number)
        on_day, on_weekday = day.day in days, day.isoweekday() % 7 in {weekday % 7 for weekday in weekdays}
        # with both given, either will do: so cron has it
        fits = (on_day and on_weekday) if any_day or any_weekday else (on_day or on_weekday)
        if day.month in months and fits:
            runs.append(number * DAY_S)
    if not runs:
        return None
    within = [after - before for before, after in pairwise(times)]
    between = [after - before - times[-1] + times[0] for before, after in pairwise(runs)]
    return min([*within, *between, 4 * 365 * DAY_S])


def cron_problems(expression: str) -> Problems:
    """What is wrong with a cron expression of five fields: * or lists of values and ranges, with steps, or names."""
    fields = expression.split()
    if len(fields) != len(CRON):
        return [f"{expression!r} has {len(fields)} fields, not minute, hour, day, month, day of the week"]
    found: Problems = []
    for text, (name, low, high) in zip(fields, CRON, strict=True):
        if _values(text, name, low, high) is None:
            found.append(f"{text!r} is no {name} ({low}-{high})")
    return found


def _values(text: str, name: str, low: int, high: int) -> set[int] | None:
    """The values that a field stands for; None where it is none."""
    parts = [_part(part, low, high, CRON_NAMES.get(name, [])) for part in text.lower().split(",")]
    return None if None in parts else {value for part in parts for value in part or ()}


def _part(part: str, low: int, high: int, names: list[str]) -> range | None:
    body, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return None
    ends = [str(names.index(end) + low) if end in names else end for end in body.split("-")]
    if body == "*":
        ends = [str(low), str(high)]
    if len(ends) > 2 or not all(end.isdigit() for end in ends):
        return None
    first, last = int(ends[0]), int(ends[-1])
    if not low <= first <= last <= high:
        return None
    return range(first, (high if slash and len(ends) == 1 else last) + 1, int(step or 1))
