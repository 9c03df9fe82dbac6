"""The code of a submission: the engine and the bodies of a record's components, as one file `train_gpt.py`.

The file is Python. It holds, compressed, the resolved record and the source of every module as `strip` leaves it, and
starts by writing them to a temporary folder and importing them from there (golfzoo/engine/loader.py). Nothing of the
host is in it. The same record gives the same bytes.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import lzma
import re
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from typing import Any

from golfzoo.engine.loader import read_text
from golfzoo.errors import PluginError, UsageError
from golfzoo.record import Record
from golfzoo.shipping.source import squeeze, strip

_ENTRY = "golfzoo.engine.standalone"
_LOADER = "golfzoo/engine/loader.py"
# The parameters that are best for Python text, measured on this very code; the container tells them to who reads it.
_FILTERS = ({"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 0, "pb": 0},)
_UNPACKED_LIMIT = 16 * 2**20
_FIRST_SYMBOL = 128  # the letters beyond ASCII, of which the source that ships has none

_WORD = re.compile(r"[A-Za-z]{2,}")

_START = """\
# coding: latin-1
# A golfzoo submission. Its source: python train_gpt.py --unpack DIR
import lzma
w,t=lzma.decompress('''PAYLOAD'''.encode("latin1")).decode("latin1").split("\\0",1)
for n,w in enumerate(w.split()):t=t.replace(chr(128+n),w)
r,*t=t.split("\\0")
exec(t[1])
if __name__=="__main__":start(__file__,r,t)
"""


def pack_code(record: Record) -> bytes:
    """The whole `train_gpt.py` of a record."""
    return _pack(_packed_files(record), record)


def _packed_files(record: Record) -> dict[str, str]:
    """Where each module lies in a submission, and its source as it is packed."""
    return {_place(name, path): squeeze(strip(_read_source(path))) for name, path in shipped_modules(record).items()}


def _pack(files: dict[str, str], record: Record) -> bytes:
    targets = {kind: entry.component.target for kind, entry in record.entries.items()}
    parts = [json.dumps({"tables": record.tables, "targets": targets}, separators=(",", ":"))]
    # Faces stay behind, and their packages are empty; the loader comes first, because it has to load the others.
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    whole = dict.fromkeys((f"{folder}/__init__.py" for folder in sorted(folders)), "") | files
    for path in sorted(whole, key=lambda path: (path != _LOADER, path)):
        parts += [path, whole[path]]
    words, text = _abbreviate("\0".join(parts))
    payload = "\0".join([" ".join(words), text]).encode("latin-1")
    return _START.encode().replace(b"PAYLOAD", _escape(lzma.compress(payload, lzma.FORMAT_ALONE, filters=_FILTERS)))


def unpack_code(file: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """What is packed in a `train_gpt.py`, read without running it: {"tables", "targets"}, and module name -> source."""
    try:
        head, files = _read(file)
        record = json.loads(head)
        if not all(isinstance(value, dict) for value in (record["tables"], record["targets"])):
            raise ValueError
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, lzma.LZMAError):
        raise UsageError("not a packed golfzoo submission") from None
    if not all(re.fullmatch(r"\w+(/\w+)*\.py", path) for path in files):
        raise UsageError("has a module whose name is none")
    names = {path: path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in files}
    return record, {names[path]: text for path, text in files.items() if text or not path.endswith("/__init__.py")}


def _read(file: bytes) -> tuple[str, dict[str, str]]:
    """The record as JSON, and path -> text. Raises one error or another where the file is not as it was written."""
    found = re.search(rb"lzma\.decompress\(('''.*''')\.encode", file, re.S)
    if found is None:
        raise ValueError
    compressed = ast.literal_eval(found[1].decode("latin-1")).encode("latin-1")
    stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2**28)
    words, text = stream.decompress(compressed, _UNPACKED_LIMIT).decode("latin-1").split("\0", 1)
    symbols = {chr(_FIRST_SYMBOL + number): word for number, word in enumerate(words.split(" "))}
    if len(text) + sum(text.count(symbol) * len(word) for symbol, word in symbols.items()) > _UNPACKED_LIMIT:
        raise ValueError
    head, *rest = re.sub("[\x80-\xff]", lambda match: symbols[match[0]], text).split("\0")
    return head, {path: read_text(text).decode() for path, text in zip(rest[::2], rest[1::2], strict=True)}


def _abbreviate(text: str) -> tuple[list[str], str]:
    """The words that take most room in a text, and the text with one letter beyond ASCII for each of them."""
    counts = Counter(_WORD.findall(text))
    saved = {word: count * (len(word) - 1) - len(word) - 1 for word, count in counts.items()}
    best = sorted((word for word in saved if saved[word] > 0), key=lambda word: (-saved[word], word))
    words = sorted(best[: 256 - _FIRST_SYMBOL])
    symbols = {word: chr(_FIRST_SYMBOL + number) for number, word in enumerate(words)}
    return words, _WORD.sub(lambda match: symbols.get(match[0], match[0]), text)


def requirements(modules: dict[str, Path]) -> list[str]:
    """What modules need beside Python: "distribution==version" of every package that they import."""
    owners = _owners()
    own = {name.partition(".")[0] for name in modules}
    roots = {
        imported.partition(".")[0]
        for name, path in modules.items()
        for imported in imported_names(_package(name, path), _read_source(path))
    }
    names = {owners[root][0] for root in roots - own - sys.stdlib_module_names if root in owners}
    return sorted(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names)


def module_bytes(record: Record) -> dict[str, int]:
    """How many bytes of `train_gpt.py` each module costs: what the file would be smaller by without it."""
    files = _packed_files(record)
    whole = len(_pack(files, record))
    return {
        name: whole - len(_pack({path: text for path, text in files.items() if path != _place(name, source)}, record))
        for name, source in shipped_modules(record).items()
    }


def code_hashes(record: Record) -> dict[str, str]:
    """What identifies the code of a run: each module's name and the hash of its source as it would ship."""
    return {name: _hash(strip(_read_source(path))) for name, path in shipped_modules(record).items()}


