"""The measured leaderboard as a page of Markdown and as a plot: pocket scores beside published ones."""

import itertools
from pathlib import Path
from typing import Any
from urllib.parse import quote

from golfzoo.report.drawing import Drawing, new_figure, styled, to_png
from golfzoo.report.figures import label_dots
from golfzoo.report.style import LIGHT
from golfzoo.studies.leaderboard import rows_of

_HEADER = (
    "record", "pocket", "before it", "gain on that", "p", "published", "gain there", "artifact", "code", "train s"
)  # fmt: skip
_MOST_LABELS = 14
_LEAST = 1e-4  # a published gain is drawn as at least this: its axis is logarithmic
_LINEAR = 0.02


def render(table: dict[str, Any], figures: str, picture: str | None) -> str:
    """The page, README.md beside the records. `figures` and `picture` are names of files beside it."""
    rows = rows_of(table)
    missing = [record["name"] for record in table["records"] if not record["runs"]]
    lines = ["# The leaderboard, measured", "", *_head(table["conditions"], rows, missing, figures), ""]
    if picture:
        lines += [f"![Pocket gains against published gains]({picture})", ""]
    lines += [*_turned_round(rows), ""]
    for family, members in itertools.groupby(rows, key=lambda row: row["family"]):
        heading = " ".join(family.split())
        lines += [f"## {heading[:1].upper()}{heading[1:]}" if heading else "## Of no family", ""]
        lines += ["| " + " | ".join(_HEADER) + " |", "|---|" + "---:|" * (len(_HEADER) - 1)]
        lines += ["| " + " | ".join(_cells(row, len(table["conditions"]["seeds"]))) + " |" for row in members]
        lines.append("")
    return "\n".join(lines)


def draw_pocket_gains(rows: list[dict[str, Any]]) -> Drawing | None:
    """What every record gained on the one before it: as published, and here. Named are those of which seeds tell that
    it is no chance, or the largest where nothing tells."""
    shown = [row for row in rows if "gain" in row]
    if not shown:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, axes = new_figure(4.6)
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.9)
    places = [(max(row["published_gain"], _LEAST), row["gain"]) for row in shown]
    sure = [number for number, row in enumerate(shown) if _side(row)]
    for row, (x, y) in zip(shown, places, strict=True):
        low, high = row.get("interval") or (y, y)
        colour = {1: LIGHT["good"], -1: LIGHT["bad"], 0: LIGHT["muted"]}[_side(row)]
        strong = bool(_side(row))
        axes.plot([x, x], [low, high], color=colour, linewidth=1.8 if strong else 1.1, alpha=0.75 if strong else 0.35)
        axes.plot(x, y, "o", color=colour, markersize=5.5 if strong else 3.5, alpha=1 if strong else 0.7)
    axes.set(xlabel="published gain on the record before, bits per byte", ylabel="pocket gain")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.8)
    axes.margins(x=0.1, y=0.1)
    _number(axes.set_xticks, axes.get_xlim(), _LEAST)
    _number(axes.set_yticks, axes.get_ylim(), _LINEAR / 2)
    FigureCanvasAgg(figure).draw()  # labels are placed for what is laid out
    told = sure or range(len(shown))
    told = sorted(told, key=lambda number: -abs(shown[number]["gain"]))[:_MOST_LABELS]
    label_dots(axes, [shown[number]["name"] for number in told], [places[number] for number in told])
    caption = (
        "Above the line a record is better than the one before it here too; grey: its interval has 0 in it. Both axes "
        f"are logarithmic, but for pocket gains below {_LINEAR:g}."
    )
    return Drawing("leaderboard", "Pocket gains against published gains", caption, figure)


def _side(row: dict[str, Any]) -> int:
    """Whether seeds tell that a gain is one, 1, or a loss, -1."""
    low, high = row.get("interval") or (-1, 1)
    return 1 if low > 0 else -1 if high < 0 else 0


