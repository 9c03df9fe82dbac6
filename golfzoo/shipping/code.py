"""The code of a submission: the engine and the bodies of a record's components, as one file `train_gpt.py`.

The file is Python. It holds, compressed, the resolved record and the source of every module as `strip` leaves it, and
starts by writing them to a temporary folder and importing them from there (golfzoo/engine/loader.py). Nothing of the
host is in it. The same record gives the same bytes.
"""

import ast
import hashlib
import importlib.util
import json
import lzma
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from golfzoo.engine.components import load_target, namespace, options_of
from golfzoo.engine.kinds import kind_of
from golfzoo.engine.loader import read_text
from golfzoo.engine.stages import STAGES
from golfzoo.errors import PluginError, UsageError
from golfzoo.record import Record
from golfzoo.shipping.closure import closure, imported_names, is_module, is_namespace, requirements
from golfzoo.shipping.sources import read_bytes
from golfzoo.shipping.squeezing import as_it_is, squeeze
from golfzoo.shipping.stripping import strip
from golfzoo.strangers.values import parse_json, quoted

__all__ = ["closure", "code_hashes", "imported_names", "module_bytes", "pack_code", "requirements", "shipped_modules"]
__all__ += ["strip", "unpack_code", "unpack_files"]

_LOADER = "golfzoo/engine/loader.py"
# The parameters that are best for Python text, measured on this very code; the container tells them to who reads it.
_SEARCH = {"preset": 9 | lzma.PRESET_EXTREME, "mf": lzma.MF_BT3, "nice_len": 64}
_FILTERS = ({"id": lzma.FILTER_LZMA1, "lc": 2, "lp": 0, "pb": 0, **_SEARCH},)
_UNPACKED_LIMIT = 16 * 2**20
# Letters of all modules, and of one; the largest record has 124,000, and 7,000 in one. Parsed, a module takes a
# thousand times as much memory.
_SOURCE_LIMIT = 2**20
_MODULE_LIMIT = 2**17
_FIRST_SYMBOL = 128  # the letters beyond ASCII, of which the source that ships has none

# What a component must have for the engine to import a module for it.
_CALLED_BY_NAME = (
    ("quantizer", "needs", "golfzoo.engine.calibrate"),
    ("quantizer", "measure_damage", "golfzoo.engine.damage"),
    ("adaptor", "rounds", "golfzoo.engine.rounds"),
)

# Of a record, what only lists of records say; no run depends on it.
_SAID_OF_IT = ("summary", "family", "published")

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
    return _pack(_packed_files(record), _head(record.tables, record.targets))


def repack(file: bytes) -> bytes:
    """A submission's `train_gpt.py` as this golfzoo packs what is in it. Raises UsageError as unpack_files does."""
    record, files = unpack_files(file)
    packed = {path: _squeezed(path, contents) for path, contents in files.items()}
    return _pack(packed, _head(record["tables"], record["targets"]))


def _head(tables: Any, targets: Any) -> str:
    record = {key: value for key, value in tables["record"].items() if key not in _SAID_OF_IT}
    return json.dumps({"tables": {**tables, "record": record}, "targets": targets}, separators=(",", ":"))


def _packed_files(record: Record) -> dict[str, str]:
    """Where each file lies in a submission, and its contents as they are packed."""
    files = {}
    for name, path in shipped_modules(record).items():
        contents = _contents(name, path)
        files[_place(name, path)] = _squeezed(_place(name, path), contents)
    return files


def _squeezed(place: str, contents: bytes) -> str:
    """A file as it is packed; the file of a package that is empty is nothing at all."""
    if not contents:
        return ""
    return squeeze(contents.decode()) if place.endswith(".py") else as_it_is(contents)


def _contents(name: str, path: Path) -> bytes:
    """A file as it ships: a module stripped, anything else as it is."""
    contents = read_bytes(path)
    return strip(importlib.util.decode_source(contents)).encode() if is_module(name) else contents


def _place(name: str, path: Path) -> str:
    """Where a file lies in a submission."""
    end = "/__init__.py" if path.name == "__init__.py" else ".py"
    return name.replace(".", "/") + end if is_module(name) else name


