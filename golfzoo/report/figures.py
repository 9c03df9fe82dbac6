"""The plots of a report but for the treemap: scores, curves, errors of tensors, gains of documents, differences."""

import math
from typing import Any

import numpy as np

from golfzoo.report.documents import Pair
from golfzoo.report.drawing import Drawing, add_legend, colour_of, line_style_of, new_figure
from golfzoo.report.gather import Ablation, Curve, Run, shorten, shorten_apart
from golfzoo.report.style import LIGHT
from golfzoo.report.treemap import short
from golfzoo.report.weights import Artifact

MOST_RUNS = 18  # as many as there are colours times dashes
MOST_BARS = 40
_LEAST_BAR = 200  # the longest bar is at most so many times as long as the shortest
_MOST_DOTS = 1500
_MOST_STEPS = 400
_FEW_POINTS = 30  # so few are marked: a line alone would hide how few they are
_ROLE_COLOURS = {"embedding": "series-3", "head": "series-4", "matrix": "series-1", "control": "series-5"}


def draw_scores(runs: list[Run]) -> Drawing | None:
    """Three scores of every run: as trained, after the round trip, final."""
    if not runs:
        return None
    shown = runs[:MOST_RUNS]
    figure, axes = new_figure(1.15 + 0.29 * len(shown))
    for place, run in enumerate(shown):
        scores = [run.result["stages"].get(stage, {}).get("val_bpb") for stage in ("trained", "roundtrip", "final")]
        scores = [score if _is_finite(score) else math.nan for score in scores]
        axes.plot(scores, [place] * 3, color=LIGHT["line"], linewidth=2.4, zorder=1)
        first = place == 0
        axes.plot(
            scores[0], place, "o", markersize=8.5, markerfacecolor="none", markeredgecolor=LIGHT["muted"],
            label="trained" if first else "",
        )  # fmt: skip
        axes.plot(scores[1], place, "D", markersize=4, color=LIGHT["series-5"], label="roundtrip" if first else "")
        axes.plot(scores[2], place, "o", markersize=6, color=LIGHT["series-1"], label="final" if first else "")
    names = shorten_apart([run.name for run in shown], 29)
    axes.set_yticks(range(len(shown)), [f"#{run.number} {name}" for run, name in zip(shown, names, strict=True)])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"], labelsize=8.5)
    axes.set_xlabel("bits per byte")
    add_legend(figure, axes, columns=3)
    caption = "Trained and roundtrip are flat scores: their difference is what quantization cost. Final is the score."
    if len(runs) > len(shown):
        caption += f" The {len(shown)} best of {len(runs)} runs."
    return Drawing("scores", "Three scores of each run", caption, figure)


def draw_sizes(runs: list[Run]) -> Drawing | None:
    """Final score against bytes in total."""
    if not runs:
        return None
    shown = runs[:MOST_RUNS]
    figure, axes = new_figure(1.15 + 0.29 * max(len(shown), 6))
    for run in shown:
        place = (float(run.result["bytes"]["total"]), float(run.result["val_bpb"]))
        axes.plot(*place, "o", color=colour_of(run.number), markersize=7, alpha=0.9)
        axes.annotate(
            f"#{run.number}", place, xytext=(5, 5), textcoords="offset points", color=LIGHT["muted"], fontsize=9
        )
    axes.set(xlabel="bytes of code and model", ylabel="bits per byte")
    axes.margins(x=0.12, y=0.14)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: short(max(round(value), 0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3f}")
    caption = "Better is lower, smaller is further left."
    return Drawing("sizes", "Score against bytes", caption, figure)


def draw_curves(runs: list[Run]) -> list[Drawing]:
    """Training loss and validation score, over steps and over seconds of training. Runs that took their training over
    from another have its curve, which is drawn once."""
    drawings = []
    for quantity, title, unit, read in (
        ("loss", "Training loss", "nats per token", lambda run: run.loss),
        ("bpb", "Validation score while training", "bits per byte", lambda run: run.bpb),
    ):
        alike: dict[Curve, list[Run]] = {}
        for run in runs:
            if read(run).steps:
                alike.setdefault(read(run), []).append(run)
        for over, label in (("steps", "step"), ("seconds", "seconds of training")):
            if not alike:
                continue
            figure, axes = new_figure()
            for curve, group in list(alike.items())[:MOST_RUNS]:
                number = group[0].number
                axes.plot(
                    getattr(curve, over), curve.values, color=colour_of(number), linestyle=line_style_of(number),
                    marker="o" if len(curve.values) <= _FEW_POINTS else None, markersize=3.4,
                    label=_label(group),
                )  # fmt: skip
            axes.set(xlabel=label, ylabel=unit)
            axes.margins(x=0.02)
            add_legend(figure, axes)
            caption = (
                "One line for runs that share a training." if any(len(group) > 1 for group in alike.values()) else ""
            )
            if len(alike) > MOST_RUNS:
                caption += f" The first {MOST_RUNS} of {len(alike)}."
            drawings.append(Drawing(f"{quantity}-over-{over}", f"{title}, over {over}", caption.strip(), figure))
    return drawings


def draw_errors(artifact: Artifact, name: str, title: str) -> Drawing | None:
    """The relative error of the tensors that quantization changed most."""
    from matplotlib.patches import Patch

    finite = [tensor for tensor in artifact.errors or [] if math.isfinite(tensor.error)]
    least = max((tensor.error for tensor in finite), default=0.0) / _LEAST_BAR
    changed = sorted((tensor for tensor in finite if tensor.error > least), key=lambda tensor: -tensor.error)
    shown = changed[:MOST_BARS]
    if not shown:
        return None
    figure, axes = new_figure(0.9 + 0.165 * max(len(shown), 6))
    colours = [LIGHT[_ROLE_COLOURS.get(tensor.role, "series-6")] for tensor in shown]
    axes.barh(range(len(shown)), [100 * tensor.error for tensor in shown], color=colours, height=0.72)
    names = shorten_apart([tensor.name.removesuffix(".weight") for tensor in shown], 30)
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.set_xlabel("root mean square error, % of the tensor's own", loc="right")
    roles = [role for role in (*_ROLE_COLOURS, "buffer") if any(tensor.role == role for tensor in shown)]
    handles = [Patch(facecolor=LIGHT[_ROLE_COLOURS.get(role, "series-6")], label=role) for role in roles]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, handlelength=0.9, handleheight=0.9)
    exact = sum(1 for tensor in finite if tensor.error == 0)
    caption = f"Trained weights against what the artifact decodes to. {exact} tensors came back exactly"
    if nearly := len(finite) - len(changed) - exact:
        caption += f", {nearly} others to within {100 * least:.2g} %"
    caption += "."
    if len(changed) > len(shown):
        caption += f" The {len(shown)} largest of {len(changed)} errors."
    return Drawing(name, title, caption, figure)


