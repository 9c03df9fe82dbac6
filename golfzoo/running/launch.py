"""Starting a run: what is asked for, whether it can start, and a run in this process. Several are elastic.py's."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo.corpus.check import check_inputs, how_to_get
from golfzoo.engine.components import namespace
from golfzoo.engine.data import data_paths, data_root
from golfzoo.engine.describe import Emit
from golfzoo.engine.errors import RunError
from golfzoo.errors import UsageError
from golfzoo.record import Record
from golfzoo.results import read_object, read_status
from golfzoo.running.folder import make_folder


def joined_rank() -> int | None:
    """This process's rank where torchrun, or what sets the same variables, started it as one of several.

    What srun sets is put into the same variables.
    """
    slurm = os.environ
    if "RANK" not in slurm and int(slurm.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        # The first of node[01-04,07].
        host = re.sub(r"\[(\w+).*", r"\1", slurm["SLURM_STEP_NODELIST"].partition(",")[0])
        port = 20000 + int(slurm.get("SLURM_JOB_ID", 0)) % 20000
        os.environ |= {
            "RANK": slurm["SLURM_PROCID"],
            "LOCAL_RANK": slurm["SLURM_LOCALID"],
            "WORLD_SIZE": slurm["SLURM_STEP_NUM_TASKS"],
            "MASTER_ADDR": slurm.get("MASTER_ADDR", host),
            "MASTER_PORT": slurm.get("MASTER_PORT", str(port)),
        }
    return int(os.environ["RANK"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else None


def prepare_data(record: Record, say: Callable[[str], None]) -> None:
    """See that the record's dataset is there and whole. The standard-library corpus is built if it is missing."""
    folder, tokenizer_file = data_paths(namespace(record.tables["data"]))
    from golfzoo.corpus.build import STDLIB, build_stdlib

    if folder.name == STDLIB and not folder.exists():
        say(f"{folder} is not there yet: building it from this Python's standard library")
        build_stdlib(data_root(), say)
    try:
        check_inputs(folder, tokenizer_file, record.tables["tokenizer"]["use"], record.bind("tokenizer").tokenizer)
    except RunError as error:
        there = "" if folder.exists() else f"; {how_to_get(folder)}, [data].dataset names another"
        raise UsageError(f"{error}{there}") from None


def check_processes(record: Record, num_processes: int) -> None:
    """Whether the record's batch can be divided over the processes."""
    from golfzoo.engine.setup import check_batch

    try:
        check_batch(namespace(record.tables["train"]), int(os.environ.get("WORLD_SIZE", num_processes)))
    except RunError as error:
        raise UsageError(f"{record.path}: {error}") from None


def score_file(record: Record, path: Path, is_artifact: bool, listen: Emit) -> dict[str, Any]:
    """Score an artifact, or weights, in this process."""
    from golfzoo.engine.distributed import join
    from golfzoo.running.worker import score

    with join(record.tables["train"]["precision"]) as world:
        return score(record, path, is_artifact, world, listen)


def processes_of(folder: Path) -> int:
    """How many processes the run in a folder has; raises UsageError where there is no run to go on with."""
    environment = read_object(folder / "env.json")
    if "processes" not in environment:
        raise UsageError(f"--resume {folder}: is not the folder of a run that was started")
    if read_status(folder) == "completed":
        raise UsageError(f"--resume {folder}: the run is completed; there is nothing to go on with")
    return int(environment["processes"])


@dataclass(frozen=True)
class Start:
    """How a run is started.

    out         its folder; by default a new one under runs/
    resume      a folder whose run goes on; `out` is then not used
    fresh       take no stage over from other runs
    processes   on this machine
    nodes       machines; they meet at `meet_at`, host:port of one of them, within `meet_seconds`
    lost_after  seconds after which a machine that is silent counts as lost
    """

    out: Path | None = None
    resume: Path | None = None
    fresh: bool = False
    processes: int = 1
    nodes: int = 1
    meet_at: str = ""
    meet_seconds: int = 600
    lost_after: int = 60

    def folder(self, record: Record) -> Path:
        return self.resume or make_folder(record, self.out)


def run_here(record: Record, start: Start, listen: Emit) -> tuple[Path, dict[str, Any]]:
    """Run in this process: alone, or as one of those that torchrun started. The first process makes the folder."""
    from golfzoo.engine.distributed import join
    from golfzoo.running.loggers import check_loggers
    from golfzoo.running.worker import work

    if not joined_rank():
        check_loggers(record)
    with join(record.tables["train"]["precision"]) as world:
        folder = world.share(start.folder(record) if world.rank == 0 else None)
        return folder, work(record, folder, world, listen, start.fresh)
