"""The schedule's five fields and its time zone, which the platform would only refuse when it is applied."""

import zoneinfo
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
    found += _too_long(content)
    zone = content.get("timezone")
    if not zone:
        found.append(f"{SCHEDULE}: no timezone: name it, UTC or one like Europe/Berlin")
    elif zone != "UTC" and zone not in zoneinfo.available_timezones():
        found.append(f"{SCHEDULE}: timezone: no {zone!r} in the time zone database")
    return found


def _too_long(content: dict[str, Any]) -> Problems:
    """A daily run whose tries may last into the next day finds its own output in use then."""
    fields, config = str(content.get("cron_expression")).split(), content.get("job_config") or {}
    timeout_s, tries = config.get("timeout_s"), 1 + (config.get("max_retries") or 0)
    if fields[2:] != ["*", "*", "*"] or not isinstance(timeout_s, int) or timeout_s * tries < DAY_S:
        return []
    return [
        f"{SCHEDULE}: timeout_s x (1 + max_retries) is {timeout_s * tries / 3600:.0f} h: more than a day, so that"
        " the next run would find the output in use"
    ]


def cron_problems(expression: str) -> Problems:
    """What is wrong with a cron expression of five fields: * or lists of values and ranges, with steps, or names."""
    fields = expression.split()
    if len(fields) != len(CRON):
        return [f"{expression!r} has {len(fields)} fields, not minute, hour, day, month, day of the week"]
    found: Problems = []
    for text, (name, low, high) in zip(fields, CRON, strict=True):
        if not all(_cron_part(part, low, high, CRON_NAMES.get(name, [])) for part in text.lower().split(",")):
            found.append(f"{text!r} is no {name} ({low}-{high})")
    return found


def _cron_part(part: str, low: int, high: int, names: list[str]) -> bool:
    body, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return False
    if body == "*":
        return True
    values = [names.index(end) + low if end in names else end for end in body.split("-")]
    numbers = [int(value) for value in values if str(value).isdigit()]
    return len(numbers) == len(values) <= 2 and numbers == sorted(numbers) and low <= numbers[0] and numbers[-1] <= high
