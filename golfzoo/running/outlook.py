"""What other sizes than the one that a model was fitted to would lose, by the damage that was measured."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from golfzoo.engine.describe import Emit
from golfzoo.engine.fit import FINER


def explained(emit: Emit) -> Emit:
    """Tells of a fit what its damage is expected to be, and what a tenth or two of its bytes would change."""

    def tell(event: dict[str, Any]) -> None:
        emit(event)
        if event["event"] == "fitted":
            emit({"event": "note", "text": "fit: what quantization costs, expected by what was measured of it:"})
            for size, nats in outlook(event["damage"], event["knob"], *event["sizes"]):
                bits = nats / math.log(2) / event["bytes_per_token"]
                text = f"fit: {size:>12,} bytes: {nats:.3g} nats a token, {bits:.3g} bits per byte"
                emit({"event": "note", "text": text, "outlook": [size, nats, bits]})

    return tell


def outlook(measured: list[list[float]], knob: float, size: int, finer: int) -> Iterator[tuple[int, float]]:
    """Of five sizes, in the middle that at `knob`, and as far as there are knobs for them: bytes, and what damage is to
    be expected, in nats per token.

    `measured` has (knob, nats per token), as a quantizer gives them; between its knobs damage is read off on straight
    lines through logarithms, beyond them it goes with the knob's square. `finer` is the size at a knob FINER times
    smaller.
    """
    octaves, nats = np.log2(np.maximum(np.array(sorted(measured)), 1e-12)).T
    slope = max(finer - size, 1) / math.log2(FINER)  # bytes an octave
    for share in (0.8, 0.9, 1.0, 1.1, 1.2):
        further = (1 - share) * size / slope
        if abs(further) > 8:  # so many bytes there are at no knob
            continue
        at = math.log2(knob) + further
        beyond = at - min(max(at, octaves[0]), octaves[-1])
        yield round(share * size), float(2 ** (np.interp(at, octaves, nats) + 2 * beyond))
