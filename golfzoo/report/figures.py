"""The plots of a report but for the treemap: scores, curves, errors of tensors, gains of documents, differences."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from golfzoo.report.documents import Pair
from golfzoo.report.drawing import (
    Drawing,
    add_legend,
    colour_of,
    line_style_of,
    marker_of,
    new_figure,
    settle_ticks,
)  # fmt: skip
from golfzoo.report.gather import Ablation, Curve, Run, shorten, shorten_apart
from golfzoo.report.labels import Box, cluster, place_labels
from golfzoo.report.style import LIGHT, REST_TILE
from golfzoo.report.treemap import family_of
from golfzoo.report.weights import Artifact

MOST_RUNS = 24  # fewer than there are colours times dashes
MOST_BARS = 40
_LEAST_BAR = 200  # the longest bar is at most so many times as long as the shortest
_MOST_STEPS = 400
_FEW_POINTS = 30  # so few are marked: a line alone would hide how few they are
_FEWEST_POINTS = 3  # a line through two would claim what lies between them
_LABEL_SIZE = 9
_NAME_WIDTH = 28  # letters of a line beside a plot


def draw_scores(runs: list[Run]) -> Drawing | None:
    """Three scores of every run: as trained, after the round trip, final."""
    if not runs:
        return None
    shown = runs[:MOST_RUNS]
    figure, axes = new_figure(1.15 + 0.29 * len(shown))
    muted = LIGHT["muted"]
    for place, run in enumerate(shown):
        scores = [run.result["stages"].get(stage, {}).get("val_bpb") for stage in ("trained", "roundtrip", "final")]
        scores = [score if _is_finite(score) else math.nan for score in scores]
        axes.plot(scores, [place] * 3, color=LIGHT["line"], linewidth=2.4, zorder=1)
        axes.plot(scores[0], place, "o", markersize=8.5, markerfacecolor="none", color=muted)
        axes.plot(scores[1], place, "D", markersize=4, color=muted)
        axes.plot(scores[2], place, marker_of(run.series), markersize=6, color=colour_of(run.series))
    for label, marker, size, filled in (
        ("trained", "o", 8.5, "none"), ("roundtrip", "D", 4, muted), ("final, in the run's colour", "o", 6, muted),
    ):  # fmt: skip
        axes.plot([], [], marker, markersize=size, markerfacecolor=filled, color=muted, label=label)
    names = shorten_apart([run.name for run in shown], 2 * _NAME_WIDTH - 6)
    labels = [_in_two_lines(f"#{run.number} {name}") for run, name in zip(shown, names, strict=True)]
    axes.set_yticks(range(len(shown)), labels, linespacing=0.95)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"], labelsize=8)
    axes.set_xlabel("bits per byte")
    add_legend(figure, axes, columns=3)
    settle_ticks(figure, axes)
    caption = "Trained and roundtrip are flat scores: their difference is what quantization cost. Final is the score."
    if len(runs) > len(shown):
        caption += f" The {len(shown)} best of {len(runs)} runs."
    return Drawing("scores", "Three scores of each run", caption, figure)


def draw_sizes(runs: list[Run]) -> Drawing | None:
    """Final score against bytes in total."""
    if not runs:
        return None
    shown = runs[:MOST_RUNS]
    unit, size = _unit(max(run.result["bytes"]["total"] for run in shown))
    figure, axes = new_figure(1.15 + 0.29 * max(len(shown), 6))
    places = [(run.result["bytes"]["total"] / size, float(run.result["val_bpb"])) for run in shown]
    for run, place in zip(shown, places, strict=True):
        axes.plot(*place, marker_of(run.series), color=colour_of(run.series), markersize=7, alpha=0.9)
    axes.set(xlabel=f"code and model, {unit}", ylabel="bits per byte")
    axes.margins(x=0.14, y=0.16)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    settle_ticks(figure, axes)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # as laid out: labels are placed for these
    label_dots(axes, [f"#{run.number}" for run in shown], places)
    caption = "Better is lower, smaller is further left. Runs that lie upon one another share a label."
    return Drawing("sizes", "Score against bytes", caption, figure)


def label_dots(axes: Any, names: list[str], places: list[tuple[float, float]]) -> None:
    """A name at every dot, with a line to it where there was no room beside it. The figure has been laid out."""
    points = 72 / axes.figure.dpi
    dots = [tuple(axes.transData.transform(place) * points) for place in places]
    groups = cluster(dots, nearer_than=5)
    texts = [", ".join(names[number] for number in group) for group in groups]
    sizes = [(0.62 * _LABEL_SIZE * len(text), 1.15 * _LABEL_SIZE) for text in texts]
    frame = axes.get_window_extent()
    bounds = Box(*(edge * points for edge in (frame.x0, frame.y0, frame.x1, frame.y1)))
    middles = place_labels([dots[group[0]] for group in groups], sizes, bounds, dots)
    for text, group, (x, y), (width, height) in zip(texts, groups, middles, sizes, strict=True):
        dot = dots[group[0]]
        away = max(abs(x - dot[0]) - width / 2, abs(y - dot[1]) - height / 2) > 9
        line = {"arrowstyle": "-", "color": LIGHT["muted"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            text, places[group[0]], xytext=(x - dot[0], y - dot[1]), textcoords="offset points", ha="center",
            va="center", color=LIGHT["muted"], fontsize=_LABEL_SIZE, arrowprops=line if away else None,
            bbox={"pad": 1, "facecolor": "none", "edgecolor": "none"},
        )  # fmt: skip


def draw_curves(runs: list[Run]) -> tuple[list[Drawing], list[str]]:
    """Training loss, validation score and length of the gradients, over steps and over seconds of training, and what
    was left out. Runs that took their training over from another have its curve, which is drawn once."""
    drawings, notes = [], []
    for quantity, title, unit, why in (
        ("loss", "Training loss", "nats per token", "train.log_every"),
        ("bpb", "Validation score while training", "bits per byte", "train.val_every"),
        ("norm", "Gradient norm", "before it is clipped", "train.log_every"),
    ):
        alike: dict[Curve, list[Run]] = {}
        few = []
        for run in runs:
            curve: Curve = getattr(run, quantity)
            if len(curve.steps) >= _FEWEST_POINTS:
                alike.setdefault(curve, []).append(run)
            elif curve.steps:
                few.append(f"#{run.number}")
        if few:
            which = f" of {', '.join(few[:8])}{' …' if len(few) > 8 else ''}" if alike else ""
            notes.append(f"{title}{which} is not drawn: one or two points make no curve. {why} asks for more.")
        for over, label in (("steps", "step"), ("seconds", "seconds of training")):
            if alike:
                drawings.append(
                    _draw_curve(alike, f"{quantity}-over-{over}", f"{title}, over {over}", over, label, unit)
                )
    return drawings, notes


def _draw_curve(alike: dict[Curve, list[Run]], name: str, title: str, over: str, label: str, unit: str) -> Drawing:
    figure, axes = new_figure()
    for curve, group in list(alike.items())[:MOST_RUNS]:
        first = min(group, key=lambda run: run.series)  # by name too, so that no score changes a line's colour
        axes.plot(
            getattr(curve, over), curve.values, color=colour_of(first.series), linestyle=line_style_of(first.series),
            marker=marker_of(first.series) if len(curve.values) <= _FEW_POINTS else None, markersize=3.4,
            label=_label(first, group),
        )  # fmt: skip
    axes.set(xlabel=label, ylabel=unit)
    axes.margins(x=0.02)
    add_legend(figure, axes)
    settle_ticks(figure, axes)
    caption = "One line for runs that share a training." if any(len(group) > 1 for group in alike.values()) else ""
    if len(alike) > MOST_RUNS:
        caption += f" The first {MOST_RUNS} of {len(alike)}."
    return Drawing(name, title, caption.strip(), figure)


def draw_errors(artifact: Artifact, colours: Mapping[str, str], name: str, title: str) -> Drawing | None:
    """The relative error of the tensors that quantization changed most, in the colours of the treemap."""
    from matplotlib.patches import Patch

    finite = [tensor for tensor in artifact.errors or [] if math.isfinite(tensor.error)]
    least = max((tensor.error for tensor in finite), default=0.0) / _LEAST_BAR
    changed = sorted((tensor for tensor in finite if tensor.error > least), key=lambda tensor: -tensor.error)
    shown = changed[:MOST_BARS]
    if not shown:
        return None
    figure, axes = new_figure(0.9 + 0.165 * max(len(shown), 6))
    families = [family_of(tensor.name) for tensor in shown]
    bars = [colours.get(family, REST_TILE) for family in families]
    axes.barh(range(len(shown)), [100 * tensor.error for tensor in shown], color=bars, height=0.72)
    names = shorten_apart([tensor.name.removesuffix(".weight") for tensor in shown], 30)
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.set_xlabel("root mean square error, % of the tensor's own", loc="right")
    handles = [Patch(facecolor=colour, label=family) for family, colour in colours.items() if family in families]
    if any(family not in colours for family in families):
        handles.append(Patch(facecolor=REST_TILE, label="others"))
    figure.legend(handles=handles, loc="outside lower left", ncols=3, handlelength=0.9, handleheight=0.9)
    settle_ticks(figure, axes)
    exact = sum(1 for tensor in finite if tensor.error == 0)
    caption = f"Trained weights against what the artifact decodes to. {exact} tensors came back exactly"
    if nearly := len(finite) - len(changed) - exact:
        caption += f", {nearly} others to within {100 * least:.2g} %"
    caption += "."
    if len(changed) > len(shown):
        caption += f" The {len(shown)} largest of {len(changed)} errors."
    return Drawing(name, title, caption, figure)


def draw_outlook(runs: list[Run]) -> Drawing | None:
    """What fewer or more bytes would make of the damage that quantization does, for runs that measured it."""
    shown = [run for run in runs if len(run.outlook) > 1][:MOST_RUNS]
    if not shown:
        return None
    figure, axes = new_figure()
    unit, size = _unit(max(run.outlook[-1][0] for run in shown))
    for run in shown:
        sizes, _, bits = zip(*run.outlook, strict=True)
        axes.plot(
            [number / size for number in sizes], bits, color=colour_of(run.series), marker=marker_of(run.series),
            linestyle=line_style_of(run.series), markersize=4.5, label=run.label,
        )  # fmt: skip
    axes.set(xlabel=f"bytes of the model, {unit}", ylabel="bits per byte lost, expected")
    axes.set_ylim(bottom=0)
    add_legend(figure, axes)
    settle_ticks(figure, axes)
    caption = (
        "By damage that was measured on training text before the size was fitted; the middle point is what was taken."
    )
    return Drawing("outlook", "What other sizes would lose", caption, figure)


def draw_gains(pairs: list[Pair]) -> Drawing | None:
    """What adaptation gains on every document, the most helped first: a line for each pair."""
    pairs = [pair for pair in pairs if len(pair.gains)]
    if not pairs:
        return None
    figure, axes = new_figure()
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.8)
    for pair in pairs:
        ordered = np.sort(pair.gains)[::-1]
        share = np.linspace(0, 100, len(ordered)) if len(ordered) > 1 else np.array([50.0])
        places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_STEPS)).astype(int))
        series = pair.adapted.series
        axes.plot(
            share[places], ordered[places], color=colour_of(series), linestyle=line_style_of(series),
            marker=marker_of(series) if len(ordered) <= _FEW_POINTS else None, markersize=3.4,
            label=f"{pair.adapted.label}, against #{pair.without.number}",
        )  # fmt: skip
    axes.set(xlabel="documents, % (the most helped first)", ylabel="gain, bits per byte")
    axes.margins(x=0.02)
    add_legend(figure, axes)
    settle_ticks(figure, axes)
    return Drawing("adaptation", "Gain document by document", "Below the line a document got worse.", figure)


def draw_differences(ablation: Ablation, number: int) -> Drawing | None:
    """Every change's difference to the record, with its interval."""
    rows = [row for row in ablation.rows if _is_finite(row.get("difference"))]
    if not rows:
        return None
    figure, axes = new_figure(0.85 + 0.34 * len(rows))
    axes.axvline(0, color=LIGHT["muted"], linewidth=0.9)
    for place, row in enumerate(rows):
        bounds = interval_of(row) or (row["difference"], row["difference"])
        sure_better, sure_worse = bounds[1] < 0, bounds[0] > 0
        colour = LIGHT["good"] if sure_better else LIGHT["bad"] if sure_worse else LIGHT["muted"]
        axes.plot(bounds, [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(row["difference"], place, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), shorten_apart([row["name"] for row in rows], 38))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.set_xlabel("final score - the record's, bits per byte", loc="right")  # wider than the axes beside long names
    settle_ticks(figure, axes)
    caption = "With 95 % intervals. Left of the line is better than the record; grey: the interval has 0 in it."
    return Drawing(f"ablation-{number}", "Differences to the record", caption, figure)


def interval_of(row: dict[str, Any]) -> tuple[float, float] | None:
    """The interval of a row of an ablation, if it has one."""
    interval = row.get("interval")
    if isinstance(interval, list) and len(interval) == 2 and all(map(_is_finite, interval)):
        return interval[0], interval[1]
    return None


def _label(first: Run, group: list[Run]) -> str:
    others = [f"#{run.number}" for run in group if run is not first]
    if not others:
        return first.label
    return f"{first.label}, and {', '.join(others[:5])}{' …' if len(others) > 5 else ''}"


def _in_two_lines(text: str) -> str:
    """A name that is too long for one line, broken at the space nearest to its middle."""
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    if len(text) <= _NAME_WIDTH or len(spaces) < 2:  # the first comes after the number
        return text if len(text) <= _NAME_WIDTH else shorten(text, _NAME_WIDTH + 6)
    place = min(spaces[1:], key=lambda place: abs(place - len(text) / 2))
    return "\n".join(shorten(line, _NAME_WIDTH) for line in (text[:place], text[place + 1 :]))


def _unit(most: float) -> tuple[str, float]:
    """In which an axis of up to so many bytes is numbered, and how many bytes that is."""
    return ("MB", 1e6) if most >= 1e6 else ("kB", 1e3) if most >= 1e3 else ("bytes", 1.0)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
