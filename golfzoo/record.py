"""records/x.toml -> Record: parsed, profile applied, overridden, validated, resolved.

A resolved record is plain data: every option of every table, defaults included. It is what a run is given, what it
writes into its folder, and itself a record that runs. Resolving one twice gives the same bytes.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli
import tomli_w

from golfzoo.config import suggest
from golfzoo.engine.components import bind, options_of
from golfzoo.engine.kinds import KINDS, Kind
from golfzoo.errors import PluginError, RecordError
from golfzoo.tables import TABLES
from golfzoo.zoo import Entry, Zoo

_SINGLE = [kind for kind in KINDS.values() if not kind.many]
_MANY = [kind for kind in KINDS.values() if kind.many]

# The order in which a resolved record writes its tables: the components between how they are trained and how scored.
_ORDER = ["record", "data", "train", *(kind.table for kind in _SINGLE), "eval", "size"]


@dataclass(frozen=True)
class Record:
    """A record with nothing left open.

    tables   table name -> every option of it; for a component also "use"
    entries  kind -> the component that its table names; a kind that is switched off is absent
    lists    kind -> a component and its table, as above, for each of its [[tables]]
    notes    what was done to the record on the way, for the user to read
    """

    path: str
    tables: dict[str, dict[str, Any]]
    entries: dict[str, Entry]
    lists: dict[str, list[tuple[Entry, dict[str, Any]]]]
    notes: list[str]

    @property
    def name(self) -> str:
        return str(self.tables["record"]["name"])

    @property
    def profile(self) -> str:
        return str(self.tables["record"]["profile"])

    def used(self) -> list[tuple[str, Entry]]:
        """Kind and component of everything that the record names."""
        return [*self.entries.items(), *((kind, entry) for kind, found in self.lists.items() for entry, _ in found)]

    def to_toml(self) -> str:
        lists = {KINDS[kind].table: [table for _, table in found] or None for kind, found in self.lists.items()}
        return tomli_w.dumps(without_none({**self.tables, **lists}))

    def bind(self) -> Any:
        """Import its components and bind them to their options, as engine.components.bind says."""
        return bind(self.tables, {kind: entry.load() for kind, entry in self.entries.items()})


def load_record(path: str, zoo: Zoo, overrides: tuple[str, ...] = (), profile: str = "none") -> Record:
    """Read and resolve a record. Raises RecordError with every problem in it, one a line.

    `profile`, unless "none", is laid over the record; `overrides` are `key.path=value` strings and come last.
    """
    tables = _parse(path)
    profiles = tables.pop("profiles", {})
    problems: list[str] = []
    changes, small = _read_profile(path, profile, profiles) if profile != "none" else ([], False)
    for override in overrides:
        try:
            changes.append(parse_override(override))
        except RecordError as error:
            problems.append(f"override {override!r}: {error}")
    # Components first, in whatever order they were given; then what makes them small; and then their options.
    notes = [note for change in changes for note in lay_over(tables, _only_uses(change))]
    if small:
        _make_small(tables, zoo)
    notes += [note for change in changes for note in lay_over(tables, change)]
    if profile != "none" and isinstance(tables.get("record"), dict):
        tables["record"]["profile"] = profile
    resolved, entries = _resolve(path, tables, zoo, problems)
    lists = {kind.name: _resolve_list(path, tables.get(kind.table, []), kind, zoo, problems) for kind in _MANY}
    if problems:
        raise RecordError("\n".join(problems))
    return Record(path, resolved, entries, lists, notes)


def profile_names(path: str) -> list[str]:
    """The names of the profiles that may be laid over a record: its own, and those in files. A record that is resolved
    already has had its profile."""
    tables = _parse(path)
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


def _read_profile(path: str, name: str, own: Any) -> tuple[list[dict[str, Any]], bool]:
    """What a profile changes: its file, and then what the record itself says under that name. The second is whether
    components should be made small."""
    files, own = _profile_files(path), own if isinstance(own, dict) else {}
    if name not in files and not isinstance(own.get(name), dict):
        raise RecordError(f"{path}: has no profile {name!r}{suggest(name, {*files, *own})}")
    changes = [_parse(str(files[name]))] if name in files else []
    changes += [dict(own[name])] if isinstance(own.get(name), dict) else []
    small = [change.pop("small") for change in changes if "small" in change]
    return changes, bool(small and small[-1])


def _only_uses(change: dict[str, Any]) -> dict[str, Any]:
    """A change, as far as it names components."""
    return {key: {"use": value["use"]} for key, value in change.items() if isinstance(value, dict) and "use" in value}


def _make_small(tables: dict[str, Any], zoo: Zoo) -> None:
    """Lay what each component calls small over the table that names it."""
    for kind in _SINGLE:
        table = tables.get(kind.table)
        entry = zoo.entries.get((kind.name, str(table.get("use")))) if isinstance(table, dict) else None
        if isinstance(table, dict) and entry is not None:
            table.update(copy.deepcopy(dict(entry.component.small)))


def parse_override(text: str) -> dict[str, Any]:
    """`train.seed=7` -> {"train": {"seed": 7}}. The right side is a TOML value, or else a string.

    A whole table may be given too, `quantizer={use="int6", keep_numel=4096}`, or a list: `loggers=[{use="a_logger"}]`.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    try:
        parsed: Any = tomli.loads(f"value = {value}")["value"]
    except tomli.TOMLDecodeError:
        parsed = value.strip()
    if not equals or not all(keys) or (len(keys) < 2 and not (isinstance(parsed, dict) or _is_array(parsed))):
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
                notes.append(f"[{key}] now uses {value['use']!r}: dropped {', '.join(dropped)}")
        notes += lay_over(old, value, f"{path}{key}.")
    return notes


