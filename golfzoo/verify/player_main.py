"""A stranger's process: it has the artifact and the code, and predicts for the referee, who alone has the text.

    python -m golfzoo.verify.player_main CONTROL

The process that is started has imported torch and the engine and nothing else, and forks: one player after another, for
which it is given a folder and two file descriptors, where the referee asks and where logits are put. So every text is
played by a process that has seen no other, and none of them has to import torch. What a player learns of a text is what
it is sent.
"""

import contextlib
import hashlib
import importlib
import json
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # a second's work, for which whoever names torch.compiler waits
from safetensors.torch import save_file

from golfzoo.engine.artifact import encode_model, read_tensors
from golfzoo.engine.components import bind, load_target, namespace
from golfzoo.engine.distributed import World, join
from golfzoo.engine.evaluate import make_player
from golfzoo.engine.loader import write_files
from golfzoo.engine.model import load_weights, on_cpu, relative_error
from golfzoo.engine.setup import make_model
from golfzoo.shipping.code import unpack_files
from golfzoo.verify import launcher
from golfzoo.verify.channel import Channel, ChannelError
from golfzoo.verify.landlock import landlock, landlock_version

_LONGEST_MESSAGE = 65536
_LONGEST_ERROR = 2000
_LONGEST_TRACEBACK = 20_000


