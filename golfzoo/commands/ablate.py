"""ablate: a grid of changes to one record."""

import json
from pathlib import Path
from typing import Any

import click

from golfzoo.commands import grids
from golfzoo.commands.arguments import json_option, overrides_argument, profile_option, record_argument
from golfzoo.terminal.prose import echo


@click.command()
@record_argument
@overrides_argument
@profile_option
@click.option("--vary", multiple=True, metavar="KEY=V1,V2", help="Values of a key; several make a grid.")
@click.option("--one-at-a-time", is_flag=True, help="Each change against the record alone, instead of a grid.")
@click.option("--seeds", default="", metavar="1,2,3", help="Run every cell under these seeds.")
@click.option("--out", type=click.Path(path_type=Path), help="The grid's folder; by default one under runs/.")
@grids.nproc_option
@grids.fresh_option
@grids.list_option
@grids.executor_option
@grids.job_option
@json_option
def ablate(
    record: str,
    overrides: tuple[str, ...],
    profile: str | None,
    vary: tuple[str, ...],
    one_at_a_time: bool,
    seeds: str,
    out: Path | None,
    nproc: int,
    fresh: bool,
    only_list: bool,
    executor: str | None,
    job: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run RECORD with every combination of the values given by --vary, and compare them with RECORD itself.

    Cells that share a stage share its result: swapping the quantizer or the adaptor trains once. The same command
    given again goes on where it stopped. A cell that fails does not stop the others.
    """
    from golfzoo.commands.arguments import load
    from golfzoo.engine.errors import Interrupted
    from golfzoo.studies import ablate as ablation
    from golfzoo.terminal.progress import Display
    from golfzoo.terminal.scores import show_ablation

    said: list[str] = []

    def load_cell(changes: tuple[str, ...]) -> Any:
        quiet = as_json or bool(said)
        said.append(record)
        return load(record, (*overrides, *changes), profile, quiet)

    grids.check_usage("ablate", job, executor)
    cells = ablation.plan_cells(load_cell, list(vary), grids.numbers(seeds), one_at_a_time)
    records = [record for _, record in cells]
    display = Display(cells[0][1].tables, quiet=as_json)
    if not only_list:
        grids.prepare(records, nproc, display)
    datasets = grids.fingerprints(records)
    grid = ablation.lay_out(cells, list(vary), out, datasets, nproc)
    if only_list:
        grids.show_list(grid, datasets, nproc, as_json)
        return

    def write() -> None:
        ablation.write_table(grid, ablation.tabulate(grid))

    try:
        errors = grids.run(grid, executor, job, fresh, nproc, display, as_json, write)
    except (KeyboardInterrupt, Interrupted):
        write()
        display.say("the same command goes on where the grid stopped; `golfzoo report` shows what there is of it")
        raise
    rows = ablation.tabulate(grid)
    ablation.write_table(grid, rows)
    if as_json:
        echo(json.dumps(grid.describe() | {"rows": rows}, indent=1))
    else:
        show_ablation(rows)
        display.say(f"Everything is in {grid.folder}")
    if errors:
        raise SystemExit(1)
