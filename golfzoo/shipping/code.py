"""The code of a submission: the engine and the bodies of a record's components, as one file `train_gpt.py`.

The file is Python. It holds a short loader and, compressed, the resolved record and the source of every module without
comments and docstrings. Modules are imported from there under their own names, each with its source lines, so that
tracebacks, `inspect` and torch.compile see them. Nothing of the host is in it. The same record gives the same bytes.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import lzma
import re
import sys
import tokenize
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from golfzoo.errors import PluginError, UsageError
from golfzoo.record import Record

_ENTRY = "golfzoo.engine.standalone"
_SEPARATOR = "\0"
# Raw LZMA: no container, and the parameters that are best for Python text, measured on this very code.
_FILTERS = ({"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 0, "pb": 0},)
_UNPACKED_LIMIT = 16 * 2**20
_ESCAPES = {b"\\": b"\\\\", b'"': b'\\"', b"\n": b"\\n", b"\r": b"\\r", b"\0": b"\\x00"}

_LOADER = """\
# coding: latin-1
# A golfzoo submission. Its source: python train_gpt.py --unpack DIR
import importlib.abc as a,importlib.util as u,json,linecache as c,lzma,sys
_,*t=lzma.decompress("PAYLOAD".encode("latin1"),3,None,FILTERS).decode().split("\\0")
r,s=json.loads(_),dict(zip(t[::2],t[1::2]))
class L(a.MetaPathFinder,a.InspectLoader):
 def find_spec(o,n,p,t=None):
  k=any(m.startswith(n+".")for m in s)
  if k or n in s:return u.spec_from_loader(n,o,is_package=k)
 def get_source(o,n):return s.get(n,"")
 def exec_module(o,m):
  n=m.__name__;x=s.get(n,"");f=m.__file__=__file__+"/"+n.replace(".","/")+".py"
  c.cache[f]=len(x),None,x.splitlines(1),f;exec(compile(x,f,"exec"),m.__dict__)
if __name__=="__main__":
 sys.meta_path.insert(0,L())
 from golfzoo.engine.standalone import main
 main(__file__,r,s)
"""


def pack_code(record: Record) -> bytes:
    """The whole `train_gpt.py` of a record."""
    modules = {name: strip(path.read_text()) for name, path in shipped_modules(record).items()}
    return pack_modules(modules, record)


def pack_modules(modules: dict[str, str], record: Record) -> bytes:
    targets = {kind: entry.component.target for kind, entry in record.entries.items()}
    head = json.dumps({"tables": record.tables, "targets": targets}, separators=(",", ":"))
    parts = [head, *(part for item in sorted(modules.items()) for part in item)]
    if any(_SEPARATOR in part for part in parts):
        raise PluginError("a module to be packed has a NUL character in its source")
    payload = lzma.compress(_SEPARATOR.join(parts).encode(), format=lzma.FORMAT_RAW, filters=list(_FILTERS))
    loader = _LOADER.replace("FILTERS", repr(list(_FILTERS)).replace(" ", "")).encode()
    return loader.replace(b"PAYLOAD", _escape(payload))


def unpack_code(file: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """What is packed in a `train_gpt.py`, read without running it: {"tables", "targets"}, and module name -> source."""
    found = re.search(rb'lzma\.decompress\("(.*)"\.encode\("latin1"\),3,None,', file, re.S)
    try:
        if found is None:
            raise ValueError
        stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=list(_FILTERS))
        text = stream.decompress(_unescape(found[1]), _UNPACKED_LIMIT).decode()
        head, *rest = text.split(_SEPARATOR)
        record, modules = json.loads(head), dict(zip(rest[::2], rest[1::2], strict=True))
        targets = record["targets"]
        if not all(isinstance(value, dict) for value in (record["tables"], targets)):
            raise ValueError
    except (ValueError, KeyError, TypeError, lzma.LZMAError):
        raise UsageError("not a packed golfzoo submission") from None
    if not all(re.fullmatch(r"\w+(\.\w+)*", name) for name in modules):
        raise UsageError("has a module whose name is none")
    return record, modules


def requirements(modules: dict[str, Path]) -> list[str]:
    """What modules need beside Python: "distribution==version" of every package that they import."""
    owners = _owners()
    own = {name.partition(".")[0] for name in modules}
    roots = {
        imported.partition(".")[0]
        for name, path in modules.items()
        for imported in imported_names(_package(name, path), path.read_text())
    }
    names = {owners[root][0] for root in roots - own - sys.stdlib_module_names if root in owners}
    return sorted(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names)


def module_bytes(record: Record) -> dict[str, int]:
    """How many bytes of `train_gpt.py` each module costs: what the file would be smaller by without it."""
    modules = {name: strip(path.read_text()) for name, path in shipped_modules(record).items()}
    whole = len(pack_modules(modules, record))
    return {
        name: whole - len(pack_modules({other: modules[other] for other in modules if other != name}, record))
        for name in modules
    }


def code_hashes(record: Record) -> dict[str, str]:
    """What identifies the code of a run: each module's name and the hash of its source as it would ship."""
    return {name: _hash(strip(path.read_text())) for name, path in shipped_modules(record).items()}


def shipped_modules(record: Record) -> dict[str, Path]:
    """Module name -> source file, for everything that a submission imports from the engine and from its plugins."""
    return closure([_ENTRY, *(entry.component.target.partition(":")[0] for entry in record.entries.values())])


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
def strip(source: str) -> str:
    """A module without comments, docstrings, blank lines, and what only a type checker reads."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    inside_strings: set[int] = set()  # rows whose end belongs to a string: there even blanks mean something
    docstrings: list[Any] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            _blank(lines, node)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first: Any = node.body[0]
            docstrings.append(first.value)
            indent = lines[first.lineno - 1][: first.col_offset]
            _blank(lines, first)
            if len(node.body) == 1:
                lines[first.lineno - 1] = indent + "pass"
        elif isinstance(node, ast.Constant | ast.JoinedStr) and all(node is not docstring for docstring in docstrings):
            inside_strings.update(range(node.lineno, node.end_lineno or node.lineno))
    kept = (line if row in inside_strings else line.rstrip() for row, line in enumerate(lines, start=1))
    return "".join(f"{line}\n" for row, line in enumerate(kept, start=1) if line or row in inside_strings)


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """Package -> the distributions that it comes from."""
    return importlib.metadata.packages_distributions()


def _blank(lines: list[str], node: Any) -> None:
    for row in range(node.lineno - 1, node.end_lineno):
        lines[row] = ""


def _escape(payload: bytes) -> bytes:
    """Bytes as they stand in a latin-1 string literal: only what Python's reader would take for something else."""
    return re.sub(rb'[\\"\n\r\0]', lambda match: _ESCAPES[match[0]], payload)


def _unescape(literal: bytes) -> bytes:
    special = {escaped: plain for plain, escaped in _ESCAPES.items()}
    return re.sub(rb"\\(x00|.)", lambda match: special[match[0]], literal)


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
