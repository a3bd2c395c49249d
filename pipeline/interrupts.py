"""Ctrl-C and SIGTERM that cannot get lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_AFTER_S = 2.0


@contextmanager
def insisted(again_after_s: float = AGAIN_AFTER_S) -> Iterator[None]:
    """Within, an interrupt raises KeyboardInterrupt(signal number) again and again until it gets out of the block.

    Python raises it wherever the main thread happens to be. In a callback of Ray's that is a place where exceptions are
    printed and forgotten, and the run would go on as if nobody had asked.
    """
    left, main_thread = threading.Event(), threading.get_ident()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def repeat(number: int) -> None:
        if not left.wait(again_after_s):
            signal.pthread_kill(main_thread, number)  # a real signal, which also wakes a main thread that waits

    def interrupt(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=repeat, args=(number,), daemon=True).start()
        raise KeyboardInterrupt(number)

    try:
        for number in SIGNALS:
            signal.signal(number, interrupt)
        yield
    finally:
        left.set()
        for number, handler in before.items():
            signal.signal(number, handler)
