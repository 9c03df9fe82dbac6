"""How Sphinx makes a site of these pages: `sphinx-build -W --keep-going -n docs build/docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "golfzoo"
author = "the golfzoo authors"
release = importlib.metadata.version("golfzoo")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "handbook"]
exclude_patterns = ["_ext"]
templates_path: list[str] = []

myst_heading_anchors = 3  # links to headings, as on GitHub
myst_enable_extensions = ["attrs_block"]  # for the tables that are made from the code
smartquotes = False  # `--out` is an option, not a dash

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# What signatures name and no page here describes: types of libraries, and the engine's own.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|np|numpy|nn|pathlib|pluggy|pydantic|torch)\..*|.*Mapping|Tensor"),
    ("py:class", r"Averaging|StandIns|Now|Path|Speaker|Tensors|golfzoo\.zoo\.Zoo|(Record|Data|Train|Eval|Size)Table"),
]

html_theme = "furo"
html_title = "golfzoo"
html_static_path = ["_static"]
html_css_files = ["handbook.css"]
html_copy_source = False
html_show_copyright = False
