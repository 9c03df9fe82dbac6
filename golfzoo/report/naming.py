"""What a run is called among others: by what differs between them, not by the time at which it was started."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from golfzoo.report.survey import Row
from golfzoo.strangers.values import printable

_MOST_VALUE = 24  # letters of a value: a list of targets would fill the line
_UNTOLD = ("record", "loggers", "profiles")  # tables that change nothing of what comes out
_ABSENT = object()


def name_apart(rows: Sequence[Row], tables: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each run: its record where these differ, the components that differ, and the options and the seed in
    which it is unlike most. Runs that would be called alike, or whose records cannot be read, have their folder's."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row.record].append(number)
    told = len(groups) > 1 or len(rows) == 1
    names = [""] * len(rows)
    for record, members in groups.items():
        pieces = _differences([rows[number] for number in members], [tables[number] for number in members])
        for number, words in zip(members, pieces, strict=True):
            # A single run of a record has nothing to differ from: the record is its name.
            before = [record] if record and (told or not words) else []
            names[number] = ", ".join([*before, *words]) if tables[number] else ""
    times = Counter(names)
    return [
        printable(name) if name and times[name] == 1 else row.name for name, row in zip(names, rows, strict=True)
    ]  # fmt: skip


def _differences(rows: list[Row], tables: list[dict[str, Any]]) -> list[list[str]]:
    """What is to be said of each of the runs of one record."""
    components = [_components(run) for run in tables]
    options = [_options(run) for run in tables]
    said: list[list[str]] = [[] for _ in rows]
    profiles = [row.profile for row in rows]
    for words, profile in zip(said, profiles, strict=True):
        if len(set(profiles)) > 1:
            words.append(f"profile {profile}" if profile not in ("", "none") else "no profile")
    for path in dict.fromkeys(path for run in components for path in run):
        used = [run.get(path) for run in components]
        if len(set(used)) > 1:
            for words, name in zip(said, used, strict=True):
                words.append(name or f"no {path.rpartition('.')[2]}")
    for words, unlike in zip(said, _unlike(components, options), strict=True):
        words += unlike
    return [words + seed for words, seed in zip(said, _seeds(rows, said), strict=True)]


def _unlike(components: list[dict[str, str]], options: list[dict[str, Any]]) -> list[list[str]]:
    """KEY=VALUE of the options whose value is not that of more than half of the runs that have the option. One of a
    component is compared among the runs that use it: with another it would differ of itself."""
    said: list[list[tuple[str, str]]] = [[] for _ in options]
    for key in dict.fromkeys(key for run in options for key in run):
        table = key.rpartition(".")[0]
        alike: dict[str | None, list[int]] = defaultdict(list)
        for number, run in enumerate(components):
            alike[run.get(table)].append(number)
        for members in alike.values():
            values = {number: _shown(options[number].get(key, _ABSENT)) for number in members}
            ((common, times), *_) = Counter(values.values()).most_common(1)
            for number, value in values.items():
                if value is not None and (value != common or 2 * times <= len(members)) and len({*values.values()}) > 1:
                    said[number].append((key, value))
    last = Counter(key.rpartition(".")[2] for key in {key for words in said for key, _ in words})
    return [
        [f"{key.rpartition('.')[2] if last[key.rpartition('.')[2]] == 1 else key}={value}" for key, value in words]
        for words in said
    ]


def _seeds(rows: list[Row], said: list[list[str]]) -> list[list[str]]:
    """The seed of a run whose seed is not that of most, or which nothing else tells from one with another seed."""
    ((common, times), *_) = Counter(row.seed for row in rows).most_common(1)
    usual = common if 2 * times > len(rows) else _ABSENT
    alike: dict[tuple[str, ...], set[int | None]] = defaultdict(set)
    for row, words in zip(rows, said, strict=True):
        alike[tuple(words)].add(row.seed)
    return [
        [f"seed {row.seed}"] if row.seed is not None and (row.seed != usual or len(alike[tuple(words)]) > 1) else []
        for row, words in zip(rows, said, strict=True)
    ]


def _components(tables: dict[str, Any]) -> dict[str, str]:
    """The component of every table that names one, by the table's path: {"quantizer": "int8", "parts.xsa": "xsa"}."""
    found = {}
    for path, table in _tables(tables):
        if isinstance(table.get("use"), str):
            found[path] = table["use"]
    return found


def _options(tables: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{path}.{key}": value
        for path, table in _tables(tables)
        for key, value in table.items()
        if not isinstance(value, dict) and key != "use" and f"{path}.{key}" != "train.seed"
    }


def _tables(tables: dict[str, Any], above: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, table in tables.items():
        if isinstance(table, dict) and (above or name not in _UNTOLD):
            found += [(above + name, table), *_tables(table, f"{above}{name}.")]
    return found


def _shown(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MOST_VALUE else f"{text[: _MOST_VALUE - 1]}…"
