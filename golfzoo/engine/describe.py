"""Events as lines of text: log.txt, output into a pipe, and a submission's own output."""

from collections.abc import Callable
from typing import Any

Emit = Callable[[dict[str, Any]], None]
"""Takes an event: a line of metrics.jsonl, as a dict with at least "event"."""


def describe(event: dict[str, Any]) -> str | None:
    """A line for a person, or None for events that only a progress bar cares about."""
    match event["event"]:
        case "train":
            return f"step {event['step']}: loss {event['loss']:.4f}, {event['seconds']:.1f} s"
        case "val":
            return (
                f"step {event['step']}: validation loss {event['val_loss']:.4f}, {event['val_bpb']:.4f} bits per byte"
            )
        case "averaged":
            return f"averaged: validation loss {event['val_loss']:.4f}, {event['val_bpb']:.4f} bits per byte"
        case "stage" if event["stage"] != "validate":
            return f"{event['stage']} ..."
        case "size":
            verdict = "fits" if event["fits"] else "OVER THE LIMIT"
            return (
                f"model {event['model']:,} + code {event['code']:,} = {event['total']:,} of {event['limit']:,} bytes: "
                f"{verdict}"
            )
        case "score":
            return f"final score: loss {event['val_loss']:.8f}, {event['val_bpb']:.8f} bits per byte"
        case "reused":
            return f"{event['stage']}: taken over from {event['from']}"
        case "note":
            return str(event["text"])
    return None
