"""Results as a person reads them: tables on a terminal, plain columns elsewhere."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from golfzoo.cache import Entry as Kept
from golfzoo.display import left_out, make_console
from golfzoo.verify.verdict import MEANINGS, Verdict

_FILES_SHOWN = 24
_NAME_WIDTH = 24  # a longer name may be folded to it, where that saves a column


def make_table(console: Console, title: str, header: list[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table whose first column is text and whose others are figures; without lines where it is not for a terminal."""
    table = Table(title=title or None, title_justify="left", box=ROUNDED if console.is_terminal else None)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_written(cell)) for cell in row))
    return table


def show_table(console: Console, title: str, header: list[str], rows: list[list[Any]], least: Iterable[str]) -> None:
    """Print a table. Its names may be folded, its figures never: a terminal that is too narrow is shown fewer columns,
    without those of `least` in their order, and told so."""
    cells = list(zip(header, *(map(_written, row) for row in rows), strict=True))
    widths = {column[0]: max(map(len, column)) for column in cells}
    longest_word = max((len(word) for name in cells[0] for word in name.split()), default=0)
    hidden = left_out(console, widths | {header[0]: min(longest_word, _NAME_WIDTH)}, least)
    kept = [number for number, name in enumerate(header) if name not in hidden]
    table = make_table(console, title, [header[number] for number in kept], [[row[i] for i in kept] for row in rows])
    for column, number in list(zip(table.columns, kept, strict=True))[1:]:
        column.no_wrap, column.min_width = True, widths[header[number]]
    console.print(table)
    if hidden:
        console.print(f"Too narrow for {', '.join(hidden)}; --json has them.", markup=False)


def _written(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def show_sizes(measured: dict[str, Any]) -> None:
    """What `golfzoo size` prints."""
    console = make_console()
    groups, size = measured["groups"], measured["bytes"]
    columns = ["parameters", "raw", "quantized", "compressed", "entropy"]
    rows = [[row["name"], *(row[column] if row[column] is not None else "-" for column in columns)] for row in groups]
    totals = [sum(row[column] or 0 for row in groups) or "-" for column in columns]
    bits = [f"{8 * row['compressed'] / row['parameters']:.2f}" if row["compressed"] else "-" for row in groups]
    if size["model"]:
        rows.append(["rest of the file", "-", "-", "-", measured["rest"]["model"], "-"])
        totals[3] = size["model"]
        bits += ["-", f"{8 * size['model'] / totals[0]:.2f}"]
    rows.append(["model" if size["model"] else "all of them", *totals])
    bits += ["-"] * (len(rows) - len(bits))
    with_bits = [[*row, bit] for row, bit in zip(rows, bits, strict=True)]
    least = ["raw", "entropy", "quantized", "bits/weight", "parameters"]
    show_table(console, "Tensors, in bytes", ["group", *columns, "bits/weight"], with_bits, least)
    modules: list[list[Any]] = [
        *map(list, sorted(measured["modules"].items(), key=lambda item: -item[1])),
        ["loader, record, what modules share", measured["rest"]["code"]],
        ["code", size["code"]],
    ]
    show_table(console, "Code, in bytes of train_gpt.py", ["module", "costs"], modules, [])
    uncounted = "" if size["total"] > size["model"] + size["code"] else "  (not counted)"
    print(f"model      {size['model']:>12,}" if size["model"] else "model                 -  (no artifact yet)")
    print(f"code       {size['code']:>12,}")
    print(f"tokenizer  {size['tokenizer']:>12,}{uncounted}")
    print(f"total      {size['total']:>12,} of {size['limit']:,}")
    print(f"headroom   {measured['headroom']:>12,}")


def show_fetch_plan(console: Console, plan: Any, root: Path) -> None:
    """What `golfzoo data fetch` prints before it fetches: single files while they are few, else counts."""
    rows = [
        [item.remote.name, "?" if item.remote.size is None else item.remote.size, item.state] for item in plan.items
    ]
    if len(rows) > _FILES_SHOWN:
        rows = [
            [f"{len(group)} files", sum(item.remote.size or 0 for item in group), state]
            for state in ("there", "damaged", "missing")
            if (group := [item for item in plan.items if item.state == state])
        ]
    console.print(f"{plan.folder}, from {plan.origin.name}", markup=False)
    console.print(make_table(console, "", ["file", "bytes", "state"], rows))
    there = root
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    console.print(f"to fetch: {len(plan.wanted)} files, {plan.num_bytes:,} bytes; free: {free:,} bytes", markup=False)


def show_cache(root: Path, entries: list[Kept]) -> None:
    """What `golfzoo cache list` prints."""
    console = make_console()
    rows = [
        [entry.stage, entry.facts.get("record", ""), entry.size, _ago(entry.used), entry.facts.get("from", "")]
        for entry in entries
    ]
    console.print(str(root), markup=False)
    console.print(make_table(console, "", ["stage", "record", "bytes", "last used", "from"], rows))
    console.print(f"{len(entries)} results, {sum(entry.size for entry in entries) / 1e6:,.1f} MB")


def _ago(moment: float) -> str:
    seconds = time.time() - moment
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit} ago"
    return "just now"


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
        console.print(note, markup=False)
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
            print(f"| {' | '.join(cells)} |")
    else:
        console = make_console()
        show_table(console, "", header, rows, ["nats per token", "bytes", "runs", header[-1]])
    for report in reports:
        for line in _judgement(report):
            print(line)
    for warning in dict.fromkeys(warning for report in reports for warning in report["warnings"]):
        print(f"warning: {warning}")


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


