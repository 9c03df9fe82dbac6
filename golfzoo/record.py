"""records/x.toml -> Record: parsed, profile applied, overridden, validated, resolved.

A resolved record is plain data: every option of every table, defaults included. It is what a run is given, what it
writes into its folder, and itself a record that runs. Resolving one twice gives the same bytes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from golfzoo.config import suggest
from golfzoo.engine.components import bind, options_of, table_of
from golfzoo.engine.kinds import BY_TABLE, KINDS, Kind
from golfzoo.errors import PluginError, RecordError
from golfzoo.overlay import is_array, lay_over, make_small, only_uses, parse, parse_override, read_profile, say_uses
from golfzoo.tables import TABLES
from golfzoo.zoo import Entry, Zoo, label_of

# Of a record that is none: problems, and letters of one.
_MOST_SAID, _LONGEST = 50, 1000

_LISTED = [kind for kind in KINDS.values() if kind.listed]

# The order in which a resolved record writes its tables: the components between how they are trained and how scored.
_ORDER = ["record", "data", "train", *(kind.table for kind in KINDS.values() if not kind.listed), "eval", "size"]


@dataclass(frozen=True)
class Record:
    """A record with nothing left open.

    tables   table name -> every option of it; for a component also "use". Tables with names are tables of such tables
    entries  slot -> the component that the table there names; one that is switched off is absent. A slot is a table's
             path: "quantizer", "parts.smear"
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
        entries = [*self.entries.values(), *(entry for found in self.lists.values() for entry, _ in found)]
        return [(entry.component.kind, entry) for entry in entries]

    def table(self, slot: str) -> dict[str, Any]:
        return dict(table_of(self.tables, slot))

    def slots(self, kind: str) -> list[str]:
        """Where the record has components of a kind."""
        return [slot for slot, entry in self.entries.items() if entry.component.kind == kind]

    @property
    def targets(self) -> dict[str, str]:
        """Slot -> where its component is."""
        return {slot: entry.component.target for slot, entry in self.entries.items()}

    def to_toml(self) -> str:
        lists = {KINDS[kind].table: [table for _, table in found] or None for kind, found in self.lists.items()}
        return tomli_w.dumps(without_none({**self.tables, **lists}))

    def bind(self, *slots: str) -> Any:
        """Import its components, or those at some slots, and bind them as engine.components.bind says."""
        return bind(self.tables, {slot: self.entries[slot].load() for slot in slots or self.entries})


def load_record(path: str, zoo: Zoo, overrides: tuple[str, ...] = (), profile: str = "none") -> Record:
    """Read and resolve a record. Raises RecordError with every problem in it, one a line.

    `profile`, unless "none", is laid over the record; `overrides` are `key.path=value` strings and come last.
    """
    tables = parse(path)
    profiles = tables.pop("profiles", {})
    say_uses(tables)
    problems: list[str] = []
    changes, small = read_profile(path, profile, profiles) if profile != "none" else ([], False)
    named = {name: (use, tables[name].get("use")) for change in changes for name, use in _swaps(change, tables)}
    for override in overrides:
        try:
            changes.append(parse_override(override))
        except RecordError as error:
            problems.append(f"override {override!r}: {error}")
    # Components first, in whatever order they were given; then what makes them small; and then their options.
    notes = [note for change in changes for note in lay_over(tables, only_uses(change))]
    if small:
        make_small(tables, zoo)
    notes += [note for change in changes for note in lay_over(tables, change)]
    notes += [
        f"profile {profile}: [{name}] uses {use!r}, not {before!r}"
        for name, (use, before) in named.items()
        if tables[name]["use"] == use
    ]
    if profile != "none" and isinstance(tables.get("record"), dict):
        tables["record"]["profile"] = profile
    return resolve_tables(path, tables, zoo, notes, problems)


def resolve_tables(
    path: str, tables: dict[str, Any], zoo: Zoo, notes: Sequence[str] = (), found: Sequence[str] = ()
) -> Record:
    """The record that tables make. `notes` become its own; `found` are problems that were found before. Raises
    RecordError as load_record does."""
    problems = list(found)
    resolved, entries = _resolve(path, tables, zoo, problems)
    lists = {kind.name: _resolve_list(path, tables.get(kind.table, []), kind, zoo, problems) for kind in _LISTED}
    if problems:
        said = [f"{problem[:_LONGEST]}{' ...' * (len(problem) > _LONGEST)}" for problem in problems[:_MOST_SAID]]
        more = len(problems) - len(said)
        said += [f"{path}: and {more} more"] if more else []
        raise RecordError("\n".join(said))
    return Record(path, resolved, entries, lists, list(notes))


