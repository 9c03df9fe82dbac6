"""Training and validation as rows of a CSV file. Loggers change nothing of a run, and never ship."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig

COLUMNS = ("event", "step", "seconds", "loss", "val_loss", "val_bpb")


class Newcomer:
    """`record` is the resolved record, a dict of tables, and `folder` the run's. Made in the first process alone, and
    again where a run is resumed: rows are added then, and some steps may stand there twice."""

    def __init__(self, config: NewcomerConfig, record: dict[str, Any], folder: Path) -> None:
        self.every, self.seen, self.path = config.every, 0, folder / "curves.csv"
        if not self.path.exists():
            self.add(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def event(self, event: dict[str, Any]) -> None:
        """A line of metrics.jsonl; training waits for it. Later versions may have events that are not known today."""
        if event["event"] == "train":
            self.seen += 1
        if event["event"] == "val" or (event["event"] == "train" and self.seen % self.every == 0):
            self.add(event)

    def finish(self, result: dict[str, Any]) -> None:
        """The run has ended, failed or been interrupted: result.json, as a dict. Every row is on the disk already."""

    def add(self, row: dict[str, Any]) -> None:
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, extrasaction="ignore").writerow(row)
