"""How a stage of a run is run, or taken over from before; and what becomes of its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from golfzoo.engine.clock import Clock
    from golfzoo.engine.describe import Emit
    from golfzoo.engine.distributed import World
    from golfzoo.engine.protocols import Tensors
    from golfzoo.engine.setup import Setup, Training


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

    def initial_weights(self) -> Tensors | None:
        """A state that training starts from; None where it starts from what the seed draws."""
        return None

    def rehearse(self, setup: Setup, training: Training, emit: Emit) -> None:
        """Try what comes after training. A submission is of a run that has been through."""

    def resume(self, setup: Setup, clock: Clock) -> dict[str, Any]:
        """Where a training goes on: "step" and "elapsed", and the model has its weights; {} at the beginning."""
        return {}

    def restore(self, resumed: dict[str, Any], setup: Setup, training: Training, clock: Clock) -> None:
        """The rest of that, once warm-up has drawn its numbers and taken its steps."""

    def save_checkpoint(self, setup: Setup, training: Training, step: int, elapsed: float, clock: Clock) -> None:
        """Keep a training that is under way: this process's share of it after `step` steps."""

    def written_checkpoint(self) -> int:
        """The step of the last checkpoint that is written, which may take a while; 0 for none."""
        return 0

    def mark_complete(self, step: int) -> None:
        """Every process has written its share of that step."""

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
