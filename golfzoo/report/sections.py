"""The further parts of a report: curves, bytes, quantization, adaptation, and each run's record."""

import math
import shlex
from typing import Any

from golfzoo.report.documents import Pair
from golfzoo.report.drawing import Drawing
from golfzoo.report.gather import Run, table_of
from golfzoo.report.leaderboard import number_of
from golfzoo.report.markup import Markup, card, details, element, figure, join, note, notes, section, table
from golfzoo.report.style import CODE_TILE
from golfzoo.report.weights import Artifact


def show_curves(drawings: list[Drawing], left_out: list[str]) -> Markup:
    """Loss and score over steps and over seconds."""
    if not drawings and not left_out:
        return section("curves", "Training", note("None of these runs has written a curve."))
    return section("curves", "Training", notes(left_out), _grid([figure(drawing) for drawing in drawings]))


def show_bytes(artifacts: list[Artifact], drawings: list[Drawing | None], problems: list[str]) -> Markup:
    """The room taken under the limit, and a treemap of each artifact with its code."""
    cards = []
    for artifact, drawing in zip(artifacts, drawings, strict=True):
        if artifact.measured and drawing:
            groups = details("All groups and modules, in bytes", _groups(artifact.measured))
            cards.append(figure(drawing, *_rooms(artifact), groups))
    said = (
        "Each group of tensors as compressed on its own, over all layers; the artifact compresses them together, so "
        "its size differs a little. Code is what train_gpt.py takes."
    )
    return section("bytes", "Where the bytes go", note(said) if cards else "", notes(problems), _grid(cards))


def show_errors(
    artifacts: list[Artifact],
    drawings: list[Drawing | None],
    problems: list[str],
    runs: list[Run],
    outlook: Drawing | None,
) -> Markup:
    """What quantization did to each tensor, and what it would lose at other sizes where that was measured."""
    cards = []
    for artifact, drawing in zip(artifacts, drawings, strict=True):
        if artifact.errors and drawing:
            rows = [
                [tensor.name, tensor.role, f"{tensor.values:,}", f"{tensor.error:.6f}"] for tensor in artifact.errors
            ]
            listed = table(["tensor", "role", "values", "relative error"], rows, texts=(0, 1), wrap=False)
            cards.append(figure(drawing, details(f"All {len(rows)} tensors", listed)))
    said = "" if cards else note("No trained weights lie beside an artifact here, so there is nothing to compare.")
    shown = notes(problems) if not cards else ""
    if outlook:
        rows = [
            [run.label, f"{size:,.0f}", f"{nats:.3g}", f"{bits:.3g}"]
            for run in runs
            for size, nats, bits in run.outlook
        ]
        listed = table(["run", "bytes of the model", "nats per token lost", "bits per byte lost"], rows)
        cards.append(figure(outlook, details("As a table", listed)))
    return section("quantization", "What quantization changed", said, shown, _grid(cards))


def show_adaptation(pairs: list[Pair], drawing: Drawing | None, problems: list[str], runs: list[Run]) -> Markup:
    """Gains of documents by test-time adaptation, or what to run to see them."""
    if pairs:
        lead = note("Pairs of runs that differ in their adaptor alone. Gain is in bits per byte; more is better.")
        plot = _grid([figure(drawing)]) if drawing else ""
        return section("adaptation", "What adaptation gains", lead, notes(problems), card(_gains(pairs)), plot)
    said: list[object] = ["No two of these runs differ in nothing but their adaptor."]
    if runs:
        adapted = next((run for run in runs if table_of(run.tables, "adaptor")), None)
        run = adapted or runs[0]
        change = "adaptor.use=none" if adapted else "adaptor.use=NAME"
        command = f"golfzoo run {shlex.quote(str(run.folder / 'record.toml'))} {change}"
        said += [" To see what adaptation does to each document, run ", element("code", command)]
        said += [", whose training is taken over, and give both runs to ", element("code", "golfzoo report"), "."]
        if not adapted:
            said += [" ", element("code", "golfzoo plugins adaptor"), " lists the names."]
    return section("adaptation", "What adaptation gains", note(*said), notes(problems))


