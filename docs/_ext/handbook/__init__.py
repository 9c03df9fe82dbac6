"""What these pages need beyond Markdown: a table of contents from the index, links to the repository's files, and what
is told from the code itself: options, commands, hooks, and the drawing of a run."""

from typing import Any

from sphinx.application import Sphinx

from handbook import contents, docstrings, drawing, sources, tables


def setup(app: Sphinx) -> dict[str, Any]:
    for part in (contents, docstrings, drawing, sources, tables):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
