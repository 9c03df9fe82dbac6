"""A training that is under way, as tensors and plain values: enough to go on as if it had never stopped."""

from __future__ import annotations

from typing import Any

import torch

from golfzoo.engine.clock import Clock
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.generators import rng_state, set_rng_state
from golfzoo.engine.setup import Setup, Training
from golfzoo.running.checkpoints import Checkpoints
from golfzoo.running.journal import Journal


class Progress:
    """Keeps the progress of a training in checkpoints, and brings it back."""

    def __init__(self, checkpoints: Checkpoints, journal: Journal) -> None:
        self.checkpoints, self.journal = checkpoints, journal

    def save(self, setup: Setup, training: Training, step: int, elapsed: float, clock: Clock) -> None:
        self.checkpoints.save(step, training_state(setup, training, step, elapsed))
        self.pass_on_warnings(setup.world, clock)

    def find(self, world: World, clock: Clock) -> dict[str, Any]:
        """This process's share of the latest checkpoint that every process has; {} where none has any.

        Raises RunError where all of them had one and some have none any more: to begin again would throw away the
        others'.
        """
        steps = world.everyone(self.checkpoints.steps())
        complete = max(world.everyone(self.checkpoints.complete()))
        self.pass_on_warnings(world, clock)
        step = max(set(steps[0]).intersection(*steps[1:]), default=0)
        if step == 0 and complete:
            raise RunError(_incomplete(steps, complete))
        state = self.checkpoints.roll_back_to(step)
        world.everyone(None)  # only when all have theirs may any of them forget what came after
        self.checkpoints.forget_after(step)
        return state

    def pass_on_warnings(self, world: World, clock: Clock) -> None:
        """Only the first process is heard."""
        for rank, warnings in enumerate(world.everyone(self.journal.take_warnings())):
            for text in warnings:
                clock.emit({"event": "note", "text": f"{text} (process {rank})" if rank else text})


def training_state(setup: Setup, training: Training, step: int, elapsed: float) -> dict[str, Any]:
    """This process's share, copied to the CPU. The weights are the same everywhere, so only the first has them; an
    optimizer may hold another part of its state in every process. Batches follow from the step."""
    state = {
        "step": step,
        "elapsed": elapsed,
        "optimizers": _to_cpu([optimizer.state_dict() for optimizer in training.optimizers]),
        "rng": rng_state(setup.world),
    }
    for name in ("averager", "qat"):
        if used := getattr(setup.components, name):
            state[name] = _to_cpu(used.state_dict())
    return state | ({"model": _to_cpu(setup.model.module.state_dict())} if setup.world.rank == 0 else {})


def restore_weights(state: dict[str, Any], setup: Setup) -> None:
    """Before the processes are made equal: only the first one's share has the weights."""
    if weights := setup.world.share(state.get("model")):
        setup.model.module.load_state_dict(weights)


def restore_rest(state: dict[str, Any], setup: Setup, training: Training, clock: Clock) -> None:
    """After warm-up: whatever else has a state, and a word about it."""
    if not state:
        return
    for optimizer, known in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(known)
    for name in ("averager", "qat"):
        if name in state:
            getattr(setup.components, name).load_state_dict(state[name])
    set_rng_state(state["rng"], setup.world)
    clock.emit({"event": "note", "text": f"resumed at step {state['step']}, {state['elapsed']:.1f} s into training"})


def _incomplete(steps: list[list[int]], complete: int) -> str:
    lacking = [str(rank) for rank, own in enumerate(steps) if complete not in own]
    return (
        f"the checkpoint of step {complete} is not here, or damaged, for process{'es' * (len(lacking) > 1)} "
        f"{', '.join(lacking)} of {len(steps)}; bring its files back, or start a new run (nothing was removed)"
    )


def _to_cpu(value: Any) -> Any:
    """A copy with every tensor on the CPU: training goes on while it is written."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    return [_to_cpu(item) for item in value] if isinstance(value, list | tuple) else value