def show_plan(folder: Path, plan: dict[str, Any]) -> None:
    """What `golfzoo ablate --list` prints."""
    console = make_console()
    rows = []
    for cell in plan["cells"]:
        guess = cell["estimate"]
        train = "known" if "train" in cell["known"] else _or_unknown(guess["train"], "{:,.0f} s")
        there = "yes" if cell["status"] == "completed" else cell["status"]
        sizes = _or_unknown(guess["bytes"], "{:,}")
        rows.append([cell["name"], str(cell["seed"]), there, train, _or_unknown(guess["eval"], "{:,.0f} s"), sizes])
    header = ["cell", "seed", "there?", "training", "scoring", "bytes"]
    console.print(str(folder), markup=False)
    show_table(console, "", header, rows, ["bytes", "scoring", "training"])
    console.print('"known": taken over from an earlier run. "?": no run on this machine tells yet.', markup=False)


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


def difference_of(row: dict[str, Any]) -> str:
    """A row's difference to the record, with its interval."""
    if row.get("difference") is None:
        return "-"
    if row["interval"] is None:
        return f"{row['difference']:+.4f}"
    return f"{row['difference']:+.4f} [{row['interval'][0]:+.4f}, {row['interval'][1]:+.4f}]"


def _p_of(row: dict[str, Any]) -> str:
    return _or_unknown(row.get("p_holm"), "{:.2g}", "-")


def _or_unknown(value: float | None, form: str, unknown: str = "?") -> str:
    return unknown if value is None else form.format(value)


def show_result(console: Console, result: dict[str, Any], published: dict[str, Any] | None) -> None:
    """The table at the end of a run: scores, bytes, seconds."""
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
    for note in _comparisons(result, published):
        console.print(note, markup=False)


def _comparisons(result: dict[str, Any], published: dict[str, Any] | None) -> Iterable[str]:
    """What the score can and cannot be compared with."""
    if baselines := result["dataset"].get("baseline_bpb"):
        yield (
            f"The validation text under general compressors: zlib {baselines['zlib']:.4f}, xz {baselines['xz']:.4f} "
            "bits per byte."
        )
    if result["profile"] != "none":
        yield f"Profile {result['profile']!r} was laid over the record: not comparable with published scores."
    elif published and published.get("val_bpb"):
        yield f"Published: {published['val_bpb']:.4f} bits per byte ({published.get('source', '')})."
