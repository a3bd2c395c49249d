import os
import signal
import time

import pytest

from pipeline.interrupts import insisted

SWALLOWED = 3


def interrupted(number: signal.Signals) -> None:
    """Swallow the first interrupts."""
    with insisted(again_after_s=0.05):
        for i in range(SWALLOWED):
            try:
                if i == 0:
                    os.kill(os.getpid(), number)
                time.sleep(10)
            except KeyboardInterrupt:
                continue
            pytest.fail("it did not come again")
        time.sleep(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_was_swallowed_comes_again(number: signal.Signals):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted(number)
    assert raised.value.args == (number,)
    time.sleep(0.2)  # and no more of them come
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
