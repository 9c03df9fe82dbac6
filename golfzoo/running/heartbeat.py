"""Machines of one run tell each other that they are there.

A process that dies closes its connections, and the others hear of that at once. A machine that loses its power or its
network closes none, and who waits for it would wait for half an hour.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from golfzoo.engine.errors import RunError

_SECONDS_TO_CONNECT = 10
_BEATS = 10  # in the time after which a silent machine counts as lost


class Heartbeat:
    """Beats in the store at `host`:`port`, which one of the machines serves, and listens to the others there.

    For the process that launches others and computes nothing itself: no step of a run can keep it from beating.
    """

    def __init__(self, host: str, port: int, here: str, lost_after: int, sign: Path) -> None:
        self.host, self.port, self.here = host, port, here
        self.lost_after, self.sign = lost_after, sign
        self.lost = ""
        self.ended = threading.Event()
        self.heard: dict[str, float] = {}  # address -> when

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Raises RunError when a machine has not been heard from for `lost_after` seconds. The file `sign` is made
        then, which ends this machine's processes, and connections to the store are closed, which ends torch's
        launcher."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._talk, self._listen)]
        for thread in threads:
            thread.start()
        try:
            yield
        except Exception:
            if not self.lost:
                raise
            silence = f"nothing was heard from the machine at {self.lost} for {self.lost_after} s"
            raise RunError(f"{silence}: it is off, or cut off; --resume goes on from the last checkpoint") from None
        finally:
            self.ended.set()
            for thread in threads:  # Python must not end while one of them is in torch's C++
                thread.join(_SECONDS_TO_CONNECT)

    def _talk(self) -> None:
        from torch.distributed import DistError, TCPStore

        while not self._is_served():
            if self.ended.wait(0.2):
                return
        try:
            timeout = timedelta(seconds=_SECONDS_TO_CONNECT)
            store = TCPStore(self.host, self.port, is_master=False, wait_for_workers=False, timeout=timeout)
            own = store.add("golfzoo/machines", 1)
            store.set(f"golfzoo/machine/{own}", self.here)
            counts: dict[int, int] = {}
            while not self.ended.wait(self.lost_after / _BEATS):
                store.add(f"golfzoo/beats/{own}", 1)
                for machine in range(1, store.add("golfzoo/machines", 0) + 1):
                    count = store.add(f"golfzoo/beats/{machine}", 0)
                    if count != counts.get(machine, 0):
                        counts[machine] = count
                        self.heard[store.get(f"golfzoo/machine/{machine}").decode()] = time.monotonic()
                self.heard[self.host] = time.monotonic()  # its store has answered
        except DistError:  # the store is gone, and with it the process that served it: torch notices that itself
            self.ended.set()

    def _is_served(self) -> bool:
        """Whether the store is there: torch would wait for it out of Python's reach."""
        try:
            socket.create_connection((self.host, self.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _listen(self) -> None:
        while not self.ended.wait(self.lost_after / _BEATS):
            silent = [address for address, at in list(self.heard.items()) if time.monotonic() - at > self.lost_after]
            if silent:  # every machine, where it is the one that serves the store
                self.lost = self.host if self.host in silent else silent[0]
                self.sign.touch()
                self._hang_up()
                return

    def _hang_up(self) -> None:
        """Torch waits for a store's answer in C++, for ever, and no signal reaches it there."""
        for descriptor in os.listdir("/dev/fd"):
            try:  # as IPv6, whose addresses have room for the others
                with socket.fromfd(int(descriptor), socket.AF_INET6, socket.SOCK_STREAM) as connection:
                    address, port = connection.getpeername()[:2]
                    if (address.removeprefix("::ffff:"), port) == (self.host, self.port):
                        connection.shutdown(socket.SHUT_RDWR)
            except (OSError, ValueError):  # no connection to another machine
                continue