def _number(set_ticks: Any, limits: tuple[float, float], least: float) -> None:
    """Ones and threes from `least` on, below zero too, and zero; written in full."""
    sizes = [size for power in range(-4, 3) for size in (10.0**power, 3 * 10.0**power) if size >= least]
    every = [*(-size for size in reversed(sizes)), 0.0, *sizes]
    places = [place for place in every if limits[0] <= place <= limits[1]]
    set_ticks(places, [f"{place:g}" for place in places])
    set_ticks([], minor=True)


def write_plot(rows: list[dict[str, Any]], path: Path) -> bool:
    """The plot as a PNG; False where there is nothing to draw. Needs the extra [report]: UsageError."""
    with styled():
        if drawing := draw_pocket_gains(rows):
            path.write_bytes(to_png(drawing))
    return drawing is not None


def _head(conditions: dict[str, Any], rows: list[dict[str, Any]], missing: list[str], figures: str) -> list[str]:
    git, versions = conditions.get("git") or {}, conditions["versions"]
    seeds, dataset = conditions["seeds"], conditions.get("dataset") or {}
    fewer = [row["name"] for row in rows if row["num_seeds"] < len(seeds)]
    commit = f", commit {git['commit'][:12]}{'' if git.get('clean') else ' with changes'}" if git.get("commit") else ""
    others = dataset.get("baseline_bpb") or {}
    lines = [
        f"Written by `golfzoo leaderboard`, from [{figures}]({quote(figures)}). Bits per byte; less is better.",
        "",
        f"- **Every record** under profile `{conditions['profile']}`"
        + (f" with `{' '.join(conditions['overrides'])}`" if conditions["overrides"] else "")
        + f", seeds {', '.join(map(str, seeds))}. Small models, few steps: **not comparable with published scores**.",
        f"- **Machine**: {conditions['device']}, {conditions['platform']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"{commit}; {conditions['date']}.",
    ]
    if others:
        said = ", ".join(f"{name} {bpb:.4f}" for name, bpb in others.items())
        lines.append(f"- **Text**: {dataset.get('name')}; general compressors make of it {said}.")
    lines += [
        "- **pocket**: mean over the seeds and half of its 95 % interval by Student's t. **before it**: the next worse "
        "published score of a record that is no later; **gain on that** here, with Welch's 95 % interval; **p** is "
        "two-sided, by Holm over the whole page. Intervals are of seeds: they tell what chance does, and nothing else.",
    ]
    if fewer:
        lines.append(f"- **Fewer seeds** so far: {', '.join(fewer)}.")
    if missing:
        lines.append(f"- **Without a run that was completed**: {', '.join(missing)}.")
    return lines


def _turned_round(rows: list[dict[str, Any]]) -> list[str]:
    compared = [row for row in rows if "interval" in row]
    better = [row["name"] for row in compared if _side(row) > 0]
    worse = [row["name"] for row in compared if _side(row) < 0]
    if not compared:
        return ["No record has been run under two seeds yet, so nothing is shown."]
    return [
        f"Of {len(compared)} published gains {len(better)} are gains here too, {len(worse)} are turned round by so "
        f"small models in so few steps, and {len(compared) - len(better) - len(worse)} are lost in what seeds do.",
        *([f"Turned round: {', '.join(worse)}."] if worse else []),
    ]


def _cells(row: dict[str, Any], num_seeds: int) -> list[str]:
    reach = f" ± {row['reach']:.4f}" if row["reach"] is not None else ""
    fewer = f" ({row['num_seeds']} of {num_seeds} seeds)" if row["num_seeds"] < num_seeds else ""
    gain = f"{row['gain']:+.4f}" if "gain" in row else "-"
    if "interval" in row:
        gain += f" [{row['interval'][0]:+.4f}, {row['interval'][1]:+.4f}]"
    return [
        f"[{row['name']}]({quote(row['file'])})",
        f"**{row['pocket']:.4f}**{reach}{fewer}",
        row.get("before", "-"),
        gain,
        f"{row['p']:.2g}" if row.get("p") is not None else "-",
        f"{row['published']:.4f}" if row["published"] else "-",
        f"{row['published_gain']:+.4f}" if "published_gain" in row else "-",
        f"{row['artifact']:,}",
        f"{row['code']:,}",
        f"{row['seconds']:.1f}",
    ]
