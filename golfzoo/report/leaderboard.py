"""The first part of a report: key figures, the runs against the published scores, and ablations' tables."""

from typing import Any

from golfzoo.report.drawing import Drawing, variable_of
from golfzoo.report.figures import interval_of
from golfzoo.report.gather import Ablation, Gathered, Run
from golfzoo.report.markup import Markup, card, element, figure, join, note, section, table
from golfzoo.strangers.values import printable

_BADGES = {"completed": "good", "failed": "bad", "damaged": "bad"}


def number_of(run: Run) -> Markup:
    """A run's number, in its colour."""
    return element("span", run.number, class_="number", style=f"background: var(--{variable_of(run.series)})")


def key_figures(gathered: Gathered) -> Markup:
    """The few figures that a reader wants first."""
    done = gathered.completed
    keys = []
    if done:
        best = done[0]
        keys.append((f"{best.result['val_bpb']:.4f}", f"bits per byte, the best: {best.label}"))
        others = best.result["dataset"].get("baseline_bpb")
        if isinstance(others, dict) and others:
            said = [f"{name} {bpb:.4f}" for name, bpb in others.items() if isinstance(bpb, float)]
            least = min((bpb for bpb in others.values() if isinstance(bpb, float)), default=0.0)
            keys.append((f"{least:.4f}", f"bits per byte by general compressors: {', '.join(said)}"))
        size = best.result["bytes"]
        keys.append((f"{size['total']:,}", f"bytes, of {size['limit']:,}: the best run's code and model"))
    states = [run.row.status for run in gathered.runs]
    kinds = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    keys.append((str(len(states)), f"runs: {kinds}"))
    return element(
        "div", *(element("div", element("b", key), element("span", said), class_="key") for key, said in keys),
        class_="keys",
    )  # fmt: skip


def show_leaderboard(gathered: Gathered, scores: list[Drawing]) -> Markup:
    """Runs by their final score, the published scores of their records among them."""
    published = {}
    for run in gathered.runs:
        score = run.published.get("val_bpb")
        if isinstance(score, float):
            key = score, str(run.published.get("source", "")), str(run.published.get("bytes_total", ""))
            published[key] = run.row.record
    compared = any(run.comparable and isinstance(run.published.get("val_bpb"), float) for run in gathered.completed)
    rows = [(_place(run, gathered), _run_row(run, compared)) for run in gathered.runs]
    rows += [((1, key[0]), _published_row(*key, record, compared)) for key, record in published.items()]
    rows.sort(key=lambda row: row[0])
    marked = [place for place, (_, row) in enumerate(rows) if not row[-1]]
    header = ["run", "final", *(["against published"] if compared else []), "trained", "roundtrip", "bytes"]
    header += ["headroom", "train s", "eval s", "status"]
    plots = element("div", *map(figure, scores), class_="grid") if scores else ""
    return section(
        "leaderboard", "Leaderboard", note(_said(gathered, bool(published), compared)),
        card(table(header, [row for _, row in rows], texts=(0, 2) if compared else (0,), marked=marked)), plots,
    )  # fmt: skip


def _said(gathered: Gathered, published: bool, compared: bool) -> str:
    """What the leaderboard's scores compare with: said here once, and not in every row."""
    said = "Bits per byte; less is better."
    apart = [run for run in gathered.completed if not run.comparable]
    if apart:
        profiles = " and ".join(sorted({run.row.profile or "unknown" for run in apart}))
        which = "These runs" if len(apart) == len(gathered.completed) else "Runs"
        said += (
            f" {which} under profile {profiles} had another model, text or budget than their record, and are not "
            "comparable with published scores"
        )
        said += ", which stand beside them only for orientation." if published else "."
    if compared:
        said += " A comparison supposes that a run was scored on the text that the published score was."
    if gathered.runs and not published:
        said += " No record here names a published score."
    return said


