"""A vision-language model behind any OpenAI-compatible endpoint, with retries and a rate limit."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from openai import APIConnectionError, OpenAI, OpenAIError

from pipeline.errors import one_line
from pipeline.models.vlm import Answer, Reply, count, judge, openai_messages
from pipeline.settings import ModelSettings
from pipeline.tasks import Task


class RateLimit:
    """Lets calls through at even distances: at most per_minute in any minute, from any number of threads."""

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._gap_s = 60.0 / per_minute
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may start."""
        with self._lock:
            now = self._clock()
            at = max(now, self._next)
            self._next = at + self._gap_s
        if at > now:
            self._sleep(at - now)


@dataclass(frozen=True)
class Request:
    """What is asked, in OpenAI's form. key: travels as X-Client-Request-Id, so that the endpoint's log can be joined
    with the tables."""

    key: str
    messages: list[dict[str, Any]]


class Endpoint:
    """Requests -> replies, several under way at once; each reply stays with the request it was given to.

    schema: the answer's name and JSON schema, or None for free text.
    """

    def __init__(self, settings: ModelSettings, api_key: str, schema: tuple[str, dict[str, Any]] | None):
        endpoint = settings.openai
        self._settings = settings
        self._client = OpenAI(
            base_url=endpoint.base_url,
            api_key=api_key,
            max_retries=0,  # _complete retries, under the rate limit
            timeout=endpoint.timeout_s,
        )
        self._limit = RateLimit(endpoint.requests_per_minute)
        self._pool = ThreadPoolExecutor(endpoint.max_concurrency)
        self._options: dict[str, Any] = {}
        if schema:
            name, content = schema
            described = {"name": name, "schema": content, "strict": True}
            self._options["response_format"] = {"type": "json_schema", "json_schema": described}
        self.name = f"openai:{endpoint.model}"

    def __call__(self, requests: Iterable[Request]) -> list[Reply]:
        """The replies, in the same order. A request that fails is a reply with an error."""
        return list(self._pool.map(self._ask, requests))

    def _ask(self, request: Request) -> Reply:
        try:
            reply = self._complete(request)
            usage = reply.usage
            text = reply.choices[0].message.content if reply.choices else None
            if not isinstance(text, str | None):
                raise TypeError(f"the answer is no text: {str(text)[:100]}")
            tokens = (count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
            return Reply(text, None, *tokens)
        except Exception as error:  # the client checks nothing: a body may be broken, a page of HTML, of any shape
            kind = "" if isinstance(error, OpenAIError) else f"{type(error).__name__}: "
            return Reply(error=f"the endpoint failed: {kind}{one_line(error, 300)}")

    def _complete(self, request: Request) -> Any:
        """One request, tried again after a timeout, a lost connection, a 408, 409, 429 or 5xx answer. Every try is
        counted by the rate limit: a client that retries by itself turns a 429 into a storm of them."""
        for attempt in range(self._settings.openai.max_retries + 1):
            self._limit.wait()
            try:
                return self._client.chat.completions.create(
                    model=self._settings.openai.model,
                    messages=request.messages,  # type: ignore[arg-type]
                    temperature=self._settings.temperature,
                    max_tokens=self._settings.max_tokens,
                    extra_headers={"X-Client-Request-Id": request.key},
                    **self._options,
                )
            except OpenAIError as error:
                if attempt == self._settings.openai.max_retries or not _is_passing(error):
                    raise
                time.sleep(_pause_s(error, attempt))
        raise AssertionError("unreachable")


class OpenAIAnnotator:
    """Frames of clips -> answers."""

    def __init__(self, task: Task, settings: ModelSettings, api_key: str):
        self._task = task
        self._endpoint = Endpoint(settings, api_key, (task.name, task.json_schema()))
        self.name = self._endpoint.name

    def __call__(self, clips: list[tuple[str, list[bytes]]]) -> list[Answer]:
        """(clip_id, JPEG frames) of each clip -> its answer, in the same order."""
        requests = [Request(clip_id, openai_messages(self._task, frames)) for clip_id, frames in clips]
        return [judge(self._task, reply) for reply in self._endpoint(requests)]


def _is_passing(error: OpenAIError) -> bool:
    status = getattr(error, "status_code", None)
    return isinstance(error, APIConnectionError) or status in (408, 409, 429) or (status or 0) >= 500


def _pause_s(error: OpenAIError, attempt: int) -> float:
    """What the server asks for in Retry-After (seconds), else 0.5 s doubled with each attempt, up to 30 s."""
    response = getattr(error, "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    return min(60.0, float(asked)) if asked.replace(".", "", 1).isdigit() else min(30.0, 0.5 * 2**attempt)
