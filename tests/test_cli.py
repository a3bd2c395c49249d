import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline import cli
from pipeline.errors import UserError
from pipeline.settings import CurateSettings, SummarizeSettings

OUT = ["--output", "out"]


def parse(*arguments: str, **environment: str) -> CurateSettings:
    return cli.parse(CurateSettings, "curate", arguments, environment)


def mistake(*arguments: str, **environment: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*arguments, **environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def config(folder: Path, text: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text)
    return str(path)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = config(tmp_path, "split: {max_clip_s: 11, min_clip_s: 2}\nframes: {per_clip: 3}\noutput: from-file\n")
    settings = parse(
        *("--config", file, "--split.max-clip-s", "13"),
        CUTROOM_SPLIT_MAX_CLIP_S="12",
        CUTROOM_SPLIT_MIN_CLIP_S="1.5",
        OTHER_VARIABLE="ignored",
    )
    assert settings.split.max_clip_s == 13
    assert settings.split.min_clip_s == 1.5
    assert settings.frames.per_clip == 3
    assert settings.frames.max_side_px == CurateSettings(output="x").frames.max_side_px
    assert settings.output == "from-file"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split.max-clip", "3"], "unknown option --split.max-clip: did you mean --split.max-clip-s?"),
        (["--split.max-clip=3"], "unknown option --split.max-clip=3: did you mean --split.max-clip-s?"),
        (["--zzz"], "unknown option --zzz: see --help"),
        (["stray"], "unknown option stray"),
        (["--limit", "many"], "--limit: "),
        (["--limit", "0"], "--limit: "),
        (["--split.max-clip-s", "-1"], "--split.max-clip-s: "),
        (["--split.max-clip-s", "nan"], "--split.max-clip-s: "),
        (["--annotate.annotator", "gpt"], "--annotate.annotator: "),
        (["--annotate.vllm.engine-kwargs", "{a: "], "--annotate.vllm.engine-kwargs: not valid YAML"),
        (["--annotate.vllm.engine-kwargs", "7"], "--annotate.vllm.engine-kwargs: "),
        (["--limit"], "--limit"),
    ],
)
def test_a_wrong_flag_is_named(arguments: list[str], said: str) -> None:
    assert said in mistake(*OUT, *arguments)


def test_output_is_required() -> None:
    assert mistake() == "--output is required: see --help"


