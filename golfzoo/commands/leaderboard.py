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
    from golfzoo.engine.errors import Interrupted
    from golfzoo.studies import ablate as ablation
    from golfzoo.studies import leaderboard as boards
    from golfzoo.terminal.progress import Display

    files, overrides = _sort(arguments)
    grids.check_usage("leaderboard", job, executor)
    _check_place(table, check)
    wanted, known = grids.numbers(seeds), _known(table, overrides) if check else {}
    if check:
        overrides, wanted, profile = (known["conditions"][name] for name in ("overrides", "seeds", "profile"))
    if not wanted or len(set(wanted)) < len(wanted):
        raise UsageError(f"--seeds {seeds}: must name a seed, and each once, as in 1,2,3")
    cells = _load(files, overrides, wanted, profile, as_json)
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

        def measure() -> dict[str, Any]:
            links = [os.path.relpath(file, table.parent) for file in files]
            return boards.measure(grid, links, datasets, conditions)

        errors: list[str] = []
        try:
            if runs:
                errors = grids.run(grid, executor, job, fresh, nproc, display, as_json, lambda: None)
        except (KeyboardInterrupt, Interrupted):
            if not check:
                _write(grid, measure(), table, display, as_json)
            display.say("the same command goes on where the leaderboard stopped")
            raise
        if check:
            _check(known, measure(), table, runs, as_json)
        else:
            _write(grid, measure(), table, display, as_json)
    if errors:
        raise SystemExit(1)


def _sort(arguments: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The records, each once, and the overrides."""
    files = [argument for argument in arguments if "=" not in argument or Path(argument).is_file()]
    overrides = [argument for argument in arguments if argument not in files]
    if not files:
        raise UsageError("leaderboard: names no record; give files, as in records/*.toml")
    if any(override.startswith("train.seed=") for override in overrides):
        raise UsageError("leaderboard: train.seed comes from --seeds")
    return list(dict.fromkeys(files)), overrides


def _load(
    files: list[str], overrides: list[str], seeds: list[int], profile: str | None, quiet: bool
) -> list[tuple[str, Any]]:
    """Name and record of every cell, all under one profile."""
    from golfzoo.commands.arguments import load
    from golfzoo.studies.leaderboard import plan_cells

    said: list[str] = []

    def load_cell(file: str, changes: tuple[str, ...]) -> Any:
        said.append(file)
        return load(file, (*overrides, *changes), profile, quiet or len(said) > 1)

    cells = plan_cells(load_cell, files, seeds)
    if len({record.profile for _, record in cells}) > 1:
        raise UsageError(
            "leaderboard: some of the records have the profile cpu, others not; say --profile NAME, or none"
        )
    return cells


def _check_place(table: Path, check: bool) -> None:
    """See that the table can be written, or is there to be checked, before hours of runs. Raises UsageError."""
    from golfzoo.strangers.files import read_text

    if table.suffix != ".md" or table.is_dir():
        raise UsageError(f"--table {table}: must be the file of a page, as records/README.md")
    if check:
        read_text(table, "log", follow=True)
        return
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--table {table}: its folder cannot be made: {error.strerror}") from None
    if in_the_way := [path for path in _beside(table) if path.is_dir()]:
        raise UsageError(f"--table {table}: {in_the_way[0]} is a folder, and in the way of its figures")


def _beside(table: Path) -> tuple[Path, Path]:
    """Where figures and plot of a table lie: leaderboard.json and .png beside a README.md, else under its own name."""
    stem = "leaderboard" if table.name == "README.md" else table.stem
    return table.with_name(f"{stem}.json"), table.with_name(f"{stem}.png")


def _known(table: Path, overrides: list[str]) -> dict[str, Any]:
    """The table that is to be checked."""
    from golfzoo.studies.leaderboard import read_table

    figures = _beside(table)[0]
    if overrides:
        raise UsageError(f"leaderboard --check: takes KEY=VALUE from {figures}; leave them out")
    return read_table(figures)


def _write(grid: Any, measured: dict[str, Any], table: Path, display: Any, as_json: bool) -> None:
    from golfzoo.engine.files import write_whole
    from golfzoo.report import pocket
    from golfzoo.results import write_json
    from golfzoo.studies import ablate as ablation
    from golfzoo.studies import leaderboard as boards
    from golfzoo.terminal.scores import show_leaderboard

    if not (rows := boards.rows_of(measured)):
        display.say(f"no run was completed: {table} stays as it is")
        return
    figures, plot = _beside(table)
    try:
        plot.unlink(missing_ok=True)
        pocket.write_plot(rows, plot)
    except (UsageError, OSError) as error:
        display.say(f"no plot: {error}")
    write_json(figures, measured)
    write_whole(table, pocket.render(measured, figures.name, plot.name if plot.exists() else None).encode())
    ablation.write_table(grid, boards.as_ablation(grid, rows))
    if as_json:
        echo(json.dumps(measured | {"rows": rows}, indent=1))
        return
    show_leaderboard(rows)
    display.say(f"The table is in {table}, its figures are beside it, and all runs in {grid.folder}")


def _check(known: dict[str, Any], now: dict[str, Any], table: Path, anew: bool, as_json: bool) -> None:
    from golfzoo.report import pocket
    from golfzoo.strangers.files import read_text
    from golfzoo.studies import leaderboard as boards

    figures, plot = _beside(table)
    shown = pocket.render(known, figures.name, plot.name if plot.exists() else None)
    found = boards.differences(known, now, anew)
    found += [
        f"{record['name']}: {record['file']} is gone"
        for record in known["records"]
        if not (table.parent / record["file"]).exists()
    ]
    if read_text(table, "log", follow=True) != shown:
        found.append("the page is not what the figures beside it make; write it again")
    num_runs = sum(len(record["runs"]) for record in now["records"])
    if as_json:
        echo(json.dumps({"differences": found, "runs": num_runs}, indent=1))
    else:
        said = f"{num_runs} of their runs give the same" if num_runs else "none of their runs is there to compare"
        lines = found or [f"{table}: {len(now['records'])} records are what was measured; {said}"]
        for line in lines:
            echo(line)
    if found:
        raise SystemExit(1)