def main(control: socket.socket) -> None:
    """Serve until the referee is gone. It names a folder, and sends two descriptors with it; when it has finished with
    that player it says so, and hears when nothing is left of it."""
    if sys.platform == "linux":  # what a player leaves behind comes here
        launcher.call("prctl", launcher.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = json.loads(control.recv(_LONGEST_MESSAGE))
    sys.path[:], granted = told["path"], told["granted"]
    control.sendall(json.dumps(trial(granted)).encode())
    while True:
        place, descriptors, _, _ = socket.recv_fds(control, _LONGEST_MESSAGE, 2)
        if not place:
            return
        player = os.fork()
        if player == 0:
            control.close()
            status = 1
            try:
                os.setsid()
                folder = Path(os.fsdecode(place))
                with contextlib.suppress(OSError):  # which the trial has told of
                    keep_apart(folder, granted)
                play(folder, *descriptors)
                status = 0
            finally:
                os._exit(status)
        for descriptor in descriptors:
            os.close(descriptor)
        control.recv(1)
        end(player)
        control.sendall(b".")


def keep_apart(place: Path, granted: list[str]) -> None:
    """From here on this process reads nothing of other players, and writes in `place`/private alone: a second ruleset
    within that of the sandbox, which has granted more. Raises OSError where the kernel has no Landlock."""
    asked = landlock([*granted, str(place), "/proc"], ["/dev"], str(place / "private"), landlock_version())
    launcher.landlock(asked["attributes"], asked["rules"])


def trial(granted: list[str]) -> str:
    """Why players cannot be kept apart here; '' where they can."""
    told, report = os.pipe()
    if os.fork() == 0:
        try:
            with tempfile.TemporaryDirectory() as folder:
                os.mkdir(f"{folder}/private")
                keep_apart(Path(folder), granted)
        except OSError as error:
            os.write(report, str(error).encode())
        finally:
            os._exit(0)
    os.close(report)
    os.wait()
    with open(told) as pipe:
        return pipe.read()


def end(player: int) -> None:
    """Kill a player and all that it has started, in sessions of their own too: the next one meets nobody. Where a
    sandbox without a pid namespace refuses signals to all in it, wait for it to end: the referee has let go of it."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(player, signal.SIGKILL)
        launcher.kill_all()
    except PermissionError:
        os.waitpid(player, 0)


def play(place: Path, descriptor: int, memory: int) -> None:
    channel = Channel(socket.socket(fileno=descriptor))
    task = json.loads((place / "task.json").read_text())
    os.chdir(place / "private")
    try:
        if (place / "train_gpt.py").exists():
            import_from_submission(place)
        with join(task["precision"]) as world:
            player, facts = make(place, task, world)
            channel.send(facts)
            answer(channel, player, mmap.mmap(memory, 0))
    except ChannelError:
        pass  # the referee has gone
    except Exception as error:
        told = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
        channel.send({"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR], "traceback": told})


def import_from_submission(place: Path) -> None:
    """A submission's components are imported from its own files, the engine is this golfzoo's."""
    _, files = unpack_files((place / "train_gpt.py").read_bytes())
    own = {path: contents for path, contents in files.items() if not path.startswith(("golfzoo/", "golfzoo."))}
    write_files(place / "private" / "source", own)
    sys.path.insert(0, str(place / "private" / "source"))
    importlib.invalidate_caches()


def make(place: Path, task: dict[str, Any], world: World) -> tuple[Any, dict[str, Any]]:
    """The model with the artifact's weights, its adaptor, and what is to be said of them."""
    plan = namespace(task["tables"])
    components = bind(task["tables"], {kind: load_target(target) for kind, target in task["targets"].items()})
    model = make_model(plan, components, task["vocab_size"], world)
    start = on_cpu(model.module.state_dict())
    artifact, quantizer = (place / "artifact.golf").read_bytes(), components.quantizer
    tensors, metadata = read_tensors(artifact, components, quantizer.layout(model.template, model.roles))
    load_weights(model.module, quantizer.dequantize(tensors, metadata), "artifact.golf")
    state = on_cpu(model.module.state_dict())
    adaptor = components.adaptor if task["adapted"] else None
    player = make_player(model.module, adaptor, world)
    facts: dict[str, Any] = {
        "learns": player.learns,
        "reviews": player.reviews,
        "whole_windows": bool(player.whole_windows),
        "across_documents": bool(getattr(adaptor, "across_documents", False)),
    }
    if task["examined"]:
        again = encode_model(tensors, metadata, components, model)
        facts |= {
            "again": hashlib.sha256(again).hexdigest(),
            "learned": relative_error(state, start),
            "stored": sum(tensor.nbytes for tensor in tensors.values()),
            "unmoved": len(unmoved(tensors, metadata, quantizer, state)),
        }
        save_file(state, place / "private" / "state.safetensors")
    return player, facts


def unmoved(tensors: Any, metadata: dict[str, Any], quantizer: Any, state: Any) -> list[str]:
    """The weights that are the same if the artifact's tensors are all zero."""
    try:
        emptied = quantizer.dequantize({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, metadata)
    except Exception:
        return []  # a decoder that refuses empty tensors has looked at them
    return [
        name
        for name, tensor in state.items()
        if tensor.abs().max() > 0 and torch.equal(emptied[name].to(tensor.dtype), tensor)
    ]


def answer(channel: Channel, player: Any, memory: mmap.mmap) -> None:
    """Do as the referee says, until it has no more to say."""
    while True:
        message = channel.receive()
        with player.playing(message["num_lanes"]):
            channel.send({})
            while (message := channel.receive())["do"] != "finish":
                arrays = [torch.from_numpy(array) for array in channel.arrays(message)]
                channel.send(act(player, message, arrays, memory))
        channel.send({"seconds": time.process_time()})


def act(player: Any, message: dict[str, Any], arrays: list[torch.Tensor], memory: mmap.mmap) -> dict[str, Any]:
    match message["do"]:
        case "reset":
            player.reset(message["seed"])
        case "predict":
            logits = player.predict(arrays[0], message["learns"]).detach().float().cpu().numpy()
            np.frombuffer(memory, np.float32, logits.size)[:] = logits.ravel()
            return {"shape": list(logits.shape)}
        case "reveal":
            player.reveal(*arrays)
        case "rounds":
            return {"rounds": player.rounds(message["sizes"])}
        case "review":
            player.review(arrays)
    return {}


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
