"""The formats, by Anyscale's own models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.deploy.files import COMPUTE, JOB, OLD_ENV, SCHEDULE, Problems, load
from pipeline.errors import one_line


def check_formats(folder: str) -> Problems:
    """What the `anyscale` package refuses: unknown keys, wrong types, impossible machines."""
    from anyscale.compute_config.models import ComputeConfig  # imported here: it takes seconds
    from anyscale.job.models import JobConfig
    from anyscale.schedule.models import ScheduleConfig

    models: dict[str, Any] = {JOB: JobConfig, SCHEDULE: ScheduleConfig, COMPUTE: ComputeConfig}
    found: Problems = []
    for name, model in models.items():
        found += _refusals(name, lambda model=model, name=name: model.from_yaml(str(Path(folder, name))))
    return found + _refusals(OLD_ENV, lambda: _old_environment(load(folder, OLD_ENV)))


def compute_problem(content: Any) -> str | None:
    """Why Anyscale would refuse this as a compute config, if so."""
    from anyscale.compute_config.models import ComputeConfig

    try:
        ComputeConfig.from_dict(content)
    except Exception as error:  # the models raise whatever they like
        return one_line(error, 1000)
    return None


def _refusals(name: str, build: Callable[[], Any]) -> Problems:
    try:
        build()
    except Exception as error:  # the models raise whatever they like
        return [f"{name}: {one_line(error, 1000)}"]
    return []


def _old_environment(content: dict[str, Any]) -> None:
    from anyscale.sdk.anyscale_client.models.create_cluster_environment_configuration_schema import (
        CreateClusterEnvironmentConfigurationSchema,
    )
    from anyscale.sdk.anyscale_client.models.python_modules import PythonModules

    python = PythonModules(**content.get("python", {}))
    CreateClusterEnvironmentConfigurationSchema(**{**content, "python": python})
