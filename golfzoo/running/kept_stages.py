"""What the host does for a run's stages: results from and for the cache, files for the run's folder."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from golfzoo.engine.errors import Interrupted
from golfzoo.engine.files import write_whole
from golfzoo.engine.stages import Kept, Stages
from golfzoo.running.cache import Cache, Fingerprints
from golfzoo.running.checkpoints import Checkpoints
from golfzoo.running.journal import Journal
from golfzoo.running.signals import Stop


class KeptStages(Stages):
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
        self.folder, self.journal, self.stop, self.fresh = folder, journal, stop, fresh
        self.cache, self.fingerprints = cache, fingerprints
        self.kept = Checkpoints(folder, rank, journal, fingerprints)

    # ---- stages -----------------------------------------------------------------------------------------------------

    def load(self, stage: str, key: str = "") -> Kept | None:
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
        self._put(stage, tensors)
        return tensors, facts

    def save(self, stage: str, tensors: dict[str, torch.Tensor], facts: dict[str, Any], key: str = "") -> None:
        self._put(stage, tensors)
        facts = {
            **facts,
            "from": str(self.folder.resolve()),
            "made": self._made(),
            "record": self.fingerprints.record.name,
        }
        try:
            if stage == "train":
                facts |= {"curves": self.journal.curves(), "journal": self.journal.position()}
            self.cache.save(stage, self.fingerprints.of(stage, key), tensors, facts, replace=self.fresh)
        except (OSError, ValueError) as error:  # ValueError: the journal is cut short on a full disk
            self.journal.warn(f"stage {stage} could not be kept for other runs: {error}")

    def _made(self) -> int:
        """When the run's folder was made: another may have had its name before."""
        return (self.folder / "record.toml").stat().st_mtime_ns

    def _put(self, stage: str, tensors: dict[str, torch.Tensor]) -> None:
        """The files that a run's folder has of a stage."""
        if stage == "train":
            write_whole(self.folder / "weights.safetensors", safetensors.torch.save(tensors))
        elif stage == "eval":
            packed = io.BytesIO()
            columns: Any = {name: column.numpy() for name, column in tensors.items()}
            np.savez_compressed(packed, **columns)
            write_whole(self.folder / "documents.npz", packed.getvalue())

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def checkpoint(self, step: int, state: dict[str, Any]) -> None:
        self.kept.save(step, state)

    def checkpoints(self) -> list[int]:
        return self.kept.steps()

    def resume(self, step: int) -> dict[str, Any]:
        return self.kept.roll_back_to(step)

    def finish_writing(self) -> None:
        self.kept.finish_writing()

    def completed(self) -> None:
        """The run is through: nobody will go on with it."""
        self.kept.remove()

    # ---- signals ----------------------------------------------------------------------------------------------------

    def stop_signal(self) -> int:
        self.stop.listened_to = True
        return self.stop.signal_number

    def stop_listening(self) -> None:
        self.stop.listened_to = False
        if self.stop.signal_number:
            raise Interrupted(self.stop.signal_number)