def shipped_modules(record: Record) -> dict[str, Path]:
    """Module name -> source file, for everything that a submission imports from the engine and from its plugins."""
    return closure(
        [
            _ENTRY,
            "golfzoo.engine.loader",
            *(entry.component.target.partition(":")[0] for entry in record.entries.values()),
        ]
    )


def closure(entries: list[str]) -> dict[str, Path]:
    """Modules, and what they import from the engine and from their own packages: name -> source file."""
    pending = list(entries)
    found: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        if name in found:
            continue
        spec = _find(name)
        if spec is None:
            raise PluginError(f"there is no module {name!r}, which a component's target or one of its imports names")
        if spec.origin is None or not spec.origin.endswith(".py"):
            raise PluginError(f"module {name!r} has no Python source, so it cannot ship in a submission")
        found[name] = Path(spec.origin)
        own = (name.partition(".")[0] + ".", "golfzoo.engine.")
        for imported in imported_names(_package(name, found[name]), found[name].read_text()):
            if imported.startswith(own):
                # `from package import module` and `from module import name` look alike.
                pending.append(imported if _is_module(imported) else imported.rpartition(".")[0])
    return dict(sorted(found.items()))


def _read_source(path: Path) -> str:
    return importlib.util.decode_source(path.read_bytes())


def _place(name: str, path: Path) -> str:
    """Where a module lies in a submission."""
    return name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")


def _package(name: str, path: Path) -> str:
    """What a module's relative imports start from."""
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


@functools.cache
def imported_names(package: str, source: str) -> set[str]:
    """Every module, and every name from one, that a module of a package imports when it runs, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(strip(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """Package -> the distributions that it comes from."""
    return importlib.metadata.packages_distributions()


def _escape(payload: bytes) -> bytes:
    """Bytes as they stand in a latin-1 string between three quotes: only what Python would take for something else."""
    escapes = {b"\\": rb"\\", b"\r": rb"\r", b"\0": rb"\0", b"'": rb"\'"}
    literal = re.sub(rb"\\|\r|\0(?![0-7])|'(?=''|\Z)", lambda match: escapes[match[0]], payload)
    return literal.replace(b"\0", rb"\x00")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_module(name: str) -> bool:
    """Whether a dotted name is a module, without importing one: only packages are imported on the way."""
    parent = _find(name.rpartition(".")[0])
    is_package = parent is not None and parent.submodule_search_locations is not None
    return is_package and _find(name) is not None


def _find(name: str) -> ModuleSpec | None:
    """Where a module is; None where there is none, or no package that it could be in."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise
