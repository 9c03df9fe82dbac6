"""Several processes, on one machine or on several, through torch's elastic launcher."""

import hashlib
import itertools
import json
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from golfzoo.engine.describe import Emit
from golfzoo.engine.errors import Interrupted, RunError
from golfzoo.engine.files import write_whole
from golfzoo.errors import UsageError
from golfzoo.machine.devices import cores
from golfzoo.record import Record, load_record
from golfzoo.results import write_json
from golfzoo.running.folder import RESULT_SCHEMA
from golfzoo.running.heartbeat import Heartbeat
from golfzoo.running.launch import Start

_LOST = "lost"


def run_several(record: Record, start: Start, listen: Emit) -> tuple[Path, dict[str, Any]]:
    """Start processes on this machine and wait for them, showing what the first of them reports.

    On several machines each is given the same command, and the first process of all makes the run's folder; on the
    others a folder of that name takes their processes' checkpoints.
    """
    from torch.distributed import DistNetworkError
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from golfzoo.running.loggers import check_loggers

    alone = start.nodes == 1
    if alone:  # of several machines only one has the loggers, and which is not known yet
        check_loggers(record)
    desk = start.folder(record) if alone else _lay_out(record, start)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it would say is said below
    # One thread per core over all processes: more of them spin against each other and are many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // start.processes)))
    (desk / "ranks").mkdir(exist_ok=True)
    here = "127.0.0.1" if alone else _address_towards(start.meet_at)
    config = LaunchConfig(
        min_nodes=start.nodes,
        max_nodes=start.nodes,
        nproc_per_node=start.processes,
        run_id=secrets.token_hex(4) if alone else "golfzoo",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if alone else start.meet_at,
        rdzv_configs={} if alone else _rendezvous(start, here),
        local_addr=here,
        max_restarts=0,
        role="golfzoo",
        logs_specs=DefaultLogsSpecs(log_dir=str(desk / "ranks"), redirects=Std.ALL, tee=Std.NONE),
    )
    with follow(desk if alone else desk / "folder", listen), nullcontext() if alone else _heartbeat(start, here, desk):
        try:
            elastic_launch(config, sys.executable)(
                "-u", "-m", "golfzoo.running.elastic", str(desk), *(["fresh"] * start.fresh)
            )
        except SignalException as stopped:
            raise Interrupted(int(stopped.sigval)) from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
            if alone:
                _leave_result(desk, record, f"process {rank} failed: {message}")
            raise RunError(f"process {rank} failed: {message}\n  its output is under {desk / 'ranks'}") from None
        except (RendezvousError, DistNetworkError) as error:
            reason = " ".join(str(error).split())[:300] or f"they waited {start.meet_seconds} s"
            raise RunError(f"the machines did not meet at {start.meet_at}: {reason}") from None
    folder = desk if alone else Path((desk / "folder").read_text())
    return folder, json.loads((folder / "result.json").read_text()) if (folder / "result.json").exists() else {}


def _leave_result(folder: Path, record: Record, error: str) -> None:
    """What the first process would have left, had it not been killed."""
    if not (folder / "result.json").exists():
        known = {"record": record.name, "profile": record.profile, "seed": record.tables["train"]["seed"]}
        write_json(folder / "result.json", {"schema": RESULT_SCHEMA, "status": "failed", **known, "error": error})


def _heartbeat(start: Start, here: str, desk: Path) -> AbstractContextManager[None]:
    return Heartbeat(*_resolve(start.meet_at), here, start.lost_after, desk / _LOST).beating()


def _lay_out(record: Record, start: Start) -> Path:
    """What the processes of this machine are told, where no run's folder can be agreed on before they have met."""
    desk = Path(tempfile.mkdtemp(prefix="golfzoo-"))
    (desk / "record.toml").write_text(record.to_toml())
    told = {"out": str(start.out or ""), "resume": str(start.resume or "")}
    (desk / "start.json").write_text(json.dumps(told))
    return desk


def _rendezvous(start: Start, here: str) -> dict[str, Any]:
    # Torch would compare host names to find out which machine serves the others; what a network has is addresses.
    waits = dict.fromkeys(("read_timeout", "join_timeout"), start.meet_seconds)
    return {"is_host": here == _resolve(start.meet_at)[0], **waits}


def _resolve(meet_at: str) -> tuple[str, int]:
    host, _, port = meet_at.rpartition(":")
    try:
        return socket.gethostbyname(host), int(port)
    except OSError as error:
        raise UsageError(f"--rdzv-endpoint {meet_at}: {host}: {error.strerror}") from None


def _address_towards(meet_at: str) -> str:
    """The address that this machine has in the network of the meeting point."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_resolve(meet_at))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UsageError(f"--rdzv-endpoint {meet_at}: cannot be reached from here: {error.strerror}") from None


def worker_main(desk: Path, fresh: bool) -> None:
    """One of the processes that run_several started."""
    from torch.distributed.elastic.multiprocessing.errors import record as report_errors

    from golfzoo.engine.distributed import join
    from golfzoo.running.worker import work
    from golfzoo.zoo import discover

    @report_errors
    def main() -> None:
        threading.Thread(target=_end_with, args=(os.getppid(), desk / _LOST), daemon=True).start()
        resolved = load_record(str(desk / "record.toml"), discover())
        with join(resolved.tables["train"]["precision"]) as world:
            folder = _agree(desk, resolved, world) if (desk / "start.json").exists() else desk
            work(resolved, folder, world, fresh=fresh)

    main()


def _end_with(launcher: int, lost: Path) -> None:
    """A launcher that was killed could not end its processes; they would go on in a folder that may be resumed. Nor
    can one end itself that waits for a machine that is `lost`."""
    while os.getppid() == launcher and not lost.exists():
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def _agree(desk: Path, record: Record, world: Any) -> Path:
    """The run's folder, which the first process of all makes; on another machine, a folder of that name."""
    hashes = world.everyone(hashlib.sha256(record.to_toml().encode()).hexdigest())
    if len(set(hashes)) > 1:
        raise RunError("the machines were given different records, or have different golfzoos")
    told = json.loads((desk / "start.json").read_text())
    out, resume = (Path(told[name]) if told[name] else None for name in ("out", "resume"))
    start = Start(out, resume)
    folder = world.share(start.folder(record) if world.rank == 0 else None)
    if int(os.environ["LOCAL_RANK"]) == 0:
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "record.toml").write_text(record.to_toml())
            write_json(folder / "env.json", {"processes": world.size})
        write_whole(desk / "folder", str(folder.resolve()).encode())
    return folder


@contextmanager
def follow(folder: Path, listen: Emit) -> Iterator[None]:
    """Pass on the events of a run in a folder, or in the folder that a file will name, from a thread: the launcher
    needs the main one. Events that are there already are old."""
    done = threading.Event()
    there = folder / "metrics.jsonl"
    seen = there.read_bytes() if there.exists() else b""

    def read() -> None:
        nonlocal seen
        last_round = False
        while not last_round:
            last_round = done.wait(0.2)
            path = (Path(folder.read_text()) if folder.is_file() else folder) / "metrics.jsonl"
            data = path.read_bytes() if path.exists() else b""
            if not data.startswith(seen):  # a run that is resumed takes lines back
                pairs = zip(seen.splitlines(keepends=True), data.splitlines(keepends=True), strict=False)
                seen = b"".join(old for old, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            for line in data[len(seen) : data.rfind(b"\n") + 1].splitlines(keepends=True):
                seen += line
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
