"""The table of machines, prices and rates that a plan reckons with: configs/prices.yaml."""

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError
from pipeline.storage import read_yaml


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(_Table):
    """A kind of machine; prices in USD an hour."""

    cpus: float
    memory_gib: float
    gpus: int = 0
    accelerator: str | None = None
    usd_per_hour: float
    spot_usd_per_hour: float | None = None


class Rates(_Table):
    """How fast things go: seconds of one core, clips a second, fractions."""

    split_cpu_s_per_video_s: float
    clips_per_video_s: float
    survive_quality: float
    survive_screen: float
    screen_cpu_s_per_frame: float
    labels_cpu_s_per_frame: float
    embed_cpu_s_per_frame: dict[str, float]
    cut_cpu_s_per_video_s: dict[str, float]
    openai_clips_per_s: float
    vllm_clips_per_s: dict[str, float]


class Memory(_Table):
    """What one worker of a stage takes at most (GiB)."""

    split_gib: float
    screen_gib: float
    labels_gib: float
    embed_gib: dict[str, float]
    cut_gib: float
    vllm_host_gib: float


class Prices(_Table):
    """configs/prices.yaml."""

    nodes: dict[str, Node]
    rates: Rates
    memory: Memory
    output_kib_per_clip: float


def read_prices(location: str) -> Prices:
    """The table. Raises UserError, naming the key, for one that cannot be used."""
    content = read_yaml(location, "--prices")
    try:
        return Prices.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{location}: {where}: {first['msg'].lower()}") from error
