"""A run of trackio for a run of golfzoo, under the name of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import trackio

from golfzoo_curves import scalars

if TYPE_CHECKING:
    from golfzoo_trackio import TrackioConfig


class Trackio:
    """A run that is resumed goes on with its run in trackio; steps that are taken again are there twice."""

    def __init__(self, config: TrackioConfig, record: dict[str, Any], folder: Path) -> None:
        metrics = folder / "metrics.jsonl"
        resumed = metrics.exists() and metrics.stat().st_size > 0
        self.run = trackio.init(
            project=config.project or record["record"]["name"],
            name=folder.resolve().name,
            config=record,
            resume="allow" if resumed else "never",
            embed=False,
            auto_log_gpu=False,  # nothing samples the machine while training is timed
            auto_log_cpu=False,
        )

    def event(self, event: dict[str, Any]) -> None:
        if event["event"] in ("train", "val"):
            self.run.log(scalars(event), step=event["step"])

    def finish(self, result: dict[str, Any]) -> None:
        values: dict[str, Any] = {key: result[key] for key in ("status", "error") if key in result}
        values |= {f"score/{name}_bpb": score["val_bpb"] for name, score in result.get("stages", {}).items()}
        self.run.log(values, step=result.get("steps"))
        trackio.finish()
