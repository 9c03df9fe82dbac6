"""A plot, and how it becomes part of a page or a file of its own. All that is known of matplotlib's ways is here.

matplotlib and squarify come with the extra [report]; `styled` says so where they are missing.
"""

import io
import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from golfzoo.errors import UsageError
from golfzoo.report.style import LIGHT, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_MARK = "golfzoo report"
_WIDTH = 4.7  # inches; letters stay legible where a phone shows this width on 350 pixels
_LINE_STYLES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)))
_MARKERS = ("o", "s", "^")
_BETWEEN = 8  # pixels at least from one number of an axis to the next


@dataclass(frozen=True)
class Drawing:
    """A finished plot. `name` is unique in a report: a file's name without its ending. `caption` says what is seen."""

    name: str
    title: str
    caption: str
    figure: "Figure"


@contextmanager
def styled() -> Iterator[None]:
    """Within this, plots are drawn and written in the report's style. Raises UsageError without the extra [report]."""
    try:
        import matplotlib
        import squarify  # noqa: F401  (the treemap's; its lack is better known before anything is drawn)
    except ImportError:
        raise UsageError("report needs the extra [report]: pip install 'golfzoo[report]'") from None
    ink, muted, line = (LIGHT[name] for name in ("ink", "muted", "line"))
    settings: Any = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
        "font.size": 9.5,
        "axes.edgecolor": line,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.labelcolor": muted,
        "axes.labelsize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": line,
        "grid.linewidth": 0.7,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "svg.fonttype": "none",
        "text.color": ink,
        "text.parse_math": False,  # a name with dollar signs is a name
        "text.usetex": False,
        "xtick.color": line,
        "xtick.labelcolor": muted,
        "xtick.labelsize": 9,
        "ytick.color": line,
        "ytick.labelcolor": muted,
        "ytick.labelsize": 9,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def new_figure(height: float = 3.2) -> "tuple[Figure, Axes]":
    """An empty figure of the report's width, in inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def colour_of(series: int) -> str:
    """The colour of the run that has this number among the names, from 1."""
    return LIGHT[variable_of(series)]


def variable_of(series: int) -> str:
    """The name of that colour in the style sheet."""
    return SERIES[(series - 1) % len(SERIES)]


def line_style_of(series: int) -> Any:
    """Runs beyond the number of colours repeat them with other dashes."""
    return _LINE_STYLES[(series - 1) // len(SERIES) % len(_LINE_STYLES)]


def marker_of(series: int) -> str:
    """And with other dots."""
    return _MARKERS[(series - 1) // len(SERIES) % len(_MARKERS)]


def settle_ticks(figure: "Figure", axes: "Axes") -> None:
    """Numbers below the plot in full, and so few that none runs into the next. Lays the figure out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    canvas = FigureCanvasAgg(figure)
    for most in range(6, 0, -1):
        axes.locator_params(axis="x", nbins=most)
        canvas.draw()
        low, high = sorted(axes.get_xlim())
        drawn = [label for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
                 if low <= place <= high]  # fmt: skip
        boxes = sorted((label.get_window_extent() for label in drawn), key=lambda box: box.x0)
        if all(left.x1 + _BETWEEN < right.x0 for left, right in itertools.pairwise(boxes)):
            return


def add_legend(figure: "Figure", axes: "Axes", columns: int = 1) -> None:
    """A legend below the plot, for which the figure grows."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.19 * -(-len(handles) // columns))
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, labelspacing=0.35, borderpad=0.1)


def to_svg(drawing: Drawing) -> str:
    """The plot as an element of a page: scaled by the style sheet, in the colours of the scheme, without identifiers
    that another plot could have too."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": drawing.name}):
        drawing.figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    head, _, body = text.partition(">")
    view = re.search(r'viewBox="[\d .]+"', head)
    head = f'<svg {view[0] if view else ""} role="img" aria-labelledby="{drawing.name}-title"'
    body = re.sub(r'\bid="([^"]*)"', rf'id="{drawing.name}-\1"', body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{drawing.name}-", body)
    for name, colour in LIGHT.items():
        body = body.replace(colour, f"var(--{name})")
    return f"{head}>{body.strip()}"


def to_png(drawing: Drawing) -> bytes:
    """The plot as a picture in the light colours, marked as one of golfzoo's."""
    buffer = io.BytesIO()
    metadata = {"Software": PNG_MARK}
    drawing.figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata=metadata)
    return buffer.getvalue()