def _gains(pairs: list[Pair]) -> Markup:
    header = ["adapted", "against", "adaptor", "gain", "95 % interval", "documents got better"]
    header += ["gain, shorter half", "gain, longer half"]
    rows = []
    for pair in pairs:
        low, high = pair.summary["interval"]
        halves = [pair.gain_of_half(longer) for longer in (False, True)]
        rows.append(
            [
                join([number_of(pair.adapted), " ", pair.adapted.name]), f"#{pair.without.number}", pair.adaptor,
                f"{pair.summary['gain_bpb']:+.4f}", f"{low:+.4f} to {high:+.4f}",
                f"{pair.summary['documents_better']} of {pair.summary['documents']}",
                *("–" if math.isnan(gain) else f"{gain:+.4f}" for gain in halves),
            ]
        )  # fmt: skip
    return table(header, rows, texts=(0, 2))


def show_records(runs: list[Run]) -> Markup:
    """Every run's resolved record, and the versions that it ran with."""
    cards = []
    for run in runs:
        facts = [[name, run.environment[name]] for name in ("python", "platform", "device", "cores", "processes")
                 if name in run.environment]  # fmt: skip
        git = run.environment.get("git")
        if isinstance(git, dict):
            facts.append(["commit", f"{git.get('commit')}{'' if git.get('clean') else ', with changes'}"])
        command = run.environment.get("command")
        if isinstance(command, list):
            facts.append(["command", shlex.join(["golfzoo", *map(str, command[1:])])])
        facts.append(["folder", run.folder])
        facts.append(["last written", f"{run.row.date} UTC"])
        versions = run.environment.get("versions")
        if isinstance(versions, dict):
            facts += [[name, version] for name, version in versions.items()]
        components = run.environment.get("components")
        parts = [
            f"{part.get('kind')} {part.get('name')}: {part.get('distribution')} {part.get('version')}"
            for part in (components if isinstance(components, list) else [])
            if isinstance(part, dict)
        ]
        facts += [["component", part] for part in parts]
        record = element("pre", element("code", run.record_text or "record.toml cannot be read"), tabindex="0")
        cards.append(
            details(
                join([number_of(run), " ", run.name]),
                details("Resolved record", record),
                details("Versions", table(["", ""], facts, texts=(0, 1))),
            )
        )
    return section("records", "Records and versions", element("div", *cards, class_="card list"))


def _grid(cards: list[Markup]) -> Markup:
    return element("div", *cards, class_="grid") if cards else Markup("")


def _rooms(artifact: Artifact) -> list[Markup]:
    """How much of the limit model and code take, once for every size of code that came with the artifact."""
    alike: dict[int, list[Run]] = {}
    for run in artifact.runs:
        alike.setdefault(run.result["bytes"]["code"], []).append(run)
    return [_room(group) for group in alike.values()]


def _room(runs: list[Run]) -> Markup:
    size = runs[0].result["bytes"]
    limit = max(size["limit"], size["total"], 1)
    pieces = [("model", "var(--muted)"), ("code", CODE_TILE)]
    if size["total"] > size["model"] + size["code"]:
        pieces.append(("tokenizer", "var(--accent)"))
    bar = [
        element("span", style=f"width: {100 * size[name] / limit:.3f}%; background: {colour}")
        for name, colour in pieces
    ]
    said = ", ".join(f"{name} {size[name]:,}" for name, _ in pieces)
    left = f"{size['total']:,} of {size['limit']:,} bytes, {size['limit'] - size['total']:,} left"
    used = f"{_numbers(runs)}: {said}; {left}."
    return element("div", element("div", *bar, class_="bar"), element("p", used, class_="quiet"), class_="room")


def _groups(measured: dict[str, Any]) -> Markup:
    columns = ["parameters", "raw", "quantized", "compressed", "entropy"]
    rows = []
    for row in sorted(measured["groups"], key=lambda row: -(row["compressed"] or 0)):
        bits = f"{8 * row['compressed'] / row['parameters']:.2f}" if row["compressed"] and row["parameters"] else "–"
        rows.append([row["name"], *(f"{row[column]:,}" for column in columns), bits])
    modules = sorted(measured["modules"].items(), key=lambda item: -item[1])
    return join(
        [
            table(["group", *columns, "bits per weight"], rows, wrap=False),
            table(["module of the code", "bytes"], [[name, f"{size:,}"] for name, size in modules], wrap=False),
        ]
    )


def names_of(artifact: Artifact) -> str:
    """The runs of an artifact, and what made it."""
    made = [str(table_of(artifact.runs[0].tables, kind).get("use")) for kind in ("quantizer", "compressor")]
    return f"{_numbers(artifact.runs)}: {', '.join(made)}"


def _numbers(runs: list[Run]) -> str:
    return ", ".join(f"#{run.number}" for run in runs[:8]) + (" …" if len(runs) > 8 else "")
