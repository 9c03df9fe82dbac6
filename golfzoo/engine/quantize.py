"""Quantizing the trained weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from golfzoo.engine.clock import Clock
from golfzoo.engine.distributed import float32_exact
from golfzoo.engine.model import hash_state, on_cpu, seed_everything
from golfzoo.engine.store import StageResult

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Quantizer, Tensors
    from golfzoo.engine.setup import Setup


def needs_of(quantizer: Quantizer) -> dict[str, int]:
    """What it wants to be told: calibrate.py's statistics, and over how many tokens."""
    return dict(getattr(quantizer, "needs", {}))


def quantize(setup: Setup, weights: Tensors, calibration: Tensors, clock: Clock) -> StageResult:
    """The quantizer's tensors, its metadata, and a key for both."""
    quantizer = setup.components.quantizer
    with clock.stage("quantize"):
        knob = getattr(quantizer, "knob", None)
        return quantized(*quantize_at(setup, quantizer.quantize, weights, calibration, knob))


def quantized(tensors: Tensors, metadata: dict[str, Any]) -> StageResult:
    return StageResult(tensors, {"metadata": metadata, "key": hash_state(tensors) + json.dumps(metadata)})


def quantize_at(
    setup: Setup, method: Callable[..., Any], weights: Tensors, calibration: Tensors, knob: float | None
) -> tuple[Tensors, dict[str, Any]]:
    """By a method of the quantizer, whatever ran, or was taken over, before."""
    seed_everything(setup.plan.train.seed)
    with float32_exact():  # a quantizer may work on the GPU
        return method(on_cpu(weights), setup.model.roles, calibration, knob)  # a copy: it may work in place