def _pack(files: dict[str, str], head: str) -> bytes:
    text = _text(files, head)
    return _START.encode().replace(b"PAYLOAD", _escape(_compress(text, _frequent_words(text))))


def _text(files: dict[str, str], head: str) -> str:
    """All that is packed, in ASCII: the record, and the path and contents of each file by turns."""
    parts = [head]
    folders = {str(parent) for path in files if path.endswith(".py") for parent in PurePosixPath(path).parents} - {"."}
    # A face stays behind, and its package is empty.
    packages = [folder for folder in folders if not is_namespace(folder.replace("/", "."))]
    whole = {f"{package}/__init__.py": "" for package in packages} | files
    for path in sorted(whole, key=lambda path: (path != _LOADER, path)):  # the loader first: it loads the others
        if not path.isascii():
            raise PluginError(f"{path}: has letters beyond ASCII in its name, so it cannot ship in a submission")
        parts += [path, whole[path]]
    return "\0".join(parts)


def _frequent_words(text: str) -> list[str]:
    """The words that take most room in a text."""
    counts = Counter(_WORD.findall(text))
    saved = {word: count * (len(word) - 1) - len(word) - 1 for word, count in counts.items()}
    best = sorted((word for word in saved if saved[word] > 0), key=lambda word: (-saved[word], word))
    return sorted(best[: 256 - _FIRST_SYMBOL])


def _compress(text: str, words: list[str]) -> bytes:
    """A text behind a list of words, each of which it has one letter beyond ASCII for."""
    symbols = {word: chr(_FIRST_SYMBOL + number) for number, word in enumerate(words)}
    short = _WORD.sub(lambda match: symbols.get(match[0], match[0]), text)
    payload = "\0".join([" ".join(words), short]).encode("latin-1")
    return lzma.compress(payload, lzma.FORMAT_ALONE, filters=_FILTERS)


