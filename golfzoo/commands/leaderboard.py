"""leaderboard: every record under one profile, beside the record before it."""

import json
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from golfzoo.commands import grids
from golfzoo.commands.arguments import json_option, profile_option
from golfzoo.errors import UsageError
from golfzoo.terminal.prose import echo


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="RECORD... [KEY=VALUE]...")
@profile_option
@click.option("--seeds", default="1,2,3", show_default=True, metavar="1,2,3", help="Run every record under these.")
@click.option(
    "--table", type=click.Path(path_type=Path), default=Path("records/README.md"), show_default=True,
    help="The page to write; its figures and its plot go beside it.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing: say whether the table is what the records now give.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/leaderboard"), show_default=True,
    help="The runs' folder.",
)  # fmt: skip
@grids.nproc_option
@grids.fresh_option
@grids.list_option
@grids.executor_option
@grids.job_option
@json_option
def leaderboard(
    arguments: tuple[str, ...],
    profile: str | None,
    seeds: str,
    table: Path,
    check: bool,
    out: Path,
    nproc: int,
    fresh: bool,
    only_list: bool,
    executor: str | None,
    job: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run every RECORD under every seed, where it has not run yet, and write the table of what came out.

    Each is compared with the record before it: the next worse published score. KEY=VALUE goes for all records. Stopped
    and given again, it goes on; `golfzoo report` makes a page of the same runs.

    --check takes profile, seeds and KEY=VALUE from the table. It compares the records, and those of their runs that are
    there; with --fresh it runs them all anew: the same machine must give the same bits.

    \b
    golfzoo leaderboard records/*.toml --profile cpu train.iterations=80
    golfzoo leaderboard records/*.toml --check
    """
    from golfzoo.commands.arguments import load
    from golfzoo.studies import ablate as ablation
    from golfzoo.studies import leaderboard as boards
    from golfzoo.terminal.progress import Display

    files = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    if not files:
        raise UsageError("leaderboard: names no record; give files, as in records/*.toml")
    grids.check_usage("leaderboard", job, executor)
    wanted, known = grids.numbers(seeds), _known(table, overrides) if check else {}
    if check:
        overrides, wanted, profile = (known["conditions"][name] for name in ("overrides", "seeds", "profile"))
    if not wanted:
        raise UsageError("leaderboard: needs a seed; give --seeds 1,2,3")
    said: list[str] = []

    def load_cell(file: str, changes: tuple[str, ...]) -> Any:
        quiet = as_json or bool(said)
        said.append(file)
        return load(file, (*overrides, *changes), profile, quiet)

    cells = boards.plan_cells(load_cell, files, wanted)
    records = [record for _, record in cells]
    display = Display(records[0].tables, quiet=as_json)
    runs = not only_list and (fresh or not check)
    if runs:
        grids.prepare(records[: len(files)], nproc, display)
    datasets = grids.fingerprints(records)
    conditions = boards.conditions_of(overrides, records[0].profile, wanted, datasets[str(records[0].tables["data"])])
    with tempfile.TemporaryDirectory() if check and fresh else nullcontext(out) as folder:
        grid = ablation.lay_out(cells, [], Path(folder), datasets, nproc)
        if only_list:
            grids.show_list(grid, datasets, nproc, as_json)
            return
        errors = _run(grid, executor, job, fresh, nproc, display, as_json) if runs else []
        measured = boards.measure(grid, [os.path.relpath(file, table.parent) for file in files], conditions)
        if check:
            _check(known, measured, table, display.say)
        else:
            _write(grid, measured, table, display, as_json)
    if errors:
        raise SystemExit(1)


def _known(table: Path, overrides: list[str]) -> dict[str, Any]:
    """The table that is to be checked."""
    from golfzoo.studies.leaderboard import read_table

    figures = table.with_name("leaderboard.json")
    if overrides:
        raise UsageError(f"leaderboard --check: takes KEY=VALUE from {figures}; leave them out")
    return read_table(figures)


def _run(
    grid: Any, executor: str | None, job: tuple[str, ...], fresh: bool, nproc: int, display: Any, quiet: bool
) -> list[str]:
    from golfzoo.engine.errors import Interrupted

    try:
        return grids.run(grid, executor, job, fresh, nproc, display, quiet, lambda: None)
    except (KeyboardInterrupt, Interrupted):
        display.say("the same command goes on where the leaderboard stopped")
        raise


def _write(grid: Any, measured: dict[str, Any], table: Path, display: Any, as_json: bool) -> None:
    from golfzoo.report import pocket
    from golfzoo.results import write_json
    from golfzoo.studies import ablate as ablation
    from golfzoo.studies import leaderboard as boards
    from golfzoo.terminal.scores import show_leaderboard

    rows = boards.rows_of(measured)
    plot = table.with_name("leaderboard.png")
    try:
        plot.unlink(missing_ok=True)
        pocket.write_plot(rows, plot)
    except UsageError as error:
        display.say(f"no plot: {error}")
    write_json(table.with_name("leaderboard.json"), measured)
    table.write_text(pocket.render(measured, plot.name if plot.exists() else None))
    ablation.write_table(grid, boards.as_ablation(grid, rows))
    if as_json:
        echo(json.dumps(measured | {"rows": rows}, indent=1))
        return
    show_leaderboard(rows)
    display.say(f"The table is in {table}, its figures are beside it, and all runs in {grid.folder}")


def _check(known: dict[str, Any], now: dict[str, Any], table: Path, say: Any) -> None:
    from golfzoo.report import pocket
    from golfzoo.strangers.files import read_text
    from golfzoo.studies import leaderboard as boards

    plot = table.with_name("leaderboard.png")
    shown = pocket.render(known, plot.name if plot.exists() else None)
    found = boards.differences(known, now, read_text(table, "record", follow=True), shown)
    num_runs = sum(len(record["runs"]) for record in now["records"])
    for line in found:
        echo(line)
    if found:
        raise SystemExit(1)
    say(f"{table}: {len(now['records'])} records are what was measured; {num_runs} of their runs give the same")
