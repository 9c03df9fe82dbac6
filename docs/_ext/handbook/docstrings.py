"""golfzoo's docstrings are written for a reader of the code; here they become reStructuredText.

In them a line `name   what it is`, gone on with further to the right, describes one of several; an indented paragraph
is code; `backticks` are code too; and everything else is prose, in which no character has a meaning of its own.
"""

import re

from sphinx.application import Sphinx

Signature = tuple[str, str] | None
"""Arguments and what is returned; None: as they are."""

_ROW = re.compile(r"^(\S(?:.*?\S)?) {2,}(\S.*)$")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", convert)
    app.connect("autodoc-process-signature", legible)


def convert(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines)).splitlines()


def legible(app: Sphinx, what: str, name: str, thing: object, options: object, given: str, returned: str) -> Signature:
    """A signature as Sphinx can read it: a dataclass shows a default that is made anew each time as no Python."""
    return (given.replace("<factory>", "..."), returned) if given and "<factory>" in given else None


def restructured(docstring: str) -> str:
    """A docstring as reStructuredText, paragraph by paragraph."""
    paragraphs = re.split(r"\n\s*\n", docstring.strip("\n"))
    return "\n\n".join(_paragraph(paragraph.split("\n")) for paragraph in paragraphs) + "\n"


def _paragraph(lines: list[str]) -> str:
    if all(line.startswith("    ") for line in lines):
        return "::\n\n" + "\n".join(lines)
    if lines[0].startswith(">>> "):  # shown, not run: it needs what the tests of its module prepare
        return ".. code-block:: pycon\n\n" + "\n".join(f"    {line}" for line in lines)
    if not _ROW.match(lines[0]):
        return prose(" ".join(line.strip() for line in lines))
    rows: list[list[str]] = []
    for line in lines:
        if row := _ROW.match(line):
            rows.append([row[1], row[2]])
        else:
            rows[-1][1] += " " + line.strip()
    return "\n".join(f"{code(term)}\n    {prose(text)}" for term, text in rows)


def prose(text: str) -> str:
    """Text whose `code` is code, and which has no other markup."""
    parts = text.split("`")
    return "".join(
        code(part) if number % 2 else re.sub(r"([\\*|_])", r"\\\1", part) for number, part in enumerate(parts)
    )


def code(text: str) -> str:
    return f"``{text}``" if text.strip() else ""
