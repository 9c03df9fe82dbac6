"""Writing the distribution of a new plugin: golfzoo/templates, with a name of its own, and a record to try it in.

A template is a plugin that works, named "newcomer": one that is written differs from it in that word alone, and in
what is common to all kinds, golfzoo/templates/skeleton.
"""

import importlib.util
import keyword
import os
import re
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from golfzoo.component import NAME
from golfzoo.config import suggest
from golfzoo.engine.kinds import KINDS, Kind
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.overlay import lay_over, parse
from golfzoo.zoo import Entry, Zoo

_TEMPLATES = Path(__file__).parent.parent / "templates"

# A record needs an architecture and more, and nothing here may name one: they are taken from a record that is at hand.
# Where records may be: in the folder that golfzoo was installed from with `pip install -e`, or in the one we are in.
_RECORDS = (Path(__file__).parents[2] / "records", Path("records"))

_REQUIRED = [kind for kind in KINDS.values() if not (kind.optional or kind.default or kind.listed)]


@dataclass(frozen=True)
class Company:
    """The components beside which a new one is tried: kind -> name, and the record that has them, where one has."""

    uses: dict[str, str]
    record: Path | None

    @property
    def line(self) -> str:
        """The components, and where they are from."""
        named = ", ".join(f"{kind} {name}" for kind, name in self.uses.items())
        record = self.record
        source = f"as {record.parent.name}/{record.name} has them" if record else "of what is installed"
        return f"{named}: {source}"


def check_name(kind: str, name: str, zoo: Zoo) -> None:
    """Raise UsageError, with a name that would do, where a plugin cannot be called so."""
    if kind not in KINDS:
        swapped = f"; did you mean: golfzoo new {name} {kind}" if name in KINDS else suggest(kind, KINDS)
        raise UsageError(f"unknown kind {kind!r}{swapped}")
    if fault := _fault(kind, name, zoo):
        letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^a-z0-9]+", "_", letters.lower()).strip("_") or kind
        tried = [plain, f"my_{plain}", *(f"my_{plain}_{number}" for number in range(2, 100))]
        free = next((word for word in tried if word != name and not _fault(kind, word, zoo)), "")
        raise UsageError(f"no {kind} can be called {name!r}: {fault}" + (f"; {free!r} would do" if free else ""))


def _fault(kind: str, name: str, zoo: Zoo) -> str:
    """What is wrong with a name; empty where nothing is."""
    if not NAME.fullmatch(name) or name == "none" or len(name) > 30:
        return "a name is a small letter, then small letters, digits and underscores, 30 at most, and not 'none'"
    if keyword.iskeyword(name):
        return "it is a word of Python's"
    for entry in zoo.entries.values():
        if (entry.component.kind, entry.component.name) == (kind, name):
            return f"{entry.distribution} {entry.version} has a {kind} of that name"
        if entry.plugin == name:
            return f"{entry.distribution} {entry.version} has a plugin of that name"
    for problem in zoo.problems:
        if name in problem.plugin.split(", ") or (problem.kind, problem.name) == (kind, name):
            return f"there is one, which is broken: {problem.line}"
    if importlib.util.find_spec(f"golfzoo_{name}"):
        return f"there is a package golfzoo_{name}"
    if any(re.search(rf"\b{_class(name)}\b", file.read_text()) for file in (_TEMPLATES / kind).rglob("*.py")):
        return f"its class would be {_class(name)}, and what is written has another use for that word"
    return ""


def company(kind: Kind, zoo: Zoo) -> Company:
    """The shortest record at hand says it; for a kind that a record may leave out, the shortest that does not, with the
    same architecture. Where there are no records, it is chosen from what is installed."""
    folder = next((folder for folder in _RECORDS if any(folder.glob("*.toml"))), None)
    found = []
    for file in sorted(folder.glob("*.toml"), key=lambda file: (file.stat().st_size, file)) if folder else ():
        try:
            tables = parse(str(file))
        except GolfzooError:
            continue
        uses = {each.name: str(tables.get(each.table, {}).get("use")) for each in _REQUIRED}
        if uses.items() <= zoo.entries.keys():
            found.append((file, tables, uses))
    shortest = "architecture" if not found else found[0][2]["architecture"]
    fitting = [
        Company(uses, file)
        for file, tables, uses in found
        if uses["architecture"] == shortest and (not kind.optional or tables.get(kind.table))
    ]
    if fitting:
        return fitting[0]
    return Company(_from_zoo(kind, zoo), None)


