"""What becomes of a run's stages, and of a training that is under way. A submission keeps nothing; the host files."""

from typing import Any

import torch

Kept = tuple[dict[str, torch.Tensor], dict[str, Any]]
"""What a stage leaves: tensors, and facts that are JSON values."""


class Stages:
    """Keeps nothing and knows nothing from before. The host's subclass does both.

    `key` tells results of one stage apart that the record alone does not: it has the hash of the weights that the stage
    was given.
    """

    def load(self, stage: str, key: str = "") -> Kept | None:
        """The result of a stage that need not be run again, or None."""
        return None

    def save(self, stage: str, tensors: dict[str, torch.Tensor], facts: dict[str, Any], key: str = "") -> None:
        """Keep a finished stage."""

    def checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Keep a training that is under way: this process's share of it after `step` steps."""

    def checkpoints(self) -> list[int]:
        """The steps that this process has checkpoints of."""
        return []

    def resume(self, step: int) -> dict[str, Any]:
        """This process's share of the training at one of those steps; {} at step 0, the beginning."""
        return {}

    def stop_signal(self) -> int:
        """The number of the signal that asks this process to stop, or 0. Asked after every step of training."""
        return 0

    def stop_listening(self) -> None:
        """Training is through and kept: whoever asks to stop need not wait any more."""
