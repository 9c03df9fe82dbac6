"""What commands share that run a grid of cells: here, one after another, or as jobs of a cluster."""

import json
from collections.abc import Callable
from typing import Any

import click

from golfzoo.errors import UsageError
from golfzoo.terminal.prose import echo, tell

nproc_option = click.option(
    "--nproc", type=click.IntRange(min=1), default=1, help="Processes of each cell.  [default: 1]"
)
fresh_option = click.option("--fresh", is_flag=True, help="Take no stage over from other runs.")
list_option = click.option(
    "--list", "only_list", is_flag=True, help="Show what would run and what is there already, and stop."
)
executor_option = click.option(
    "--executor", type=click.Choice(["local", "slurm"]), help="Hand the cells to submitit as jobs."
)
job_option = click.option("--job", multiple=True, metavar="KEY=VALUE", help="For submitit, as in slurm_partition=gpu.")


def check_usage(command: str, job: tuple[str, ...], executor: str | None) -> None:
    from golfzoo.running.launch import joined_rank

    if job and not executor:
        raise UsageError("--job: is for --executor")
    if joined_rank() is not None:
        raise UsageError(f"{command} starts its own processes, --nproc of them; run it without torchrun or srun")


def prepare(records: list[Any], nproc: int, display: Any) -> None:
    """See that every cell could run before the first one does."""
    from golfzoo.running import launch

    for note in dict.fromkeys(note for record in records for note in record.notes):
        display.say(note)
    for record in _by_data(records).values():
        launch.prepare_data(record, display.say)
    for record in records:
        launch.check_processes(record, nproc)


def fingerprints(records: list[Any]) -> dict[str, dict[str, Any] | None]:
    """The fingerprint of each record's dataset, by its [data] table, which reads its whole validation text; None where
    it cannot be read."""
    from golfzoo.corpus.check import fingerprint
    from golfzoo.engine.components import namespace
    from golfzoo.engine.data import data_paths
    from golfzoo.engine.errors import DataError

    found: dict[str, dict[str, Any] | None] = {}
    for data, record in _by_data(records).items():
        try:
            found[data] = fingerprint(*data_paths(namespace(record.tables["data"])))
        except DataError:
            found[data] = None
    return found


def _by_data(records: list[Any]) -> dict[str, Any]:
    """A record for each dataset, by its [data] table."""
    return {str(record.tables["data"]): record for record in records}


def run(
    grid: Any,
    executor: str | None,
    job: tuple[str, ...],
    fresh: bool,
    nproc: int,
    display: Any,
    quiet: bool,
    done: Callable[[], None],
) -> list[str]:
    """Run the cells that are not completed; `done` is called after each. Returns the errors."""
    if executor:
        return _submit(grid, executor, job, fresh, nproc, display)
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
        done()
    return errors


def numbers(text: str) -> list[int]:
    """Those of --seeds."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--seeds {text}: must be whole numbers, as in 1,2,3") from None


def _submit(grid: Any, executor: str, job: tuple[str, ...], fresh: bool, nproc: int, display: Any) -> list[str]:
    from golfzoo.studies.cluster import run_on

    options = dict(_option(text) for text in job)
    failed = run_on(executor, options, grid, fresh, nproc, display.say)
    for name, error in failed.items():
        tell(f"golfzoo: {name} failed: {error}", err=True)
    return list(failed)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--job {text}: must read KEY=VALUE, as in slurm_partition=gpu")
    return key, int(value) if value.isdigit() else value


def show_list(grid: Any, datasets: dict[str, Any], nproc: int, as_json: bool) -> None:
    """What would run, what is known of it already, and what it would take."""
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
