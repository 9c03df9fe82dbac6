"""Lists for people and machines: components, the options of one, records."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from golfzoo.config import suggest, type_name
from golfzoo.engine.kinds import KINDS
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.record import load_record
from golfzoo.terminal.prose import broken
from golfzoo.zoo import Zoo

_LEAST_ROOM = 24  # columns for prose at the end of a row; with fewer it would be a word a line


def components(zoo: Zoo, kind: str | None, as_json: bool) -> str:
    """Kind, name, distribution, version, file; what is broken comes last, with the reason."""
    if kind is not None:
        _check_kind(zoo, kind)
    entries = sorted(
        (entry for entry in zoo.entries.values() if kind in (None, entry.component.kind)),
        key=lambda entry: (list(KINDS).index(entry.component.kind), entry.component.name),
    )
    rows = [
        {
            "kind": entry.component.kind,
            "name": entry.component.name,
            "distribution": entry.distribution,
            "version": entry.version,
            "file": _short(entry.file),
            "summary": entry.component.summary,
        }
        for entry in entries
    ]
    broken = [
        {"plugin": problem.plugin, "distribution": problem.distribution, "reason": problem.reason}
        for problem in zoo.problems
    ]
    if as_json:
        return json.dumps({"components": rows, "broken": broken}, indent=1)
    shown = ("kind", "name", "distribution", "version", "file") if kind is None else ("name", "summary", "distribution")
    lines = columns([[row[column] for column in shown] for row in rows])
    lines += [f"broken: {problem.line}" for problem in zoo.problems]
    return "\n".join(lines)


def options(zoo: Zoo, kind: str, name: str, as_json: bool) -> str:
    """One component's options: name, type, default, help."""
    _check_kind(zoo, kind)
    entry = zoo.find(kind, name)
    rows = [
        {"option": option, "type": type_name(field), "default": field.get_default(), "help": field.description or ""}
        for option, field in entry.component.config.model_fields.items()
    ]
    if as_json:
        return json.dumps({"kind": kind, "name": name, "summary": entry.component.summary, "options": rows}, indent=1)
    head = f"{kind} {name}: {entry.component.summary}\n{entry.distribution} {entry.version}, {entry.file}"
    return "\n".join(
        [head, *columns([[row["option"], row["type"], json.dumps(row["default"]), row["help"]] for row in rows])]
    )


def _check_kind(zoo: Zoo, kind: str) -> None:
    if kind in KINDS:
        return
    meant = [f"golfzoo plugins {of} {name}" for of, name in sorted(zoo.entries) if name == kind]
    hint = f"; did you mean: {' or '.join(meant)}" if meant else suggest(kind, KINDS)
    raise UsageError(f"unknown kind {kind!r}{hint}")


def records(zoo: Zoo, folder: Path, as_json: bool, sizes: bool = False) -> str:
    """Name, file, published score and summary of every record in a folder, by family: the one that holds the best score
    first, and in it the best first. Those without a score come last, and broken ones say what is wrong. `sizes`: the
    bytes of the code that would ship, too."""
    files = sorted(folder.glob("*.toml"))
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder; give one that holds records, as in `golfzoo records DIR`")
    if not files:
        raise UsageError(f"{folder}: holds no records (*.toml)")
    from golfzoo.shipping.code import pack_code
    from golfzoo.studies.leaderboard import by_family

    rows: list[dict[str, Any]] = []
    for file in files:
        row: dict[str, Any] = {"name": file.stem, "file": str(file), "family": "", "published": None}
        try:
            record = load_record(str(file), zoo)
            code = {"code": len(pack_code(record))} if sizes else {}
        except GolfzooError as error:
            rows.append({**row, "summary": f"broken: {error}"})
        else:
            table = record.tables["record"]
            published = (table["published"] or {}).get("val_bpb")
            row |= {"name": table["name"], "family": table["family"], "published": published}
            rows.append({**row, "summary": table["summary"], **code})
    rows = by_family(rows)
    if as_json:
        return json.dumps(rows, indent=1)

    def cells(row: dict[str, Any]) -> list[Any]:
        code = [f"{row['code']:,}" if "code" in row else "-"] if sizes else []
        published = f"{row['published']:.4f}" if row["published"] else "-"
        return [row["name"], row["file"], published, *code, row["summary"].split("\n")[0]]

    lines: list[str] = []
    shown = iter(_aligned([cells(row) for row in rows]))
    for family, members in itertools.groupby(rows, key=lambda row: row["family"]):
        heading = [family or "of no family"] if any(row["family"] for row in rows) else []
        lines += [*([""] if lines else []), *heading, *itertools.chain(*itertools.islice(shown, len([*members])))]
    return "\n".join(lines)


def columns(rows: list[list[Any]]) -> list[str]:
    """Rows as aligned lines: one each, or more on a terminal that is too narrow."""
    return [*itertools.chain(*_aligned(rows))]


def _aligned(rows: list[list[Any]]) -> list[list[str]]:
    """The lines of each row. On a terminal their last column, which is prose, goes on below itself where it is too long
    for the line; where there is no room for that, below the row."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    blocks: list[list[str]] = []
    for row in texts:
        line = "  ".join(map(str.ljust, row, widths)).rstrip()
        room = shutil.get_terminal_size().columns - indent
        if not sys.stdout.isatty() or len(line) <= indent + room:
            blocks.append([line])
        elif room >= _LEAST_ROOM:
            first, *more = broken(row[-1], room)
            line = "  ".join([*map(str.ljust, row[:-1], widths), first])
            blocks.append([line, *(" " * indent + part for part in more)])
        else:
            line = "  ".join(map(str.ljust, row[:-1], widths)).rstrip()
            blocks.append([line, *(f"    {part}" for part in broken(row[-1], max(indent + room - 4, 1)))])
    return blocks


def _short(file: str) -> str:
    """A path from here, where that is shorter."""
    here = Path.cwd()
    return str(Path(file).relative_to(here)) if Path(file).is_relative_to(here) else file
