import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.records import lease
from pipeline.records.lease import Lease, LeaseLost, check


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "SILENCE_S", 0.5)


@pytest.fixture(params=["local", "remote"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def plant(root: str, **changes: object) -> None:
    """A lease as another run has left it."""
    state = {"token": "theirs", "host": "another-machine", "pid": 1, "beat": 0, **changes}
    storage.write(storage.join(root, "run", "lease.json"), json.dumps(state).encode())


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def hold(root: str) -> None:
    with Lease(root) as held:
        check(root, held.token)


def test_the_holder_may_write_and_leaves_nothing(root: str) -> None:
    with Lease(root) as held:
        check(root, held.token)
    assert storage.read(storage.join(root, "run", "lease.json")) is None
    with pytest.raises(LeaseLost):
        check(root, held.token)


def test_a_free_folder_is_taken_at_once(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("nothing is to be waited for"))
    hold(root)


def test_a_second_run_is_refused_while_the_first_lives(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENCE_S", 30)  # refused at the first beat
    with Lease(root) as first:
        with pytest.raises(UserError, match="another run is writing there") as caught, Lease(root):
            pass
        assert str(os.getpid()) in str(caught.value)
        check(root, first.token)
    hold(root)


def test_a_dead_process_of_this_machine_is_replaced_at_once(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("a dead process is not waited for"))
    plant(root, host=socket.gethostname(), pid=dead.pid)
    hold(root)


@pytest.mark.parametrize("pid", [os.getpid(), 1], ids=["own", "1"])
def test_a_silent_process_that_still_exists_is_waited_for(root: str, pid: int) -> None:
    """The number may have gone to another process since."""
    plant(root, host=socket.gethostname(), pid=pid)
    assert seconds(lambda: hold(root)) >= 0.45


def test_a_silent_run_of_another_machine_is_waited_for(root: str) -> None:
    plant(root)
    assert seconds(lambda: hold(root)) >= 0.45


def test_a_run_that_ends_while_one_waits_is_replaced(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENCE_S", 30)
    plant(root)
    waits = iter([lambda: None, lambda: storage.remove(storage.join(root, "run", "lease.json"))])
    monkeypatch.setattr(lease.time, "sleep", lambda s: next(waits)())
    hold(root)


def test_whoever_was_replaced_cannot_write_and_stays_quiet(root: str) -> None:
    with Lease(root) as first:
        plant(root)
        with pytest.raises(LeaseLost, match="taken over by another run"):
            check(root, first.token)
        time.sleep(0.25)  # two beats
        assert json.loads(storage.read(storage.join(root, "run", "lease.json")) or b"{}")["token"] == "theirs"
    assert storage.read(storage.join(root, "run", "lease.json")) is not None  # theirs is not removed


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"3", b'"x"'])
def test_a_damaged_lease_is_no_lease(root: str, data: bytes) -> None:
    storage.write(storage.join(root, "run", "lease.json"), data)
    with pytest.raises(LeaseLost):
        check(root, "mine")
    hold(root)


def test_a_run_that_fails_lets_go(root: str) -> None:
    with pytest.raises(ZeroDivisionError), Lease(root):
        raise ZeroDivisionError
    assert storage.read(storage.join(root, "run", "lease.json")) is None
