"""Pieces of a page. Whatever is not Markup already is text, and is escaped."""

import html
from collections.abc import Iterable, Sequence

from golfzoo.report.drawing import Drawing, to_svg
from golfzoo.strangers.values import visible


class Markup(str):
    """HTML that is meant as such."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Anything as markup: Markup stays what it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(visible(str(value))))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """`element("a", "here", href="#x")`; a trailing underscore of an attribute's name is dropped, as in class_."""
    written = "".join(f' {name.rstrip("_")}="{html.escape(visible(str(value)))}"' for name, value in attributes.items())
    return Markup(f"<{tag}{written}>{join(content)}</{tag}>")


def join(parts: Iterable[object], between: str = "") -> Markup:
    return Markup(between.join(map(text, parts)))


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    texts: Sequence[int] = (0,),
    marked: Sequence[int] = (),
    wrap: bool = True,
) -> Markup:
    """A table that scrolls in a container of its own. `texts`: numbers of the columns that hold text, which may wrap;
    `marked`: numbers of the rows that are set off from the others."""
    heads = [
        element("th", name, scope="col", class_="text" if at in texts else "figure") for at, name in enumerate(header)
    ]
    text_class = "text wrap" if wrap else "text"
    body = []
    for number, row in enumerate(rows):
        cells = [element("td", cell, class_=text_class if at in texts else "figure") for at, cell in enumerate(row)]
        body.append(element("tr", *cells, class_="published" if number in marked else "run"))
    whole = element("table", element("thead", element("tr", *heads)), element("tbody", *body))
    return element("div", whole, class_="scroll", tabindex="0")


def figure(drawing: Drawing, *below: object) -> Markup:
    """A card with a plot, its title and its caption."""
    title = element("h3", drawing.title, id=f"{drawing.name}-title")
    caption = element("figcaption", drawing.caption) if drawing.caption else ""
    return element("div", element("figure", title, caption, Markup(to_svg(drawing))), *below, class_="card")


def details(summary: object, *content: object) -> Markup:
    return element("details", element("summary", summary), element("div", *content))


def card(*content: object) -> Markup:
    return element("div", *content, class_="card")


def note(*content: object) -> Markup:
    return element("p", *content, class_="note")


def notes(lines: Iterable[str]) -> Markup:
    return join(note(line) for line in lines)


def section(name: str, title: str, *content: object) -> Markup:
    return element("section", element("h2", title, id=name), *content)
