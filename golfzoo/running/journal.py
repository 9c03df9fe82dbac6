"""A run's journal: every event, whole and as lines of text."""

import io
import json
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from golfzoo.engine.describe import Emit, describe
from golfzoo.engine.errors import RunError


class Journal:
    """Takes a run's events: to metrics.jsonl whole, to log.txt as lines, and to whoever listens.

    Without a folder, in every process but the first, it takes none.
    """

    def __init__(self, folder: Path | None, listeners: list[Emit]) -> None:
        self.folder, self.listeners = folder, listeners
        self.full = False  # a warning was given
        self.unsaid: list[str] = []
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

    def warn(self, text: str) -> None:
        """Say it, or, in a process that is not heard, keep it for who is."""
        if self.folder is None:
            self.unsaid.append(f"warning: {text}")
        else:
            self.emit({"event": "note", "text": f"warning: {text}"})

    def take_warnings(self) -> list[str]:
        taken, self.unsaid = self.unsaid, []
        return taken

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