def _place(run: Run, gathered: Gathered) -> tuple[int, float]:
    """Runs that compare with published scores stand among them, others above or below; last those without a score."""
    if run.row.bpb is None:
        return 3, 0.0
    if run.comparable:
        return 1, run.row.bpb
    return (2 if any(other.comparable for other in gathered.completed) else 0), run.row.bpb


def _run_row(run: Run, compared: bool) -> list[Any]:
    row, result = run.row, run.result
    folder = printable(run.folder.resolve().name)
    name = _who(number_of(run), run.name, folder if folder != run.name else "", run.error)
    stages = [result.get("stages", {}).get(stage, {}).get("val_bpb") for stage in ("trained", "roundtrip")]
    final = element("strong", f"{row.bpb:.4f}") if row.bpb is not None else "–"
    over = result and not result["bytes"]["fits"]
    size = join([_figure(row.bytes, "{:,}"), element("small", "over the limit", class_="bad") if over else ""])
    seconds = [_figure(value, "{:,.1f}") for value in (row.train_s, row.eval_s)]
    badge = element("span", row.status, class_=f"badge {_BADGES.get(row.status, 'quiet')}")
    shown = [_figure(value, "{:.4f}") for value in stages]
    return [
        name,
        final,
        *([_against(run)] if compared else []),
        *shown,
        size,
        _figure(row.headroom, "{:,}"),
        *seconds,
        badge,
    ]


def _published_row(score: float, source: str, size: str, record: str, compared: bool) -> list[Any]:
    name = _who("", "published", record, source)
    num_bytes = f"{int(size):,}" if size.isdecimal() else "–"
    return [name, element("strong", f"{score:.4f}"), *([""] if compared else []), "", "", num_bytes, "", "", "", ""]


def _who(number: object, name: str, *about: str) -> Markup:
    """A name with its number before it and what is said of it below."""
    below = [element("small", line) for line in about if line]
    return element("div", number, element("div", element("b", name), *below), class_="who")


def _against(run: Run) -> object:
    """What a run's score says beside the published one."""
    if not run.result:
        return "–"
    if not run.comparable:
        return element("span", f"profile {run.row.profile}", class_="quiet")
    score = run.published.get("val_bpb")
    if not isinstance(score, float) or run.row.bpb is None:
        return element("span", run.published.get("source") or "–", class_="quiet")
    difference = run.row.bpb - score
    return element("b", f"{difference:+.4f}", class_="good" if difference < 0 else "bad")


def show_ablation(ablation: Ablation, drawing: Drawing | None, number: int) -> Markup:
    """An ablation's table as `golfzoo ablate` prints it."""
    header = ["cell", "seeds", "trained", "roundtrip", "final", "final - record", "95 % interval", "p (Holm)", "bytes"]
    header += ["headroom", "train s", "eval s"]
    rows = []
    for row in ablation.rows:
        bounds = interval_of(row)
        seeds = row.get("seeds")
        seeds = f"{seeds}, {row['failed']} missing" if row.get("failed") else seeds
        cells = [row["name"], seeds, *(_figure(row.get(name), "{:.4f}") for name in ("trained", "roundtrip", "final"))]
        cells += [_figure(row.get("difference"), "{:+.4f}")]
        cells += [f"{bounds[0]:+.4f} to {bounds[1]:+.4f}" if bounds else "–", _figure(row.get("p_holm"), "{:.2g}")]
        cells += [_figure(row.get(name), "{:,}") for name in ("bytes", "headroom")]
        rows.append([*cells, *(_figure(row.get(name), "{:,.1f}") for name in ("train_seconds", "eval_seconds"))])
    varied = (
        [element("p", "Varied: ", element("code", " · ".join(ablation.vary)), class_="note")] if ablation.vary else []
    )
    body = (
        card(table(header, rows)) if rows else note("Its ablation.json has no table yet; run the same command again.")
    )
    plot = element("div", figure(drawing), class_="grid") if drawing else ""
    return section(f"ablation-{number}-table", f"Ablation {ablation.name}", *varied, body, plot)


def _figure(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "–"
