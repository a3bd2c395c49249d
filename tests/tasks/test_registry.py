import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from pipeline.errors import UserError
from pipeline.tasks import Task, load_module, register_task, registry, task, tasks

GOOD = {"category": "sports", "is_safe": True, "description": "A man rides a bike.", "visual_quality": "high"}


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """Tasks that a test registers are gone after it."""
    tasks()
    before = dict(registry._TASKS)
    yield
    registry._TASKS.clear()
    registry._TASKS.update(before)


class Inner(BaseModel):
    word: str


class Answer(BaseModel):
    text: str = Field(min_length=2, max_length=10)
    free: str
    tags: list[Annotated[str, Field(max_length=5)]] = Field(max_length=3)
    kind: Literal["a", "b"]
    one: Literal["only"]
    code: Annotated[str, Field(pattern="^[0-9]+$")]
    type: str = "x"


def user_module(folder: Path, text: str) -> str:
    path = folder / f"tasks_{uuid.uuid4().hex[:8]}.py"
    path.write_text(text)
    return str(path)


def test_the_tasks_that_are_there() -> None:
    assert set(tasks()) >= {"curate", "labels"}
    assert task("curate").name == "curate"
    with pytest.raises(UserError, match=r"no task 'curat': there are .*curate.*labels"):
        task("curat")


def test_a_task_is_added_once() -> None:
    mine = Task(name="mine", prompt="?", response=Inner)
    assert register_task(mine) is mine
    assert register_task(mine) is mine
    assert task("mine") is mine
    with pytest.raises(UserError, match="'mine' is registered twice"):
        register_task(Task(name="mine", prompt="!", response=Inner))


def test_a_response_that_has_no_columns_is_refused() -> None:
    class Nested(BaseModel):
        inner: Inner

    class Clash(BaseModel):
        clip_id: str

    for response in (Nested, Clash):
        with pytest.raises(UserError, match="task 'bad'"):
            register_task(Task(name="bad", prompt="?", response=response))
    assert "bad" not in tasks()


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (type("Free", (BaseModel,), {"__annotations__": {"counts": dict[str, int]}}), "keys must be known"),
        ({"type": "object"}, "no pydantic model"),
        (Inner(word="x"), "no pydantic model"),
    ],
)
def test_a_class_with_a_response_that_no_schema_can_hold_is_refused(response: Any, said: str) -> None:
    parts = {"dataset_name": "text", "build_messages": None, "parse": None, "response": response}
    with pytest.raises(UserError, match=f"task 'mine'.*{said}"):
        register_task("mine")(type("Mine", (), parts))
    assert "mine" not in tasks()


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from objects(value)


def test_the_json_schema_admits_nothing_extra() -> None:
    for each in (task("curate"), Task(name="x", prompt="", response=Answer)):
        schema = each.json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        assert list(objects(schema))
        assert all(node["additionalProperties"] is False for node in objects(schema))
    validator = jsonschema.Draft202012Validator(task("curate").json_schema())
    assert validator.is_valid(GOOD)
    assert not validator.is_valid({**GOOD, "more": 1})
    assert not validator.is_valid({**GOOD, "category": "poetry"})
    assert not validator.is_valid({**GOOD, "is_safe": "yes"})


def test_the_json_schema_is_made_anew_each_time() -> None:
    each = Task(name="x", prompt="", response=Answer)
    assert each.json_schema() == each.json_schema()
    assert "pattern" not in json.dumps(each.response.model_json_schema()["properties"]["free"])


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("ab", True),
        ("a" * 10, True),
        ("ab\u00e9\u6f22\U0001f600", True),
        ("a", False),
        ("a" * 11, False),
        ('a"b', False),
        ("a\\b", False),
        ("a\nb", False),
        ("a\tb", False),
        ("a\x00b", False),
        ("a\ud800b", False),
    ],
)
def test_free_strings_hold_what_any_json_parser_takes(text: str, valid: bool) -> None:
    properties = Task(name="x", prompt="", response=Answer).json_schema()["properties"]
    assert bool(re.search(properties["text"]["pattern"], text)) is valid
    assert bool(re.search(properties["free"]["pattern"], text)) is (valid or len(text) in (1, 11))


