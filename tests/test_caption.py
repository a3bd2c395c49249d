import json
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.caption import _close, choose, limited, unsettled, what_makes_results
from pipeline.errors import UserError
from pipeline.records.lease import Lease
from pipeline.records.shards import Files, Shard, merge
from pipeline.records.tally import Tally
from pipeline.settings import CaptionSettings, DataSettings
from pipeline.sources.samples import read_samples
from pipeline.tasks import registry

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


@pytest.mark.parametrize("field", ["__key", "__error"])
def test_an_answer_is_not_written_over_what_tells_samples_apart(field: str) -> None:
    with pytest.raises(UserError, match=f"--data.output-key: {field} is the pipeline's own"):
        chosen("--task", "describe", "--data.output-key", field)


MADE = """
from pipeline.tasks import register_dataset, register_task
class Base:
    dataset_name = "text"
    def build_messages(self, sample): return [{"role": "user", "content": "?"}]
    def parse(self, text, sample): return text
register_task("made")(type("Made", (Base,), {}))
@register_dataset("function")
def function(task, chat, video): return lambda key, sample: {}
"""


def test_tasks_and_datasets_of_unusual_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("_TASKS", "_DATASETS"):  # what is registered here is gone afterwards
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    (tmp_path / "made.py").write_text(MADE)
    module = ["--module", "~/made.py"]
    settings = cli.parse(CaptionSettings, "caption", [*NEEDED, *module, "--task", "made"], {})
    task, _ = choose(settings)
    with pytest.raises(UserError, match="'made' is of a class without source"):
        what_makes_results(settings, task)
    task.fingerprint = lambda: "1"
    assert "module_fingerprint" in what_makes_results(settings, task)
    with pytest.raises(UserError, match="openai cannot show what the dataset function makes"):
        chosen(*module, "--task", "made", "--data.dataset", "function", "--annotate.annotator", "openai")


@pytest.mark.parametrize(("settled", "code"), [(5, 0), (3, 1), (10, 0)])
def test_a_limited_run_is_judged_by_its_own_lines(tmp_path: Path, settled: int, code: int) -> None:
    path, output, data = tmp_path / "s.jsonl", str(tmp_path / "out"), DataSettings(id_key="id")
    path.write_text("\n".join([*(json.dumps({"id": str(i)}) for i in range(10)), *["{broken"] * 5]))
    settings = CaptionSettings(input=str(path), output=output, task="describe", data=data, limit=5)
    files = Files(output, "describe")
    with Lease(output) as lease:
        Shard(files, lease.token, 0).write({"__key": str(i), "output": 1} for i in range(settled))
        merged = merge(files, limited(settings), lease.token)
        whole = merge(files, limited(settings.model_copy(update={"limit": None})), lease.token)
    assert (merged.done, merged.waiting, merged.kept) == (min(5, settled), max(0, 5 - settled), max(0, settled - 5))
    assert _close(settings, files, merged, Tally(), 1.0) == code
    assert (whole.done, whole.failed, whole.kept) == (settled, 5, 0)


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
        merge(files, read_samples(str(path), data), lease.token)
    assert waiting("new", "a", "b", "c") == ["new", "c"], "the merged file and the errors tell it, too"
    assert waiting("a", "b", "c", retry_failed=True) == ["b", "c"]
