"""What the host keeps of a run: its journal, finished stages, checkpoints; and how a run hears that it should stop."""

import io
import json
import re
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import safetensors.torch
import torch

from golfzoo.cache import Cache, Fingerprints
from golfzoo.engine.errors import Interrupted, RunError
from golfzoo.engine.files import write_whole
from golfzoo.engine.lines import describe
from golfzoo.engine.stages import Kept, Stages

Listener = Callable[[dict[str, Any]], None]

_CHECKPOINT_NAME = re.compile(r"step-(\d+)\.rank-(\d+)\.pt")


class Journal:
    """Takes a run's events: to metrics.jsonl whole, to log.txt as lines, and to whoever listens.

    Without a folder, in every process but the first, it takes none.
    """

    def __init__(self, folder: Path | None, listeners: list[Listener]) -> None:
        self.folder, self.listeners = folder, listeners
        self.full = False  # a warning was given
        self.lock = threading.RLock()  # checkpoints are written from a thread, which may have to warn
        self.files = ExitStack()
        if folder:
            self.metrics = self.files.enter_context(open(folder / "metrics.jsonl", "a+"))
            _lock(self.metrics, folder)
            self.log = self.files.enter_context(open(folder / "log.txt", "a"))

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk: what it holds is whole, and the run's own outcome counts
            self.files.close()

    def emit(self, event: dict[str, Any]) -> None:
        if self.folder is None:
            return
        with self.lock:
            self._write(self.metrics, json.dumps(event))
            if (line := describe(event)) is not None:
                self._write(self.log, f"{time.strftime('%H:%M:%S')} {line}")
            for listen in self.listeners:
                listen(event)

    def _write(self, file: TextIO, line: str) -> None:
        """What a full disk does not take stays in the file's buffer, and is tried again with the next line."""
        try:
            file.write(line + "\n")
            file.flush()
        except OSError as error:
            if not self.full:
                self.full = True
                warning = f"warning: {file.name} cannot be written, the run goes on: {error.strerror}"
                for listen in self.listeners:
                    listen({"event": "note", "text": warning})

    def position(self) -> int:
        """Where the next event will be; raises OSError on a full disk."""
        return self.metrics.tell() if self.folder else 0

    def rewind(self, position: int) -> None:
        """Forget what came after a position: steps after the last checkpoint will be taken again."""
        if self.folder:
            self.metrics.flush()
            self.metrics.truncate(min(position, self.metrics.seek(0, io.SEEK_END)))
            self.metrics.seek(0, io.SEEK_END)

    def curves(self) -> list[dict[str, Any]]:
        """The training's own events so far."""
        if self.folder is None:
            return []
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] in ("train", "val")]


def _lock(file: TextIO, folder: Path) -> None:
    """One run at a time in a folder. The lock goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(f"{folder}: another process is running this run; wait for it, or end it") from None


class Stop:
    """Hears SIGINT and SIGTERM. While a training listens, the first is a request to end after the step; otherwise, and
    at the second, the run ends where it is."""

    def __init__(self) -> None:
        self.listened_to = False
        self.signal_number = 0

    def heard(self, number: int, frame: object) -> None:
        if self.listened_to and not self.signal_number:
            self.signal_number = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Interrupted(number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Signals reach a process's main thread; elsewhere there is nothing to install."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self.heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


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
        self.folder, self.rank, self.journal, self.stop, self.fresh = folder, rank, journal, stop, fresh
        self.cache, self.fingerprints = cache, fingerprints
        self.writer = ThreadPoolExecutor(max_workers=1)
        self.writing: Future[None] | None = None

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
            self._warn(f"stage {stage} could not be kept for other runs: {error}")

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
        """Written from a thread, while training goes on; a failure is a warning, and the one before stays."""
        self.finish_writing()
        try:
            state |= {"journal": self.journal.position(), "fingerprint": self.fingerprints.of("train")}
        except OSError as error:
            self._warn_of_checkpoint(step, error)
        else:
            self.writing = self.writer.submit(self._write, step, state)

    def finish_writing(self) -> None:
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def completed(self) -> None:
        """The run is through: nobody will go on with it."""
        self._remove_checkpoints(keep=0)

    def checkpoints(self) -> list[int]:
        whole = []
        for step, path in sorted(self._own_checkpoints().items()):
            if zipfile.is_zipfile(path):  # as torch writes them; a file that was cut short is none
                whole.append(step)
            else:
                self._warn(f"{path} is damaged, and not used")
        return whole

    def resume(self, step: int) -> dict[str, Any]:
        own = self._own_checkpoints()
        for later in [each for each in own if each > step]:  # other processes did not come as far
            own[later].unlink()
        if step == 0:
            self.journal.rewind(0)
            return {}
        path = own[step]
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

    def _write(self, step: int, state: dict[str, Any]) -> None:
        packed = io.BytesIO()
        torch.save(state, packed)
        try:
            (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            path = self.folder / "checkpoints" / f"step-{step:08d}.rank-{self.rank}.pt"
            write_whole(path, packed.getvalue())
        except (OSError, RunError) as error:
            self._warn_of_checkpoint(step, error)
        else:
            # One more than is needed: processes write theirs one by one, and any of them may die in between.
            self._remove_checkpoints(keep=2)

    def _warn_of_checkpoint(self, step: int, error: Exception) -> None:
        self._warn(f"the checkpoint at step {step} could not be written, training goes on: {error}")

    def _own_checkpoints(self) -> dict[int, Path]:
        found = {}
        for path in (self.folder / "checkpoints").glob("step-*.pt"):
            match = _CHECKPOINT_NAME.fullmatch(path.name)
            if match and int(match[2]) == self.rank:
                found[int(match[1])] = path
        return found

    def _remove_checkpoints(self, keep: int) -> None:
        own = self._own_checkpoints()
        for step in sorted(own)[: len(own) - keep]:
            own[step].unlink(missing_ok=True)

    # ---- signals ----------------------------------------------------------------------------------------------------

    def stop_signal(self) -> int:
        self.stop.listened_to = True
        return self.stop.signal_number

    def stop_listening(self) -> None:
        self.stop.listened_to = False
        if self.stop.signal_number:
            raise Interrupted(self.stop.signal_number)

    def _warn(self, text: str) -> None:
        self.journal.emit({"event": "note", "text": f"warning: {text}"})
