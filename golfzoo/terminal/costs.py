"""What things cost, as a person reads it: bytes, seconds, room on the disk."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from golfzoo.running.cache import CachedResult
from golfzoo.terminal.prose import echo, say
from golfzoo.terminal.tables import make_console, make_table, or_unknown, show_table

_FILES_SHOWN = 24


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
    needed = [[name, room or "?"] for name, room in measured["requirements"].items()]
    show_table(console, "What it needs beside Python, not counted", ["distribution", "bytes on the disk"], needed, [])
    uncounted = "" if size["total"] > size["model"] + size["code"] else "  (not counted)"
    echo(f"model      {size['model']:>12,}" if size["model"] else "model                 -  (no artifact yet)")
    echo(f"code       {size['code']:>12,}")
    echo(f"tokenizer  {size['tokenizer']:>12,}{uncounted}")
    echo(f"total      {size['total']:>12,} of {size['limit']:,}")
    echo(f"headroom   {measured['headroom']:>12,}")


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


def show_cache(root: Path, entries: list[CachedResult]) -> None:
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


def show_plan(folder: Path, plan: dict[str, Any]) -> None:
    """What `golfzoo ablate --list` prints."""
    console = make_console()
    rows = []
    for cell in plan["cells"]:
        guess = cell["estimate"]
        train = "known" if "train" in cell["known"] else or_unknown(guess["train"], "{:,.0f} s")
        there = "yes" if cell["status"] == "completed" else cell["status"]
        sizes = or_unknown(guess["bytes"], "{:,}")
        rows.append([cell["name"], str(cell["seed"]), there, train, or_unknown(guess["eval"], "{:,.0f} s"), sizes])
    header = ["cell", "seed", "there?", "training", "scoring", "bytes"]
    console.print(str(folder), markup=False)
    show_table(console, "", header, rows, ["bytes", "scoring", "training"])
    say(console, '"known": taken over from an earlier run. "?": no run on this machine tells yet.')


def show_bench(console: Console, report: dict[str, Any]) -> None:
    """What `golfzoo bench` prints."""
    training, scoring = report["training"], report["scoring"]
    rows = [
        ["training, tokens/s", *_cells(training["tokens_per_second"], "{:,.0f}")],
        ["training, ms/step", *_cells(training["milliseconds_per_step"], "{:,.1f}")],
        ["flat scoring, tokens/s", *_cells(scoring["flat"], "{:,.0f}")],
        ["final scoring, tokens/s", *_cells(scoring["final"], "{:,.0f}")],
        *([f"{name}, s", *_cells(seconds, "{:,.3f}")] for name, seconds in report["seconds"].items()),
    ]
    threads = f"{report['threads']} thread{'s' * (report['threads'] > 1)}"
    compiled = ", compiled" if report["compiled"] else ""
    title = f"{report['record']}: {report['device']}, {threads}, {report['precision']}{compiled}"
    console.print(make_table(console, title, ["", "median", "min", "max", "repetitions"], rows))
    for line in _conclusions(report):
        say(console, line)


def _cells(figures: dict[str, Any], form: str) -> list[Any]:
    return [*(form.format(figures[name]) for name in ("median", "min", "max")), figures["repetitions"]]


def _conclusions(report: dict[str, Any]) -> Iterator[str]:
    training, limits = report["training"], report["within_limits"]
    peak = training["peak_flops_per_second"]
    if training["share_of_peak"] is None:
        yield f"Matrix products reach {_si(peak)}FLOP/s here; how many of them a step needs cannot be told."
    else:
        yield (
            f"Training does {_si(training['flops_per_step'])}FLOP a step, {_si(training['flops_per_second'])}FLOP/s: "
            f"{100 * training['share_of_peak']:.1f} % of what a large matrix product reaches here, {_si(peak)}FLOP/s."
        )
        if training["share_of_peak"] > 1:
            yield "That is more than all of it: the machine was busy with something else, and these figures say little."
    if report["peak_memory_bytes"] is not None:
        yield f"Peak memory: {_si(report['peak_memory_bytes'])}B."
    capped = f" (the record stops at {limits['iterations']:,})" if limits["steps"] > limits["iterations"] else ""
    yield (
        f"{limits['train_seconds']:,.0f} s of training would buy {limits['steps']:,} steps{capped}: "
        f"{limits['tokens_trained']:,} tokens."
    )
    verdict = "within" if limits["evaluation_fits"] else "more than"
    yield (
        f"Scoring all {limits['val_tokens']:,} validation tokens would take about {limits['eval_seconds']:,.0f} s: "
        f"{verdict} the {limits['max_eval_seconds']:,.0f} s allowed."
    )
    yield "All of it with one process on one device."


def _si(number: float) -> str:
    """Three digits and a prefix, for a unit to follow."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "
