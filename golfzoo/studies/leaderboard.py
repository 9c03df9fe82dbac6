"""The leaderboard, measured: records trained alike, under several seeds, each beside the record before it.

    records/README.md          the table, for people
    records/leaderboard.json   what it was made from: conditions, and for every record its runs

Whatever can be told from the runs is worked out when the table is written: the file holds figures, no conclusions.
"""

import hashlib
import importlib.metadata
import json
import math
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from golfzoo.errors import UsageError
from golfzoo.machine.devices import device_name
from golfzoo.record import Record
from golfzoo.results import Amount, Count, Shape, checked, read_result
from golfzoo.running.folder import git_state
from golfzoo.shipping.code import pack_code
from golfzoo.strangers.files import NoSuchFile
from golfzoo.strangers.values import read_json
from golfzoo.studies.ablate import Grid, completed, means_of
from golfzoo.studies.statistics import holm, mean_interval, welch

LoadFile = Callable[[str, tuple[str, ...]], Record]
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SAME = 1e-3  # bits per byte, on another machine or with other versions


# ---- what is measured -----------------------------------------------------------------------------------------------


def plan_cells(load: LoadFile, files: list[str], seeds: list[int]) -> list[tuple[str, Record]]:
    """Name and record of every cell, a seed of all records before the next: stopped early, it is a table of fewer
    seeds. Raises UsageError where two records have one name."""
    cells, known = [], dict[str, str]()
    for seed in seeds:
        for file in files:
            record = load(file, (f"train.seed={seed}",))
            if known.setdefault(record.name, file) != file:
                raise UsageError(f"{file}: its record is called {record.name!r}, as that of {known[record.name]} is")
            cells.append((record.name, record))
    return cells


def identify(record: Record) -> str:
    """A hash of what a record says, but for its seed and for what is said of it."""
    tables = {name: table for name, table in record.tables.items() if name != "record"}
    tables["train"] = {key: value for key, value in tables["train"].items() if key != "seed"}
    return hashlib.sha256(json.dumps([tables, record.targets], sort_keys=True).encode()).hexdigest()[:16]


def measure(grid: Grid, files: list[str], datasets: Mapping[str, Any], conditions: dict[str, Any]) -> dict[str, Any]:
    """What leaderboard.json holds, of the cells that are completed. The first of them are those of `files`; `datasets`
    has the fingerprint of each dataset, by its [data] table."""
    file_of = {cell.name: file for cell, file in zip(grid.cells, files, strict=False)}
    records: dict[str, dict[str, Any]] = {}
    for cell in grid.cells:
        if cell.name not in records:  # the code is packed for its bytes: once for all seeds
            dataset = datasets[str(cell.record.tables["data"])] or {}
            about = cell.record.tables["record"]
            records[cell.name] = {
                "name": cell.name,
                "file": file_of[cell.name],
                "family": about["family"],
                "published": about["published"],
                "sha256": identify(cell.record),
                "code": len(pack_code(cell.record)),
                "val": (dataset.get("val") or {}).get("sha256"),
                "runs": [],
            }
        if cell.status() == "completed":
            records[cell.name]["runs"].append(_run_of(read_result(cell.folder)))
    return {"schema": 1, "conditions": conditions, "records": list(records.values())}


def conditions_of(overrides: Iterable[str], profile: str, seeds: list[int], dataset: Any) -> dict[str, Any]:
    """Under which records are measured here. `dataset` is a fingerprint."""
    return {
        "profile": profile,
        "overrides": list(overrides),
        "seeds": seeds,
        "device": device_name(),
        "platform": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("golfzoo", "torch", "numpy")},
        },
        "git": git_state(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "dataset": dataset,
    }


class Run(Shape):
    seed: int
    val_bpb: Amount
    artifact: Count
    train_seconds: Amount
    steps: Count
    model_sha256: str


class Score(Shape):
    val_bpb: Amount | None
    source: str


class Measured(Shape):
    name: str
    file: str
    family: str
    published: Score | None
    sha256: str
    code: Count
    val: str | None
    runs: list[Run]


class Conditions(Shape):
    profile: str
    overrides: list[str]
    seeds: list[int]
    device: str
    platform: str
    versions: dict[str, str]
    git: dict[str, Any] | None
    date: str
    dataset: dict[str, Any] | None


class Table(Shape):
    conditions: Conditions
    records: list[Measured]


def read_table(path: Path) -> dict[str, Any]:
    """A leaderboard.json. Raises UsageError."""
    try:
        table = checked(read_json(path), Table, path)
    except NoSuchFile:
        raise UsageError(f"{path}: no such file; `golfzoo leaderboard RECORD...` makes one") from None
    names = [record["name"] for record in table["records"]]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: has a record twice; write it again")
    return table


def _run_of(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": result["seed"],
        "val_bpb": result["val_bpb"],
        "artifact": result["bytes"]["model"],
        "train_seconds": round(result["seconds"]["train"], 1),
        "steps": result["steps"],
        "model_sha256": result["model_sha256"],
    }


# ---- what it says ---------------------------------------------------------------------------------------------------


