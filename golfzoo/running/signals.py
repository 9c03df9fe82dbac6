"""How a run hears that it should stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from golfzoo.engine.errors import Interrupted


class Stop:
    """Hears SIGINT and SIGTERM. While a training listens, the first is a request to end after the step; otherwise, and
    at the second, the run ends where it is."""

    def __init__(self) -> None:
        self.listened_to = False
        self.signal_number = 0

    def heard(self, number: int, frame: object) -> None:
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
        previous = {number: signal.signal(number, self.heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