def test_strings_that_are_bound_otherwise_keep_their_bounds() -> None:
    properties = Task(name="x", prompt="", response=Answer).json_schema()["properties"]
    assert properties["code"]["pattern"] == "^[0-9]+$"
    assert "pattern" not in properties["kind"]
    assert "pattern" not in properties["one"]
    assert properties["tags"]["maxItems"] == 3
    assert properties["tags"]["items"]["pattern"].endswith("{0,5}$")
    assert properties["type"]["type"] == "string"


def test_the_fingerprint_follows_the_question_and_the_answer() -> None:
    class Other(BaseModel):
        word: str = Field(max_length=9)

    one = Task(name="x", prompt="?", response=Inner)
    assert one.fingerprint() == Task(name="y", prompt="?", response=Inner).fingerprint()
    assert one.fingerprint() != Task(name="x", prompt="??", response=Inner).fingerprint()
    assert one.fingerprint() != Task(name="x", prompt="?", response=Other).fingerprint()


def test_a_users_file_adds_a_task(tmp_path: Path) -> None:
    name = f"colours_{uuid.uuid4().hex[:6]}"
    load_module(
        user_module(
            tmp_path,
            "from pydantic import BaseModel\n"
            "from pipeline.tasks import Task, register_task\n"
            "class Colours(BaseModel):\n    colour: str\n"
            f"register_task(Task(name={name!r}, prompt='Which colour?', response=Colours,\n"
            "    reject=lambda answer: 'red' if answer.colour == 'red' else None))\n",
        )
    )
    mine = task(name)
    assert mine.reject(mine.parse('{"colour": "red"}')) == "red"
    assert mine.reject(mine.parse('{"colour": "blue"}')) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (", "SyntaxError"),
        ("import no_such_package_at_all", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("from pipeline.errors import UserError\nraise UserError('as it is')", "as it is"),
    ],
)
def test_a_broken_file_is_the_callers_mistake(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_module(user_module(tmp_path, text))


def test_files_that_are_not_there_or_no_python(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").touch()
    for path, said in (("none.py", "no file"), ("", "no file"), ("tasks.txt", "not a Python file")):
        with pytest.raises(UserError, match=said):
            load_module(str(tmp_path / path))


def test_curate_rejects_what_is_not_safe() -> None:
    curate = task("curate")
    assert curate.reject(curate.parse(json.dumps(GOOD))) is None
    assert curate.reject(curate.parse(json.dumps({**GOOD, "is_safe": False}))) == "unsafe"


@pytest.mark.parametrize(
    "change",
    [
        {"is_safe": "true"},
        {"is_safe": 1},
        {"is_safe": None},
        {"category": "Sports"},
        {"description": ""},
        {"description": "x" * 301},
        {"visual_quality": 3},
    ],
)
def test_curate_takes_no_answer_of_the_wrong_type(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"the answer is not valid: {next(iter(change))}"):
        task("curate").parse(json.dumps({**GOOD, **change}))


def test_a_class_or_a_name_and_a_class_is_a_task() -> None:
    @register_task
    class Mine:
        name = "mine"
        dataset_name = "text"

        def build_messages(self, sample: dict) -> list[dict]:
            return [{"role": "user", "content": "?"}]

        def parse(self, text: str, sample: dict) -> str:
            return text

    again = register_task("other")(type("Other", (Mine,), {}))
    assert (task("mine").name, task("other").name) == ("mine", "other")
    assert isinstance(task("other"), again)
    with pytest.raises(UserError, match="'curate' is registered twice"):
        register_task("curate")(type("Third", (Mine,), {}))
    with pytest.raises(UserError, match="task 'bare' has no dataset_name"):
        register_task("bare")(type("Bare", (), {}))
    with pytest.raises(UserError, match="a name is letters"):
        register_task("../out")(type("Path", (Mine,), {}))


def test_tasks_of_curate_are_tasks_over_samples() -> None:
    (message,) = task("curate").build_messages({"path": "a.mp4"})
    assert message["content"][0] == {"type": "video", "video": "a.mp4"}
    (message,) = task("curate").build_messages({"path": "a.JPG"})
    assert message["content"][0] == {"type": "image", "image": "a.JPG"}
    (message,) = task("describe").build_messages({"prompt": "Why?"})
    assert message["content"] == [{"type": "text", "text": "Why?"}]
    assert task("curate").parse(json.dumps(GOOD), {"path": "a.mp4"}).category == "sports"
