"""Network, files outside the folder, other programs, packages that are not named."""

import ast
import itertools
import re
import sys
from collections.abc import Iterator

from golfzoo.audit.finding import Finding
from golfzoo.audit.folder import Folder
from golfzoo.audit.source import Source, Sources, dotted

_NETWORK = {"socket", "requests", "httpx", "aiohttp", "urllib3", "ftplib", "paramiko", "boto3", "wget", "websockets"}
_NETWORK |= {"huggingface_hub", "gdown", "urllib.request", "http.client", "wandb", "xmlrpc.client", "smtplib"}
_DOWNLOADS = re.compile(r"^(hf_hub_download|snapshot_download|urlopen|urlretrieve|load_dataset|from_pretrained)$")
_HARMLESS = {"nvidia-smi", "nvcc", "uname", "lscpu", "hostname", "git"}
_THERE = {"torch", "numpy", "sentencepiece", "triton"} | sys.stdlib_module_names
"""What every folder needs, and no folder names."""

_CALLED = {
    "flash_attn_interface": "flash.?att|fa-?3",
    "flash_attn": "flash.?att|fa-?[23]",
    "zstandard": "zstd|zstandard",
}
"""How a package is named by those who name it, where that is not its own name."""

_OPENS = re.compile(r"(^|\.)(open|load|fromfile|memmap|read_bytes|read_text|load_file|CDLL|Path)$")


def check_access(folder: Folder, sources: Sources) -> Iterator[Finding]:
    """What a script reaches for. A script that only makes data may fetch it: that is a note."""
    told = "\n".join(
        text
        for path, text in folder.texts.items()
        if path.endswith((".txt", ".md", ".sh", ".toml")) and len(text) < 500_000
    ).lower()
    missing: dict[str, tuple[str, int]] = {}
    for source in sources.parsed:
        severity = "doubtful" if source.needed else "note"
        yield from _network(source, severity)
        if source.needed:
            yield from _files(source)
            yield from _programs(source)
            for name, line in itertools.islice(_packages(source, folder), 200):
                called = _CALLED.get(name, name.lower().replace("_", "-"))
                if not re.search(called, told.replace("_", "-")):
                    missing.setdefault(name, (source.file, line))
    for name, (file, line) in missing.items():
        why = f"imports {name}, which neither requirements nor README.md name"
        yield Finding("doubtful", "dependency", file, line, why)


def _imports(source: Source, without: set[int] | None = None) -> Iterator[tuple[str, int]]:
    for node in source.nodes:
        if without and id(node) in without:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _network(source: Source, severity: str) -> Iterator[Finding]:
    """Once a module: the line of its first import or call."""
    found: dict[str, int] = {}
    for name, line in _imports(source):
        for module in _NETWORK:
            if name == module or name.startswith(f"{module}."):
                found.setdefault(module, line)
    for call in source.calls:
        name = dotted(call.func).rpartition(".")[2]
        if _DOWNLOADS.match(name):
            found.setdefault(name, call.lineno)
    if found:
        names = ", ".join(sorted(found))
        why = f"{'imports or calls' if source.needed else 'a script beside the run imports or calls'} {names}"
        yield Finding(severity, "network", source.file, min(found.values()), why)


def _files(source: Source) -> Iterator[Finding]:
    """Absolute paths and paths of a home that something is opened with; defaults of options are the user's to set."""
    for call in source.calls:
        name = dotted(call.func)
        if not _OPENS.search(name) or not call.args:
            continue
        path = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
        outside = isinstance(path, str) and re.match(r"(/|~|\.\./)", path)
        if outside and not re.match(r"/(dev/null|proc/(cpuinfo|meminfo)|tmp/|dev/shm/)", str(path)):
            why = f"{name} is called with {str(path)[:80]}"
            yield Finding("doubtful", "file-access", source.file, call.lineno, why)


def _programs(source: Source) -> Iterator[Finding]:
    """Once a program."""
    seen = set(_HARMLESS)
    for call in source.calls:
        name = dotted(call.func)
        if not re.search(
            r"(^|\.)(system|popen|Popen|check_output|check_call)$|^subprocess\.(run|call)$|(^|\.)exec[lv]p?e?$", name
        ):
            continue
        words = [
            node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        program = words[0].split()[0].rpartition("/")[2] if words and words[0].split() else "something"
        if program in seen:
            continue
        seen.add(program)
        fetches = re.search(r"\b(curl|wget|pip|git clone|apt|huggingface-cli|aria2c)\b", " ".join(words))
        what, severity = ("network", "doubtful") if fetches else ("program", "note")
        yield Finding(severity, what, source.file, call.lineno, f"{name} starts {program[:60]}")


def _packages(source: Source, folder: Folder) -> Iterator[tuple[str, int]]:
    own = {path.rpartition("/")[2].removesuffix(".py") for path in folder.sizes if path.endswith(".py")}
    own |= {path.partition("/")[0] for path in folder.sizes if "/" in path}
    tried = {id(part) for node in source.nodes if isinstance(node, ast.Try) for part in ast.walk(node)}
    for name, line in _imports(source, tried):  # what is tried can be done without
        package = name.partition(".")[0]
        if package not in _THERE and package not in own and package:
            yield package, line
