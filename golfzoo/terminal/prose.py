"""Sentences on a terminal: broken between words, and never inside a word, which may be a path to be copied.

All that golfzoo writes to a terminal or a pipe goes through `echo`, `tell` and `say` here, or a console of `tables`:
none of them passes on what a stranger's text would have a terminal do.
"""

import shutil
import sys
import textwrap
from typing import TextIO

import click
from rich.console import Console

from golfzoo.strangers.values import visible


def broken(line: str, width: int, indent: str = "") -> list[str]:
    """A line as several of at most `width`, where its words allow it; all but the first are indented."""
    return textwrap.wrap(
        line, max(width, 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def wrapped(text: str, width: int) -> str:
    """Every line of a text, broken between words. Indented lines, which are commands and lists, stay as they are."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines += [line] if len(line) <= width or line.startswith("  ") else broken(line, width, "  ")
    return "\n".join(lines)


def echo(text: str, err: bool = False, end: str = "\n") -> None:
    """Print a text as it is."""
    click.echo(visible(text) + end, nl=False, err=err)


def tell(text: str, err: bool = False) -> None:
    """Print sentences: wrapped on a terminal, in a pipe or file as they are, one a line."""
    stream: TextIO = sys.stderr if err else sys.stdout
    echo(wrapped(visible(text), shutil.get_terminal_size().columns) if stream.isatty() else text, err)


def say(console: Console, text: str) -> None:
    """The same on a console, which may be a quiet one."""
    shown = wrapped(visible(text), console.width) if console.is_terminal else text
    console.print(shown, markup=False, soft_wrap=True)  # lines that are longer must be copied as one
