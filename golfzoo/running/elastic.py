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
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
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
from golfzoo.running.heartbeat import beating
from golfzoo.running.launch import Start

_ALONE = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "127.0.0.1"}


def run_several(record: Record, start: Start, listen: Emit) -> tuple[Path, dict[str, Any]]:
    """Start processes on this machine and wait for them, showing what the first of them reports.

    On several machines each is given the same command, and the first process of all makes the run's folder; on the
    others a folder of that name takes their processes' checkpoints.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from golfzoo.running.loggers import check_loggers

    alone = start.nodes == 1
    if alone:  # of several machines only one has the loggers, and which is not known yet
        check_loggers(record)
    handover = start.folder(record) if alone else _lay_out(record, start)
    elastic = logging.getLogger("torch.distributed.elastic")  # what it would say is said below
    elastic.handlers, elastic.propagate = [logging.NullHandler()], False
    # One thread per core over all processes: more of them spin against each other and are many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // start.processes)))
    (handover / "ranks").mkdir(exist_ok=True)
    with (
        nullcontext(_ALONE) if alone else _meet(start) as meeting_point,
        follow(handover if alone else handover / "folder", listen),
    ):
        config = LaunchConfig(
            min_nodes=start.nodes,
            max_nodes=start.nodes,
            nproc_per_node=start.processes,
            run_id=secrets.token_hex(4) if alone else "golfzoo",
            max_restarts=0,
            role="golfzoo",
            logs_specs=DefaultLogsSpecs(log_dir=str(handover / "ranks"), redirects=Std.ALL, tee=Std.NONE),
            **meeting_point,
        )
        try:
            elastic_launch(config, sys.executable)(
                "-u", "-m", "golfzoo.running.elastic", str(handover), *(["fresh"] * start.fresh)
            )
        except SignalException as stopped:
            raise Interrupted(int(stopped.sigval)) from None
        except ChildFailedError as error:
            rank, message = cause_of(error.failures)
            if alone:
                _leave_result(handover, record, f"process {rank} failed: {message}")
            raise RunError(f"process {rank} failed: {message}\n  its output is under {handover / 'ranks'}") from None
    folder = handover if alone else Path((handover / "folder").read_text())
    return folder, json.loads((folder / "result.json").read_text()) if (folder / "result.json").exists() else {}


def cause_of(failures: dict[int, Any]) -> tuple[int, str]:
    """The rank of the process that failed first, and its message. Of those that failed within one second torch knows
    no order, but what followed can be told: SIGTERM, by which the launcher ends the others, and a lost connection."""
    from golfzoo.running.worker import LOST

    def followed(message: str) -> int:
        return 2 if LOST in message else int(message.startswith(f"Signal {int(signal.SIGTERM)} "))

    told = []
    for rank, failure in failures.items():
        message = str(failure.message["message"] if isinstance(failure.message, dict) else failure.message)
        told.append((followed(message), failure.timestamp, rank, message))
    *_, rank, message = min(told)
    return rank, message


def _leave_result(folder: Path, record: Record, error: str) -> None:
    """What the first process would have left, had it not been killed."""
    if not (folder / "result.json").exists():
        known = {"record": record.name, "profile": record.profile, "seed": record.tables["train"]["seed"]}
        write_json(folder / "result.json", {"schema": RESULT_SCHEMA, "status": "failed", **known, "error": error})


def _lay_out(record: Record, start: Start) -> Path:
    """What the processes of this machine are told, where no run's folder can be agreed on before they have met."""
    handover = Path(tempfile.mkdtemp(prefix="golfzoo-"))
    (handover / "record.toml").write_text(record.to_toml())
    told = {"out": str(start.out or ""), "resume": str(start.resume or "")}
    (handover / "start.json").write_text(json.dumps(told))
    return handover


@contextmanager
def _meet(start: Start) -> Iterator[dict[str, Any]]:
    """Wait for the other machines, and watch them from then on. Gives what torch's launcher must know of it.

    Torch's launcher would wait for them as well, and then ask the store every second whether more have come: where the
    machine that has the store is silent, it never comes back from that, and hears no signal.
    """
    import torch.distributed as dist
    from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    here = _address_towards(start.meet_at)
    # Torch would compare host names to find out which machine serves the others; what a network has is addresses.
    options: dict[str, Any] = {"local_addr": here, "is_host": here == _resolve(start.meet_at)[0]}
    options |= dict.fromkeys(("read_timeout", "join_timeout"), start.meet_seconds)
    try:
        rendezvous = get_rendezvous_handler(
            RendezvousParameters("c10d", start.meet_at, "golfzoo", start.nodes, start.nodes, **options)
        )
        met = rendezvous.next_rendezvous()
        patience = timedelta(seconds=start.lost_after)
        dist.init_process_group("gloo", store=met.store, rank=met.rank, world_size=start.nodes, timeout=patience)
        addresses = [here] * start.nodes
        dist.all_gather_object(addresses, here)
    except (RendezvousError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or f"they waited {start.meet_seconds} s"
        raise RunError(f"the machines did not meet at {start.meet_at}: {reason}") from None
    rendezvous.shutdown()  # not before all have met
    first: Any = met.bootstrap_store_info
    with beating(addresses, start.lost_after):
        yield {
            "rdzv_backend": "static",
            "rdzv_endpoint": f"{first.master_addr}:{first.master_port}",
            "rdzv_configs": {"rank": met.rank},
            "local_addr": here,
        }


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


def worker_main(handover: Path, fresh: bool) -> None:
    """One of the processes that run_several started."""
    from golfzoo.engine.distributed import join
    from golfzoo.running.worker import work
    from golfzoo.zoo import discover

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        resolved = load_record(str(handover / "record.toml"), discover())
        with join(resolved.tables["train"]["precision"]) as world:
            folder = _agree(handover, resolved, world) if (handover / "start.json").exists() else handover
            work(resolved, folder, world, fresh=fresh)
    except Exception as error:
        _report(error)
        raise


def _report(error: Exception) -> None:
    """Tell torch's launcher what went wrong, in the form of its own `record`, which may leave half a file where the
    launcher ends the process meanwhile; and the launcher then knows nothing of any process."""
    extra = {"py_callstack": traceback.format_exc(), "timestamp": str(int(time.time()))}
    message = {"message": f"{type(error).__name__}: {error}", "extraInfo": extra}
    with suppress(RunError):
        write_whole(Path(os.environ["TORCHELASTIC_ERROR_FILE"]), json.dumps({"message": message}).encode())


def _end_with(launcher: int) -> None:
    """A launcher that was killed could not end its processes; they would go on in a folder that may be resumed."""
    while os.getppid() == launcher:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def _agree(handover: Path, record: Record, world: Any) -> Path:
    """The run's folder, which the first process of all makes; on another machine, a folder of that name."""
    hashes = world.everyone(hashlib.sha256(record.to_toml().encode()).hexdigest())
    if len(set(hashes)) > 1:
        raise RunError("the machines were given different records, or have different golfzoos")
    told = json.loads((handover / "start.json").read_text())
    out, resume = (Path(told[name]) if told[name] else None for name in ("out", "resume"))
    start = Start(out, resume)
    folder = world.share(start.folder(record) if world.rank == 0 else None)
    if int(os.environ["LOCAL_RANK"]) == 0:
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "record.toml").write_text(record.to_toml())
            write_json(folder / "env.json", {"processes": world.size})
        write_whole(handover / "folder", str(folder.resolve()).encode())
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
