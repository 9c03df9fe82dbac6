"""The index's lists are the table of contents: a page is put into the site by a line on the index, and nowhere else."""

import re

from sphinx.application import Sphinx

_ENTRY = re.compile(r"^- \[([^\]]+)\]\(([\w/-]+)\.md\)")


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_toctrees)


def add_toctrees(app: Sphinx, page: str, source: list[str]) -> None:
    """Put a hidden toctree behind the index for each of its sections."""
    if page == app.config.root_doc:
        source[0] += "".join(toctree(caption, entries) for caption, entries in sections(source[0]) if entries)


def sections(index: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every `## ` heading with the pages listed below it, as (title, name of the page)."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in index.splitlines():
        if line.startswith("## "):
            found.append((line.removeprefix("## "), []))
        elif found and (entry := _ENTRY.match(line)):
            found[-1][1].append((entry[1], entry[2]))
    return found


def toctree(caption: str, entries: list[tuple[str, str]]) -> str:
    lines = "".join(f"{title} <{page}>\n" for title, page in entries)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}```\n"
