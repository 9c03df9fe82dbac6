"""What every process of a run does: bind the components, run the engine, keep what comes out.

The first process writes the files of the run's folder.
"""

import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from golfzoo.corpus.check import fingerprint
from golfzoo.engine.artifact import decode_model
from golfzoo.engine.components import namespace
from golfzoo.engine.data import data_paths, open_tokenizer
from golfzoo.engine.describe import Emit
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import Interrupted, RunError
from golfzoo.engine.run import run, score_only
from golfzoo.engine.setup import Model
from golfzoo.machine.memory import check_room, make_weightless
from golfzoo.record import Record
from golfzoo.results import read_object, write_json
from golfzoo.running.cache import Cache
from golfzoo.running.fingerprints import Fingerprints
from golfzoo.running.folder import RESULT_SCHEMA, describe_components, describe_environment
from golfzoo.running.journal import Journal
from golfzoo.running.kept_stages import KeptStages
from golfzoo.running.loggers import Loggers
from golfzoo.running.outlook import explained
from golfzoo.running.signals import Stop
from golfzoo.running.weights import hash_file, read_weights
from golfzoo.shipping.code import code_hashes, pack_code, shipped_modules
from golfzoo.shipping.sizes import check_expansion
from golfzoo.shipping.sources import check_imported
from golfzoo.strangers.files import read_bytes

LOST = "lost the connection to another process"
"""How the error of a process begins that only noticed that another had died."""

# How gloo and NCCL say that another process is gone.
_LOST = re.compile("Connection (closed|reset) by peer|Broken pipe|ncclRemoteError|Socket Timeout")


def work(record: Record, folder: Path, world: World, listen: Emit | None = None, fresh: bool = False) -> dict[str, Any]:
    """Run a resolved record in this process, and leave a result.json whatever happens. Returns the result.

    A run that was interrupted goes on where its last checkpoint was made. `fresh`: take nothing over from other runs.
    """
    before = read_object(folder / "env.json")  # {} where the run is new
    if before.get("processes", world.size) != world.size:
        raise RunError(f"{folder}: the run has {before['processes']} processes, and now there are {world.size}")
    sources, first = shipped_modules(record).values(), world.rank == 0  # read before any of them is imported
    device = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu"
    plan = namespace(record.tables)
    result: dict[str, Any] = {
        "schema": RESULT_SCHEMA,
        "status": "failed",
        "record": record.name,
        "profile": record.profile,
        "seed": plan.train.seed,
        "processes": world.size,
        "device": device,
        "components": describe_components(record),
    }
    if plan.train.init:
        result["init"] = {"file": plan.train.init, "sha256": hash_file(Path(plan.train.init))}
        if before.get("init", result["init"])["sha256"] != result["init"]["sha256"]:
            raise RunError(f"{plan.train.init}: is not the file that the run in {folder} started from")
    stop = Stop()
    with stop.installed(), Journal(folder if first else None, [listen] if listen else []) as journal:
        loggers = Loggers(journal)
        try:
            fresh = fresh or before.get("fresh", False)  # what it was started with, it goes on with
            result["dataset"] = fingerprint(*data_paths(plan.data))
            if first:
                environment = describe_environment(record, device, world.size)
                environment |= {"fresh": fresh, "dataset": result["dataset"], "code": code_hashes(record)}
                environment |= {"init": result["init"]} if plan.train.init else {}
                write_json(folder / "env.json", environment)
                loggers.open(record, folder)
            init = result.get("init", {}).get("sha256", "")
            prints = Fingerprints(record, result["dataset"], device, world.size, init)
            components = record.bind()
            check_imported(sources)
            _check_room(plan, components)
            stages = KeptStages(folder, world.rank, Cache(), prints, journal, stop, fresh)
            try:
                result |= run(plan, components, world, len(pack_code(record)), stages, explained(journal.emit))
            finally:
                stages.checkpoints.finish_writing()
            stages.checkpoints.remove()  # nobody will go on with it
            result["status"] = "completed"
        except (KeyboardInterrupt, Interrupted):
            result["status"] = "interrupted"
            journal.emit({"event": "note", "text": f"interrupted; `golfzoo run --resume {folder}` goes on with it"})
            raise
        except RunError as error:
            if first and error.__cause__ is not None:  # a line for the user, and for who wrote the component the rest
                trace = "".join(traceback.format_exception(error.__cause__))
                with suppress(OSError):
                    (folder / "traceback.txt").write_text(trace)
            raise
        except RuntimeError as error:
            if world.size > 1 and _LOST.search(str(error)):
                address = re.search(r"\[([\d.a-f:]+)\]:\d+", str(error))
                where = f" at {address[1]}" if address else ""
                raise RunError(f"{LOST}{where}: it has died, or its machine has") from None
            raise
        finally:
            if result["status"] == "failed":
                raised = sys.exception()
                result["error"] = f"{type(raised).__name__}: {raised}"
            if first:
                with suppress(RunError):  # a full disk must not hide the error that filled it
                    write_json(folder / "result.json", result)
                with suppress(OSError):
                    loggers.finish(result)
    return result


def _check_room(plan: Any, components: Any) -> None:
    check_room(make_weightless(plan, components, open_tokenizer(plan, components).vocab_size))


def score(record: Record, path: Path, is_artifact: bool, world: World, listen: Emit) -> dict[str, Any]:
    """Score an artifact, or weights in a file, as the record says."""
    components = record.bind()

    def read_state(model: Model) -> dict[str, torch.Tensor]:
        if not is_artifact:
            return read_weights(path, sum(tensor.numel() for tensor in model.template.values()), follow=True)
        data = read_bytes(path, "artifact", follow=True)
        check_expansion(data, components, model)
        return decode_model(data, components, model, str(path))

    plan = namespace(record.tables)
    _check_room(plan, components)
    return score_only(plan, components, world, read_state, str(path), listen)
