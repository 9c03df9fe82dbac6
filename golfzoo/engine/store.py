"""How a stage of a run is run, or taken over from before; and what becomes of its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from golfzoo.engine.clock import Clock
    from golfzoo.engine.distributed import World
    from golfzoo.engine.protocols import Tensors


class StageResult(NamedTuple):
    """What a stage leaves: tensors, and facts that are JSON values."""

    tensors: Tensors
    facts: dict[str, Any]


class Store:
    """A run's folder, and what is kept of its stages and of a training that is under way. This one, a submission's,
    keeps nothing; the host's subclass does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, stage: str, key: str) -> StageResult | None:
        """The result of a stage that need not be run again, or None."""
        return None

    def save(self, stage: str, result: StageResult, key: str) -> None:
        """Keep the result of a finished stage."""

    def write_files(self, stage: str, tensors: Tensors) -> None:
        """Write what the folder should have of a stage, computed or taken over, beside the artifact."""

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Keep a training that is under way: this process's share of it after `step` steps."""

    def checkpoint_steps(self) -> list[int]:
        """The steps that this process has checkpoints of."""
        return []

    def written_checkpoint(self) -> int:
        """The step of the last checkpoint that is written, which may take a while; 0 for none."""
        return 0

    def mark_complete(self, step: int) -> None:
        """Every process has written its share of that step."""

    def complete_checkpoint(self) -> int:
        """The last step that was marked so."""
        return 0

    def roll_back_to(self, step: int) -> dict[str, Any]:
        """This process's share of the training at one of those steps; {} at step 0, the beginning."""
        return {}

    def forget_after(self, step: int) -> None:
        """Remove checkpoints of later steps, which not every process has come to."""

    def take_warnings(self) -> list[str]:
        """What this process has to say, and cannot, because only the first one is heard."""
        return []

    def stop_signal(self) -> int:
        """The number of the signal that asks this process to stop, or 0. Asked after every step of training."""
        return 0

    def training_is_kept(self) -> None:
        """Raises Interrupted where it was asked to stop meanwhile; who asks from here on need not wait for a step."""


class StageRunner:
    """Runs stages whose results are not known from before."""

    def __init__(self, store: Store, world: World, clock: Clock) -> None:
        self.store, self.world, self.clock = store, world, clock

    def run(
        self, stage: str, function: Callable[..., StageResult], *given: Any, key: str = "", alone: bool = False
    ) -> StageResult:
        """The result of `function(*given)`, from before or computed now and kept.

        `key` tells of what is given all that the record does not. `alone`: called by the first process only, so that
        there is nobody to share the result with.
        """
        first = self.world.rank == 0
        known = self.store.load(stage, key) if first else None
        if not alone:
            known = self.world.share(known)
        if known is not None:
            self.clock.take_over(stage, known.facts)
            result = known
        else:
            before = dict(self.clock.seconds)
            tensors, facts = function(*given)
            result = StageResult(tensors, {**facts, "seconds": self.clock.since(before)})
            if first:
                self.store.save(stage, result, key)
        if first:
            self.store.write_files(stage, result.tensors)
        return result