def unpack_code(file: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """What is packed in a `train_gpt.py`, read without running it: {"tables", "targets"}, and module name -> source."""
    record, files = unpack_files(file)
    sources = {path.removesuffix(".py"): contents for path, contents in files.items() if path.endswith(".py")}
    empty = {path for path, contents in sources.items() if path.endswith("/__init__") and not contents}
    names = {path: path.removesuffix("/__init__").replace("/", ".") for path in sources.keys() - empty}
    return record, {name: sources[path].decode() for path, name in sorted(names.items(), key=lambda item: item[1])}


def unpack_files(file: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The same with all files: path -> contents. Raises UsageError on what `pack_code` did not write."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what Python thinks of a stranger's source
            head, files = _read(file)
        record = parse_json(head)
        if not all(isinstance(value, dict) for value in (record["tables"], record["targets"])):
            raise ValueError
        if not all(isinstance(target, str) for target in record["targets"].values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, lzma.LZMAError):
        raise UsageError("not a packed golfzoo submission") from None
    for path in files:
        if not _may_be_written(path):
            raise UsageError(f"has a module whose name is none: {quoted(path, 60)}")
    return record, files


def _may_be_written(path: str) -> bool:
    """Whether a packed file lies in a package, and, if it is a module, has a name that can be imported."""
    package, *inner = path.removesuffix(".py").split("/")
    if path.endswith(".py"):
        return all(map(re.compile(r"\w+", re.ASCII).fullmatch, (package, *inner)))
    inside = all(part.strip(".") and part.isprintable() and not set(part) & {"\\", ":"} for part in inner)
    return bool(inner) and inside and re.fullmatch(r"\w+", package, re.ASCII) is not None


def _read(file: bytes) -> tuple[str, dict[str, bytes]]:
    """The record as JSON, and path -> contents. Raises one error or another where the file is not as it was written."""
    start, end = file.index(b"lzma.decompress('''"), file.rindex(b"'''.encode")
    literal = file[start + len(b"lzma.decompress(") : end + 3]
    compressed = ast.literal_eval(literal.decode("latin-1")).encode("latin-1")
    stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2**28)
    words, text = stream.decompress(compressed, _UNPACKED_LIMIT).decode("latin-1").split("\0", 1)
    symbols = {chr(_FIRST_SYMBOL + number): word for number, word in enumerate(words.split(" "))}
    if len(symbols) > 256 - _FIRST_SYMBOL:
        raise ValueError
    if len(text) + sum(text.count(symbol) * len(word) for symbol, word in symbols.items()) > _UNPACKED_LIMIT:
        raise ValueError
    head, *rest = re.sub("[\x80-\xff]", lambda match: symbols[match[0]], text).split("\0")
    modules = [len(text) for text in rest[1::2] if not text.startswith("#")]
    if sum(modules) > _SOURCE_LIMIT or max(modules, default=0) > _MODULE_LIMIT:  # before any is parsed
        raise ValueError
    files = {path: read_text(text) for path, text in zip(rest[::2], rest[1::2], strict=True)}
    "".join(contents.decode() for path, contents in files.items() if path.endswith(".py"))  # is it text?
    return head, files


def module_bytes(record: Record) -> dict[str, int]:
    """How many bytes of `train_gpt.py` each module costs: what the compressed text would be smaller by without it."""
    files = _packed_files(record)
    head = _head(record.tables, record.targets)
    text = _text(files, head)
    words = _frequent_words(text)
    whole = len(_compress(text, words))
    costs = {}
    for name, source in shipped_modules(record).items():
        others = {path: contents for path, contents in files.items() if path != _place(name, source)}
        costs[name] = max(1, whole - len(_compress(_text(others, head), words)))
    return costs


def code_hashes(record: Record) -> dict[str, str]:
    """What identifies the code of a run: each module's name and the hash of its source as it would ship."""
    return {name: _hash(_contents(name, path)) for name, path in shipped_modules(record).items()}


def shipped_modules(record: Record) -> dict[str, Path]:
    """Module name -> source file, for everything that a submission imports from the engine and from its plugins."""
    own = [f"golfzoo.engine.{STAGES['fit'].module}"] if record.tables["size"]["fit"] else []
    own += called_by_name(record, record.entries)
    return closure(["golfzoo.engine.standalone", "golfzoo.engine.loader", *own, *modules_of(record, record.entries)])


def called_by_name(record: Record, slots: Iterable[str]) -> list[str]:
    """The engine's modules that it imports by name, where the components at these slots ask for them."""
    return [
        module
        for slot, word, module in _CALLED_BY_NAME
        if slot in slots and _is_mentioned(word, closure(modules_of(record, [slot])))
    ]


def _is_mentioned(word: str, modules: dict[str, Path]) -> bool:
    """Whether code has a word at all: only then can an object have an attribute of that name."""
    sources = (_contents(name, path).decode() for name, path in modules.items() if is_module(name))
    return any(re.search(rf"\b{word}\b", source) for source in sources)


def modules_of(record: Record, slots: Iterable[str]) -> list[str]:
    """The modules that the components at these slots begin in: their bodies, what the engine has them in, and modules
    of a body's own package that its options name, as `coefficients = "polar"` does."""
    modules = []
    for slot in slots:
        target, options, kind = record.targets[slot], options_of(record.table(slot)), kind_of(slot)
        body, through = target.partition(":")[0], kind.through.partition(":")[0]
        if kind.unless and hasattr(_as_made(load_target(target), options), kind.unless):
            through = ""
        package = body.rpartition(".")[0]
        words = [value for value in options.values() if isinstance(value, str)]
        named = [f"{package}.{word}" for word in words if package and word.isidentifier()]
        modules += [body, *([through] if through else []), *filter(importlib.util.find_spec, named)]
    return modules


def _as_made(target: Any, options: dict[str, Any]) -> Any:
    """What has the attributes of a component: a class that makes it, which need not, or else the component."""
    return target if isinstance(target, type) else target(namespace(options))


def _escape(payload: bytes) -> bytes:
    """Bytes as they stand in a latin-1 string between three quotes: only what Python would take for something else."""
    escapes = {b"\\": rb"\\", b"\r": rb"\r", b"\0": rb"\0", b"'": rb"\'"}
    literal = re.sub(rb"\\|\r|\0(?![0-7])|'(?=''|\Z)", lambda match: escapes[match[0]], payload)
    return literal.replace(b"\0", rb"\x00")


def _hash(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()[:16]
