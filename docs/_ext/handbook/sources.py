"""Links to files outside of docs/: on GitHub they lead to the file, and here to a page of this site that shows it.

So the site holds everything it speaks of, as it is in this version, and needs no network.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import myst_parser.parsers.docutils_
from docutils import nodes
from docutils.core import publish_doctree
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

ROOT = Path(__file__).parents[3]

_LANGUAGES = {".py": "python", ".toml": "toml", ".md": "markdown", ".yml": "yaml"}


def setup(app: Sphinx) -> None:
    app.add_transform(LinksToSources)
    app.connect("html-collect-pages", source_pages)


def page_of(path: Path) -> str:
    """The name of the page that shows a file or a folder of the repository."""
    return f"files/{path.relative_to(ROOT).as_posix()}"


class LinksToSources(SphinxTransform):
    """Turns MyST's links to files that are no pages into links to the pages that show them."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        links = [*self.document.findall(addnodes.download_reference), *self.document.findall(addnodes.pending_xref)]
        for link in links:
            if link.get("reftype") == "myst" and (path := self.path_of(link)):
                here, there = (self.app.builder.get_target_uri(page) for page in (self.env.docname, page_of(path)))
                uri = relative_uri(here, there) + (f"#{anchor}" if (anchor := link.get("reftargetid")) else "")
                self.wanted.add(path)
                link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))

    @property
    def wanted(self) -> set[Path]:
        """The files and folders that some page links to; kept with the environment, from build to build."""
        return self.env.__dict__.setdefault("handbook_sources", set())

    def path_of(self, link: nodes.Element) -> Path | None:
        """The file or folder outside of docs/ that a link leads to, if it leads to one."""
        docs = Path(self.env.srcdir)
        target = unquote(link["reftarget"].partition("#")[0])
        folder = docs if link.get("refdomain") == "doc" else (docs / self.env.docname).parent
        path = (folder / (f"{target}.md" if link.get("refdomain") == "doc" else target)).resolve()
        if not target or not path.exists() or not path.is_relative_to(ROOT) or path.is_relative_to(docs):
            return None
        return path


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file and folder that is linked to, and for what these link to in turn."""
    waiting: list[Path] = sorted(app.env.__dict__.get("handbook_sources", ()))
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        body, further = _shown(app, path)
        title = path.relative_to(ROOT).as_posix()
        yield page_of(path), {"title": title, "body": body}, "page.html"
        waiting += further - seen
        seen |= further


def _shown(app: Sphinx, path: Path) -> tuple[str, set[Path]]:
    """What a page shows of a file or a folder, as HTML, and the files that it links to."""
    if path.is_dir():
        return _listing(app, path)
    if path.suffix == ".md":
        return _markdown(app, path)
    text = path.read_text()
    code = app.builder.highlighter.highlight_block(text, _LANGUAGES.get(path.suffix, "text"), location=str(path))
    return f"<h1>{escape(path.relative_to(ROOT).as_posix())}</h1>\n{code}", set()


def _listing(app: Sphinx, folder: Path) -> tuple[str, set[Path]]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in _LANGUAGES and "build" not in path.parts)
    rows = "".join(
        f'<li><a href="{escape(_uri(app, folder, path))}">{escape(path.relative_to(folder).as_posix())}</a></li>'
        for path in files
    )
    return f"<h1>{escape(folder.relative_to(ROOT).as_posix())}</h1>\n<ul>{rows}</ul>", set(files)


def _markdown(app: Sphinx, path: Path) -> tuple[str, set[Path]]:
    """A page of the repository that is not in docs/, as README.md."""
    settings = {"myst_heading_anchors": 3, "myst_all_links_external": True, "doctitle_xform": False}
    parser = myst_parser.parsers.docutils_.Parser()
    document = publish_doctree(path.read_text(), str(path), parser=parser, settings_overrides=settings)
    further = set()
    for link in document.findall(nodes.reference):
        target, anchor, name = link.get("refuri", "").replace("\\", "").partition("#")
        there = (path.parent / unquote(target)).resolve()
        if target and "://" not in target and there.exists():
            link["refuri"] = _uri(app, path, there) + anchor + name
            further |= set() if _is_page(app, there) else {there}
    # Sphinx sets these where it writes pages, which it does not where none has changed.
    app.builder.secnumbers, app.builder.fignumbers = app.env.toc_secnumbers, app.env.toc_fignumbers
    return "".join(app.builder.render_partial(nodes.container("", *document.children))["fragment"]), further


def _is_page(app: Sphinx, path: Path) -> bool:
    docs = Path(app.srcdir)
    return path.is_relative_to(docs) and path.relative_to(docs).with_suffix("").as_posix() in app.env.found_docs


def _uri(app: Sphinx, here: Path, there: Path) -> str:
    page = there.relative_to(app.srcdir).with_suffix("").as_posix() if _is_page(app, there) else page_of(there)
    return relative_uri(app.builder.get_target_uri(page_of(here)), app.builder.get_target_uri(page))
