"""The table of machines, prices and rates that a plan reckons with: configs/prices.yaml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UserError
from pipeline.storage import read_yaml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(_Table):
    """A kind of machine; prices in USD an hour."""

    cpus: Positive
    memory_gib: Positive
    gpus: int = Field(default=0, ge=0)
    accelerator: str | None = None
    usd_per_hour: Positive
    spot_usd_per_hour: Positive | None = None


class OfEmbedders(_Table):
    """A number for each embedder."""

    clip: Positive
    efficientnet: Positive


class OfCuts(_Table):
    """A number for each way to cut clip files."""

    smart: Positive
    reencode: Positive


class Rates(_Table):
    """How fast things go: seconds of one core, clips a second, fractions."""

    split_cpu_s_per_video_s: Positive
    clips_per_video_s: Positive
    survive_quality: Fraction
    survive_screen: Fraction
    screen_cpu_s_per_frame: Positive
    labels_cpu_s_per_frame: Positive
    embed_cpu_s_per_frame: OfEmbedders
    cut_cpu_s_per_video_s: OfCuts
    openai_clips_per_s: Positive
    vllm_clips_per_s: dict[str, Positive]


class Memory(_Table):
    """What one worker of a stage takes at most (GiB)."""

    split_gib: Positive
    screen_gib: Positive
    labels_gib: Positive
    embed_gib: OfEmbedders
    cut_gib: Positive
    vllm_host_gib: Positive


class Prices(_Table):
    """configs/prices.yaml."""

    nodes: dict[str, Node]
    rates: Rates
    memory: Memory
    output_kib_per_clip: Positive
    node_start_min: Positive


def read_prices(location: str) -> Prices:
    """The table. Raises UserError, naming the key, for one that cannot be used."""
    content = read_yaml(location, "--prices")
    try:
        return Prices.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{location}: {where}: {first['msg'].lower()}") from error
