import pytest

from pipeline import cli
from pipeline.caption import choose
from pipeline.errors import UserError
from pipeline.settings import CaptionSettings

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
