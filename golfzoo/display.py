"""What a person sees of a run: a progress line and tables on a terminal, plain lines into a pipe or file."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from golfzoo.engine.lines import describe


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

    def __enter__(self) -> "Display":
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def show(self, event: dict[str, Any]) -> None:
        line = describe(event)
        if not self.console.is_terminal:
            if line is not None and event["event"] not in ("size", "score"):
                self.say(line)
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


class _Patient(Console):
    """`golfzoo run ... | head`: who read our output has seen enough, and what was begun is finished all the same."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):
            super().on_broken_pipe()


def make_console(quiet: bool = False) -> Console:
    """The terminal, or, where the output goes elsewhere, lines that are as long as they need to be."""
    console = _Patient(highlight=False, soft_wrap=True, quiet=quiet)
    return console if console.is_terminal else _Patient(highlight=False, quiet=quiet, width=1000)


def left_out(console: Console, widths: Mapping[str, int], least: Iterable[str]) -> list[str]:
    """The columns that a table has no room for on a narrow terminal: of `least`, in its order, as many as it takes."""
    hidden: list[str] = []
    for column in least if console.is_terminal else ():
        if sum(width + 3 for name, width in widths.items() if name not in hidden) + 1 > console.width:
            hidden.append(column)
    return hidden


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
