"""What is laid over a record before it is resolved: a profile, what makes components small, overrides of a command."""

import copy
from pathlib import Path
from typing import Any

import tomli

from golfzoo.config import suggest
from golfzoo.engine.kinds import KINDS
from golfzoo.errors import RecordError, UsageError
from golfzoo.strangers.files import NoSuchFile, read_text
from golfzoo.strangers.values import parse_toml, quoted
from golfzoo.zoo import Zoo

OF_A_RUN = "record.toml"
"""The record in a run's folder."""


def profile_names(path: str) -> list[str]:
    """The names of the profiles that may be laid over a record: its own, and those in files. A record that is resolved
    already has had its profile."""
    tables = parse(path)
    table, own = tables.get("record"), tables.get("profiles", {})
    if isinstance(table, dict) and "profile" in table:
        return []
    return sorted({*(own if isinstance(own, dict) else ()), *_profile_files(path)})


def _profile_files(path: str) -> dict[str, Path]:
    """Name -> profiles/<name>.toml, beside a record or beside records/ in a folder above it; the nearest counts."""
    found: dict[str, Path] = {}
    for folder in Path(path).absolute().parents:
        for file in sorted([*folder.glob("profiles/*.toml"), *folder.glob("records/profiles/*.toml")]):
            found.setdefault(file.stem, file)
    return found


def read_profile(path: str, name: str, own: Any) -> tuple[list[dict[str, Any]], bool]:
    """What a profile changes: its file, and then what the record itself says under that name. The second is whether
    components should be made small."""
    files, own = _profile_files(path), own if isinstance(own, dict) else {}
    if name not in files and not isinstance(own.get(name), dict):
        raise RecordError(f"{path}: has no profile {name!r}{suggest(name, {*files, *own})}")
    changes = [parse(str(files[name]))] if name in files else []
    changes += [dict(own[name])] if isinstance(own.get(name), dict) else []
    small = [change.pop("small") for change in changes if "small" in change]
    return changes, bool(small and small[-1])


def say_uses(tables: dict[str, Any]) -> None:
    """Write `use` where it may be left out: into named tables, and into those of kinds that have a default."""
    for kind in KINDS.values():
        table = tables.setdefault(kind.table, {}) if kind.default else tables.get(kind.table)
        if kind.default and isinstance(table, dict):
            table.setdefault("use", kind.default)
        for name, named in table.items() if kind.named and isinstance(table, dict) else ():
            if isinstance(named, dict):
                named.setdefault("use", name)


def only_uses(change: dict[str, Any]) -> dict[str, Any]:
    """A change, as far as it names components."""
    uses = {key: {"use": value["use"]} for key, value in change.items() if isinstance(value, dict) and "use" in value}
    named = {kind.table for kind in KINDS.values() if kind.named} & change.keys()
    return uses | {key: only_uses(change[key]) for key in named if isinstance(change[key], dict)}


def make_small(tables: dict[str, Any], zoo: Zoo) -> None:
    """Lay what each component calls small over the table that names it."""
    for kind in KINDS.values():
        table = tables.get(kind.table)
        if not isinstance(table, dict):
            continue
        for one in table.values() if kind.named else [table]:
            entry = zoo.entries.get((kind.name, str(one.get("use")))) if isinstance(one, dict) else None
            if entry is not None:
                one.update(copy.deepcopy(dict(entry.component.small)))


def parse_override(text: str) -> dict[str, Any]:
    """`train.seed=7` -> {"train": {"seed": 7}}. The right side is a TOML value, or else a string.

    A whole table may be given too, `quantizer={use="int6", keep_numel=4096}`, or a list: `loggers=[{use="a_logger"}]`.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    try:
        parsed: Any = parse_toml(f"value = {value}")["value"]
    except ValueError:
        parsed = value.strip()
    if not equals or not all(keys) or (len(keys) < 2 and not (isinstance(parsed, dict) or is_array(parsed))):
        raise RecordError("must read table.key=value")
    for key in reversed(keys):
        parsed = {key: parsed}
    return parsed


def lay_over(tables: dict[str, Any], changes: dict[str, Any], path: str = "") -> list[str]:
    """Lay changes over tables, in place. Where they change a table's `use`, its other keys go: they were another
    component's. Returns a note for each table that lost some."""
    notes = []
    for key, value in changes.items():
        old = tables.get(key)
        if not (isinstance(value, dict) and isinstance(old, dict)):
            tables[key] = copy.deepcopy(value)
            continue
        if "use" in value and value["use"] != old.get("use"):
            dropped = sorted(set(old) - {"use"})
            tables[key] = old = {}
            if dropped:
                notes.append(f"[{path}{key}] now uses {value['use']!r}: dropped {', '.join(dropped)}")
        notes += lay_over(old, value, f"{path}{key}.")
    return notes


def parse(path: str) -> dict[str, Any]:
    """The tables of a record. Where it is that of a run, it may be a stranger's; any other was named by the user."""
    if Path(path).is_dir():
        raise RecordError(f"{path}: is a folder, not a record")
    try:
        return parse_toml(read_text(Path(path), "record", follow=Path(path).name != OF_A_RUN))
    except NoSuchFile:
        folder = Path(path).parent
        near = [str(folder / other.name) for other in folder.glob("*.toml")] if folder.is_dir() else []
        named = Path("records") / f"{path}.toml"
        if named.is_file():
            raise RecordError(f"{path}: no such file; did you mean {named}?") from None
        raise RecordError(f"{path}: no such file{suggest(path, near)}") from None
    except tomli.TOMLDecodeError as error:
        raise RecordError(
            f"{path}: line {error.lineno}, column {error.colno}: TOML syntax error: {error.msg}"
        ) from None
    except ValueError as error:
        raise RecordError(f"{path}: {quoted(error)}") from None
    except UsageError as error:
        raise RecordError(str(error)) from None


def is_array(value: Any) -> bool:
    """Whether a value is an array of tables; an empty list is one, too."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
