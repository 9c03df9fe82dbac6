"""Starting a run's processes: one in place, several through torch's elastic launcher, or joining a running torchrun."""

import ctypes
import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo.corpus.check import check_inputs
from golfzoo.engine.data import data_paths, data_root
from golfzoo.engine.errors import DataError, Interrupted, RunError
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


def device_name() -> str:
    """What results and fingerprints call the device that processes here compute on."""
    if not has_cuda():
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


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


def processes_of(folder: Path) -> int:
    """How many processes the run in a folder has; raises UsageError where there is no run to go on with."""
    try:
        result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").exists() else {}
        environment = json.loads((folder / "env.json").read_text())
    except (OSError, ValueError):
        raise UsageError(f"--resume {folder}: is not the folder of a run that was started") from None
    if result.get("status") == "completed":
        raise UsageError(f"--resume {folder}: the run is completed; there is nothing to go on with")
    return int(environment["processes"])


@dataclass(frozen=True)
class Start:
    """How a run is started.

    out         its folder; by default a new one under runs/
    resume      a folder whose run goes on; `out` is then not used
    fresh       take no stage over from other runs
    processes   on this machine
    nodes       machines, and where they meet: host:port
    """

    out: Path | None = None
    resume: Path | None = None
    fresh: bool = False
    processes: int = 1
    nodes: int = 1
    meet_at: str = ""

    def folder(self, record: Record) -> Path:
        return self.resume or make_folder(record, self.out)


def run_here(record: Record, start: Start, listen: Listener) -> tuple[Path, dict[str, Any]]:
    """Run in this process: alone, or as one of those that torchrun started. The first process makes the folder."""
    from golfzoo.engine.distributed import join
    from golfzoo.worker import work

    with join(record.tables["train"]["precision"]) as world:
        folder = world.share(start.folder(record) if world.rank == 0 else None)
        return folder, work(record, folder, world, listen, start.fresh)


def run_several(record: Record, start: Start, listen: Listener) -> tuple[Path, dict[str, Any]]:
    """Start processes on this machine and wait for them, showing what the first of them reports."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder = start.folder(record)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it would say is said below
    # One thread per core over all processes: more of them spin against each other and are many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // start.processes)))
    (folder / "ranks").mkdir(exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=start.processes,
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
            fresh = ["fresh"] if start.fresh else []
            elastic_launch(config, sys.executable)("-u", "-m", "golfzoo.launch", str(folder), *fresh)
        except SignalException as stopped:
            raise Interrupted(int(stopped.sigval)) from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
            raise RunError(f"process {rank} failed: {message}\n  its output is under {folder / 'ranks'}") from None
    return folder, json.loads((folder / "result.json").read_text())


def worker_main(folder: Path, fresh: bool) -> None:
    """One of the processes that run_several started."""
    from torch.distributed.elastic.multiprocessing.errors import record as report_errors

    from golfzoo.engine.distributed import join
    from golfzoo.worker import work
    from golfzoo.zoo import discover

    @report_errors
    def main() -> None:
        resolved = load_record(str(folder / "record.toml"), discover())
        with join(resolved.tables["train"]["precision"]) as world:
            work(resolved, folder, world, fresh=fresh)

    main()


@contextmanager
def follow(path: Path, listen: Listener) -> Iterator[None]:
    """Pass on the events that another process appends to a file, from a thread: the launcher needs the main one."""
    done = threading.Event()

    def read() -> None:
        position, last_round = path.stat().st_size if path.exists() else 0, False
        while not last_round:
            last_round = done.wait(0.2)
            if not path.exists():
                continue
            with open(path) as file:
                position = min(position, path.stat().st_size)  # a run that is resumed takes lines back
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
    worker_main(Path(sys.argv[1]), "fresh" in sys.argv[2:])
