"""The figures of a run as loggers draw them: a library of the loggers."""

from __future__ import annotations

from typing import Any


def scalars(event: dict[str, Any]) -> dict[str, float]:
    """The numbers of an event under their names, as in "train/loss"; of training also its milliseconds per step."""
    group = event["event"]
    numbers = {f"{group}/{key}": event[key] for key in event if key not in ("event", "step")}
    if group == "train":
        numbers["train/step_ms"] = 1000 * event["seconds"] / event["step"]
    return numbers