def _swaps(change: dict[str, Any], tables: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a change has another component than the record names, and which."""
    uses = {name: table["use"] for name, table in only_uses(change).items() if "use" in table}
    return [
        (name, use)
        for name, use in uses.items()
        if isinstance(tables.get(name), dict) and tables[name].get("use") != use
    ]


def _resolve(
    path: str, tables: dict[str, Any], zoo: Zoo, problems: list[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Entry]]:
    """Validate every table. Problems are appended, so that all of them are reported at once."""
    say_uses(tables)
    known = [*_ORDER, *(kind.table for kind in _LISTED)]
    problems += [f"{path}: unknown table [{name}]{suggest(name, known)}" for name in tables if name not in known]
    resolved: dict[str, dict[str, Any]] = {}
    entries: dict[str, Entry] = {}
    for name in _ORDER:
        table = tables.get(name, {})
        where = f"{path}: [{name}]"
        if not isinstance(table, dict):
            problems.append(f"{where}: must be a table, got {table!r}")
        elif name not in TABLES and BY_TABLE[name].named:
            for key, given in table.items():
                if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or hasattr(dict, key):  # what holds them is a dict, too
                    problems.append(
                        f"{path}: [{name}.{key}]: its name must be small letters, digits, underscores, and none of "
                        f"{', '.join(sorted(word for word in dir(dict) if word.isalpha()))}"
                    )
                elif one := _resolve_one(path, f"{name}.{key}", given, zoo, entries, problems):
                    resolved.setdefault(name, {})[key] = one
        elif name not in TABLES:
            if one := _resolve_one(path, name, table, zoo, entries, problems):
                resolved[name] = one
        elif name in ("record", "data") and not table:
            problems.append(f"{where}: is missing")
        else:
            config, wrong = TABLES[name].read(table, where)
            problems += wrong
            if config is not None:
                resolved[name] = config.model_dump(mode="json")
    problems += _check_parts(path, entries)
    return resolved, entries


def _resolve_one(
    path: str, slot: str, table: Any, zoo: Zoo, entries: dict[str, Entry], problems: list[str]
) -> dict[str, Any]:
    """Validate the table at a slot, and add its component to the entries; {} where there is none, or a problem."""
    where = f"{path}: [{slot}]"
    if not isinstance(table, dict):
        problems.append(f"{where}: must be a table, got {table!r}")
        return {}
    entry = _find_component(BY_TABLE[slot.partition(".")[0]], table, where, zoo, problems)
    if entry is None:
        return {}
    entries[slot] = entry
    config, found = entry.component.config.read(options_of(table), where)
    problems += found
    return {"use": table["use"], **config.model_dump(mode="json")} if config is not None else {}


def _check_parts(path: str, entries: dict[str, Entry]) -> list[str]:
    """A part belongs to one architecture."""
    if "architecture" not in entries:
        return []
    name = entries["architecture"].component.name
    return [
        f"{path}: [{slot}].use: {entry.component.name!r} is a part of the architecture {entry.component.part_of!r}, "
        f"and the record's is {name!r}"
        for slot, entry in entries.items()
        if entry.component.part_of not in ("", name)
    ]


def _resolve_list(
    path: str, tables: Any, kind: Kind, zoo: Zoo, problems: list[str]
) -> list[tuple[Entry, dict[str, Any]]]:
    """Validate an array of components' tables, which may be empty. Problems are appended."""
    if not is_array(tables):
        problems.append(f"{path}: {label_of(kind)}: must be an array of tables, got {tables!r}")
        return []
    components = []
    for number, table in enumerate(tables, start=1):
        where = f"{path}: {label_of(kind)} #{number}"
        entry = _find_component(kind, table, where, zoo, problems)
        if entry is None:
            continue
        config, found = entry.component.config.read(options_of(table), where)
        problems += found
        if config is not None:
            components.append((entry, {"use": table["use"], **config.model_dump(mode="json")}))
    return components


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
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        return without_none(value) if isinstance(value, dict) else value

    return {key: cleaned(value) for key, value in table.items() if value is not None}
