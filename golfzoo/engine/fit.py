"""Fitting: the quantizer's one knob, moved until the artifact takes the room there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from golfzoo.engine.artifact import encode_model
from golfzoo.engine.clock import Clock
from golfzoo.engine.describe import Emit
from golfzoo.engine.errors import RunError
from golfzoo.engine.quantize import quantize_at, quantized
from golfzoo.engine.store import StageResult

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tensors
    from golfzoo.engine.setup import Setup

WINDOW = 512
"""How far below the room an artifact may stay, in bytes."""

FINER = 2**0.25
"""How much finer than the knob that fits is one whose size is told with it."""

_LARGE = 2**22  # bytes of tensors that take long to compress

_ATTEMPTS = 40
_REACH = 24.0  # octaves on either side of where the knob starts
_FINEST = 1e-7  # octaves


def fit(setup: Setup, weights: Tensors, calibration: Tensors, room: int, clock: Clock) -> StageResult:
    """As `quantize`, at the knob that takes the room."""
    with clock.stage("quantize"):
        return quantized(*_fitted(setup, weights, calibration, room, clock.emit))


def _fitted(
    setup: Setup, weights: Tensors, calibration: Tensors, room: int, emit: Emit
) -> tuple[Tensors, dict[str, Any]]:
    """What is quicker leads to the knob: the quantizer's drafts, and estimates of the size."""
    quantizer: Any = setup.components.quantizer
    attempts = Attempts(setup, weights, calibration, quantizer.quantize)
    started, num_weights = time.perf_counter(), sum(tensor.numel() for tensor in weights.values())
    first = Attempts(setup, weights, calibration, quantizer.draft) if hasattr(quantizer, "draft") else attempts
    knob = float(quantizer.knob)
    if first is not attempts or first.is_large(knob):
        emit({"event": "note", "text": "fit: with estimates first"})
        knob = fit_knob(first.estimate_at, knob, room, num_weights, emit, max(WINDOW, room // 256))
    knob = fit_knob(attempts.size_at, knob, room, num_weights, emit)
    seconds = time.perf_counter() - started
    text = f"fit: {first.estimates} sizes estimated, {attempts.sizes} measured, in {seconds:.1f} s"
    emit({"event": "note", "text": text})
    fitted = attempts.at(knob)
    if "damage" in calibration:
        near = [first.estimate_at(at) for at in (knob, knob / FINER)]
        per_token = float(setup.validation.target_bytes.mean())
        damage = calibration["damage"].tolist()
        emit({"event": "fitted", "knob": knob, "sizes": near, "damage": damage, "bytes_per_token": per_token})
    return fitted


class Attempts:
    """Quantizes at one knob after another, by `method`. The last result is kept: it is asked for again."""

    def __init__(self, setup: Setup, weights: Tensors, calibration: Tensors, method: Callable[..., Any]) -> None:
        self.setup, self.method = setup, method
        self.weights, self.calibration = weights, calibration
        self.latest: tuple[float | None, Any] | None = None
        self.sizes = self.estimates = 0

    def at(self, knob: float | None) -> tuple[Tensors, dict[str, Any]]:
        if self.latest is None or self.latest[0] != knob:
            self.latest = knob, quantize_at(self.setup, self.method, self.weights, self.calibration, knob)
        return self.latest[1]

    def size_at(self, knob: float) -> int:
        """Bytes of the artifact."""
        self.sizes += 1
        return len(encode_model(*self.at(knob), self.setup.components, self.setup.model))

    def is_large(self, knob: float) -> bool:
        """Whether it takes long to compress as a whole."""
        return sum(tensor.nbytes for tensor in self.at(knob)[0].values()) > _LARGE

    def estimate_at(self, knob: float) -> int:
        """About as many bytes."""
        self.estimates += 1
        return round(self.setup.components.compressor.estimate(*self.at(knob)))


def fit_knob(
    size_at: Callable[[float], int], knob: float, room: int, num_weights: int, emit: Emit, window: int = WINDOW
) -> float:
    """The knob at which the artifact has between room - window and room bytes.

    `size_at` gives the artifact's bytes at a knob; more of it is fewer bytes, or nearly: rounding one weight moves the
    others. The search is a secant on the knob's logarithm, kept between a knob that fits and one that does not. Where
    it does not meet the window, the largest artifact that fits is taken, and said so; where none fits, RunError says by
    how much.
    """
    aim = room - window // 2
    start = x = math.log2(knob)
    slope = -num_weights / 8  # one bit less for every weight and octave, in bytes
    fits: tuple[float, int] | None = None
    over: tuple[float, int] | None = None
    best: tuple[float, int] | None = None  # of those that fit the largest, and of equals the finest
    for _ in range(_ATTEMPTS):
        size = size_at(2.0**x)
        emit({"event": "note", "text": f"fit: {size:,} bytes at knob {2.0**x:.8g}, room for {room:,}"})
        if room - window < size <= room:
            return 2.0**x
        at_the_end = abs(x - start) >= _REACH
        if size <= room:
            finest = over is None and fits is not None and size <= fits[1]  # a finer knob gave nothing more
            fits = (x, size)
            best = max(best or fits, fits, key=lambda tried: (tried[1], -tried[0]))
            if finest:
                break
        else:
            over = (x, size)
        if fits and over:
            if abs(fits[0] - over[0]) < _FINEST:
                break
            slope = (fits[1] - over[1]) / (fits[0] - over[0])
            x = over[0] + ((aim - over[1]) / slope if slope < 0 else math.inf)
            low, high = sorted((fits[0], over[0]))
            if not low < x < high or min(x - low, high - x) < 0.02 * (high - low):
                x = (low + high) / 2
        elif at_the_end:
            break
        else:
            # Bits per weight fall by less than one an octave once most codes are zero: reach out further each time.
            step = (aim - size) / slope
            x = min(max(x + 1.1 * step + math.copysign(1e-3, step), start - _REACH), start + _REACH)
            slope *= 0.7
    if best is None:
        x, size = over or (x, 0)
        raise RunError(
            f"cannot fit: at knob {2.0**x:.6g} the artifact still has {size:,} bytes, {size - room:,} too many"
        )
    emit({"event": "note", "text": f"fit: stays {room - best[1]:,} bytes below the room; no knob came nearer"})
    return 2.0 ** best[0]
