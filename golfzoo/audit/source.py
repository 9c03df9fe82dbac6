"""The folder's Python, parsed but never executed. A script that unpacks itself is unpacked as data."""

import ast
import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from golfzoo.audit.finding import Finding
from golfzoo.audit.folder import Folder

LARGEST_SOURCE = 1_000_000
LARGEST_UNPACKED = 2_000_000
MOST_NODES = 250_000
MOST_FUNCTIONS_AROUND = 4
DEEPEST = 300  # nodes inside of nodes; what people write has some 30
_MEMORY = 128_000_000
_LAYERS = 3
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Source:
    """One file's Python. `needed`: the script, or something that it imports or executes."""

    file: str
    text: str
    tree: ast.Module
    needed: bool = False

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> list[Function]:
        """Without those that lie in very many others, whose insides would be looked through as often."""
        found: list[Function] = []
        within: list[tuple[ast.AST, int]] = [(self.tree, 0)]
        while within:
            outer, depth = within.pop()
            for node in ast.iter_child_nodes(outer):
                if isinstance(node, Function) and depth < MOST_FUNCTIONS_AROUND:
                    found.append(node)
                within.append((node, depth + isinstance(node, Function)))
        return sorted(found, key=lambda node: node.lineno)

    @cached_property
    def calls(self) -> list[ast.Call]:
        return [node for node in self.nodes if isinstance(node, ast.Call)]

    @cached_property
    def strings(self) -> list[ast.Constant]:
        return [node for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@dataclass
class Sources:
    """`script` is the path of the script that trains; "" if there is none."""

    script: str
    parsed: list[Source]
    helpers: list[str]

    @property
    def needed(self) -> list[Source]:
        return [source for source in self.parsed if source.needed]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute; of anything else what can be said, as `?.c`."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(names))


def names_in(node: ast.AST) -> set[str]:
    """Every name and attribute in an expression."""
    inner = list(ast.walk(node))
    return {part.id for part in inner if isinstance(part, ast.Name)} | {
        part.attr for part in inner if isinstance(part, ast.Attribute)
    }


def read_sources(folder: Folder, findings: list[Finding]) -> Sources:
    """Parse every Python file, find the script, and what of the folder it needs."""
    parsed: list[Source] = []
    for path in folder.texts_that_end(".py"):
        parsed += _parse(path, folder.texts[path], findings)
    script = _script(folder)
    if not script:
        findings.append(Finding("wrong", "no-script", ".", 0, "there is no train_gpt.py, nor another train*.py"))
    elif not folder.sizes[script]:
        findings.append(Finding("wrong", "no-script", script, 0, "is empty"))
    helpers = _mark_needed(folder, script, parsed)
    return Sources(script, parsed, helpers)


def _script(folder: Folder) -> str:
    candidates = [path for path in folder.sizes if path.endswith(".py") and path.startswith("train")]
    return "train_gpt.py" if "train_gpt.py" in candidates else max(candidates, key=folder.sizes.__getitem__, default="")


def _parse(path: str, text: str, findings: list[Finding]) -> list[Source]:
    """A file's source and, if it unpacks itself, what is in it."""
    found: list[Source] = []
    label = path
    for _ in range(_LAYERS + 1):
        if len(text) > LARGEST_SOURCE:
            findings.append(Finding("doubtful", "unparsed", label, 0, f"{len(text):,} letters are too many to parse"))
            return found
        tree = _tree(text, label, findings)
        if tree is None:
            return found
        found.append(Source(label, text, tree))
        packed = _packed_call(found[-1])
        if packed is None:
            return found
        content = _unpack(packed, found[-1])
        if content is None:
            why = "executes something that could not be unpacked as data"
            findings.append(Finding("doubtful", "packed", label, packed.lineno, why))
            return found
        text = content.decode("utf-8", errors="replace")
        told = f"{len(text.splitlines()):,} lines, {len(content):,} bytes, unpack themselves; they were read as data"
        findings.append(Finding("note", "packed", label, packed.lineno, told))
        label = f"{label} (unpacked)"
    findings.append(Finding("doubtful", "packed", label, 0, f"unpacks itself more than {_LAYERS} times"))
    return found


def _tree(text: str, label: str, findings: list[Finding]) -> ast.Module | None:
    """Newer Pythons allow quotes inside f-strings that this one may not: without them it may be read all the same."""
    for attempt in (lambda: text, lambda: without_format_strings(text)):
        try:
            tree = ast.parse(attempt())
            _check_shape(tree)
            return tree
        except SyntaxError as error:
            line, what = error.lineno or 0, error.msg
        except (ValueError, RecursionError, MemoryError) as error:
            line, what = 0, str(error) or type(error).__name__
            break
    findings.append(Finding("doubtful", "unparsed", label, line, f"cannot be parsed: {what}"))
    return None


def _check_shape(tree: ast.Module) -> None:
    """Checks look into every node's inside, which is quick only where nodes are neither too many nor too deep."""
    layer: list[ast.AST] = [tree]
    count = 0
    for _ in range(DEEPEST):
        count += len(layer)
        if count > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} nodes")
        layer = [child for node in layer for child in ast.iter_child_nodes(node)]
        if not layer:
            return
    raise ValueError(f"nested deeper than {DEEPEST} nodes")


