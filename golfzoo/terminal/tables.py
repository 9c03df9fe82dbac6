"""Tables that fit the terminal they are shown on, and never break a figure."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from golfzoo.strangers.values import visible
from golfzoo.terminal.prose import say

_NAME_WIDTH = 24  # a longer name may be folded to it, where that saves a column


class _Patient(Console):
    """`golfzoo run ... | head`: who read our output has seen enough, and what was begun is finished all the same.

    What is shown is text, of whatever origin: only rich itself may tell the terminal what to do.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

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


def make_table(console: Console, title: str, header: list[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table whose first column is text and whose others are figures; without lines where it is not for a terminal."""
    table = Table(title=title or None, title_justify="left", box=ROUNDED if console.is_terminal else None)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_written(cell)) for cell in row))
    return table


def show_table(console: Console, title: str, header: list[str], rows: list[list[Any]], least: Iterable[str]) -> None:
    """Print a table. Its names may be folded, its figures never: a terminal that is too narrow is shown fewer columns,
    without those of `least` in their order, and told so."""
    cells = list(zip(header, *(map(_written, row) for row in rows), strict=True))
    widths = {column[0]: max(map(len, column)) for column in cells}
    longest_word = max((len(word) for name in cells[0] for word in name.split()), default=0)
    hidden = left_out(console, widths | {header[0]: min(longest_word, _NAME_WIDTH)}, least)
    kept = [number for number, name in enumerate(header) if name not in hidden]
    table = make_table(console, title, [header[number] for number in kept], [[row[i] for i in kept] for row in rows])
    for column, number in list(zip(table.columns, kept, strict=True))[1:]:
        column.no_wrap, column.min_width = True, widths[header[number]]
    console.print(table)
    if hidden:
        say(console, f"Too narrow for {', '.join(hidden)}; --json has them.")


def _written(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def or_unknown(value: float | None, form: str, unknown: str = "?") -> str:
    return unknown if value is None else form.format(value)
