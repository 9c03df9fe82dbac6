"""Can two processes here add up a tensor together? Asked of two real ones."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import IO

# What starts each of the two; port of their store, backend and rank follow.
_WORKER = (sys.executable, "-m", "golfzoo.machine.all_reduce")


def all_reduce(backend: str, seconds: float = 60.0) -> str:
    """Let two new processes add up a tensor over `backend`. Returns what went wrong, or nothing.

    The processes are ended when one of them fails, or after `seconds`.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"}
    with ExitStack() as stack:
        said, errors = ([stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)] for _ in range(2))
        workers = [
            subprocess.Popen(
                [*_WORKER, str(store.port), backend, str(rank)], stdout=said[rank], stderr=errors[rank], env=environment
            )
            for rank in range(2)
        ]
        deadline = time.monotonic() + seconds
        try:
            while (ended := [worker.poll() for worker in workers]) != [0, 0]:
                if failed := [rank for rank in range(2) if ended[rank]]:
                    last = _text(errors[failed[0]]).rpartition("\n")[2]
                    return last or f"a process ended with status {ended[failed[0]]}"
                if time.monotonic() > deadline:
                    return f"the processes were not done after {seconds:g} s"
                time.sleep(0.05)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        sums = [_text(file) for file in said]
    return "" if sums == ["3.0", "3.0"] else f"the sums should both be 3.0, and are {sums}"


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()


def add_up(port: int, backend: str, rank: int) -> float:
    """One of the two processes: adds its rank + 1 to the other's. Returns the sum as every element has it."""
    import torch
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    dist.init_process_group(backend, store=store, rank=rank, world_size=2)
    try:
        tensor = torch.full((1024,), rank + 1.0, device=device)
        dist.all_reduce(tensor)
        return float(tensor.mean())
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    print(add_up(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
