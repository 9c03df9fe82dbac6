"""Torch cannot tell a machine that has fallen silent from one whose processes are busy. Its launchers, never busy, can.

A process that dies closes its connections, and the others hear of that at once. A machine that loses its power or its
network closes none. What torch 2.13 did on two machines whose cable was pulled, with timeouts of 3 s:

gloo's timeout          ends both after 3.1 s; but also where the other process computes for 6 s, and ours may for hours
monitored_barrier       the same
rendezvous keep-alive   every second, 3 attempts: both launchers were there after 45 s, for they ask only who is new
TCPStore's timeout      get, wait, add and compare_set were not back after 30 s: giving up awaits an answer as well
TCP's keep-alive        neither gloo nor TCPStore has it on, or an option for it

So the launchers are a gloo group of their own, in which its timeout means silence.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from golfzoo.engine.errors import RunError

_BEATS = 20  # in the time after which a silent machine counts as lost
_SECONDS_TO_END = 10


@contextmanager
def beating(addresses: list[str], lost_after: int) -> Iterator[None]:
    """Raises RunError when one of the machines, by rank, is silent for `lost_after` seconds, their group's timeout.

    SIGHUP then ends torch's launcher, and its processes with it, even those that wait in C++ for the lost machine.
    """
    import torch
    import torch.distributed as dist

    others = [(rank, address) for rank, address in enumerate(addresses) if rank != dist.get_rank()]
    ended = threading.Event()
    lost = ""

    def exchange(rank: int) -> list[dist.Work]:
        return dist.batch_isend_irecv([dist.P2POp(way, torch.zeros(1), rank) for way in (dist.isend, dist.irecv)])

    def beat() -> None:
        with suppress(RuntimeError):  # another machine has ended, which torch's launcher notices by itself
            while not ended.wait(lost_after / _BEATS):
                for address, works in [(address, exchange(rank)) for rank, address in others]:
                    asked = time.monotonic()
                    try:
                        for work in works:
                            work.wait()
                    except RuntimeError:
                        if time.monotonic() - asked >= lost_after:
                            end(f"nothing was heard from the machine at {address} for {lost_after} s")
                        raise

    def end(silence: str) -> None:
        nonlocal lost
        lost = f"{silence}: it is off, or cut off; --resume goes on from the last checkpoint"
        os.kill(os.getpid(), signal.SIGHUP)
        if not ended.wait(_SECONDS_TO_END):  # torch waits for a store's answer in C++, where no signal reaches it
            print(f"golfzoo: {lost}", file=sys.stderr, flush=True)
            os._exit(1)

    before = signal.signal(signal.SIGHUP, signal.default_int_handler)  # until torch's launcher sets its own
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        if not lost:
            raise
        raise RunError(lost) from None
    finally:
        ended.set()
        thread.join()  # Python must not end while it is in torch's C++
        signal.signal(signal.SIGHUP, before)
        dist.destroy_process_group()
