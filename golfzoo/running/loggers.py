"""The loggers of a run: they are told its events, in the first process, and can change nothing of it."""

import copy
from pathlib import Path
from typing import Any

import torch

from golfzoo.engine.components import namespace, options_of
from golfzoo.record import Record
from golfzoo.running.journal import Journal


def check_loggers(record: Record) -> None:
    """Raises PluginError where a logger's package is missing: better now than when the run has begun."""
    for entry, _ in record.lists["logger"]:
        entry.load()


class Loggers:
    """Told every event of a journal from `open` on. One that raises is told nothing more, and a note says so."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.told: list[tuple[str, Any]] = []
        self.unsaid: list[str] = []

    def open(self, record: Record, folder: Path) -> None:
        """Build those that the record names. Raises PluginError where one cannot be imported."""
        named = record.lists["logger"]
        targets = [entry.load() for entry, _ in named]
        for target, (entry, table) in zip(targets, named, strict=True):
            name = entry.component.name
            try:
                with torch.random.fork_rng([]):
                    logger = target(namespace(options_of(table)), record=copy.deepcopy(record.tables), folder=folder)
            except (Exception, SystemExit) as error:
                self._failed(name, error)
            else:
                self.told.append((name, logger))
        self.journal.listeners.append(self.tell)

    def tell(self, event: dict[str, Any]) -> None:
        self._call_each("event", event)
        self._say()

    def finish(self, result: dict[str, Any]) -> None:
        """The run has ended, whichever way. They are told nothing after this, not even what went wrong in it."""
        self._say()
        self._call_each("finish", result)
        self.told = []
        self._say()

    def _call_each(self, method: str, value: dict[str, Any]) -> None:
        for named in list(self.told):
            name, logger = named
            try:
                with torch.random.fork_rng([]):  # one that draws numbers must not change the training
                    getattr(logger, method)(copy.deepcopy(value))
            except (Exception, SystemExit) as error:
                self.told = [other for other in self.told if other is not named]
                self._failed(name, error)

    def _failed(self, name: str, error: BaseException) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self.unsaid.append(f"warning: logger {name}: {text}; it is told nothing more")

    def _say(self) -> None:
        """Only once an event is through, so that all are told the same order; and none before the journal's first,
        because a run takes back what is in its journal before that."""
        while self.unsaid:
            self.journal.emit({"event": "note", "text": self.unsaid.pop(0)})