def _parse(path: str) -> dict[str, Any]:
    try:
        return tomli.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        folder = Path(path).parent
        near = [str(folder / other.name) for other in folder.glob("*.toml")] if folder.is_dir() else []
        named = Path("records") / f"{path}.toml"
        if named.is_file():
            raise RecordError(f"{path}: no such file; did you mean {named}?") from None
        raise RecordError(f"{path}: no such file{suggest(path, near)}") from None
    except IsADirectoryError:
        raise RecordError(f"{path}: is a folder, not a record") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: byte {error.start}: not UTF-8 text") from None
    except tomli.TOMLDecodeError as error:
        raise RecordError(
            f"{path}: line {error.lineno}, column {error.colno}: TOML syntax error: {error.msg}"
        ) from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None


def _resolve(
    path: str, tables: dict[str, Any], zoo: Zoo, problems: list[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Entry]]:
    """Validate every table. Problems are appended, so that all of them are reported at once."""
    known = [*_ORDER, *(kind.table for kind in _MANY)]
    problems += [f"{path}: unknown table [{name}]{suggest(name, known)}" for name in tables if name not in known]
    resolved: dict[str, dict[str, Any]] = {}
    entries: dict[str, Entry] = {}
    for name in _ORDER:
        table = tables.get(name, {})
        where = f"{path}: [{name}]"
        if not isinstance(table, dict):
            problems.append(f"{where}: must be a table, got {table!r}")
            continue
        if name in TABLES:
            if name in ("record", "data") and not table:
                problems.append(f"{where}: is missing")
                continue
            config, found = TABLES[name].read(table, where)
        else:
            entry = _find_component(KINDS[name], table, where, zoo, problems)
            if entry is None:
                continue
            entries[name] = entry
            config, found = entry.component.config.read(options_of(table), where)
        problems += found
        if config is not None:
            head = {"use": table["use"]} if name in KINDS else {}
            resolved[name] = {**head, **config.model_dump(mode="json")}
    return resolved, entries


def _resolve_list(
    path: str, tables: Any, kind: Kind, zoo: Zoo, problems: list[str]
) -> list[tuple[Entry, dict[str, Any]]]:
    """Validate an array of components' tables, which may be empty. Problems are appended."""
    if not _is_array(tables):
        problems.append(f"{path}: {kind.label}: must be an array of tables, got {tables!r}")
        return []
    components = []
    for number, table in enumerate(tables, start=1):
        where = f"{path}: {kind.label} #{number}"
        entry = _find_component(kind, table, where, zoo, problems)
        if entry is None:
            continue
        config, found = entry.component.config.read(options_of(table), where)
        problems += found
        if config is not None:
            components.append((entry, {"use": table["use"], **config.model_dump(mode="json")}))
    return components


def _is_array(value: Any) -> bool:
    """Whether a value is an array of tables; an empty list is one, too."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _find_component(kind: Kind, table: dict[str, Any], where: str, zoo: Zoo, problems: list[str]) -> Entry | None:
    use = table.get("use", "none" if kind.optional else None)
    if kind.optional and use == "none":
        extra = sorted(set(table) - {"use"})
        if extra:
            problems.append(f"{where}: is switched off, yet has {', '.join(extra)}; remove them or set `use`")
        return None
    if not isinstance(use, str):
        got = "is missing" if use is None else f"must be a string, got {use!r}"
        problems.append(f"{where}.use: {got}; known: {', '.join(zoo.names(kind.name))}")
        return None
    try:
        return zoo.find(kind.name, use)
    except PluginError as error:
        problems.append(f"{where}.use: {error}")
        return None


def without_none(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: an option that is None is left out, which reads back as its default, None."""

    def cleaned(value: Any) -> Any:
        if _is_array(value):
            return [without_none(item) for item in value]
        return without_none(value) if isinstance(value, dict) else value

    return {key: cleaned(value) for key, value in table.items() if value is not None}
