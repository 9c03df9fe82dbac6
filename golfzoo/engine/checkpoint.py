"""A training that is under way, as tensors and plain values: enough to go on as if it had never stopped."""

import random
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from golfzoo.engine.distributed import World
from golfzoo.engine.stages import Stages


def training_state(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int, elapsed: float, world: World
) -> dict[str, Any]:
    """This process's share, copied to the CPU. The weights are the same everywhere, so only the first has them; an
    optimizer may hold another part of its state in every process. Batches follow from the step."""
    state = {
        "step": step,
        "elapsed": elapsed,
        "optimizers": _to_cpu([optimizer.state_dict() for optimizer in optimizers]),
        "rng": _rng_state(world),
    }
    return state | ({"model": _to_cpu(model.state_dict())} if world.rank == 0 else {})


def find_checkpoint(stages: Stages, world: World) -> dict[str, Any]:
    """This process's share of the latest checkpoint that every process has; {} where there is none."""
    steps = world.everyone(stages.checkpoints())
    common = set(steps[0]).intersection(*steps[1:])
    return stages.resume(max(common, default=0))


def set_rng_state(state: dict[str, Any], world: World) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], world.device)


def _rng_state(world: World) -> dict[str, Any]:
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
