"""Training and validation as scalars over the step; the record and the result as texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter

from golfzoo_curves import scalars

if TYPE_CHECKING:
    from golfzoo_tensorboard import TensorBoardConfig


class TensorBoard:
    """Writes an event file into `folder`/tensorboard; a run that is resumed adds one."""

    def __init__(self, config: TensorBoardConfig, record: dict[str, Any], folder: Path) -> None:
        self.flush_seconds, self.record, self.folder = config.flush_seconds, record, folder / "tensorboard"
        self.writer: SummaryWriter | None = None

    def event(self, event: dict[str, Any]) -> None:
        if event["event"] not in ("train", "val"):
            return
        step = event["step"]
        # A resumed run takes steps again, and their points before must go. It may begin with the validation after the
        # step of its checkpoint, and that step's own points must stay.
        writer = self._open(purge_step=step + 1 if event["event"] == "val" else step)
        for name, value in scalars(event).items():
            writer.add_scalar(name, value, step)

    def finish(self, result: dict[str, Any]) -> None:
        writer = self._open()
        step = result.get("steps", 0)
        for name, score in result.get("stages", {}).items():
            writer.add_scalar(f"score/{name}_bpb", score["val_bpb"], step)
        writer.add_text("result", _preformatted(result), step)
        writer.close()

    def _open(self, purge_step: int | None = None) -> SummaryWriter:
        if self.writer is None:
            self.writer = SummaryWriter(str(self.folder), purge_step=purge_step, flush_secs=self.flush_seconds)
            self.writer.add_text("record", _preformatted(self.record))
        return self.writer


def _preformatted(table: dict[str, Any]) -> str:
    """As Markdown, which is what TensorBoard shows texts as."""
    return "\n".join(f"    {line}" for line in json.dumps(table, indent=1).splitlines())
