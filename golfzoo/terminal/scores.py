"""Scores, verdicts and comparisons as a person reads them."""

from collections.abc import Iterable
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from golfzoo.terminal.closing import reached
from golfzoo.terminal.prose import echo, say, tell
from golfzoo.terminal.tables import make_console, or_unknown, show_table
from golfzoo.verify.verdict import MEANINGS, Verdict


def show_verdicts(verdicts: list[Verdict], notes: list[str]) -> None:
    """What `golfzoo verify` prints."""
    console = make_console()
    table = Table(box=ROUNDED if console.is_terminal else None)
    for column in ("probe", "verdict", "figure", "holds when"):
        table.add_column(column, overflow="fold", no_wrap=column in ("probe", "verdict"))
    styles = {"holds": "green", "FAILS": "bold red", "-": "dim"}
    for verdict in verdicts:
        word = f"[{styles[verdict.word]}]{verdict.word}[/]"
        table.add_row(verdict.probe, word, escape(verdict.figure), MEANINGS[verdict.probe])
    console.print(table)
    for note in notes:
        say(console, note)
    failed = [verdict.probe for verdict in verdicts if verdict.holds is False]
    console.print(
        f"{len(failed)} of {len(verdicts)} probes fail: {', '.join(failed)}" if failed else "Every probe holds."
    )


def show_comparisons(reports: list[dict[str, Any]], as_markdown: bool) -> None:
    """What `golfzoo compare` prints: the groups, then what each gains over the first."""
    groups = [reports[0]["base"], *(report["other"] for report in reports)]
    rows = []
    for number, group in enumerate(groups):
        row = [group["name"], str(len(group["runs"]))]
        for unit in ("val_bpb", "val_loss"):
            spread = f" ± {group[unit]['std']:.5f}" if group[unit]["std"] is not None else ""
            row.append(f"{group[unit]['mean']:.5f}{spread}")
        row += [f"{group['bytes_total']:,}", _gain(reports[number - 1]) if number else "(base)"]
        rows.append(row)
    header = ["", "runs", "BPB", "nats per token", "bytes", "gain over the first"]
    if as_markdown:
        for cells in (header, ["---"] * len(header), *rows):
            echo(f"| {' | '.join(cells)} |")
    else:
        console = make_console()
        show_table(console, "", header, rows, ["nats per token", "bytes", "runs", header[-1]])
    for note in dict.fromkeys(group["note"] for group in groups if group["note"]):
        tell(note)
    for report in reports:
        for line in _judgement(report):
            tell(line)
    for warning in dict.fromkeys(warning for report in reports for warning in report["warnings"]):
        tell(f"warning: {warning}")


def _gain(report: dict[str, Any]) -> str:
    if "paired" in report:
        low, high = report["paired"]["interval"]
        return f"{report['paired']['gain_bpb']:+.5f} BPB [{low:+.5f}, {high:+.5f}]"
    if "test" in report:
        low, high = report["test"]["interval"]
        return f"{report['test']['gain']:+.5f} [{low:+.5f}, {high:+.5f}]"
    unit = "val_loss" if report["unit"] == "nats per token" else "val_bpb"
    return f"{report['base'][unit]['mean'] - report['other'][unit]['mean']:+.5f}"


def _judgement(report: dict[str, Any]) -> Iterable[str]:
    name = report["other"]["name"]
    if "paired" in report:
        pair = report["paired"]
        yield f"{name}: better on {pair['documents_better']} of {pair['documents']} documents"
    if "test" in report:
        test = report["test"]
        verdict = "better" if test["better"] else "not shown to be better"
        yield (
            f"{name}: {verdict} by more than {report['margin']} {report['unit']} "
            f"(t = {test['t']:.3f}, df = {test['df']:.2f}, p = {test['p']:.3g}, alpha = {report['alpha']})"
        )
        if not test["better"]:
            needed = report["seeds_needed"]
            yield (
                f"{name}: {needed} seeds in each group would show it, if it stays like this"
                if needed
                else f"{name}: its mean does not exceed the margin, so no number of seeds would show it"
            )


_PUBLISHED = (("published", "{:.4f}"), ("published_gain", "{:+.4f}"))


