"""One run at a time writes to an output folder, and one that was cut off cannot write to it any more."""

import json
import os
import socket
import threading
import time
import uuid
from typing import Any

from pipeline import storage
from pipeline.errors import UserError

BEAT_S = 5.0  # how often the holder shows that it lives
SILENCE_S = 15.0  # a holder that does not show itself for so long is dead


class LeaseLost(Exception):
    """Another run has taken the output folder over; this one must not write any more."""


def _location(root: str) -> str:
    return storage.join(root, "run", "lease.json")


def _holder(root: str) -> dict[str, Any] | None:
    data = storage.read(_location(root))
    try:
        holder = json.loads(data) if data else None
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def check(root: str, token: str) -> None:
    """Raise LeaseLost unless the run with this token still holds the folder. Asked before each write."""
    holder = _holder(root)
    if holder is None or holder.get("token") != token:
        raise LeaseLost(f"{root} was taken over by another run")


def await_silence(root: str) -> None:
    """Return when no run holds the folder. Raises UserError when one shows, within SILENCE_S, that it lives."""
    holder = _holder(root)
    deadline = time.monotonic() + SILENCE_S
    while holder and not _is_dead(holder) and time.monotonic() < deadline:
        time.sleep(BEAT_S / 5)
        seen = _holder(root)
        if seen and seen != holder:
            raise UserError(
                f"{root}: another run is writing there (process {seen.get('pid')} on {seen.get('host')}): wait for it, "
                "or choose another --output"
            )
        holder = seen


class Lease:
    """Holds an output folder while the run lives; a context manager.

    A dead run's lease is taken over: at once when its process was on this machine and is gone, else after SILENCE_S
    without a sign of life (watched, not compared with this machine's clock). Raises UserError while the holder lives,
    and for a folder that cannot be written.
    """

    def __init__(self, root: str):
        self._root = root
        self.token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._beats = 0
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        storage.check_writable(self._root)
        await_silence(self._root)
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        holder = _holder(self._root)
        if holder and holder.get("token") == self.token:
            storage.remove(_location(self._root))

    def _write(self) -> None:
        state = {"token": self.token, "host": socket.gethostname(), "pid": os.getpid(), "beat": self._beats}
        storage.write(_location(self._root), json.dumps(state).encode())

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._beats += 1
            try:
                check(self._root, self.token)
                self._write()
            except LeaseLost:
                return
            except Exception:  # storage is away for a moment, with an error of its own: the next beat may pass
                continue


def _is_dead(holder: dict[str, Any]) -> bool:
    if holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False