def _from_zoo(kind: Kind, zoo: Zoo) -> dict[str, str]:
    """Of what is installed the first by name; but the architecture that has the most parts, and a quantizer that
    keeps nearly all of a matrix."""
    missing = [each.name for each in _REQUIRED if each != kind and not zoo.names(each.name)]
    if missing:
        raise UsageError(
            f"no {missing[0]} is installed, and a record needs one: with what should a {kind.name} be tried?"
        )
    uses = {each.name: min(zoo.names(each.name)) for each in _REQUIRED if zoo.names(each.name)}
    if owners := [entry.component.part_of for entry in zoo.entries.values() if entry.component.part_of]:
        uses["architecture"] = max(sorted(set(owners)), key=owners.count)
    close = (name for name in zoo.names("quantizer") if _error(zoo.find("quantizer", name), kind.name) < 0.01)
    return {**uses, "quantizer": quantizer} if (quantizer := next(close, "")) else uses


def _error(entry: Entry, tried: str) -> float:
    """How far a quantizer takes a matrix from itself; infinite where it is of no use for what is to be tried: one that
    wants statistics goes with a calibration, and with nothing else."""
    import torch

    from golfzoo.engine.components import namespace

    options, _ = entry.component.config.read(entry.component.small, entry.component.name)
    weight = torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    state, roles = {"weight": weight}, {"weight": "matrix"}
    try:
        quantizer = entry.load()(namespace(options.model_dump(mode="json") if options else {}))
        if bool(getattr(quantizer, "needs", {})) != (tried == "calibration"):
            return float("inf")
        restored = quantizer.dequantize(*quantizer.quantize(state, roles, {}, getattr(quantizer, "knob", None)))
        return float((restored["weight"].float() - weight).square().mean())
    except Exception:  # whatever is wrong with it, another will do
        return float("inf")


def write(kind: Kind, name: str, folder: Path, beside: Company, zoo: Zoo) -> list[Path]:
    """Write the distribution; returns its files, relative to the folder, which is there whole or not at all."""
    if os.path.lexists(folder):
        raise UsageError(f"{folder}: is there already; give another folder with --out, or move it away")
    files = _files(kind, name, beside, zoo)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as unfinished:
            whole = Path(unfinished) / folder.name
            for path, text in files.items():
                (whole / path).parent.mkdir(parents=True, exist_ok=True)
                (whole / path).write_text(text)
            shutil.move(whole, folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}; give another folder with --out") from None
    return sorted(files)


def _files(kind: Kind, name: str, beside: Company, zoo: Zoo) -> dict[Path, str]:
    skeleton, template = _TEMPLATES / "skeleton", _TEMPLATES / kind.name
    tables = parse(str(skeleton / "record.toml"))
    for slot, use in beside.uses.items():
        tables[slot] = {"use": use, **zoo.find(slot, use).component.small} if slot != kind.name else {}
    own = {"use": name}
    lay_over(tables, {kind.table: [own] if kind.listed else {name: {}} if kind.named else own})
    if (template / "record.toml").exists():
        lay_over(tables, parse(str(template / "record.toml")))
    about = f"# Small, on the standard library's text, so that it runs anywhere.\n# {beside.line}.\n\n"
    texts = {Path("records/newcomer.toml"): about + tomli_w.dumps(tables)}
    texts |= {Path(file): (skeleton / file).read_text() for file in ("pyproject.toml", "README.md")}
    texts |= {path.relative_to(template): path.read_text() for path in sorted(template.rglob("*.py"))}
    words = {
        "KIND": kind.name,
        "OWNER": beside.uses["architecture"],
        "DATA\n": "golfzoo data build stdlib --tokenizer-use newcomer\n" if kind.name == "tokenizer" else "",
        "USE\n": f"{_as_written(kind)}\n",
        "newcomer": name,
        "Newcomer": _class(name),
    }
    return {Path(_replaced(str(path), words)): _replaced(text, words) for path, text in texts.items()}


def _replaced(text: str, words: dict[str, str]) -> str:
    for word, other in words.items():
        text = text.replace(word, other)
    return text


def _as_written(kind: Kind) -> str:
    """How a record names a component of a kind."""
    if kind.named:
        return f"`[{kind.table}.newcomer]`."
    return f'`{f"[[{kind.table}]]" if kind.listed else f"[{kind.table}]"}` with `use = "newcomer"`.'


def _class(name: str) -> str:
    """my_own -> MyOwn"""
    return "".join(word.capitalize() for word in name.split("_"))


def describe(files: list[Path], kind: Kind) -> list[tuple[str, str]]:
    """Each file, and what it is."""
    about: dict[str, Any] = {
        "__init__.py": "the face: its options, and what is registered; no torch",
        f"{kind.name}.py": "the body: what a record's run imports, and a submission ships",
        "pyproject.toml": "the entry point, by which golfzoo finds it",
        "README.md": "these commands",
    }
    of_folder = {"tests": "the contract of its kind, and a test of its own", "records": "a small record that uses it"}
    return [(str(file), of_folder.get(file.parts[0], about.get(file.name, "what it is made with"))) for file in files]
