"""An OpenAI-compatible endpoint on loopback whose answers depend on the pictures alone, with a mind of its own."""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[str, int], tuple[int, str | None]]


def describe(images: list[str]) -> str:
    """A description that only these pictures have; images as data URLs."""
    return "seen " + hashlib.sha256("".join(images).encode()).hexdigest()[:20]


def answer_well(clip_id: str, attempt: int) -> tuple[int, str | None]:
    """Status 200 and the truth."""
    return 200, None


@dataclass
class Endpoint:
    """behaviour: (clip id, attempt from 1) -> status, and the text to answer instead of the truth."""

    behaviour: Behaviour = answer_well
    delay_s: float = 0.05
    attempts: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, str]] = field(default_factory=list)

    def __enter__(self) -> "Endpoint":
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.handle(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        clip_id = request.headers["X-Client-Request-Id"]
        self.attempts[clip_id] += 1
        self.log.append((time.time(), clip_id))
        time.sleep(random.uniform(0, 2 * self.delay_s))
        status, text = self.behaviour(clip_id, self.attempts[clip_id])
        content = body["messages"][0]["content"]
        images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        truth = {
            "category": "nature",
            "is_safe": True,
            "description": describe(images),
            "visual_quality": "high",
        }
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": json.dumps(truth) if text is None else text},
                }
            ],
            "usage": {"prompt_tokens": 100 + len(images), "completion_tokens": 7, "total_tokens": 107 + len(images)},
        }
        payload = json.dumps(reply if status == 200 else {"error": {"message": "not now"}}).encode()
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(payload)))
            request.end_headers()
            request.wfile.write(payload)
        except OSError:
            pass  # the asker was killed
