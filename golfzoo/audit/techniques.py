"""What is in a script and does nothing, and what hangs on timing."""

import ast
import re
from collections.abc import Iterator

from golfzoo.audit.finding import Finding
from golfzoo.audit.folder import Folder
from golfzoo.audit.logs import Log
from golfzoo.audit.source import Function, Source, Sources, dotted, names_in

_AVERAGES = re.compile(r"^(swa|ema|lawa|avg|averag\w*)_(state|sum|weights|params|sd|model)$|^(swa|lawa)_\w*state$")
_ELSEWHERE = re.compile(
    r"^(OMP|MKL|CUDA|NCCL|TORCH|PYTORCH|TRITON|HF|PYTHON|XDG|UCX|GLOO|WANDB)|^(PATH|HOME|LD_LIBRARY_PATH|TMPDIR)$"
)
_SWITCHES = {"rope_yarn": "YaRN", "swa_enabled": "SWA", "smear_gate_enabled": "SmearGate", "ttt_enabled": "TTT"}


def check_techniques(folder: Folder, sources: Sources, logs: list[Log]) -> Iterator[Finding]:
    """Techniques that the text shows to be off, and variables that nobody reads."""
    for source in sources.needed:
        for function in source.functions:
            yield from _never_applied(source, function)
        yield from _compiled_away(source)
        yield from _queue(source)
    yield from _switched_off(folder, logs)
    yield from _unread(folder, sources)


def _never_applied(source: Source, function: Function) -> Iterator[Finding]:
    """An average that is collected, and not read after the last line that collects it."""
    collected: dict[str, list[int]] = {}
    reads: dict[str, list[int]] = {}
    updating: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
            names = {name for name in names_in(node.target.value) if _AVERAGES.search(name)}
        elif isinstance(node, ast.Call) and re.search(r"\.(add_|lerp_|mul_|copy_)$", dotted(node.func)):
            names = {name for name in names_in(node.func) if _AVERAGES.search(name)}
        else:
            continue
        for name in names:
            collected.setdefault(name, []).append(node.lineno)
            updating |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in updating:
            reads.setdefault(node.id, []).append(node.lineno)
    for name, lines in collected.items():
        if not any(line > max(lines) for line in reads.get(name, [])):
            why = f"{name} is collected, and nothing reads it afterwards: the weights are not its"
            yield Finding("doubtful", "never-applied", source.file, max(lines), why)


def _compiled_away(source: Source) -> Iterator[Finding]:
    """A class attribute that is switched during training, in a script that compiles the model."""
    if not any(dotted(call.func).endswith("torch.compile") for call in source.calls):
        return
    classes = {node.name for node in source.nodes if isinstance(node, ast.ClassDef)}
    switched: dict[str, int] = {}
    for node in source.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is True:
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and dotted(target.value) in classes and "qat" in target.attr.lower():
                switched.setdefault(f"{dotted(target.value)}.{target.attr}", node.lineno)
    for name, line in switched.items():
        why = f"{name} is switched on while training; torch.compile keeps the value that a class had when it was traced"
        yield Finding("doubtful", "compiled-away", source.file, line, why)


def _queue(source: Source) -> Iterator[Finding]:
    for call in source.calls:
        if dotted(call.func).endswith(("flock", "lockf")):
            why = "work is handed out by a locked file: which document is scored when depends on timing"
            yield Finding("doubtful", "doc-queue", source.file, call.lineno, why)
            return


def _switched_off(folder: Folder, logs: list[Log]) -> Iterator[Finding]:
    """README.md adds a technique, and every log prints that its switch is off."""
    text = folder.texts.get("README.md", "")
    for switch, name in _SWITCHES.items():
        if not logs or not all(switch in log.off for log in logs):
            continue
        told = re.search(rf"(?:\+ *|\bwith +|\*\*){name}\b", text)
        if told:
            line = text.count("\n", 0, told.start()) + 1
            why = f"names {name}, and {logs[0].file}:{logs[0].off[switch]} says {switch}: False"
            yield Finding("doubtful", "switched-off", "README.md", line, why)


def _unread(folder: Folder, sources: Sources) -> Iterator[Finding]:
    """Variables of the commands in README.md and shell scripts, against every word of every source."""
    if len(sources.needed) == 0 or not any(
        "environ" in name for source in sources.needed for name in _attributes(source)
    ):
        return
    words = {str(node.value) for source in sources.parsed for node in source.strings if len(str(node.value)) < 100}
    built = {word.upper() for source in sources.parsed for word in _attributes(source)}
    own = {path.rpartition("/")[2] for path in folder.sizes}
    for path in folder.texts_that_end(".md", ".sh"):
        unread: dict[str, int] = {}
        shell = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]*)", folder.texts[path]))
        for number, line in _commands(folder.texts[path]):
            scripts = re.findall(r"[\w./-]+\.py\b", line)
            if scripts and not any(script.rpartition("/")[2] in own for script in scripts):
                continue  # of another program, such as the one that fetches the data
            for name in re.findall(r"(?:^|\s)([A-Z][A-Z0-9_]{2,60})=(?=[^\s=])", line):
                if not _ELSEWHERE.search(name) and name not in words | built | shell:
                    unread.setdefault(name, number)
        if unread:
            shown = ", ".join(sorted(unread)[:6]) + (f" and {len(unread) - 6} more" if len(unread) > 6 else "")
            why = f"sets {shown}, which no source reads"
            yield Finding("doubtful", "env-unread", path, min(unread.values()), why)


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Lines that begin with an assignment, with the lines that continue them: not prose that mentions one."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        first = number
        while lines[number].endswith("\\") and number + 1 < len(lines):
            number += 1
        command = " ".join(line.rstrip("\\") for line in lines[first : number + 1])
        start = command.strip().removeprefix("export ").removeprefix("$ ")
        if len(command) < 10_000 and re.match(r"(env +)?[A-Z][A-Z0-9_]{2,60}=[^\s]", start):
            yield first + 1, command
        number += 1


def _attributes(source: Source) -> set[str]:
    return {node.attr for node in source.nodes if isinstance(node, ast.Attribute)}
