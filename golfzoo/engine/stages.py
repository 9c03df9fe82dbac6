"""What becomes of a finished stage. A submission keeps nothing; the host keeps files in the run's folder."""

from typing import Any

import torch


class Stages:
    """Keeps nothing. The host's subclass keeps what it is given, and may know a stage's result from an earlier run."""

    def load(self, stage: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The tensors and facts of a stage that need not be run again, or None."""
        return None

    def save(self, stage: str, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Keep a finished stage. `facts` are JSON values."""
