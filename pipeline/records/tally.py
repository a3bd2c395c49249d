"""Counts of a run that is under way, for people: the tables are the truth."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Tally:
    """videos by status; clips by verdict; tokens read and written (`input`, `output`); by stage rows, busy seconds and
    the nodes (Ray's ids) they ran on."""

    videos: Counter[str] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    found: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    nodes: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    decoded_s: float = 0.0
