"""What `summarize` refuses before it does anything."""

from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import UserError
from pipeline.settings import SummarizeSettings
from pipeline.summarize import check_output, choose_model


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("folder", "--output folder: folder is a folder: name a file"),
        ("errors.jsonl", "--output errors.jsonl: errors.errors.jsonl is a folder: name a file"),
        ("new/", "--output new/: is no file: name one, such as new/results.jsonl"),
        (".", "is a folder"),
        ("s3://bucket", "--output s3://bucket: is no file: name one, such as s3://bucket/results.jsonl"),
        ("s3://bucket/", "is no file"),
        ("s3://bucket/out/", "--output s3://bucket/out/: is no file: name one, such as s3://bucket/out/results.jsonl"),
        ("file/r.jsonl", "cannot be written"),
    ],
)
def test_what_cannot_become_a_file(output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("errors.errors.jsonl").mkdir()
    Path("file").touch()
    with pytest.raises(UserError) as caught:
        check_output(output)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_can(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").touch()
    for name in ("old.jsonl", "new/results.jsonl", "no_ending"):
        check_output(str(tmp_path / name))
    check_output("memory://results.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["old.jsonl"]


def parse(*arguments: str) -> SummarizeSettings:
    return cli.parse(SummarizeSettings, "summarize", ["--output", "r.jsonl", *arguments], {})


MODELS = """
class More:
    def __init__(self, device, weights): ...

class Less:
    pass

class Right:
    def __init__(self, device, weights=None): ...

def made(device): ...

of_c = bytes
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("More", "is not made with a device alone: missing a required argument: 'weights'"),
        ("Less", "is not made with a device alone: too many positional arguments"),
        ("Missing", "the file has no class Missing"),
        *((name, None) for name in ("Right", "made", "of_c")),
    ],
)
def test_a_users_model_is_made_with_a_device(name: str, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    model = f"{tmp_path}/models.py:{name}"
    if said is None:
        assert callable(choose_model(parse("--model", model)))
        return
    with pytest.raises(UserError) as caught:
        choose_model(parse("--model", model))
    assert str(caught.value) == f"--model {model}: {said}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clip-s", "inf"], "--clip-s: "),
        (["--clip-s", "nan"], "--clip-s: "),
        (["--clip-s", "1e-9"], "--clip-s: "),
        (["--frame-every-sec", "inf"], "--frame-every-sec: "),
        (["--frame-every-sec", "0"], "--frame-every-sec: "),
        (
            ["--clip-s", "36000"],
            "--frame-every-sec: 18000 frames in each clip of 36000 s are more than 600: shorter clips (--clip-s), "
            "or a frame every 60 s",
        ),
        (["--frame-every-sec", "0.01"], "--frame-every-sec: 3000 frames in each clip of 30 s"),
    ],
)
def test_what_no_memory_holds(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert str(caught.value).startswith(said)


def test_long_clips_and_many_frames() -> None:
    assert parse("--clip-s", "36000", "--frame-every-sec", "60").clip_s == 36_000
    assert parse("--frame-every-sec", "0.05").frame_every_sec == 0.05
