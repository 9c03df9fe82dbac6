"""Quantization-aware training: what the engine does around a qat component. While a step runs, what its quantizer would
make of the weights stands in for them; the gradients are taken there, and the update goes to the weights themselves.

That is the straight-through estimator (Bengio et al., arXiv 1308.3432) for any architecture, and no compiled graph has
anything in it that could be folded away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine.errors import RunError, blaming

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Qat, Roles, Tensors
    from golfzoo.engine.schedule import Now


class StandIns:
    """`steps` is in how many steps it acted, `moved` how far the stand-ins were from the weights in the last of them,
    |q - w| / |w| over those that had one. `label` is how an error names the component."""

    def __init__(self, qat: Qat, label: str) -> None:
        self.qat, self.label = qat, label
        self.steps, self.moved = 0, torch.zeros(())

    def stand_ins(self, weights: Mapping[str, Tensor], roles: Roles) -> Tensors:
        made = {}
        for name, weight in weights.items():
            before = weight._version
            quantized = self.qat.fake_quantize(name, weight.detach(), roles[name])
            if weight._version != before:
                raise RunError(f"it wrote to {name}, which it was given to read")
            if quantized is not None and quantized.shape != weight.shape:
                raise RunError(f"its {name} is {tuple(quantized.shape)}, and should be {tuple(weight.shape)}")
            if quantized is not None:
                made[name] = quantized
        return made

    @contextmanager
    def standing_in(self, model: nn.Module, roles: Roles, now: Now) -> Iterator[None]:
        """For a step's forward and backward passes; afterwards the weights are what they were, to the bit."""
        parameters = dict(model.named_parameters())
        with blaming(self.label):
            made = self.stand_ins(parameters, roles) if self.qat.active(now) else {}
        if not made:
            yield
            return
        kept: dict[str, Tensor] = {name: parameters[name].detach().clone() for name in made}
        with torch.no_grad():
            apart = torch.stack([(kept[name].float() - made[name].float()).square().sum() for name in made]).sum()
            size = torch.stack([kept[name].float().square().sum() for name in made]).sum()
            for name, quantized in made.items():
                parameters[name].copy_(quantized)
        self.steps, self.moved = self.steps + 1, (apart / size).sqrt()  # stays on the device: to read it would wait
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in kept.items():
                    parameters[name].copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        own = self.qat.state_dict() if hasattr(self.qat, "state_dict") else {}
        return {"steps": self.steps, "moved": self.moved, "own": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.moved = state["steps"], state["moved"]
        qat: Any = self.qat
        if state["own"]:
            qat.load_state_dict(state["own"])

    def receipts(self) -> dict[str, float]:
        """Raises RunError where it did nothing."""
        moved = float(self.moved)
        if not self.steps or not moved:
            raise RunError(f"{self.label}: it was active in {self.steps} steps, and moved weights by {moved}")
        return {"qat_steps": self.steps, "qat_moved": moved}
