"""A run of Weights & Biases for a run of golfzoo, under the name of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb

from golfzoo_curves import scalars

if TYPE_CHECKING:
    from golfzoo_wandb import WandbConfig


class Wandb:
    """A run that is resumed goes on with its run there, whose id is kept in `folder`/wandb/run-id."""

    def __init__(self, config: WandbConfig, record: dict[str, Any], folder: Path) -> None:
        known = folder / "wandb" / "run-id"
        mode: Any = (
            config.mode or wandb.setup().settings.mode
        )  # wandb's type for it lists the values, which the option has checked
        self.run = wandb.init(
            project=config.project or record["record"]["name"],
            entity=config.entity or None,
            mode=mode,
            name=folder.resolve().name,
            id=known.read_text() if known.exists() else None,
            resume="allow" if known.exists() and mode == "online" else None,
            dir=folder,
            config=record,
            settings=wandb.Settings(console="off"),  # the output is the run's own
        )
        if mode != "disabled":
            known.parent.mkdir(exist_ok=True)
            known.write_text(self.run.id)

    def event(self, event: dict[str, Any]) -> None:
        if event["event"] in ("train", "val"):
            self.run.log(scalars(event), step=event["step"])

    def finish(self, result: dict[str, Any]) -> None:
        self.run.summary.update(result)
        self.run.finish(exit_code=0 if result["status"] == "completed" else 1)
