"""Ray's label selectors, read as Ray reads them: `a`, `!a`, `in(a,b)`, `!in(a,b)`."""

import re
from collections.abc import Mapping

_VALUE = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]{{0,251}}[a-zA-Z0-9])?/)?{_VALUE}")
_SELECTOR = re.compile(rf"(!?)(?:in\(({_VALUE}(?:,{_VALUE})*)\)|({_VALUE}))")


def checked(selector: dict[str, str]) -> dict[str, str]:
    """The selector. Raises ValueError for one that Ray would refuse, and for a space after a comma, which Ray 2.60
    takes as a part of the value, so that nothing would match."""
    for key, condition in selector.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no label: letters, digits, and - _ . between them, with or without a domain/")
        if not _SELECTOR.fullmatch(condition):
            raise ValueError(f"{key}: {condition!r} is none of a, !a, in(a,b), !in(a,b), which have no spaces")
    return selector


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """True when a node with these labels may take what asks with this selector, which was checked.

    A node without a label passes what only forbids values of it.
    """
    return all(_fits(labels.get(key), condition) for key, condition in selector.items())


def _fits(value: str | None, condition: str) -> bool:
    found = _SELECTOR.fullmatch(condition)
    assert found, condition
    negated, several, single = found.groups()
    wanted = several.split(",") if several else [single]
    return (value in wanted) != bool(negated)


def shown(selector: Mapping[str, str]) -> str:
    """`role=cpu, zone=a`; `any` for one that asks nothing."""
    return ", ".join(f"{key}={condition}" for key, condition in selector.items()) or "any"
