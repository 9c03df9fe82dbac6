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

from golfzoo.component import KINDS, OPTIONAL_KINDS
from golfzoo.config import suggest
from golfzoo.engine.parts import Parts, bind
from golfzoo.errors import PluginError, RecordError
from golfzoo.tables import TABLES
from golfzoo.zoo import Entry, Zoo

# The order in which a resolved record writes its tables.
_ORDER = ("record", "data", "train", "architecture", "optimizer", "quantizer", "compressor", "eval", "adaptor", "size")


@dataclass(frozen=True)
class Record:
    """A record with nothing left open.

    tables   table name -> every option of it; for a component also "use"
    entries  kind -> the component that its table names; a kind that is switched off is absent
    notes    what was done to the record on the way, for the user to read
    loggers  a component and its table, as above, for each of [[loggers]]; apart, because no result depends on them
    """

    path: str
    tables: dict[str, dict[str, Any]]
    entries: dict[str, Entry]
    notes: list[str]
    loggers: list[tuple[Entry, dict[str, Any]]]

    @property
    def name(self) -> str:
        return str(self.tables["record"]["name"])

    @property
    def profile(self) -> str:
        return str(self.tables["record"]["profile"])

    def to_toml(self) -> str:
        loggers = [table for _, table in self.loggers]
        return tomli_w.dumps(without_none({**self.tables, "loggers": loggers or None}))

    def bind(self) -> Parts:
        """Import its components and bind them to their options."""
        return bind(self.tables, {kind: entry.load() for kind, entry in self.entries.items()})


def load_record(path: str, zoo: Zoo, overrides: tuple[str, ...] = (), profile: str = "none") -> Record:
    """Read and resolve a record. Raises RecordError with every problem in it, one a line.

    `profile`, unless "none", is laid over the record; `overrides` are `key.path=value` strings and come last.
    """
    tables = _parse(path)
    profiles = tables.pop("profiles", {})
    problems: list[str] = []
    notes: list[str] = []
    if profile != "none":
        if not isinstance(profiles, dict) or not isinstance(profiles.get(profile), dict):
            raise RecordError(f"{path}: has no profile {profile!r}{suggest(profile, profiles)}")
        notes += lay_over(tables, profiles[profile])
        if isinstance(tables.get("record"), dict):
            tables["record"]["profile"] = profile
    # A component first, and then its options, in whatever order they were given.
    for override in sorted(overrides, key=lambda text: not text.partition("=")[0].strip().endswith(".use")):
        try:
            notes += lay_over(tables, parse_override(override))
        except RecordError as error:
            problems.append(f"override {override!r}: {error}")
    resolved, entries = _resolve(path, tables, zoo, problems)
    loggers = _resolve_loggers(path, tables.get("loggers", []), zoo, problems)
    if problems:
        raise RecordError("\n".join(problems))
    return Record(path, resolved, entries, notes, loggers)


def profile_names(path: str) -> list[str]:
    """The names of the profiles in a record."""
    profiles = _parse(path).get("profiles", {})
    return sorted(profiles) if isinstance(profiles, dict) else []


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
    known = [*_ORDER, "loggers"]
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
            entry = _find_component(name, table, where, zoo, problems)
            if entry is None:
                continue
            entries[name] = entry
            config, found = entry.component.config.read({k: v for k, v in table.items() if k != "use"}, where)
        problems += found
        if config is not None:
            head = {"use": table["use"]} if name in KINDS else {}
            resolved[name] = {**head, **config.model_dump(mode="json")}
    return resolved, entries


def _resolve_loggers(path: str, tables: Any, zoo: Zoo, problems: list[str]) -> list[tuple[Entry, dict[str, Any]]]:
    """Validate [[loggers]], of which there may be none. Problems are appended."""
    if not _is_array(tables):
        problems.append(f"{path}: [[loggers]]: must be an array of tables, got {tables!r}")
        return []
    loggers = []
    for number, table in enumerate(tables, start=1):
        where = f"{path}: [[loggers]] #{number}"
        entry = _find_component("logger", table, where, zoo, problems)
        if entry is None:
            continue
        config, found = entry.component.config.read({k: v for k, v in table.items() if k != "use"}, where)
        problems += found
        if config is not None:
            loggers.append((entry, {"use": table["use"], **config.model_dump(mode="json")}))
    return loggers


def _is_array(value: Any) -> bool:
    """Whether a value is an array of tables; an empty list is one, too."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _find_component(kind: str, table: dict[str, Any], where: str, zoo: Zoo, problems: list[str]) -> Entry | None:
    use = table.get("use", "none" if kind in OPTIONAL_KINDS else None)
    if kind in OPTIONAL_KINDS and use == "none":
        extra = sorted(set(table) - {"use"})
        if extra:
            problems.append(f"{where}: is switched off, yet has {', '.join(extra)}; remove them or set `use`")
        return None
    if not isinstance(use, str):
        got = "is missing" if use is None else f"must be a string, got {use!r}"
        problems.append(f"{where}.use: {got}; known: {', '.join(zoo.names(kind))}")
        return None
    try:
        return zoo.find(kind, use)
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
