"""Label selectors, as a real Ray cluster of three nodes (role cpu, role gpu, without a role) was seen to take them."""

from pathlib import Path

import pytest
import yaml

from pipeline import cli, labels
from pipeline.errors import UserError
from pipeline.settings import CurateSettings

NODES = [{"role": "cpu"}, {"role": "gpu"}, {}]


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ("cpu", [True, False, False]),
        ("!cpu", [False, True, True]),
        ("in(cpu,gpu)", [True, True, False]),
        ("!in(cpu,gpu)", [False, False, True]),
    ],
)
def test_conditions(condition: str, taken: list[bool]):
    assert [labels.matches(node, {"role": condition}) for node in NODES] == taken


def test_all_conditions_must_hold():
    assert labels.matches({"role": "cpu", "zone": "a"}, {"role": "cpu", "zone": "!b"})
    assert not labels.matches({"role": "cpu", "zone": "b"}, {"role": "cpu", "zone": "!b"})
    assert labels.matches({}, {})


@pytest.mark.parametrize(
    ("key", "right"), [("ray.io/market-type", True), ("a_b", True), ("my role", False), ("a/", False)]
)
def test_keys_that_ray_refuses(key: str, right: bool):
    if right:
        assert labels.checked({key: "a"}) == {key: "a"}
    else:
        with pytest.raises(ValueError, match=f"'{key}' is no label"):
            labels.checked({key: "a"})


@pytest.mark.parametrize("wrong", ["", "in()", "! cpu", "in(cpu", "in(cpu, gpu)", "-cpu"])
def test_what_ray_refuses_or_takes_for_something_else(wrong: str, tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"resources": {"cpu_label_selector": {"role": wrong}}}))
    with pytest.raises(UserError, match=r"^--resources.cpu-label-selector: role: '.*' is none of a, .* no spaces$"):
        cli.parse(CurateSettings, "curate", ["--config", str(config), "--output", "out"], {})
