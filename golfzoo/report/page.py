"""The report: one page that stands alone. Nothing in it comes from elsewhere, and a browser is told so."""

import time
from collections.abc import Callable
from pathlib import Path

from golfzoo.errors import UsageError
from golfzoo.report import figures, leaderboard, sections
from golfzoo.report.documents import pair_up
from golfzoo.report.drawing import PNG_MARK, Drawing, styled, to_png
from golfzoo.report.gather import Gathered
from golfzoo.report.markup import Markup, element, join
from golfzoo.report.style import style_sheet
from golfzoo.report.treemap import draw_treemap, family_colours
from golfzoo.report.weights import names_in, weigh
from golfzoo.zoo import Zoo

MARK = "<!-- made by golfzoo report -->"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(
    gathered: Gathered, out: Path, pngs: Path | None, zoo: Zoo, say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Write the page, and its plots as files where `pngs` is a folder. Returns the names of the plots.

    Raises UsageError where a file is in the way that no report left there, or the extra [report] is missing.
    """
    check_place(out, MARK)
    with styled():
        content, drawings = compose(gathered, zoo, say)
        files = {pngs / f"{drawing.name}.png": drawing for drawing in drawings} if pngs else {}
        for path in files:
            check_place(path, PNG_MARK)
        write_page(out, finish(gathered, content).encode("utf-8", "replace"))
        for path, drawing in files.items():
            write_page(path, to_png(drawing))
    return [drawing.name for drawing in drawings]


def compose(
    gathered: Gathered, zoo: Zoo, say: Callable[[str], None] = lambda line: None
) -> tuple[Markup, list[Drawing]]:
    """The sections of the page, and every plot in them. To be called within `styled`."""
    runs = gathered.completed
    artifacts, problems = weigh(runs, zoo, say)
    pairs, unpaired = pair_up(runs)
    scores = [drawing for drawing in (figures.draw_scores(runs), figures.draw_sizes(runs)) if drawing]
    differences = [figures.draw_differences(ablation, number) for number, ablation in enumerate(gathered.ablations, 1)]
    curves, uncurved = figures.draw_curves(gathered.runs)
    colours = family_colours(names_in(artifacts))
    treemaps = [
        draw_treemap(artifact.measured, colours, f"bytes-{number}", sections.names_of(artifact), "")
        if artifact.measured
        else None
        for number, artifact in enumerate(artifacts, 1)
    ]
    errors = [
        figures.draw_errors(artifact, colours, f"errors-{number}", sections.names_of(artifact))
        for number, artifact in enumerate(artifacts, 1)
    ]
    gains = figures.draw_gains(pairs)
    outlook = figures.draw_outlook(runs)
    content = join(
        [
            leaderboard.show_leaderboard(gathered, scores),
            *(
                leaderboard.show_ablation(ablation, drawing, number)
                for number, (ablation, drawing) in enumerate(zip(gathered.ablations, differences, strict=True), 1)
            ),
            sections.show_curves(curves, uncurved),
            sections.show_bytes(artifacts, treemaps, problems),
            sections.show_errors(artifacts, errors, problems, runs, outlook),
            sections.show_adaptation(pairs, gains, unpaired, runs),
            sections.show_records(gathered.runs),
        ],
        "\n",
    )
    drawn = [*scores, *differences, *curves, *treemaps, *errors, outlook, gains]
    return content, [drawing for drawing in drawn if drawing is not None]


def finish(gathered: Gathered, content: Markup) -> str:
    """The whole page around its sections."""
    records = sorted({run.row.record for run in gathered.runs if run.row.record})
    title = f"golfzoo: {', '.join(records)[:80] or 'runs'}"
    links = [("leaderboard", "Leaderboard")]
    links += [(f"ablation-{number}-table", "Ablation") for number in range(1, len(gathered.ablations) + 1)]
    links += [("curves", "Training"), ("bytes", "Bytes"), ("quantization", "Quantization")]
    links += [("adaptation", "Adaptation"), ("records", "Records")]
    head = join(
        [
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
            element("title", title),
            element("style", Markup(style_sheet())),
        ],
        "\n",
    )
    top = element(
        "header",
        element("h1", "Parameter golf report"),
        element("p", "Records: ", ", ".join(records) or "unknown", class_="lead"),
        element("nav", *(element("a", name, href=f"#{place}") for place, name in links)),
        leaderboard.key_figures(gathered),
    )
    made = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    foot = element("footer", f"Made by golfzoo report on {made} UTC.")
    body = element("body", top, element("main", content), foot)
    return f'<!doctype html>\n{MARK}\n<html lang="en">\n<head>\n{head}\n</head>\n{body}\n</html>\n'


def check_place(path: Path, mark: str, maker: str = "golfzoo report") -> None:
    """See that a file may be written: it is not there, or an earlier one with that mark is."""
    try:
        with open(path, "rb") as file:
            ours = mark.encode() in file.read(4096)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    if not ours:
        raise UsageError(f"{path}: is there already and was not made by {maker}; choose another name")


def write_page(path: Path, data: bytes) -> None:
    from golfzoo.engine.files import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be made: {error.strerror}") from None
    write_whole(path, data)
