import base64
import json
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.models.vlm import Answer, Reply, chat_messages, judge, openai_messages
from pipeline.tasks import Task, task

GOOD = {"category": "sports", "is_safe": True, "description": "A man rides a bike.", "visual_quality": "high"}
CURATE = task("curate")


class Word(BaseModel):
    word: str


class Number(BaseModel):
    number: int
    share: float = 0.0


def test_a_good_answer() -> None:
    assert judge(CURATE, Reply(json.dumps(GOOD), None, 100, 20)) == Answer(GOOD, None, None, 100, 20)


def test_an_unsafe_answer_is_a_rejection_with_its_fields() -> None:
    answer = judge(CURATE, Reply(json.dumps({**GOOD, "is_safe": False}), None, None, None))
    assert (answer.reject, answer.error) == ("unsafe", None)
    assert answer.fields["description"] == GOOD["description"]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "   ",
        "null",
        "[]",
        "true",
        '"sports"',
        json.dumps(GOOD)[:-1],
        json.dumps(GOOD)[:30],
        "Sure! " + json.dumps(GOOD),
        json.dumps(GOOD) + " I hope this helps.",
        "```json\n" + json.dumps(GOOD) + "\n```",
        json.dumps([GOOD]),
        json.dumps({**GOOD, "is_safe": "false"}),
        json.dumps({**GOOD, "is_safe": 1}),
        json.dumps({**GOOD, "is_safe": None}),
        json.dumps({key: GOOD[key] for key in GOOD if key != "is_safe"}),
        json.dumps({**GOOD, "category": "unknown"}),
        json.dumps({**GOOD, "description": 3}),
        json.dumps(GOOD).replace("A man", "A \x00 man"),
        json.dumps(GOOD).replace("A man", "\\ud800"),
    ],
)
def test_anything_else_is_an_error_never_a_guess(text: str | None) -> None:
    answer = judge(CURATE, Reply(text, None, 5, 6))
    assert answer.error
    assert (answer.fields, answer.reject) == ({}, None)
    assert (answer.input_tokens, answer.output_tokens) == (5, 6)
    assert len(answer.error) <= 500


def word_task(reject: Any) -> Task:
    return Task(name="word", prompt="?", response=Word, reject=reject)


def test_a_task_whose_judgement_raises_is_an_error() -> None:
    def explode(answer: Word) -> str | None:
        raise KeyError("a" * 1000)

    answer = judge(word_task(explode), Reply('{"word": "x"}', None, 1, 2))
    assert (answer.error or "").startswith("KeyError: ")
    assert len(answer.error or "") <= 500
    assert answer.fields == {}


@pytest.mark.parametrize("verdict", [True, False, 0, "", ["x"]])
def test_a_judgement_that_is_no_reason_is_an_error(verdict: object) -> None:
    """True would break the column `reason`; False and '' would keep a clip that somebody meant to judge."""
    answer = judge(word_task(lambda answer: verdict), Reply('{"word": "x"}', None, None, None))
    assert "reject" in (answer.error or "")
    assert answer.reject is None


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
def test_a_number_that_no_column_holds_is_an_error(number: int) -> None:
    """It validates, and would end the run where the table is made."""
    mine = Task(name="n", prompt="?", response=Number)
    assert judge(mine, Reply(json.dumps({"number": number}), None, None, None)).error
    assert judge(mine, Reply(json.dumps({"number": 2**63 - 1}), None, None, None)).error is None


def test_requests_have_a_place_for_each_frame_then_the_question() -> None:
    (message,) = chat_messages(CURATE, 3)
    assert [part["type"] for part in message["content"]] == ["image", "image", "image", "text"]
    assert message["content"][-1]["text"] == CURATE.prompt


def test_requests_over_http_carry_the_frames_in_order() -> None:
    frames = [b"\xff\xd8one", b"\xff\xd8two"]
    (message,) = openai_messages(CURATE, frames)
    urls = [part["image_url"]["url"] for part in message["content"][:-1]]
    assert [base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls] == frames
    assert message["content"][-1] == {"type": "text", "text": CURATE.prompt}