def show_ablation(rows: list[dict[str, Any]]) -> None:
    """What `golfzoo ablate` prints at the end."""
    console = make_console()
    cells = []
    for row in rows:
        name = f"{row['name']}" + (f" x{row['seeds']}" if row["seeds"] > 1 else "")
        if not row["seeds"]:
            cells.append([name, "failed", *[""] * 8])
            continue
        scores = [f"{row[stage]:.4f}" for stage in ("trained", "roundtrip", "final")]
        seconds = [f"{row[stage]:.1f}" for stage in ("train_seconds", "eval_seconds")]
        cells.append([name, *scores, row["bytes"], row["headroom"], *seconds, difference_of(row), _p_of(row)])
    header = ["cell", "trained", "roundtrip", "final", "bytes", "headroom", "train s", "eval s"]
    header += ["final - record [95 %]", "p (Holm)"]
    least = ["headroom", "eval s", "train s", "roundtrip", "trained", "bytes", *header[:-3:-1]]
    show_table(console, "Bits per byte, bytes, seconds", header, cells, least)


def show_leaderboard(rows: list[dict[str, Any]]) -> None:
    """What `golfzoo leaderboard` prints at the end."""
    cells = []
    for row in rows:
        pocket = f"{row['pocket']:.4f}" + (f" ± {row['reach']:.4f}" if row["reach"] is not None else "")
        published = [or_unknown(row.get(name), form, "-") for name, form in _PUBLISHED]
        compared = [row.get("before", "-"), or_unknown(row.get("gain"), "{:+.4f}", "-")]
        p = or_unknown(row.get("p"), "{:.2g}", "-")
        cells.append([row["name"], pocket, *compared, p, *published, row["artifact"], row["code"]])
    header = ["record", "pocket", "before it", "gain", "p (Holm)", "published", "gain there", "artifact", "code"]
    least = ["code", "artifact", "before it", "gain there", "published"]
    show_table(make_console(), "Bits per byte", header, cells, least)


def difference_of(row: dict[str, Any]) -> str:
    """A row's difference to the record, with its interval."""
    if row.get("difference") is None:
        return "-"
    if row["interval"] is None:
        return f"{row['difference']:+.4f}"
    return f"{row['difference']:+.4f} [{row['interval'][0]:+.4f}, {row['interval'][1]:+.4f}]"


def _p_of(row: dict[str, Any]) -> str:
    return or_unknown(row.get("p_holm"), "{:.2g}", "-")


def show_result(console: Console, result: dict[str, Any], published: dict[str, Any] | None) -> None:
    """The table at the end of a run: scores, bytes, seconds; and what they mean."""
    title = f"{result['record']}, seed {result['seed']}"
    table = Table(title=title, title_justify="left", show_header=False, box=ROUNDED if console.is_terminal else None)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    stages, size, seconds = result["stages"], result["bytes"], result["seconds"]
    notes = {
        "trained": "flat, weights as trained",
        "roundtrip": "flat, weights read back from the artifact",
        "final": "the score, as the record's eval and adaptor say",
    }
    for name, note in notes.items():
        table.add_row(name, f"{stages[name]['val_bpb']:.4f}", f"bits per byte; {note}")
    table.add_section()
    table.add_row("model", f"{size['model']:,}", "bytes of artifact.golf")
    table.add_row("code", f"{size['code']:,}", "bytes of train_gpt.py, as `golfzoo pack` writes it")
    verdict = "fits" if size["fits"] else "[bold red]over the limit[/]"
    table.add_row("total", f"{size['total']:,}", f"of {size['limit']:,} bytes: {verdict}")
    table.add_section()
    for name in ("train", "eval"):
        table.add_row(name, f"{seconds[name]:.1f}", "seconds")
    console.print(table)
    for line in reached(result, published):
        say(console, line)


def show_text_scores(scored: dict[str, Any]) -> None:
    """What `golfzoo score` prints: bits per byte of texts, by a model and by general compressors."""
    how = "as the record's eval and adaptor say" if scored["adapted"] else "flat"
    tell(
        f"{scored['val_bpb']:.8f} bits per byte, {scored['val_loss']:.8f} nats per token, over "
        f"{scored['tokens_scored']:,} tokens and {scored['bytes_scored']:,} bytes; {how}"
    )
    takes = ", ".join(f"{name} {bits:.4f}" for name, bits in scored["baseline_bpb"].items())
    tell(f"General compressors take, for the same text: {takes}.")
    if len(scored["texts"]) > 1:
        rows = [
            [text["name"], or_unknown(text["val_bpb"], "{:.4f}"), text["tokens"], text["bytes"]]
            for text in scored["texts"]
        ]
        show_table(make_console(), "", ["text", "bits per byte", "tokens", "bytes"], rows, ["tokens", "bytes"])
