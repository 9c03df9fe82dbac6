"""Runs and ablations as a report sees them: read from their folders, each as plain data, none of it trusted."""

import glob
import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golfzoo.errors import UsageError
from golfzoo.report.naming import name_apart
from golfzoo.report.survey import Row, is_run, read_row
from golfzoo.results import read_object
from golfzoo.strangers.files import is_there, lies_in, read_text
from golfzoo.strangers.values import parse_json, parse_toml, printable

_MOST_POINTS = 1000
_MOST_EVENTS = 2**17
_LONGEST_EVENT = 2**14  # letters
_CURVES = {"loss": "train", "grad_norm": "train", "val_bpb": "val"}  # quantity -> its event


@dataclass(frozen=True)
class Curve:
    """A quantity over a training: steps, seconds of training, and values, all of one length."""

    steps: tuple[float, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """One run. What was not there, or could not be read, is empty; `result` is that of a completed run, or {}.

    number  its place in the report, from 1
    series  the number of its colour, from 1: the same in every plot, and given by name, so that no score changes it
    name    what tells it from the others
    loss    training loss, nats per token
    norm    of the gradients, before they are clipped; runs of before there was one have none
    bpb     validation score, bits per byte
    outlook what quantization was expected to cost where its size was fitted, at some sizes: bytes of the artifact, nats
            per token, bits per byte
    """

    number: int
    series: int
    name: str
    row: Row
    result: dict[str, Any]
    error: str
    tables: dict[str, Any]
    record_text: str
    environment: dict[str, Any]
    loss: Curve
    norm: Curve
    bpb: Curve
    outlook: tuple[tuple[float, float, float], ...] = ()

    @property
    def folder(self) -> Path:
        return self.row.folder

    @property
    def label(self) -> str:
        return f"#{self.number} {shorten(self.name, 40)}"

    @property
    def published(self) -> dict[str, Any]:
        """The published result that its record reproduces, or {}."""
        published = table_of(self.tables, "record").get("published")
        return published if isinstance(published, dict) else {}

    @property
    def comparable(self) -> bool:
        return self.row.profile == "none" and "init" not in self.result


@dataclass(frozen=True)
class Ablation:
    """An ablation's table. `rows` are those of ablation.json that can be read."""

    name: str
    vary: list[str]
    rows: list[dict[str, Any]]


@dataclass
class Gathered:
    """What a report is about. The best runs come first, and those without a score last."""

    runs: list[Run] = field(default_factory=list)
    ablations: list[Ablation] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def completed(self) -> list[Run]:
        return [run for run in self.runs if run.result]


def gather(arguments: list[str]) -> Gathered:
    """The runs named by folders of runs, globs and folders of ablations. Raises UsageError where there is none."""
    gathered = Gathered()
    names: dict[Path, tuple[Path, str]] = {}  # by the folder's true path, so that none is there twice
    cells: set[Path] = set()
    for argument in arguments:
        paths = [Path(argument)] if Path(argument).exists() else sorted(map(Path, glob.glob(argument)))
        if not paths:
            raise UsageError(f"{argument}: no such run; give a run's folder, an ablation's, or a glob of them")
        for path in paths:
            if is_there(path / "ablation.json"):
                ablation, found = _read_ablation(path)
                gathered.ablations.append(ablation)
                names |= {folder.resolve(): (folder, name) for folder, name in found.items()}
                cells |= found.keys()
            elif is_run(path):
                names.setdefault(path.resolve(), (path, path.resolve().name))
            else:
                gathered.skipped.append(str(path))
    if not names:
        raise UsageError(
            f"{' '.join(arguments)[:200]}: holds no run; give a run's folder, an ablation's, or a glob of them"
        )
    rows = [read_row(folder, name) for folder, name in names.values()]
    rows.sort(key=lambda row: (row.bpb is None, row.bpb or 0.0, row.name, str(row.folder)))
    gathered.runs = _read_runs(rows, cells)
    return gathered


def table_of(tables: dict[str, Any], name: str) -> dict[str, Any]:
    """A table of a record that may not be one."""
    table = tables.get(name)
    return table if isinstance(table, dict) else {}


def shorten(text: str, most: int) -> str:
    """A text with its middle left out where it is too long: names of runs differ at both ends."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def shorten_apart(texts: list[str], most: int) -> list[str]:
    """Each text shortened. Where two would become one, all that are too long are told by the words in which they
    differ: of KEY=VALUE, by the value; at last by a number."""
    labels = {text: shorten(text, most) for text in texts}
    if len(set(labels.values())) == len(labels):
        return [labels[text] for text in texts]
    alike = [text for text in labels if labels[text] != text]
    places = itertools.zip_longest(*(re.split(r"[\s,_-]+", text) for text in alike), fillvalue="")
    telling = [words for words in places if len(set(words)) > 1]
    one_key = [len({word.rpartition("=")[0] for word in words}) == 1 for words in telling]
    for number, text in enumerate(alike):
        words = [w[number].rpartition("=")[2] if same else w[number] for w, same in zip(telling, one_key, strict=True)]
        labels[text] = shorten("… " + " ".join(words), most)
    times = Counter(labels.values())
    for number, text in enumerate(text for text in alike if times[labels[text]] > 1):
        labels[text] = f"{labels[text][: most - 4]} ~{number + 1}"
    return [labels[text] for text in texts]


def _read_ablation(folder: Path) -> tuple[Ablation, dict[Path, str]]:
    """An ablation, and the folders of its cells with the names that it gives them."""
    plan = read_object(folder / "ablation.json")
    cells = [cell for cell in _list(plan.get("cells")) if isinstance(cell, dict)]
    several = len({str(cell.get("seed")) for cell in cells}) > 1
    called = {
        str(cell.get("folder")): f"{cell.get('name')}" + (f", seed {cell.get('seed')}" if several else "")
        for cell in cells
    }
    there = sorted(path for path in folder.glob("cells/*") if is_run(path) and lies_in(path, folder))
    rows = [
        row | {"name": printable(row["name"])}
        for row in _list(plan.get("rows"))
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    ]
    vary = [printable(str(axis)) for axis in _list(plan.get("vary"))]
    return Ablation(printable(folder.resolve().name), vary, rows), {
        path: called.get(path.name, path.name) for path in there
    }


def _read_runs(rows: list[Row], cells: set[Path]) -> list[Run]:
    """The runs of these rows. Cells keep the names that their ablation gave them, which its table has too, but where
    another ablation gave the same: there, too, a run is called as its folder is."""
    read = [_read_record(row.folder) for row in rows]
    told = name_apart(rows, [tables for tables, _ in read])
    names = [row.name if row.folder in cells else name for row, name in zip(rows, told, strict=True)]
    times = Counter(names)
    names = [
        name if times[name] == 1 else printable(row.folder.resolve().name)
        for name, row in zip(names, rows, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda number: (names[number], str(rows[number].folder)))
    series = {number: place for place, number in enumerate(order, start=1)}
    return [
        _read_run(number + 1, series[number], name, row, *record)
        for number, (name, row, record) in enumerate(zip(names, rows, read, strict=True))
    ]


def _read_record(folder: Path) -> tuple[dict[str, Any], str]:
    """The tables of a run's record and its text, as far as they can be read."""
    try:
        text = read_text(folder / "record.toml", "record", errors="replace")
    except UsageError:
        return {}, ""
    try:
        return parse_toml(text), text
    except ValueError:
        return {}, text


def _read_run(number: int, series: int, name: str, row: Row, tables: dict[str, Any], text: str) -> Run:
    result = read_object(row.folder / "result.json")
    events = _read_events(row.folder / "metrics.jsonl")
    return Run(
        number=number,
        series=series,
        name=name,
        row=row,
        result=result if row.status == "completed" else {},
        error=printable(str(result.get("error", "")))[:300],
        tables=tables,
        record_text=text,
        environment=read_object(row.folder / "env.json"),
        loss=_curve(events, "loss"),
        norm=_curve(events, "grad_norm"),
        bpb=_curve(events, "val_bpb"),
        outlook=_outlook(events),
    )


def _read_events(path: Path) -> list[dict[str, Any]]:
    """What curves need of the events of a run; the last line of one that was killed may be cut short."""
    try:
        text = read_text(path, "events", errors="replace")
    except UsageError:
        return []
    events = []
    for match in re.finditer(r"[^\n]+", text):
        if match.end() - match.start() > _LONGEST_EVENT:
            continue
        try:
            event = parse_json(match[0], lenient=True)
        except ValueError:
            continue
        if isinstance(event, dict) and (str(event.get("event")) in _CURVES.values() or "outlook" in event):
            events.append({name: event.get(name) for name in ("event", "step", "seconds", "outlook", *_CURVES)})
            if len(events) == _MOST_EVENTS:
                break
    return events


def _curve(events: list[dict[str, Any]], quantity: str) -> Curve:
    points = []
    for event in events:
        point = [event.get(name) for name in ("step", "seconds", quantity)]
        if event.get("event") == _CURVES[quantity] and all(
            isinstance(value, int | float) and math.isfinite(value) for value in point
        ):
            points.append(tuple(point))
    thinned = points[:: len(points) // _MOST_POINTS + 1]
    if points and thinned[-1] != points[-1]:
        thinned.append(points[-1])
    steps, seconds, values = zip(*thinned, strict=True) if thinned else ((), (), ())
    return Curve(steps, seconds, values)


def _outlook(events: list[dict[str, Any]]) -> tuple[tuple[float, float, float], ...]:
    """From small to large, of a run that was resumed the last that it had of a size."""
    found: dict[float, tuple[float, float, float]] = {}
    for event in events:
        point = _list(event.get("outlook"))
        if len(point) == 3 and all(
            isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in point
        ):
            found[point[0]] = (point[0], point[1], point[2])
    return tuple(found[size] for size in sorted(found)[:_MOST_POINTS])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
