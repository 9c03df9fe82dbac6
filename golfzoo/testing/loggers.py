"""Loggers."""

import copy
import tempfile
from pathlib import Path
from typing import Any

from golfzoo.testing.holding import hold


def check_logger(target: Any, config: Any) -> None:
    import torch

    record = {"record": {"name": "check"}, "train": {"seed": 1}}
    score = {"val_loss": 2.0, "val_bpb": 1.0}
    events: list[dict[str, Any]] = [
        {"event": "stage", "stage": "train"},
        {"event": "val", "step": 0, **score, "seconds": 0.0},
        {"event": "train", "step": 1, "loss": 2.0, "seconds": 0.5, "lr_multiplier": 1.0},
        {"event": "of a later version"},
        {"event": "note", "text": "anything"},
    ]
    ends: list[dict[str, Any]] = [
        {"status": "interrupted"},
        {"status": "completed", **score, "steps": 1, "stages": {"final": score}},
        {"status": "failed", "error": "RunError: anything"},
    ]
    with tempfile.TemporaryDirectory() as folder:
        hold(True, "it takes every event, those of later versions among them, and every end")
        for result in ends:  # the second is a resumed run; the third failed before anything had happened
            before = torch.get_rng_state()
            logger = target(config, record=record, folder=Path(folder))
            given = copy.deepcopy((record, events, result))
            for event in events if result["status"] != "failed" else []:
                logger.event(event)
            logger.finish(result)
            hold((record, events, result) == given, "it leaves what it is given as it is")
            hold(torch.equal(torch.get_rng_state(), before), "a logger draws no random numbers from torch")