def draw_gains(pair: Pair, number: int) -> list[Drawing]:
    """What adaptation gains on every document: sorted, and by the document's size."""
    gains = pair.gains
    if not len(gains):
        return []
    ordered = np.sort(gains)[::-1]
    share = np.linspace(0, 100, len(ordered)) if len(ordered) > 1 else np.array([50.0])
    places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_STEPS)).astype(int))
    figure, axes = new_figure()
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.8)
    better, worse = LIGHT["series-1"], LIGHT["series-2"]
    x, y = share[places], ordered[places]
    axes.fill_between(x, y, 0, where=y >= 0, interpolate=True, color=better, alpha=0.25, linewidth=0)
    axes.fill_between(x, y, 0, where=y < 0, interpolate=True, color=worse, alpha=0.35, linewidth=0)
    axes.plot(x, y, color=better, marker="o" if len(x) == 1 else None)
    axes.set(xlabel="documents, % (the most helped first)", ylabel="gain, bits per byte")
    axes.margins(x=0)
    said = pair.summary
    low, high = said["interval"]
    sorted_gains = Drawing(
        f"adaptor-{number}-sorted",
        f"Gain by {pair.adaptor}, document by document",
        f"#{pair.adapted.number} against #{pair.without.number}: {said['documents_better']} of {said['documents']} "
        f"documents got better; over all bytes {said['gain_bpb']:+.4f} bits per byte, 95 % interval "
        f"[{low:+.4f}, {high:+.4f}].",
        figure,
    )
    drawn = np.arange(len(gains))
    if len(gains) > _MOST_DOTS:
        drawn = np.random.default_rng(0).choice(len(gains), _MOST_DOTS, replace=False)
    figure, axes = new_figure()
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.8)
    colours = np.where(gains[drawn] >= 0, better, worse)
    axes.scatter(pair.num_bytes[drawn], gains[drawn], s=13, c=colours.tolist(), alpha=0.65, linewidths=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set(xlabel="bytes of the document", ylabel="gain, bits per byte")
    few = f" A sample of {_MOST_DOTS} documents." if len(drawn) < len(gains) else ""
    caption = f"Each dot is a document; longer ones leave an adaptor more to learn from.{few}"
    return [sorted_gains, Drawing(f"adaptor-{number}-by-size", f"Gain by {pair.adaptor}, by size", caption, figure)]


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
        colour = LIGHT["series-1"] if sure_better else LIGHT["series-2"] if sure_worse else LIGHT["muted"]
        axes.plot(bounds, [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(row["difference"], place, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), shorten_apart([row["name"] for row in rows], 38))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.set_xlabel("final score - the record's, bits per byte", loc="right")  # wider than the axes beside long names
    caption = "With 95 % intervals. Left of the line is better than the record; grey: the interval has 0 in it."
    return Drawing(f"ablation-{number}", "Differences to the record", caption, figure)


def interval_of(row: dict[str, Any]) -> tuple[float, float] | None:
    """The interval of a row of an ablation, if it has one."""
    interval = row.get("interval")
    if isinstance(interval, list) and len(interval) == 2 and all(map(_is_finite, interval)):
        return interval[0], interval[1]
    return None


def _label(group: list[Run]) -> str:
    first = f"#{group[0].number} {shorten(group[0].name, 40)}"
    if len(group) == 1:
        return first
    return f"{first}, and {', '.join(f'#{run.number}' for run in group[1:6])}{' …' if len(group) > 6 else ''}"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
