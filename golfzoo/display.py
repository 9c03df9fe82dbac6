"""What a person sees of a run: a progress line and tables on a terminal, plain lines into a pipe or file."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from golfzoo.engine.lines import describe
from golfzoo.verify.verdict import MEANINGS, Verdict


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


def make_table(console: Console, title: str, header: list[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table whose first column is text and whose others are figures; without lines where it is not for a terminal."""
    table = Table(title=title, title_justify="left", box=ROUNDED if console.is_terminal else None)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return table


def show_sizes(measured: dict[str, Any]) -> None:
    """What `golfzoo size` prints."""
    console = make_console()
    groups, size = measured["groups"], measured["bytes"]
    columns = ["parameters", "raw", "quantized", "compressed", "entropy"]
    rows = [[row["name"], *(row[column] if row[column] is not None else "-" for column in columns)] for row in groups]
    totals = [sum(row[column] or 0 for row in groups) or "-" for column in columns]
    rows.append(["all of them", *totals])
    bits = [f"{8 * row['compressed'] / row['parameters']:.2f}" if row["compressed"] else "-" for row in groups] + [
        f"{8 * totals[3] / totals[0]:.2f}" if totals[3] != "-" else "-"
    ]
    with_bits = [[*row, bit] for row, bit in zip(rows, bits, strict=True)]
    console.print(make_table(console, "Tensors, in bytes", ["group", *columns, "bits/weight"], with_bits))
    modules = sorted(measured["modules"].items(), key=lambda item: -item[1])
    console.print(make_table(console, "Code, in bytes of train_gpt.py", ["module", "costs"], modules))
    print(f"model      {size['model']:>12,}" if size["model"] else "model                 -  (no artifact yet)")
    print(f"code       {size['code']:>12,}")
    print(f"tokenizer  {size['tokenizer']:>12,}")
    print(f"total      {size['total']:>12,} of {size['limit']:,}")
    print(f"headroom   {measured['headroom']:>12,}")


def show_verdicts(verdicts: list[Verdict], notes: list[str]) -> None:
    """What `golfzoo verify` prints."""
    console = make_console()
    table = Table(box=ROUNDED if console.is_terminal else None)
    for column in ("probe", "verdict", "figure", "holds when"):
        table.add_column(column, overflow="fold")
    styles = {"holds": "green", "FAILS": "bold red", "-": "dim"}
    for verdict in verdicts:
        word = f"[{styles[verdict.word]}]{verdict.word}[/]"
        table.add_row(verdict.probe, word, escape(verdict.figure), MEANINGS[verdict.probe])
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
    failed = [verdict.probe for verdict in verdicts if verdict.holds is False]
    console.print(
        f"{len(failed)} of {len(verdicts)} probes fail: {', '.join(failed)}" if failed else "Every probe holds."
    )


def make_console(quiet: bool = False) -> Console:
    """The terminal, or, where the output goes elsewhere, lines that are as long as they need to be."""
    console = Console(highlight=False, soft_wrap=True, quiet=quiet)
    return console if console.is_terminal else Console(highlight=False, quiet=quiet, width=1000)


def show_result(console: Console, result: dict[str, Any], published: dict[str, Any] | None) -> None:
    """The table at the end of a run: scores, bytes, seconds."""
    title = f"{result['record']}, seed {result['seed']}"
    table = Table(title=title, title_justify="left", show_header=False, box=ROUNDED if console.is_terminal else None)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    stages, size, seconds = result["stages"], result["bytes"], result["seconds"]
    notes = {
        "trained": "flat, weights as trained",
        "roundtrip": "flat, weights read back from the artifact",
        "final": "the score, as the record's eval and adaptor say",
    }
    for name, note in notes.items():
        table.add_row(name, f"{stages[name]['val_bpb']:.4f}", f"bits per byte; {note}")
    table.add_section()
    table.add_row("model", f"{size['model']:,}", "bytes of artifact.golf")
    table.add_row("code", f"{size['code']:,}", "bytes of train_gpt.py, as `golfzoo pack` writes it")
    verdict = "fits" if size["fits"] else "[bold red]over the limit[/]"
    table.add_row("total", f"{size['total']:,}", f"of {size['limit']:,} bytes: {verdict}")
    table.add_section()
    for name in ("train", "eval"):
        table.add_row(name, f"{seconds[name]:.1f}", "seconds")
    console.print(table)
    for note in _comparisons(result, published):
        console.print(note, markup=False)


def _comparisons(result: dict[str, Any], published: dict[str, Any] | None) -> Iterable[str]:
    """What the score can and cannot be compared with."""
    if baselines := result["dataset"].get("baseline_bpb"):
        yield (
            f"The validation text under general compressors: zlib {baselines['zlib']:.4f}, xz {baselines['xz']:.4f} "
            "bits per byte."
        )
    if result["profile"] != "none":
        yield f"Profile {result['profile']!r} was laid over the record: not comparable with published scores."
    elif published and published.get("val_bpb"):
        yield f"Published: {published['val_bpb']:.4f} bits per byte ({published.get('source', '')})."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
