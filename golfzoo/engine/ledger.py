"""The ledger: one write-once slot for every target of the validation text, and the arithmetic of the score."""

from dataclasses import dataclass

import numpy as np

from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError


@dataclass(frozen=True)
class Score:
    """A finished evaluation: nats per token, bits per byte, and what they were counted over.

    documents   per document, in the order of the text: tokens, bytes and nats, each (documents,)
    nats        of every target, (tokens,)
    updates     how often the adaptor learned, over all processes
    """

    val_loss: float
    val_bpb: float
    tokens: int
    bytes: int
    documents: dict[str, np.ndarray]
    nats: np.ndarray
    updates: int

    def brief(self) -> dict[str, float]:
        return {"val_loss": self.val_loss, "val_bpb": self.val_bpb}


class Ledger:
    """Holds the losses of the targets scored so far by this process. Nothing can be written twice."""

    def __init__(self, text: ValidationText) -> None:
        self.text = text
        self.nats = np.zeros(text.num_targets, dtype=np.float32)
        self.written = np.zeros(text.num_targets, dtype=np.uint8)
        self.entries = 0
        self.updates = 0

    def write(self, targets: np.ndarray, nats: np.ndarray) -> None:
        """Enter the losses of some targets, both (n,). A target that has one already is an error, and so is a loss
        that no probability has: below zero, infinite, or no number."""
        if self.written[targets].any():
            raise RunError(f"target {targets[self.written[targets] > 0][0]} was scored twice")
        impossible = ~(nats >= 0) | np.isinf(nats)  # NaN is not at least 0 either
        if impossible.any():
            raise RunError(f"target {targets[impossible][0]} scored {nats[impossible][0]} nats")
        self.nats[targets] = nats
        self.written[targets] = 1
        self.entries += len(targets)

    def close(self, world: World) -> Score:
        """The score, from the ledgers of all processes. Every target must have been scored by exactly one of them."""
        written = world.sum(self.written)
        nats = world.sum(self.nats).astype(np.float64)
        entries, updates = map(int, world.gather([self.entries, self.updates]).sum(axis=0))
        if entries != len(written) or not (written == 1).all():
            wrong = int(np.argmax(written != 1))
            raise RunError(
                f"{len(written)} targets must be scored exactly once; there were {entries} scores, "
                f"and target {wrong} had {written[wrong]}"
            )
        documents = {
            "tokens": np.diff(self.text.starts),
            "bytes": np.add.reduceat(self.text.target_bytes, self.text.starts[:-1], dtype=np.int64),
            "nats": np.add.reduceat(nats, self.text.starts[:-1]),
        }
        num_bytes = int(documents["bytes"].sum())
        if num_bytes != self.text.total_bytes:
            raise RunError(f"scored {num_bytes} bytes, and the validation text has {self.text.total_bytes}")
        total = float(nats.sum())
        return Score(total / len(nats), total / np.log(2) / num_bytes, len(nats), num_bytes, documents, nats, updates)
