"""A grid of changes to one record: planned, run where it has not run yet, and compared with the record itself.

runs/<record>-ablation-<8 hex>/       the same command finds it again, and goes on with it
  ablation.json                       the plan, and the table once cells are done
  cells/<change>-seed-<seed>-<6 hex>/ a run's folder for every cell
"""

import hashlib
import importlib.metadata
import itertools
import json
import re
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo.engine.describe import Emit
from golfzoo.engine.files import write_whole
from golfzoo.engine.kinds import BY_TABLE, KINDS
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.machine.devices import device_name
from golfzoo.record import Record, load_record
from golfzoo.results import read_environment, read_result, read_status, write_json
from golfzoo.running.elastic import run_several
from golfzoo.running.folder import make_folder
from golfzoo.running.launch import Start, run_here
from golfzoo.shipping.code import code_hashes
from golfzoo.strangers.files import read_text
from golfzoo.strangers.values import parse_toml
from golfzoo.studies.compare import Group, paired, read_documents
from golfzoo.studies.statistics import holm, welch
from golfzoo.zoo import Zoo

Load = Callable[[tuple[str, ...]], Record]
ALONE = "(the record)"


@dataclass(frozen=True)
class Cell:
    """One run of a grid. `name` is its change, the same for all seeds; ALONE is the record without one."""

    name: str
    record: Record
    folder: Path

    @property
    def seed(self) -> int:
        return int(self.record.tables["train"]["seed"])

    def status(self) -> str:
        """The status of its run: completed, failed, interrupted; "damaged" where a completed one cannot be read; or
        "to do"."""
        status = read_status(self.folder)
        if status == "completed":
            try:
                read_result(self.folder)
                read_environment(self.folder)
                read_documents(self.folder)
            except UsageError:
                return "damaged"
        return status or "to do"


@dataclass(frozen=True)
class Grid:
    folder: Path
    vary: list[str]
    cells: list[Cell]

    def describe(self) -> dict[str, Any]:
        cells = [
            {"name": cell.name, "seed": cell.seed, "folder": cell.folder.name, "status": cell.status()}
            for cell in self.cells
        ]
        return {"schema": 1, "record": self.cells[0].record.name, "vary": self.vary, "cells": cells}


# ---- the plan -------------------------------------------------------------------------------------------------------