def rows_of(table: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every record that was measured, by family, the best published score first.

    pocket       mean over the seeds, bits per byte; `reach`: half of its 95 % interval by Student's t, or None
    before       the record before it: the next worse published score of a record that is no later than it is, and that
                 is scored on the same text here
    gain         how much better than that it is here; `interval` and `p` (two-sided, Holm's over the rows) by Welch
    published    its published score, and `published_gain` likewise
    """
    rows = []
    for record in table["records"]:
        if not record["runs"]:
            continue
        scores = [run["val_bpb"] for run in record["runs"]]
        mean, reach = mean_interval(scores)
        row = {
            "name": record["name"],
            "file": record["file"],
            "family": record["family"],
            "num_seeds": len(scores),
            "pocket": mean,
            "reach": reach,
            "artifact": max(run["artifact"] for run in record["runs"]),
            "code": record["code"],
            "seconds": sum(run["train_seconds"] for run in record["runs"]) / len(scores),
            "published": (record["published"] or {}).get("val_bpb"),
            "date": _date_of(record),
            "val": record["val"],
            "scores": scores,
        }
        rows.append(row)
    for row in rows:
        row |= _beside_the_one_before(row, rows)
    tested = [row for row in rows if row.get("p") is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = adjusted
    return by_family(rows)


def as_ablation(grid: Grid, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as `golfzoo report` reads them, with differences to the record before in place of one to all."""
    shown = []
    for row in rows:
        cells = [cell for cell in grid.cells if cell.name == row["name"]]
        shown.append({"name": row["name"], "seeds": row["num_seeds"], "failed": len(cells) - row["num_seeds"]})
        shown[-1] |= means_of(completed(cells))
        if "gain" in row:
            interval = [-edge for edge in reversed(row["interval"])] if "interval" in row else None
            shown[-1] |= {"difference": -row["gain"], "interval": interval, "p_holm": row.get("p")}
    return shown


def by_family(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of records in order: the family first that holds the best published score, and in it the best first. Those
    without a score come last, and those without a family."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["family"]] = min(best.get(row["family"], math.inf), row["published"] or math.inf)
    return sorted(
        rows, key=lambda row: (not row["family"], best[row["family"]], row["family"], row["published"] or math.inf)
    )


def _beside_the_one_before(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    if not row["published"] or not row["date"]:
        return {}
    earlier = [
        other
        for other in rows
        if other["published"]
        and other["published"] > row["published"]
        and "" < other["date"] <= row["date"]
        and other["val"] == row["val"]
    ]
    if not earlier:
        return {}
    before = min(earlier, key=lambda other: (other["published"], other["date"], other["name"]))
    found = {
        "before": before["name"],
        "gain": before["pocket"] - row["pocket"],
        "published_gain": before["published"] - row["published"],
    }
    if min(len(row["scores"]), len(before["scores"])) > 1:
        test = welch(row["scores"], before["scores"])
        found |= {"interval": test.interval, "p": 2 * min(test.p, 1 - test.p) if test.gain else 1.0}
    return found


def _date_of(record: dict[str, Any]) -> str:
    """The day of a published score, as its source gives it, or ""."""
    match = _DATE.search((record["published"] or {}).get("source") or "")
    return match[0] if match else ""


# ---- whether it still holds -----------------------------------------------------------------------------------------


def differences(table: dict[str, Any], now: dict[str, Any], anew: bool) -> list[str]:
    """What of a table is no longer so. `now` is what some of its records are, with the runs that there are to compare;
    `anew`: all of them were run."""
    known = {record["name"]: record for record in table["records"]}
    found = []
    exact = all(table["conditions"].get(key) == now["conditions"][key] for key in ("device", "platform", "versions"))
    for record in now["records"]:
        name, old = record["name"], known.get(record["name"])
        if old is None:
            found.append(f"{name}: is not in the table")
            continue
        found += [
            f"{name}: its {key} is another than in the table"
            for key in ("family", "published")
            if old[key] != record[key]
        ]
        if old["sha256"] != record["sha256"]:
            found.append(f"{name}: says something else than when it was measured")
        elif record["val"] and old["val"] != record["val"]:
            found.append(f"{name}: its validation text is another than the one that was measured on")
        else:
            found += [f"{name}: {line}" for line in _moved(old, record, exact)]
            if anew and len(record["runs"]) < len(old["runs"]):
                found.append(f"{name}: has runs in the table that it does not complete now")
    return sorted(found)


def _moved(old: dict[str, Any], new: dict[str, Any], exact: bool) -> Iterable[str]:
    """Runs that gave something else than before: other bits under the same conditions, or else another score."""
    known = {run["seed"]: run for run in old["runs"]}
    for run in new["runs"]:
        if (before := known.get(run["seed"])) is None:
            yield f"seed {run['seed']} was not measured"
        elif abs(run["val_bpb"] - before["val_bpb"]) > (0 if exact else _SAME):
            yield f"seed {run['seed']} gives {run['val_bpb']:.6f} bits per byte, and gave {before['val_bpb']:.6f}"
        elif exact and any(run[key] != before[key] for key in ("model_sha256", "artifact", "steps")):
            yield f"seed {run['seed']} gives other weights than before, at the same score"
