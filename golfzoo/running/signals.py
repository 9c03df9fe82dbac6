"""How a run hears that it should stop."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from golfzoo.engine.errors import Interrupted


class Stop:
    """Hears SIGINT and SIGTERM. While a training listens, the first is a request to end after the step; otherwise, and
    at the second, the run ends where it is."""

    def __init__(self) -> None:
        self.listened_to = False
        self.signal_number = 0
        self.last_heard = float("-inf")

    def heard(self, number: int, frame: object) -> None:
        now = time.monotonic()
        repeated, self.last_heard = now - self.last_heard < 1.0, now
        if repeated:  # whoever signals all processes of a job signals the launcher too, which passes it on
            return
        if self.listened_to and not self.signal_number:
            self.signal_number = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Interrupted(number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Signals reach a process's main thread; elsewhere there is nothing to install."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # One that is ignored, as where a shell started it in the background, stays so.
        heard = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
        previous = {number: signal.signal(number, self.heard) for number in heard}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