def plan_cells(load: Load, vary: list[str], seeds: list[int], one_at_a_time: bool) -> list[tuple[str, Record]]:
    """Name and record of every cell, resolved, so that a mistake in one is known before any of them runs. The record
    alone comes first."""
    axes = [_parse_axis(text) for text in vary]
    keys = [axis[0].partition("=")[0] for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--vary {key}: is given twice; put all its values into one")
    if seeds and "train.seed" in keys:
        raise UsageError("--vary train.seed: --seeds gives the seeds already; leave one of the two out")
    changes: list[tuple[str, ...]] = list(itertools.product(*axes))
    if one_at_a_time:
        changes = [(change,) for axis in axes for change in axis]
    seen: dict[str, str] = {}
    cells = []
    under: list[tuple[str, ...]] = [(f"train.seed={seed}",) for seed in seeds]
    for seed in under or [()]:
        for change in ((), *changes):
            record = load((*change, *seed))
            text = record.to_toml()
            if text not in seen:
                seen[text] = " ".join(change) or ALONE
                cells.append((seen[text], record))
    return cells


def lay_out(
    cells: list[tuple[str, Record]], vary: list[str], out: Path | None, datasets: Mapping[str, Any], processes: int
) -> Grid:
    """Where each cell's run is, or will be. `datasets` has the fingerprint of each dataset, by its [data] table."""
    identities = [_identity(record, datasets[str(record.tables["data"])], processes) for _, record in cells]
    whole = hashlib.sha256("".join(identities).encode()).hexdigest()[:8]
    out = out or Path("runs") / f"{cells[0][1].name}-ablation-{whole}"
    folders = [out / "cells" / _slug(*cell, identity) for cell, identity in zip(cells, identities, strict=True)]
    return Grid(out, vary, [Cell(*cell, folder) for cell, folder in zip(cells, folders, strict=True)])


def _parse_axis(text: str) -> list[str]:
    """`KEY=V1,V2` -> ["KEY=V1", "KEY=V2"]. Commas inside brackets, braces and quotes belong to a value."""
    key, equals, values = text.partition("=")
    parts = re.findall(r"""((?:\{[^}]*\}|\[[^\]]*\]|"[^"]*"|'[^']*'|[^,{\["'])+)(?:,|$)""", values)
    if not equals or not key.strip() or not parts or ",".join(parts) != values:
        raise UsageError(f"--vary {text}: must read TABLE.KEY=VALUE,VALUE, as in quantizer.use=int8,int6")
    return [f"{key.strip()}={value.strip()}" for value in parts]


def _identity(record: Record, dataset: Any, processes: int) -> str:
    """What a cell's run is found again by: everything that its result depends on."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    parts = [record.tables, code_hashes(record), dataset, processes, device_name(), versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:6]


def _slug(name: str, record: Record, identity: str) -> str:
    """A name that people can read, and of a length that file systems take."""
    change = "record" if name == ALONE else re.sub(r"[^A-Za-z0-9.=_-]+", "_", name)
    return f"{change[:100]}-seed-{record.tables['train']['seed']}-{identity}"


# ---- running it -----------------------------------------------------------------------------------------------------


def run_cell(cell: Cell, fresh: bool, processes: int, listen: Emit) -> str | None:
    """Run a cell, or go on with it. Returns what went wrong, or None; only an interruption is raised."""
    from golfzoo.engine.errors import RunError

    try:
        make_cell(cell)
        start = Start(resume=cell.folder, fresh=fresh, processes=processes)
        (run_several if processes > 1 else run_here)(cell.record, start, listen)
    except (GolfzooError, RunError) as error:
        return str(error)
    except Exception as error:  # one cell's bug is not the others'
        with suppress(OSError):
            (cell.folder / "traceback.txt").write_text(traceback.format_exc())
        return f"{type(error).__name__}: {error}; the traceback is in {cell.folder / 'traceback.txt'}"
    return None


def make_cell(cell: Cell) -> None:
    """Make a cell's folder, or what is missing of it."""
    if not cell.folder.exists():
        make_folder(cell.record, cell.folder)
    elif not (cell.folder / "record.toml").exists():
        write_whole(cell.folder / "record.toml", cell.record.to_toml().encode())


def run_folders(folders: list[Path], zoo: Zoo, fresh: bool, processes: int) -> dict[str, str]:
    """Run the cells that were made in these folders, one after another: a job on a cluster. Returns what went wrong."""
    failed = {}
    for folder in folders:
        cell = Cell(folder.name, load_record(str(folder / "record.toml"), zoo), folder)
        error = run_cell(cell, fresh, processes, lambda event: None) if cell.status() != "completed" else None
        if error:
            failed[folder.name] = error
    return failed


def by_training(cells: list[Cell]) -> list[list[Cell]]:
    """Cells grouped by what their training depends on: a group trains once, so it belongs on one machine."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        tables = cell.record.tables
        shared = {name: tables.get(name) for name in ("data", "train", *tables_of("train"))}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(cell)
    return list(groups.values())


# ---- what came out --------------------------------------------------------------------------------------------------


def tabulate(grid: Grid) -> list[dict[str, Any]]:
    """A row for each change, over its seeds. Differences are to the record alone; less is better.

    `difference` is in bits per byte, with a 95 % interval: Welch's over seeds where there are several, else a bootstrap
    over the documents. `p` is two-sided, and Holm-adjusted over the rows.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in grid.cells:
        groups.setdefault(cell.name, []).append(cell)
    base = completed(groups[ALONE])
    rows = []
    for name, cells in groups.items():
        done = completed(cells)
        row: dict[str, Any] = {"name": name, "seeds": len(done.results), "failed": len(cells) - len(done.results)}
        if done.results:
            row |= means_of(done)
        if done.results and base.results and name != ALONE:
            row |= _difference(base, done)
        rows.append(row)
    tested = [row for row in rows if row.get("p") is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    return rows


def write_table(grid: Grid, rows: list[dict[str, Any]]) -> None:
    write_json(grid.folder / "ablation.json", grid.describe() | {"rows": rows})


def completed(cells: list[Cell]) -> Group:
    """The runs of these cells that ended well."""
    folders = [cell.folder for cell in cells if cell.status() == "completed"]
    results = [read_result(folder) for folder in folders]
    return Group(cells[0].name, folders, results, [read_environment(folder) for folder in folders])


def means_of(group: Group) -> dict[str, Any]:
    """Of a row in the table: scores and seconds on the average, the most bytes."""

    def mean(read: Callable[[dict[str, Any]], float]) -> float:
        return sum(map(read, group.results)) / len(group.results)

    largest = max((result["bytes"] for result in group.results), key=lambda size: size["total"])
    return {
        "trained": mean(lambda result: result["stages"]["trained"]["val_bpb"]),
        "roundtrip": mean(lambda result: result["stages"]["roundtrip"]["val_bpb"]),
        "final": mean(lambda result: result["val_bpb"]),
        "bytes": largest["total"],
        "headroom": largest["limit"] - largest["total"],
        "train_seconds": mean(lambda result: result["seconds"]["train"]),
        "eval_seconds": mean(lambda result: result["seconds"]["eval"]),
    }


def _difference(base: Group, other: Group) -> dict[str, Any]:
    if len(base.results) > 1 and len(other.results) > 1:
        test = welch(other.values("val_bpb"), base.values("val_bpb"))
        low, high = test.interval
        p = 2 * min(test.p, 1 - test.p) if test.gain else 1.0
        return {"difference": -test.gain, "interval": [-high, -low], "p": p}
    seeds = [[result["seed"] for result in group.results] for group in (base, other)]
    shared = [seed for seed in seeds[0] if seed in seeds[1]]
    if not shared:
        return {}
    ours, theirs = seeds[0].index(shared[0]), seeds[1].index(shared[0])
    first, second = base.results[ours], other.results[theirs]
    if first["dataset"]["val"]["sha256"] != second["dataset"]["val"]["sha256"]:
        return {"difference": second["val_bpb"] - first["val_bpb"], "interval": None, "p": None}
    report = paired(base.folders[ours], other.folders[theirs])
    low, high = report["interval"]
    return {"difference": -report["gain_bpb"], "interval": [-high, -low], "p": report["p"]}


# ---- what it would take ---------------------------------------------------------------------------------------------


def tables_of(*stages: str) -> list[str]:
    """The tables of a record that name what one of these stages depends on."""
    return [kind.table for kind in KINDS.values() if set(stages) & set(kind.stages)]


def estimate(cell: Cell, history: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, float | None]:
    """Seconds of training and of scoring, and bytes, from runs on this machine that had the same tables.

    `history` has the tables and the result of each, the latest first. None where no run tells.
    """
    tables = cell.record.tables
    guess: dict[str, float | None] = {"train": None, "eval": None, "bytes": None}
    for known, result in history:
        same = {
            name for name in (*BY_TABLE, "data", "eval") if known.get(name) == tables.get(name)
        }  # or both have none
        if guess["train"] is None and {*tables_of("train"), "data"} <= same:
            tokens = tables["train"]["iterations"] * tables["train"]["batch_tokens"]
            seconds = result["seconds"]["train"] * tokens / max(result["tokens_trained"], 1)
            cap = tables["train"]["max_wallclock_seconds"]
            guess["train"] = min(seconds, cap) if cap else seconds
        if guess["eval"] is None and {*tables_of("eval"), "eval", "data"} <= same:
            guess["eval"] = result["seconds"]["eval"]
        if guess["bytes"] is None and {"architecture", "parts", *tables_of("quantize", "compress")} <= same:
            guess["bytes"] = result["bytes"]["total"]
    return guess


def read_history(runs: Path = Path("runs")) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Resolved tables and results of the completed runs under a folder, the latest first."""
    paths = [*runs.glob("*/result.json"), *runs.glob("*/cells/*/result.json")]
    history = []
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        try:
            tables = parse_toml(read_text(path.parent / "record.toml", "record"))
            history.append((tables, read_result(path.parent)))
        except (ValueError, UsageError):
            continue
    return history
