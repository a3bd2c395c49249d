import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline.models.openai_client import OpenAIAnnotator, RateLimit, Request
from pipeline.models.vlm import Reply
from pipeline.settings import AnnotateSettings, OpenAISettings
from pipeline.stages.engine import replies, reply_table
from pipeline.tasks import task

GOOD = {"category": "sports", "is_safe": True, "description": "x", "visual_quality": "high"}


def _completion(content: Any, **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}], **more})


BODIES = {
    "broken": "{broken",
    "object": json.dumps({"choices": {"a": 1}}),
    "hole": json.dumps({"choices": [None]}),
    "array": "[1]",
    "nothing": "null",
    "parts": _completion([{"type": "text", "text": "a"}]),
    "number": _completion(3),
    "half": _completion("half \ud83d"),
    "spelt": _completion("a", usage={"prompt_tokens": "7", "completion_tokens": 1e300}),
}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_calls_go_through_at_even_distances() -> None:
    clock = Clock()
    limit = RateLimit(120, clock, clock.sleep)
    times = []
    for _ in range(5):
        limit.wait()
        times.append(clock.now)
    assert times == pytest.approx([100, 100.5, 101, 101.5, 102])


def test_time_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    limit = RateLimit(60, clock, clock.sleep)
    limit.wait()
    clock.now += 50
    limit.wait()
    assert clock.now == 150
    limit.wait()
    assert clock.now == pytest.approx(151)


def test_threads_share_one_limit() -> None:
    slept: list[float] = []
    limit = RateLimit(60, lambda: 0.0, slept.append)
    threads = [threading.Thread(target=limit.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([1, 2, 3, 4, 5, 6, 7])


class _Endpoint(BaseHTTPRequestHandler):
    """Answers by the clip's id, which travels in a header."""

    seen: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        clip = self.headers["X-Client-Request-Id"]
        self.seen.append({"clip": clip, **json.loads(self.rfile.read(int(self.headers["Content-Length"])))})
        if clip == "slow":
            time.sleep(0.2)
        if clip == "refused":
            self._send(400, json.dumps({"error": {"message": "no\nsuch model"}}))
        elif clip == "html":
            self._send(200, "<html>not an endpoint</html>", "text/html")
        elif clip in BODIES:
            self._send(200, BODIES[clip])
        elif clip == "empty":
            self._send(200, json.dumps({"choices": []}))
        else:
            content = None if clip == "silent" else json.dumps({**GOOD, "description": clip})
            message = {"role": "assistant", "content": content}
            reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            self._send(
                200, json.dumps({**reply, "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}})
            )

    def _send(self, code: int, text: str, kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # with the usual 5, a crowd of connections is reset on a busy machine


@pytest.fixture
def annotator() -> Iterator[OpenAIAnnotator]:
    server = _Server(("127.0.0.1", 0), _Endpoint)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    _Endpoint.seen = []
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    endpoint = OpenAISettings(base_url=url, requests_per_minute=60_000, max_retries=0, timeout_s=10)
    yield OpenAIAnnotator(task("curate"), AnnotateSettings(openai=endpoint), "key")
    server.shutdown()
    server.server_close()


def test_answers_stay_with_their_clips(annotator: OpenAIAnnotator) -> None:
    names = ["slow", *(f"clip{i}" for i in range(20))]
    answers = annotator([(name, [b"\xff\xd8"]) for name in names])
    assert [answer.fields["description"] for answer in answers] == names
    assert {(answer.input_tokens, answer.output_tokens) for answer in answers} == {(7, 3)}
    request = _Endpoint.seen[0]
    assert request["response_format"]["json_schema"]["schema"] == task("curate").json_schema()
    assert request["temperature"] == 0.0


def test_a_request_that_fails_is_an_error_beside_good_ones(annotator: OpenAIAnnotator) -> None:
    names = ["good", "refused", "html", "empty", "silent"]
    good, *bad = annotator([(name, []) for name in names])
    assert good.error is None
    assert all(answer.error and answer.fields == {} for answer in bad)
    assert all("\n" not in (answer.error or "") for answer in bad)


def test_whatever_a_body_holds_is_a_reply_that_a_table_can_hold(annotator: OpenAIAnnotator) -> None:
    requests = [Request(name, [{"role": "user", "content": "?"}]) for name in BODIES]
    table = reply_table((r.key, b"{}", reply) for r, reply in zip(requests, annotator._endpoint(requests), strict=True))
    found = {key: reply for key, _, reply in replies(table)}
    assert found["half"].text == "half ?"
    assert found["spelt"] == Reply("a")
    others = [found[name] for name in BODIES if name not in ("half", "spelt")]
    assert all(reply.text is None and "the endpoint failed" in (reply.error or "") for reply in others), others


def test_an_endpoint_that_is_not_there_is_an_error() -> None:
    endpoint = OpenAISettings(base_url="http://127.0.0.1:9/v1", max_retries=0, timeout_s=2)
    (answer,) = OpenAIAnnotator(task("curate"), AnnotateSettings(openai=endpoint), "key")([("c", [])])
    assert (answer.error or "").startswith("the endpoint failed: ")
