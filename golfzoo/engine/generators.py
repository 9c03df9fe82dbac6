"""Random generators and buffers, brought back to what they were."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from golfzoo.engine.distributed import World


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
