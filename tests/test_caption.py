import json
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.caption import choose, unsettled
from pipeline.errors import UserError
from pipeline.records.lease import Lease
from pipeline.records.shards import Files, Shard, merge
from pipeline.settings import CaptionSettings, DataSettings
from pipeline.sources.samples import read_samples

NEEDED = ["--input", "s.jsonl", "--output", "out"]


def chosen(*options: str) -> tuple:
    return choose(cli.parse(CaptionSettings, "caption", [*NEEDED, *options], {}))


def test_the_ready_made_config_runs_as_it_is() -> None:
    task, dataset = chosen("--config", "configs/describe.yaml")
    assert (task.name, dataset.name) == ("describe", "qwen_video")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "labels"], "the task 'labels' asks nothing"),
        (["--task", "descibe"], "no task 'descibe': there are .*describe"),
        (["--task", "describe", "--data.dataset", "audio"], "no dataset 'audio'"),
        (["--task", "describe", "--module", "none.py"], "--module: no file none.py"),
        (
            ["--task", "describe", "--video.total-pixels", "4000000"],
            "are 5102 tokens; .* are more than .*max_model_len",
        ),
    ],
)
def test_what_caption_cannot_do_is_told_at_once(options: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(*options)


def test_a_rerun_does_what_is_new_and_on_demand_what_failed(tmp_path: Path) -> None:
    path, output, data = tmp_path / "s.jsonl", str(tmp_path / "out"), DataSettings(id_key="id")
    settings = CaptionSettings(input=str(path), output=output, task="describe", data=data)
    files = Files(output, "describe")

    def waiting(*names: str, **more: object) -> list[str | None]:
        path.write_text("\n".join(json.dumps({"id": name}) for name in names) + "\n{broken")
        return [line.key for line in unsettled(settings.model_copy(update=more), files)]

    assert waiting("a", "b", "c") == ["a", "b", "c"]
    assert waiting("a", "b", "c", limit=2) == ["a", "b"]
    with Lease(output) as lease:
        Shard(files, lease.token, 0).write([{"id": "a", "__key": "a", "output": 1}, {"__key": "b", "__error": "why"}])
    assert waiting("new", "a", "b", "c") == ["new", "c"]
    merge(files, read_samples(str(path), data))
    assert waiting("new", "a", "b", "c") == ["new", "c"], "the merged file and the errors tell it, too"
    assert waiting("a", "b", "c", retry_failed=True) == ["b", "c"]
