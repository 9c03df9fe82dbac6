"""A text as a page on which every token has the colour of what it cost. It stands alone, and has no scripts in it."""

import html
import itertools
from pathlib import Path

from golfzoo.errors import UsageError
from golfzoo.report.markup import Markup, element, join, note
from golfzoo.report.page import POLICY, check_place, write_page
from golfzoo.report.style import style_sheet
from golfzoo.speaking.speaker import Token
from golfzoo.speaking.texts import ScoredTexts, bits_per_byte, tokens_of
from golfzoo.strangers.values import printable, visible

MARK = "<!-- made by golfzoo score -->"
MOST_TOKENS = 100_000
"""The tokens of a page, at most: 15 MB of it."""

_BITS = (0.25, 0.5, 1, 2, 3, 4, 6, 8, 11)
"""Where one shade ends and the next begins; a fair guess among 1024 tokens costs 10."""

# Over the page's own colours, and never so dense that its letters could not be read: in both schemes their contrast
# stays above 4.5.
_RULES = """
:root { --heat: 203 57 14; }
@media (prefers-color-scheme: dark) { :root { --heat: 224 92 12; } }
.heat { white-space: pre-wrap; overflow-wrap: anywhere; overflow: visible; font-size: 14px; line-height: 1.75; }
.heat i, .scale i { font-style: normal; border-radius: 2px; }
.heat i:hover { outline: 1.5px solid var(--accent); }
.heat u { text-decoration: none; color: var(--muted); }
.scale { margin: 18px 0 0; font-size: 13px; color: var(--muted); line-height: 1.9; }
.scale i { padding: 1px 7px; margin-right: 4px; color: var(--ink); }
"""


def check_heatmap(out: Path) -> None:
    """See that the page may be written there, before it takes time to fill it. Raises UsageError."""
    check_place(out, MARK, "golfzoo score")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--html {out}: {out.absolute().parent} is no folder; make it first, or choose another")


def write_heatmap(scored: ScoredTexts, model: str, out: Path) -> None:
    """Write the page. `model` is the name of the record."""
    write_page(out, compose(scored, model).encode("utf-8", "replace"))


def compose(scored: ScoredTexts, model: str) -> str:
    """The page as HTML."""
    tokens = tokens_of(scored)
    left, sections = MOST_TOKENS, []
    rows = zip(scored.names, itertools.pairwise(scored.text.starts.tolist()), strict=True)
    for number, (name, (start, end)) in enumerate(rows):
        bpb = bits_per_byte(scored.score.documents["nats"][number], int(scored.score.documents["bytes"][number]))
        shown = tokens[start : min(end, start + left)]
        left -= len(shown)
        about = f"{end - start:,} tokens" + (f", {bpb:.4f} bits per byte" if bpb is not None else "")
        heading = element("h2", printable(name))
        more = (
            note(f"… and {end - start - len(shown):,} tokens that are not shown.") if len(shown) < end - start else ""
        )
        text = element("pre", join(map(_token, shown)), class_="heat")
        sections.append(element("section", heading, note(about), text, more))
    head = join(
        [
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
            element("title", f"golfzoo: what {model} makes of {printable(scored.names[0])}"),
            element("style", Markup(style_sheet() + _shades() + _RULES)),
        ],
        "\n",
    )
    top = element(
        "header", element("h1", "What each token costs"), _lead(scored, model), _key_figures(scored), _scale()
    )
    body = element("body", top, element("main", *sections), element("footer", "Made by golfzoo score."))
    return f'<!doctype html>\n{MARK}\n<html lang="en">\n<head>\n{head}\n</head>\n{body}\n</html>\n'


def _token(token: Token) -> Markup:
    title = f"{printable(repr(token.text))}, id {token.id}: {token.nats:.3f} nats, {token.bits:.3f} bits"
    shown = html.escape(visible(token.text)).replace("\n", "<u>↵</u>\n") or "<u>·</u>"
    return Markup(f'<i class="h{_shade(token.bits)}" title="{html.escape(title)}">{shown}</i>')


def _shade(bits: float) -> int:
    return sum(bits >= bound for bound in _BITS)


def _shades() -> str:
    alphas = [0.55 * number / len(_BITS) for number in range(len(_BITS) + 1)]
    return "".join(
        f"\n.h{number} {{ background: rgb(var(--heat) / {alpha:.3f}); }}" for number, alpha in enumerate(alphas)
    )


def _scale() -> Markup:
    names = [f"below {_BITS[0]}", *(f"{bound:g}" for bound in _BITS)]
    shades = [element("i", name, class_=f"h{number}") for number, name in enumerate(names)]
    return element("p", "Bits of a token, from: ", *shades, class_="scale")


def _lead(scored: ScoredTexts, model: str) -> Markup:
    how = "adapting as its record says" if scored.adapted else "flat, in windows as in training"
    return element("p", f"By the model of {model}, {how}. Point at a token to see what it cost.", class_="lead")


def _key_figures(scored: ScoredTexts) -> Markup:
    figures = {"bits per byte, the model": scored.score.val_bpb}
    figures |= {f"bits per byte, {name}": bits for name, bits in scored.baselines().items()}
    keys = [
        element("div", element("b", f"{bits:.4f}"), element("span", name), class_="key")
        for name, bits in figures.items()
    ]
    for count, name in ((scored.score.tokens, "tokens"), (scored.score.bytes, "bytes")):
        keys.append(element("div", element("b", f"{count:,}"), element("span", name), class_="key"))
    return element("div", *keys, class_="keys")
