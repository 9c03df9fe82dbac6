"""A training that is under way, as tensors and plain values: enough to go on as if it had never stopped."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from golfzoo.engine.clock import Clock
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError

if TYPE_CHECKING:
    from golfzoo.engine.setup import Setup, Training
    from golfzoo.engine.store import Store


def training_state(setup: Setup, training: Training, step: int, elapsed: float) -> dict[str, Any]:
    """This process's share, copied to the CPU. The weights are the same everywhere, so only the first has them; an
    optimizer may hold another part of its state in every process. Batches follow from the step."""
    state = {
        "step": step,
        "elapsed": elapsed,
        "optimizers": _to_cpu([optimizer.state_dict() for optimizer in training.optimizers]),
        "rng": rng_state(setup.world),
    }
    return state | ({"model": _to_cpu(setup.model.module.state_dict())} if setup.world.rank == 0 else {})


def find_checkpoint(store: Store, world: World, clock: Clock) -> dict[str, Any]:
    """This process's share of the latest checkpoint that every process has; {} where none has any.

    Raises RunError where all of them had one and some have none any more: to begin again would throw away the others'.
    """
    steps = world.everyone(store.checkpoint_steps())
    complete = max(world.everyone(store.complete_checkpoint()))
    pass_on_warnings(store, world, clock)
    step = max(set(steps[0]).intersection(*steps[1:]), default=0)
    if step == 0 and complete:
        raise RunError(_incomplete(steps, complete))
    state = store.roll_back_to(step)
    world.everyone(None)  # only when all have theirs may any of them forget what came after
    store.forget_after(step)
    return state


def pass_on_warnings(store: Store, world: World, clock: Clock) -> None:
    """Only the first process is heard."""
    for rank, warnings in enumerate(world.everyone(store.take_warnings())):
        for text in warnings:
            clock.emit({"event": "note", "text": f"{text} (process {rank})" if rank else text})


def _incomplete(steps: list[list[int]], complete: int) -> str:
    lacking = [str(rank) for rank, own in enumerate(steps) if complete not in own]
    return (
        f"the checkpoint of step {complete} is not here, or damaged, for process{'es' * (len(lacking) > 1)} "
        f"{', '.join(lacking)} of {len(steps)}; bring its files back, or start a new run (nothing was removed)"
    )


def restore_weights(state: dict[str, Any], model: nn.Module, world: World) -> None:
    """Before the processes are made equal: only the first one's share has the weights."""
    if weights := world.share(state.get("model")):
        model.load_state_dict(weights)


def restore_progress(
    state: dict[str, Any], optimizers: list[torch.optim.Optimizer], world: World, clock: Clock
) -> None:
    """After warm-up: optimizers and random generators, and a word about it."""
    if not state:
        return
    for optimizer, known in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(known)
    set_rng_state(state["rng"], world)
    clock.emit({"event": "note", "text": f"resumed at step {state['step']}, {state['elapsed']:.1f} s into training"})


def restore_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """In place where it can be done, so that a compiled model still knows them."""
    for name, known in buffers.items():
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        buffer = getattr(module, own)
        if buffer.shape == known.shape and buffer.dtype == known.dtype:
            with torch.no_grad():
                buffer.copy_(known)
        else:
            setattr(module, own, known)


def set_rng_state(state: dict[str, Any], world: World) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], world.device)


def rng_state(world: World) -> dict[str, Any]:
    """The states of all generators, without types that a safe unpickler refuses."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    state = {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state(world.device)} if world.device.type == "cuda" else {})


def _to_cpu(value: Any) -> Any:
    """A copy with every tensor on the CPU: training goes on while it is written."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    return [_to_cpu(item) for item in value] if isinstance(value, list | tuple) else value
