"""What the host does for a run's stages: results from and for the cache, files for the run's folder."""

from pathlib import Path
from typing import Any

from golfzoo.engine.clock import Clock
from golfzoo.engine.describe import Emit
from golfzoo.engine.errors import Interrupted
from golfzoo.engine.setup import Setup, Training
from golfzoo.engine.store import StageResult, Store
from golfzoo.running.cache import Cache
from golfzoo.running.checkpoints import Checkpoints
from golfzoo.running.fingerprints import Fingerprints
from golfzoo.running.folder import write_stage_files
from golfzoo.running.journal import Journal
from golfzoo.running.rehearse import rehearse
from golfzoo.running.rehearse_training import finite
from golfzoo.running.signals import Stop
from golfzoo.running.training import Progress, restore_rest, restore_weights
from golfzoo.running.weights import read_weights
from golfzoo.shipping.sources import edited


class KeptStages(Store):
    """Files in the run's folder, and the cache of all runs. `fresh`: take nothing over from other runs."""

    def __init__(
        self,
        folder: Path,
        rank: int,
        cache: Cache,
        fingerprints: Fingerprints,
        journal: Journal,
        stop: Stop,
        fresh: bool,
    ) -> None:
        super().__init__(folder)
        self.journal, self.stop, self.fresh = journal, stop, fresh
        self.cache, self.fingerprints = cache, fingerprints
        self.checkpoints = Checkpoints(folder, rank, journal, fingerprints)
        self.progress = Progress(self.checkpoints, journal)

    # ---- stages -----------------------------------------------------------------------------------------------------

    def load(self, stage: str, key: str) -> StageResult | None:
        known = self.cache.load(stage, self.fingerprints.of(stage, key))
        if known is None:
            return None
        tensors, facts = known
        own = facts["from"] == str(self.folder.resolve()) and facts.get("made") == self._made()
        if self.fresh and not own:
            return None
        if stage == "train":
            self.journal.rewind(facts["journal"] if own else 0)
            if not own:
                self.journal.emit({"event": "note", "text": f"trained already, as {facts['from']}; its steps:"})
                for event in facts["curves"]:
                    self.journal.emit(event)
        return StageResult(tensors, facts)

    def save(self, stage: str, result: StageResult, key: str) -> None:
        fingerprint = self.fingerprints.of(stage, key)
        if moved := edited(
            self.fingerprints.sources[stage]
        ):  # what ran was hashed; but not all of it need have been imported
            self.journal.warn(f"stage {stage} is not kept for other runs: {moved[0]} was edited meanwhile")
            return
        facts = {
            **result.facts,
            "from": str(self.folder.resolve()),
            "made": self._made(),
            "record": self.fingerprints.record.name,
        }
        try:
            if stage == "train":
                facts |= {"curves": self.journal.curves(), "journal": self.journal.position()}
            self.cache.save(stage, fingerprint, result.tensors, facts, replace=self.fresh)
        except (OSError, ValueError) as error:  # ValueError: the journal is cut short on a full disk
            self.journal.warn(f"stage {stage} could not be kept for other runs: {error}")

    def write_files(self, stage: str, tensors: dict[str, Any]) -> None:
        write_stage_files(self.folder, stage, tensors)

    def _made(self) -> int:
        """When the run's folder was made: another may have had its name before."""
        return (self.folder / "record.toml").stat().st_mtime_ns

    def initial_weights(self) -> dict[str, Any] | None:
        file = self.fingerprints.record.tables["train"]["init"]
        return finite(read_weights(Path(file), follow=True), file) if file else None

    def rehearse(self, setup: Setup, training: Training, emit: Emit) -> None:
        rehearse(setup, training, emit)

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def resume(self, setup: Setup, clock: Clock) -> dict[str, Any]:
        resumed = self.progress.find(setup.world, clock)
        restore_weights(resumed, setup)
        return resumed

    def restore(self, resumed: dict[str, Any], setup: Setup, training: Training, clock: Clock) -> None:
        restore_rest(resumed, setup, training, clock)

    def save_checkpoint(self, setup: Setup, training: Training, step: int, elapsed: float, clock: Clock) -> None:
        self.progress.save(setup, training, step, elapsed, clock)

    def written_checkpoint(self) -> int:
        return self.checkpoints.written

    def mark_complete(self, step: int) -> None:
        self.checkpoints.mark_complete(step)

    # ---- signals ----------------------------------------------------------------------------------------------------

    def stop_signal(self) -> int:
        self.stop.listened_to = True
        return self.stop.signal_number

    def training_is_kept(self) -> None:
        self.stop.listened_to = False
        if self.stop.signal_number:
            raise Interrupted(self.stop.signal_number)
