"""ablate: a grid of changes to one record."""

import json
from pathlib import Path
from typing import Any

import click

from golfzoo.commands.arguments import json_option, overrides_argument, profile_option, record_argument
from golfzoo.errors import UsageError
from golfzoo.terminal.prose import echo, tell


@click.command()
@record_argument
@overrides_argument
@profile_option
@click.option("--vary", multiple=True, metavar="KEY=V1,V2", help="Values of a key; several make a grid.")
@click.option("--one-at-a-time", is_flag=True, help="Each change against the record alone, instead of a grid.")
@click.option("--seeds", default="", metavar="1,2,3", help="Run every cell under these seeds.")
@click.option("--out", type=click.Path(path_type=Path), help="The grid's folder; by default one under runs/.")
@click.option("--nproc", type=click.IntRange(min=1), default=1, help="Processes of each cell.  [default: 1]")
@click.option("--fresh", is_flag=True, help="Take no stage over from other runs.")
@click.option("--list", "only_list", is_flag=True, help="Show what would run and what is there already, and stop.")
@click.option("--executor", type=click.Choice(["local", "slurm"]), help="Hand the cells to submitit as jobs.")
@click.option("--job", multiple=True, metavar="KEY=VALUE", help="For submitit, as in slurm_partition=gpu.")
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
    from golfzoo.running.launch import joined_rank
    from golfzoo.studies import ablate as ablation
    from golfzoo.terminal.progress import Display
    from golfzoo.terminal.scores import show_ablation

    said: list[str] = []

    def load_cell(changes: tuple[str, ...]) -> Any:
        quiet = as_json or bool(said)
        said.append(record)
        return load(record, (*overrides, *changes), profile, quiet)

    if job and not executor:
        raise UsageError("--job: is for --executor")
    if joined_rank() is not None:
        raise UsageError("ablate starts its own processes, --nproc of them; run it without torchrun or srun")
    cells = ablation.plan_cells(load_cell, list(vary), _numbers(seeds), one_at_a_time)
    display = Display(cells[0][1].tables, quiet=as_json)
    by_data = {str(record.tables["data"]): record for _, record in cells}
    if not only_list:
        for note in dict.fromkeys(note for _, record in cells for note in record.notes):
            display.say(note)
        _prepare([record for _, record in cells], by_data, nproc, display)
    datasets = {data: _dataset(record) for data, record in by_data.items()}
    grid = ablation.lay_out(cells, list(vary), out, datasets, nproc)
    if only_list:
        _list(grid, datasets, nproc, as_json)
        return
    try:
        if executor:
            errors = _submit(grid, executor, job, fresh, nproc, display)
        else:
            errors = _run(grid, fresh, nproc, display, as_json)
    except (KeyboardInterrupt, Interrupted):
        ablation.write_table(grid, ablation.tabulate(grid))
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


def _list(grid: Any, datasets: dict[str, Any], nproc: int, as_json: bool) -> None:
    from golfzoo.studies import ablate as ablation
    from golfzoo.terminal.costs import show_plan

    history = ablation.read_history()
    plan = grid.describe()
    for cell, row in zip(grid.cells, plan["cells"], strict=True):
        known = _known(cell.record, nproc, datasets[str(cell.record.tables["data"])])
        row |= {"known": known, "estimate": ablation.estimate(cell, history)}
    if as_json:
        echo(json.dumps(plan, indent=1))
    else:
        show_plan(grid.folder, plan)


def _run(grid: Any, fresh: bool, nproc: int, display: Any, quiet: bool) -> list[str]:
    """Cells one after another in this process. Returns the errors."""
    from golfzoo.studies import ablate as ablation
    from golfzoo.terminal.progress import Display

    errors = []
    for number, cell in enumerate(grid.cells, start=1):
        label = f"[{number}/{len(grid.cells)}] {cell.name}, seed {cell.seed}"
        if cell.status() == "completed":
            asked = f"; remove {cell.folder} to have it run again" if fresh else ""
            display.say(f"{label}: is there already{asked}")
            continue
        display.say(label)
        shown = Display(cell.record.tables, quiet)
        with shown:
            error = ablation.run_cell(cell, fresh, nproc, shown.show)
        if error:
            errors.append(error)
            tell(f"golfzoo: {label} failed: {error}", err=True)
        ablation.write_table(grid, ablation.tabulate(grid))
    return errors


def _submit(grid: Any, executor: str, job: tuple[str, ...], fresh: bool, nproc: int, display: Any) -> list[str]:
    from golfzoo.studies.cluster import run_on

    options = dict(_option(text) for text in job)
    failed = run_on(executor, options, grid, fresh, nproc, display.say)
    for name, error in failed.items():
        tell(f"golfzoo: {name} failed: {error}", err=True)
    return list(failed)


def _prepare(records: list[Any], by_data: dict[str, Any], nproc: int, display: Any) -> None:
    """See that every cell could run before the first one does."""
    from golfzoo.running import launch

    for record in by_data.values():
        launch.prepare_data(record, display.say)
    for record in records:
        launch.check_processes(record, nproc)


def _known(record: Any, nproc: int, dataset: Any) -> list[str]:
    """The stages whose results are in the cache, as far as this can be told before anything has run."""
    from golfzoo.machine.devices import device_name
    from golfzoo.running.cache import Cache
    from golfzoo.running.fingerprints import Fingerprints

    if dataset is None:
        return []
    prints, cache = Fingerprints(record, dataset, device_name(), nproc), Cache()
    trained = cache.has("train", prints.of("train"))
    if trained is None:
        return []
    known, key = ["train"], trained["key"]
    for stage in ("quantize", "compress"):
        facts = cache.has(stage, prints.of(stage, key))
        if facts is None:
            break
        known, key = [*known, stage], facts.get("key", "")
    return known


def _dataset(record: Any) -> dict[str, Any] | None:
    """The fingerprint of a record's dataset, which reads its whole validation text; None where it cannot be read."""
    from golfzoo.corpus.check import fingerprint
    from golfzoo.engine.components import namespace
    from golfzoo.engine.data import data_paths
    from golfzoo.engine.errors import DataError

    try:
        return fingerprint(*data_paths(namespace(record.tables["data"])))
    except DataError:
        return None


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--seeds {text}: must be whole numbers, as in 1,2,3") from None


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--job {text}: must read KEY=VALUE, as in slurm_partition=gpu")
    return key, int(value) if value.isdigit() else value
