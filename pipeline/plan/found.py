"""What a plan has found out so far."""

from dataclasses import dataclass, field

from pipeline.deploy.machines import NodeGroup
from pipeline.video.decode import VideoInfo


@dataclass(frozen=True)
class Stage:
    """One stage: how many workers, what each reserves and takes, the node groups it may run on, and its work in all.

    cpus, gib: what one worker reserves (count) and takes (GiB); busy_s: seconds that the whole pool is busy; cpu_s:
    seconds of a core in all; gpus: what all its workers take.
    """

    name: str
    workers: int
    reserves: str
    groups: tuple[NodeGroup, ...]
    cpus: float
    gib: float
    busy_s: float
    cpu_s: float = 0.0
    gpus: int = 0


@dataclass
class Plan:
    """What was found out.

    videos: those that the run would open; finished: those it would not open any more; seconds, num_bytes, clips: of
    those that it would open; kept: the fraction of the clips that passes quality and screen; pace: what takes the
    longest, and how long (seconds). `problems` is why the run would fail, `notes` what is worth knowing.
    """

    videos: int = 0
    finished: int = 0
    probed: list[VideoInfo] = field(default_factory=list)
    seconds: float = 0.0
    num_bytes: float = 0.0
    clips: float = 0.0
    kept: float = 1.0
    pace: tuple[str, float] = ("", 0.0)
    stages: list[Stage] = field(default_factory=list)
    machines: list[NodeGroup] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """2 when the run would fail."""
        return 2 if self.problems else 0

    def text(self) -> str:
        """The whole plan for a person."""
        marked = [("note", line) for line in self.notes] + [("PROBLEM", line) for line in self.problems]
        said = [*self.lines, *(f"{mark:<9} {' '.join(line.split())}" for mark, line in marked)]
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        end = f"would fail: {count}" if self.problems else "no problem found; nothing was started"
        return "\n".join([*said, "", end])


def size(num_bytes: float) -> str:
    """`3 kB`, `12 GB`, `1.2 TB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"