def without_format_strings(text: str) -> str:
    """A source in which `"f"` stands for each f-string on one line; its expressions are lost."""
    kept: list[str] = []
    place = 0
    for start in re.finditer(r"\b[fF]([\"'])(?!\1)", text):
        if start.start() < place:
            continue
        end = _end_of_format_string(text, start.end(), start[1])
        if end:
            kept += [text[place : start.start()], '"f"']
            place = end
        else:  # the rest of the line would be looked through again from every place in it
            line_end = text.find("\n", start.end())
            line_end = len(text) if line_end < 0 else line_end
            kept.append(text[place:line_end])
            place = line_end
    return "".join([*kept, text[place:]])


def _end_of_format_string(text: str, place: int, quote: str) -> int:
    """Where it ends: at its quote, outside of braces; 0 if it does not on its line."""
    depth = 0
    while place < len(text) and text[place] != "\n":
        letter = text[place]
        if letter == "\\" or (letter in "{}" and not depth and text[place + 1 : place + 2] == letter):
            place += 1
        elif letter == quote and not depth:
            return place + 1
        else:
            depth += (letter == "{") - (letter == "}")
        place += 1
    return 0


def _packed_call(source: Source) -> ast.Call | None:
    """`exec(...decompress(...))`, or the like."""
    for call in source.calls:
        if dotted(call.func).rpartition(".")[2] in ("exec", "eval"):
            names = names_in(call)
            if any("decompress" in name or "decode" in name for name in names) and "open" not in names:
                return call
    return None


def _unpack(call: ast.Call, source: Source) -> bytes | None:
    """Decode the longest string of the call, or else of the file, in the ways that the standard library knows."""
    constants = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    if not any(isinstance(value, str | bytes) and len(value) > 100 for value in constants):
        constants = [node.value for node in source.nodes if isinstance(node, ast.Constant)]
    longest = max((value for value in constants if isinstance(value, str | bytes)), key=len, default="")
    data = longest.encode("utf-8", errors="replace") if isinstance(longest, str) else longest
    names = {name for node in source.calls for name in [dotted(node.func).rpartition(".")[2]]}
    for name, decode in _DECODERS.items():
        if name in names:
            try:
                data = decode(data)
            except (ValueError, binascii.Error):
                return None
    for decompress in _decompressors():
        try:
            content = decompress(data)
        except (lzma.LZMAError, zlib.error, OSError, EOFError, ValueError, MemoryError):
            continue
        return content if 0 < len(content) < LARGEST_UNPACKED else None  # as long as the bound: it was cut
    return None


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "b85decode": base64.b85decode,
    "a85decode": base64.a85decode,
    "b64decode": base64.b64decode,
    "b32decode": base64.b32decode,
    "unhexlify": binascii.unhexlify,
}


def _decompressors() -> Iterator[Callable[[bytes], bytes]]:
    """Each makes at most LARGEST_UNPACKED bytes."""
    raw = [{"id": lzma.FILTER_LZMA2}]
    yield lambda data: lzma.LZMADecompressor(memlimit=_MEMORY).decompress(data, LARGEST_UNPACKED)
    yield lambda data: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=raw).decompress(data, LARGEST_UNPACKED)
    yield lambda data: zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, LARGEST_UNPACKED)  # zlib's and gzip's
    yield lambda data: zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, LARGEST_UNPACKED)
    yield lambda data: bz2.BZ2Decompressor().decompress(data, LARGEST_UNPACKED)


def _mark_needed(folder: Folder, script: str, parsed: list[Source]) -> list[str]:
    """Mark what the script imports, executes or names; returns those files, without the script."""
    needed, queue = [script], [script] if script else []
    while queue:
        path = queue.pop()
        for source in parsed:
            if source.file.partition(" (")[0] != path:
                continue
            source.needed = True
            for name in _mentions(source, folder):
                if name not in needed:
                    needed.append(name)
                    queue.append(name)
    return needed[1:]


_CODE = (".py", ".cpp", ".c", ".cu", ".cuh", ".h", ".so", ".pyx", ".triton", ".bin", ".npy", ".npz", ".pt")


def _mentions(source: Source, folder: Folder) -> Iterator[str]:
    modules = set()
    for node in source.nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module or "", *(f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names)}
    files = {name.replace(".", "/") + ".py" for name in modules}
    literals = {str(node.value).removeprefix("./") for node in source.strings if len(str(node.value)) < 200}
    for path in folder.sizes:
        own = path == source.file.partition(" (")[0]
        named = path in literals or path.rpartition("/")[2] in literals
        if not own and (path in files or (named and path.endswith(_CODE))):
            yield path
