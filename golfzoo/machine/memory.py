"""What memory there is, and models that would not fit into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golfzoo.engine.errors import RunError

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components, Plan
    from golfzoo.engine.setup import Model

MOST_PIECES = 10_000
"""Modules and parameters of a model, at most; the largest of the challenge has some hundreds."""


class TooLargeError(RunError):
    """A model that this machine has no room for."""


def spare_memory() -> int:
    """The bytes that this process could still take, as far as the system tells: of the machine, or its container."""
    spare = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**34
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                spare = 1024 * int(line.split()[1])
        group = Path("/sys/fs/cgroup")
        spare = min(spare, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # not Linux, or no limit
        pass
    return max(spare, 0)


def make_weightless(plan: Plan, components: Components, vocab_size: int) -> Model:
    """The record's model on the meta device: names, types and shapes, and no memory for them. Where an architecture
    computes with its weights while it is made, it is a real one, as far as memory allows."""
    import torch

    from golfzoo.engine.distributed import World
    from golfzoo.engine.setup import make_model

    try:
        with _bounded(None), torch.device("meta"):
            return make_model(plan, components, vocab_size, World(0, 1, torch.device("meta"), bf16=False))
    except TooLargeError:
        raise
    except (RunError, RuntimeError):
        with _bounded(spare_memory() // 2):
            return make_model(plan, components, vocab_size, World(0, 1, torch.device("cpu"), bf16=False))


def check_room(model: Model) -> None:
    """See that a model that `make_weightless` made had room in memory, if it were a real one. Raises TooLargeError."""
    needed = sum(tensor.nbytes for tensor in model.template.values())
    if needed > (spare := spare_memory()):
        raise TooLargeError(
            f"[architecture]: its weights take {needed / 2**30:,.1f} GiB, and this machine has {spare / 2**30:,.1f} "
            "GiB to spare; make it smaller"
        )


@contextmanager
def _bounded(most_bytes: int | None) -> Iterator[None]:
    """A model that is made meanwhile is stopped at so many pieces, or bytes of parameters, before these are filled."""
    from torch.nn.modules import module

    pieces = num_bytes = 0

    def count(_owner: Any, _name: str, piece: Any) -> None:
        nonlocal pieces, num_bytes
        pieces += 1
        num_bytes += getattr(piece, "nbytes", 0)
        if pieces > MOST_PIECES:
            raise TooLargeError(f"[architecture]: makes more than {MOST_PIECES:,} modules and parameters")
        if most_bytes is not None and num_bytes > most_bytes:
            raise TooLargeError(f"[architecture]: its weights take more than {most_bytes / 2**30:,.1f} GiB of memory")

    handles = [
        module.register_module_parameter_registration_hook(count),
        module.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
