"""Starting a run's processes: one in place, several through torch's elastic launcher, or joining a running torchrun."""

import ctypes
import json
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from golfzoo.corpus.check import check_inputs
from golfzoo.engine.data import data_paths, data_root
from golfzoo.engine.errors import DataError, RunError
from golfzoo.engine.parts import namespace
from golfzoo.errors import UsageError
from golfzoo.folder import make_folder
from golfzoo.record import Record, load_record

Listener = Callable[[dict[str, Any]], None]


def has_cuda() -> bool:
    """Whether there is a CUDA device, asked of the driver: importing torch to find out takes seconds."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def joined_rank() -> int | None:
    """This process's rank where torchrun, or a launcher that sets the same variables, started it as one of several."""
    return int(os.environ["RANK"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else None


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_data(record: Record, say: Callable[[str], None]) -> None:
    """See that the record's dataset is there and whole. The standard-library corpus is built if it is missing."""
    folder, tokenizer_file = data_paths(namespace(record.tables["data"]))
    from golfzoo.corpus.build import STDLIB, build_stdlib

    if folder.name == STDLIB and not folder.exists():
        say(f"{folder} is not there yet: building it from this Python's standard library")
        build_stdlib(data_root(), say)
    try:
        check_inputs(folder, tokenizer_file)
    except DataError as error:
        there = "" if folder.exists() else "; `golfzoo data list` shows what is there, [data].dataset names another"
        raise UsageError(f"{error}{there}") from None


def check_processes(record: Record, num_processes: int) -> None:
    """Whether the record's batch can be divided over the processes."""
    from golfzoo.engine.train import check_batch

    try:
        check_batch(namespace(record.tables["train"]), int(os.environ.get("WORLD_SIZE", num_processes)))
    except RunError as error:
        raise UsageError(f"{record.path}: {error}") from None


def score_file(record: Record, path: Path, is_artifact: bool, listen: Listener) -> dict[str, Any]:
    """Score an artifact, or weights, in this process."""
    from golfzoo.engine.distributed import join
    from golfzoo.worker import score

    with join(record.tables["train"]["precision"]) as world:
        return score(record, path, is_artifact, world, listen)


def run_here(record: Record, out: Path | None, listen: Listener) -> tuple[Path, dict[str, Any]]:
    """Run in this process: alone, or as one of those that torchrun started. The first process makes the folder."""
    from golfzoo.engine.distributed import join
    from golfzoo.worker import work

    with interruptible(), join(record.tables["train"]["precision"]) as world:
        folder = world.share(make_folder(record, out) if world.rank == 0 else None)
        return folder, work(record, folder, world, listen)


def run_several(record: Record, out: Path | None, num_processes: int, listen: Listener) -> tuple[Path, dict[str, Any]]:
    """Start processes on this machine and wait for them, showing what the first of them reports."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder = make_folder(record, out)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it would say is said below
    # One thread per core over all processes: more of them spin against each other and are many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // num_processes)))
    (folder / "ranks").mkdir()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=secrets.token_hex(4),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        role="golfzoo",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "ranks"), redirects=Std.ALL, tee=Std.NONE),
    )
    with follow(folder / "metrics.jsonl", listen):
        try:
            elastic_launch(config, sys.executable)("-u", "-m", "golfzoo.launch", str(folder))
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
            raise RunError(f"process {rank} failed: {message}\n  its output is under {folder / 'ranks'}") from None
    return folder, json.loads((folder / "result.json").read_text())


def worker_main(folder: Path) -> None:
    """One of the processes that run_several started."""
    from torch.distributed.elastic.multiprocessing.errors import record as report_errors

    from golfzoo.engine.distributed import join
    from golfzoo.worker import work
    from golfzoo.zoo import discover

    @report_errors
    def main() -> None:
        resolved = load_record(str(folder / "record.toml"), discover())
        with interruptible(), join(resolved.tables["train"]["precision"]) as world:
            work(resolved, folder, world)

    main()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: its folder says that it was interrupted."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def follow(path: Path, listen: Listener) -> Iterator[None]:
    """Pass on the events that another process appends to a file, from a thread: the launcher needs the main one."""
    done = threading.Event()

    def read() -> None:
        position, last_round = 0, False
        while not last_round:
            last_round = done.wait(0.2)
            if not path.exists():
                continue
            with open(path) as file:
                file.seek(position)
                for line in file:
                    if line.endswith("\n"):
                        position += len(line.encode())
                        listen(json.loads(line))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    worker_main(Path(sys.argv[1]))
