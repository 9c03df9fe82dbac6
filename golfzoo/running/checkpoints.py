"""Checkpoints of a training that is under way: a file for every process and step, in the run's folder."""

import io
import re
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from golfzoo.engine.errors import RunError
from golfzoo.engine.files import write_whole
from golfzoo.running.fingerprints import Fingerprints
from golfzoo.running.journal import Journal

_NAME = re.compile(r"step-(\d+)\.rank-(\d+)\.pt")


class Checkpoints:
    """This process's checkpoints. They bear the training's fingerprint: nothing else may go on with them."""

    def __init__(self, folder: Path, rank: int, journal: Journal, fingerprints: Fingerprints) -> None:
        self.folder, self.rank, self.journal, self.fingerprints = folder / "checkpoints", rank, journal, fingerprints
        self.writer = ThreadPoolExecutor(max_workers=1)
        self.writing: Future[None] | None = None
        self.written = self.marked = 0
        self.mark = self.folder / f"complete.rank-{rank}"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Written from a thread, while training goes on; a failure is a warning, and the one before stays."""
        self.finish_writing()
        try:
            state |= {"journal": self.journal.position(), "fingerprint": self.fingerprints.of("train")}
        except OSError as error:
            self._warn_of(step, error)
        else:
            self.writing = self.writer.submit(self._write, step, state)

    def finish_writing(self) -> None:
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def steps(self) -> list[int]:
        whole = []
        for step, path in sorted(self._own().items()):
            if zipfile.is_zipfile(path):  # as torch writes them; a file that was cut short is none
                whole.append(step)
            else:
                self.journal.warn(f"{path} is damaged, and not used")
        return whole

    def mark_complete(self, step: int) -> None:
        """Every process has written that step: where one of them has none later, its files are lost."""
        if step > self.marked:
            self.marked = step
            with suppress(RunError):  # a full disk: then a lost file is not missed
                write_whole(self.mark, str(step).encode())

    def complete(self) -> int:
        text = self.mark.read_text() if self.mark.exists() else ""
        return int(text) if text.isdigit() else 0

    def roll_back_to(self, step: int) -> dict[str, Any]:
        """The state at one of the steps; {} at step 0, the beginning."""
        if step == 0:
            self.journal.rewind(0)
            return {}
        path = self._own()[step]
        try:
            state = torch.load(path, "cpu", weights_only=True)
        except Exception as error:
            raise RunError(f"{path}: cannot be read: {error}; without it, the one before is gone on from") from None
        if state["fingerprint"] != self.fingerprints.of("train"):
            raise RunError(
                f"{path}: belongs to a training with another record, other code, data or libraries than are here now; "
                "bring them back, or start a new run"
            )
        self.journal.rewind(state["journal"])
        return state

    def forget_after(self, step: int) -> None:
        for later, path in self._own().items():
            if later > step:
                path.unlink(missing_ok=True)
        if step == 0:
            self.mark.unlink(missing_ok=True)

    def remove(self, keep: int = 0) -> None:
        """Remove all but the last `keep`."""
        own = self._own()
        for step in sorted(own)[: len(own) - keep]:
            own[step].unlink(missing_ok=True)
        for killed in self.folder.glob(f"step-*.rank-{self.rank}.pt.partial"):  # a process died while it wrote it
            killed.unlink(missing_ok=True)
        if not keep:
            self.mark.unlink(missing_ok=True)

    def _write(self, step: int, state: dict[str, Any]) -> None:
        packed = io.BytesIO()
        torch.save(state, packed)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / f"step-{step:08d}.rank-{self.rank}.pt", packed.getvalue())
        except (OSError, RunError) as error:
            self._warn_of(step, error)
        else:
            self.written = step
            # One more than is needed: processes write theirs one by one, and any of them may die in between.
            self.remove(keep=2)

    def _warn_of(self, step: int, error: Exception) -> None:
        self.journal.warn(f"the checkpoint at step {step} could not be written, training goes on: {error}")

    def _own(self) -> dict[int, Path]:
        found = {}
        for path in self.folder.glob("step-*.pt"):
            match = _NAME.fullmatch(path.name)
            if match and int(match[2]) == self.rank:
                found[int(match[1])] = path
        return found