def test_a_misspelt_environment_variable_is_named_with_the_right_one() -> None:
    said = mistake(*OUT, CUTROOM_SPLIT_MAX_CLIP="3")
    assert said == "unknown environment variable CUTROOM_SPLIT_MAX_CLIP: did you mean CUTROOM_SPLIT_MAX_CLIP_S?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("split: {max_clip: 3}", "unknown key split.max_clip: did you mean split.max_clip_s?"),
        ("spilt: {}", "unknown key spilt: did you mean split?"),
        ("1: 2", "unknown key 1"),
        ("split: 3", "split is a group of settings, not 3"),
        ("split:", "split is a group of settings, not None"),
        ("a: [", "not valid YAML"),
        ("- a\n- b", "not a mapping of settings"),
        ("limit: [1]", "--limit: "),
        ("input: 3", "--input: "),
        ("split: {max_clip_s: soon}", "--split.max-clip-s: "),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = config(tmp_path, text)
    answer = mistake(*OUT, "--config", file)
    assert said in answer
    assert file in answer or answer.startswith("--")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9f")
    assert str(path) in mistake(*OUT, "--config", str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "no such file" in mistake(*OUT, "--config", str(tmp_path / "none.yaml"))
    assert str(tmp_path) in mistake(*OUT, "--config", str(tmp_path))


def test_an_empty_file_is_no_mistake(tmp_path: Path) -> None:
    assert parse(*OUT, "--config", config(tmp_path, "# nothing yet\n")).output == "out"


@pytest.mark.parametrize(
    "name", ["a,b.mp4", "[x].mp4", "a#b.mp4", "#a.mp4", "two words.mp4", "{a: b}", "a: b", "'q", "é"]
)
def test_an_input_stays_one_path_whatever_its_characters(name: str) -> None:
    assert parse(*OUT, "--input", name).input == [name]
    assert parse(*OUT, "--input", name, f"--input={name}", "--input", "z").input == [name, name, "z"]


def test_lists_in_the_environment_are_yaml_or_one_value() -> None:
    assert parse(*OUT, CUTROOM_INPUT="a,b #1.mp4").input == ["a,b #1.mp4"]
    assert parse(*OUT, CUTROOM_INPUT="[a.mp4, 'b,c.mp4']").input == ["a.mp4", "b,c.mp4"]
    assert "CUTROOM_INPUT: not valid YAML" in mistake(*OUT, CUTROOM_INPUT="[a.mp4")


def test_flags_replace_the_lists_of_a_file(tmp_path: Path) -> None:
    file = config(tmp_path, "input: [a, b]")
    assert parse(*OUT, "--config", file).input == ["a", "b"]
    assert parse(*OUT, "--config", file, "--input", "c").input == ["c"]


def test_switches_dictionaries_and_optionals() -> None:
    settings = parse(
        *(*OUT, "--retry-failed", "--annotate.vllm.engine-kwargs", "{tensor_parallel_size: 2}", "--limit", "4"),
        CUTROOM_DRY_RUN="true",
    )
    assert settings.retry_failed is True
    assert settings.dry_run is True
    assert settings.annotate.vllm.engine_kwargs == {"tensor_parallel_size": 2}
    assert settings.limit == 4
    assert parse(*OUT, "--no-dry-run", CUTROOM_DRY_RUN="true").dry_run is False


def test_help_has_every_knob_with_its_description_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    leaves = dict(cli._leaves(CurateSettings))
    assert len(leaves) > 40
    for path, field in leaves.items():
        flag = "--" + ".".join(path).replace("_", "-")
        assert f"  {flag}" in text
        description = " ".join((field.description or "").split())
        assert description, f"{flag} has no description"
        assert description in words, flag
        default = None if field.is_required() else field.default
        if default is None or default is False or default in ([], {}):
            continue
        shown = ", ".join(default) if isinstance(default, list) else default
        assert f"{description} [{shown}]" in words, flag


def run(
    capsys: pytest.CaptureFixture[str], job: Any, *arguments: str, model: type[BaseModel] = CurateSettings
) -> tuple[int, str, str]:
    sys.modules["a_job"] = ModuleType("a_job")
    sys.modules["a_job"].run = job  # type: ignore[attr-defined]
    code = cli.run({"curate": (model, "a_job")}, arguments)
    del sys.modules["a_job"]
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_an_interrupted_job_says_whether_it_continues(capsys: pytest.CaptureFixture[str]) -> None:
    def job(settings: Any) -> int:
        raise KeyboardInterrupt(15)

    needed = ("curate", "--input=a", "--output=b")
    assert run(capsys, job, *needed)[::2] == (
        143,
        "\ninterrupted: what is settled is kept; the same command again continues from there\n",
    )
    assert run(capsys, job, *needed[:1], *needed[2:], model=SummarizeSettings)[::2] == (143, "\ninterrupted\n")


def test_run_gives_the_settings_to_the_job_and_its_code_back(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[CurateSettings] = []

    def job(settings: CurateSettings) -> int:
        seen.append(settings)
        return 1

    assert run(capsys, job, "curate", *OUT, "--limit", "2") == (1, "", "")
    assert (seen[0].output, seen[0].limit) == ("out", 2)


@pytest.mark.parametrize(
    "arguments",
    [["curate"], ["curate", "--limit", "x", *OUT], ["curat"], ["curate", "--nothing"], ["curate", "--output"]],
)
def test_a_mistake_is_exactly_one_line_on_stderr_and_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, err = run(capsys, lambda settings: 0, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_a_mistake_with_line_breaks_in_it_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def job(settings: CurateSettings) -> int:
        raise UserError("a module failed: first\nsecond\n  third")

    code, _, err = run(capsys, job, "curate", *OUT)
    assert code == 2
    assert err.count("\n") == 1
    assert "first" in err
    assert "third" in err


def test_no_job_lists_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, lambda settings: 0)
    assert (code, err) == (2, "")
    assert "curate" in out
    assert run(capsys, lambda settings: 0, "--help")[0] == 0
