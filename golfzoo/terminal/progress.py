"""What a person sees of a run while it runs: a progress line on a terminal, plain lines into a pipe or file."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from golfzoo.engine.describe import describe
from golfzoo.terminal.prose import say
from golfzoo.terminal.tables import make_console

_BEGINNING = "importing torch, reading the data"
_SECONDS_BETWEEN = 5.0  # lines of progress in a pipe
_LEAST_SHARE = 0.05


class Display:
    """Shows events as they come. Use it as a context manager around a run."""

    def __init__(self, tables: dict[str, dict[str, Any]], quiet: bool = False) -> None:
        self.train = tables["train"]
        self.console = make_console(quiet)
        self.live = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            transient=True,
            expand=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.last_said, self.last_share = time.monotonic(), 0.0

    def __enter__(self) -> "Display":
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        say(self.console, text)

    def begin(self) -> None:
        """Say what is being waited for before the first event: it takes seconds."""
        if self.console.is_terminal:
            self.live.start()
            self._start("start")
            self._move(0.0, _BEGINNING)
        elif "torch" not in sys.modules:
            self.say(f"{_BEGINNING} ...")

    def show(self, event: dict[str, Any]) -> None:
        line = describe(event)
        if not self.console.is_terminal:
            if line is not None and event["event"] not in ("size", "score"):
                self.say(line)
                self.last_said, self.last_share = time.monotonic(), 0.0
            elif event["event"] == "progress" and "step" not in event:
                self._say_sparsely(event["done"], event["total"])
            return
        match event["event"]:
            case "stage" if event["stage"] != "validate":
                self._start(event["stage"])
            case "train" | "progress" if "step" in event:
                self._train(event)
            case "progress":
                self._move(event["done"] / event["total"], f"{event['done']:,} of {event['total']:,} targets")
            case "val" | "note":
                self.say(str(line))

    def _say_sparsely(self, done: int, total: int) -> None:
        """How far scoring has come: a line after some seconds of silence, and some 20 of them in all at the most."""
        share = done / total
        if time.monotonic() - self.last_said < _SECONDS_BETWEEN or share - self.last_share < _LEAST_SHARE:
            return
        self.say(f"  {done:,} of {total:,} targets")
        self.last_said, self.last_share = time.monotonic(), share

    def _start(self, stage: str) -> None:
        if self.task is not None:
            self.live.remove_task(self.task)
        self.task = self.live.add_task(stage, total=1.0, text="")

    def _move(self, fraction: float, text: str) -> None:
        if self.task is not None:
            self.live.update(self.task, completed=fraction, text=text)

    def _train(self, event: dict[str, Any]) -> None:
        """Steps may end by their number or by the clock; the bar follows whichever comes first."""
        step, seconds = event["step"], event["seconds"]
        per_step = seconds / step
        fraction = step / self.train["iterations"]
        left = seconds / fraction - seconds
        if cap := self.train["max_wallclock_seconds"]:
            fraction = max(fraction, seconds / cap)
            left = min(left, max(cap - seconds, 0.0))
        self._move(
            min(fraction, 1.0),
            f"step {step} of {self.train['iterations']}  loss {event['loss']:.4f}  {1000 * per_step:,.0f} ms/step  "
            f"{self.train['batch_tokens'] / per_step:,.0f} tok/s  {_duration(left)} left",
        )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
