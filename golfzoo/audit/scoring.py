"""What the evaluation scores: the tail, targets scored twice, shards, documents, and capped validation text."""

import ast
import re
from collections.abc import Iterable, Iterator

from golfzoo.audit.finding import Finding, listed
from golfzoo.audit.folder import Folder
from golfzoo.audit.source import Function, Source, Sources, dotted, names_in

_EVALUATION = re.compile(r"val|eval|ttt|score|sliding", re.IGNORECASE)
VALIDATION_DOCUMENTS = 50_000
_SHARD_MAGIC = 20240520


def check_scoring(folder: Folder, sources: Sources) -> Iterator[Finding]:
    """Which targets are scored, as far as the script's shape tells."""
    for source in sources.needed:
        evaluations = [function for function in source.functions if _EVALUATION.search(function.name)]
        yield from _told_once(finding for function in evaluations for finding in _tail(source, function))
        yield from _told_once(finding for function in evaluations for finding in _twice(source, function))
        yield from _glob(source)
        yield from _capped(source, folder)
        yield from _smear(source)
    for source in sources.parsed:
        yield from _set_apart(source, folder)
        yield from _without_bos(source)


def _told_once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first of each severity; of the others the lines."""
    by_severity: dict[str, list[Finding]] = {}
    for finding in findings:
        by_severity.setdefault(finding.severity, []).append(finding)
    for first, *others in by_severity.values():
        lines = sorted({other.line for other in others} - {first.line})
        more = f"; likewise line {listed(list(map(str, lines)))}" if lines else ""
        yield Finding(first.severity, first.what, first.file, first.line, first.text + more)


def _tail(source: Source, function: Function) -> Iterator[Finding]:
    """`(n // size) * size`, and ranges that end a window early."""
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            for whole, size in ((node.left, node.right), (node.right, node.left)):
                divided = isinstance(whole, ast.BinOp) and isinstance(whole.op, ast.FloorDiv)
                if divided and ast.dump(whole.right) == ast.dump(size):  # type: ignore[attr-defined]
                    yield _dropped(source, function, node, size)
        elif isinstance(node, ast.Call) and dotted(node.func) == "range" and len(node.args) == 3:
            end = node.args[1]
            less = [part for part in ast.walk(end) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub)]
            sizes = {name for part in less for name in names_in(part.right) if re.search("len|context|size|win", name)}
            if sizes and not _appends(function, node.lineno):
                why = f"{function.name} takes no window that is cut at the end of the text: the last targets are lost"
                yield Finding("note", "tail-dropped", source.file, node.lineno, why)


def _appends(function: Function, line: int) -> bool:
    """Something is added after the range: the last window, it is hoped."""
    return any(
        isinstance(node, ast.Call) and dotted(node.func).endswith(".append") and line <= node.lineno <= line + 6
        for node in ast.walk(function)
    )


def _dropped(source: Source, function: Function, node: ast.BinOp, size: ast.expr) -> Finding:
    of = ", ".join(sorted(names_in(size))) or "a constant"
    if "batch" in of:
        why = f"{function.name} scores whole batches only ({of}): up to a batch of targets a process is lost"
        return Finding("doubtful", "tail-dropped", source.file, node.lineno, why)
    why = f"{function.name} keeps whole windows only ({of}): the last, shorter one is not scored"
    return Finding("note", "tail-dropped", source.file, node.lineno, why)


def _twice(source: Source, function: Function) -> Iterator[Finding]:
    """Windows that overlap by design: what was scored before has to be cut off, at the end of the text too."""
    strides = {name for node in ast.walk(function) for name in _range_step(node) if "stride" in name}
    if not strides:
        return
    scored = [node for node in ast.walk(function) if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)]
    sums = [node for node in scored if any(re.search("loss|nll|bits", name) for name in names_in(node.target))]
    uses = [node for node in ast.walk(function) if isinstance(node, ast.BinOp | ast.Slice | ast.Compare)]
    cutting = [node for node in uses if strides & names_in(node)]
    if sums and not cutting:
        why = (
            f"{function.name} moves its windows by {min(strides)}, and nothing cuts off what the one before has scored"
        )
        yield Finding("wrong", "targets-twice", source.file, sums[0].lineno, why)
        return
    clipped = _clipped_windows(function)
    if clipped and _scores_from_the_end(function, strides):
        why = f"{function.name}: windows cut at the end of the text each score its last {min(strides)} targets again, "
        why += "about a window's length in all"
        yield Finding("note", "targets-twice", source.file, clipped.lineno, why)


def _range_step(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Call) and dotted(node.func) == "range" and len(node.args) == 3:
        return names_in(node.args[2])
    return set()


def _clipped_windows(function: Function) -> ast.expr | None:
    """A list of window starts whose condition is that something remains, rather than that something is new."""
    for node in ast.walk(function):
        if isinstance(node, ast.comprehension) and _range_step(node.iter):
            for condition in node.ifs:
                calls = [dotted(call.func) for call in ast.walk(condition) if isinstance(call, ast.Call)]
                if "min" in calls:
                    return condition
    return None


def _scores_from_the_end(function: Function, strides: set[str]) -> bool:
    """`max(length - stride, 0)`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and dotted(node.func) == "max":
            for part in ast.walk(node):
                if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub) and strides & names_in(part.right):
                    return True
    return False


def _glob(source: Source) -> Iterator[Finding]:
    """Byte counts lie in `fineweb_val_bytes_*`, which `fineweb_val_*` matches too."""
    if not any("val_bytes_" in str(node.value) for node in source.strings):
        return
    for function in source.functions:
        strings = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant)]
        named = re.search(r"val", function.name) and re.search(r"token", function.name)
        if not named or re.search(r"byte", function.name) or any("bytes" in str(value) for value in strings):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and dotted(node.func).endswith("glob"):
                why = f"{function.name} takes every file that matches; fineweb_val_* matches fineweb_val_bytes_* too"
                yield Finding("doubtful", "val-glob", source.file, node.lineno, why)


def _capped(source: Source, folder: Folder) -> Iterator[Finding]:
    """`VAL_MAX_TOKENS` with a default, `min(500, ...)` sequences."""
    lifted = set(re.findall(r"\b((?:MAX_VAL|VAL_MAX)_\w+)=[\"']?(?:0|-1)\b", _commands(folder)))
    for call in source.calls:
        name = dotted(call.func)
        if name.endswith(("environ.get", "getenv")) and len(call.args) == 2:
            key, default = call.args
            variable = key.value if isinstance(key, ast.Constant) else ""
            if not isinstance(variable, str) or not re.fullmatch(r"(MAX_VAL|VAL_MAX)_\w+", variable):
                continue
            value = str(default.value) if isinstance(default, ast.Constant) else "0"  # computed: who knows
            if value not in ("0", "-1", "None", "") and variable not in lifted:
                why = f"{variable} is {value} unless a command says otherwise, and none in the folder does"
                yield Finding("doubtful", "val-subset", source.file, call.lineno, why)
        elif name == "min" and len(call.args) == 2 and "val_tokens" in names_in(call):
            numbers = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, int)]
            if numbers:
                why = f"of the validation text at most {numbers[0]:,} sequences are scored"
                yield Finding("doubtful", "val-subset", source.file, call.lineno, why)


def _commands(folder: Folder) -> str:
    text = "\n".join(folder.texts[path][:100_000] for path in folder.texts_that_end(".sh", ".md")[:20])
    return text.replace("50_000", "50000").replace("50,000", "50000")


def _smear(source: Source) -> Iterator[Finding]:
    """One token's embedding blended into the next one's, in a model that otherwise keeps documents apart."""
    names = {name for node in source.nodes for name in _own_names(node)}
    if not any("cu_seqlens" in name for name in names):
        return
    methods = {id(method): node.name for node in source.nodes if isinstance(node, ast.ClassDef) for method in node.body}
    for function in source.functions:
        inner = names_in(function) | {methods.get(id(function), "")}
        if not any(re.search("(?i)smear", name) for name in inner):
            continue
        shifts = [node for node in ast.walk(function) if isinstance(node, ast.Subscript) and _drops_last(node)]
        if shifts and not any(re.search(r"bos|boundary|same_doc|doc_id|not_first", name, re.I) for name in inner):
            why = f"{function.name} blends in the token before, at a document's start too"
            yield Finding("doubtful", "smear-boundary", source.file, shifts[0].lineno, why)
            return


def _own_names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    return {node.attr} if isinstance(node, ast.Attribute) else {node.arg} if isinstance(node, ast.arg) else set()


def _drops_last(node: ast.Subscript) -> bool:
    """`x[:, :-1]`."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return len(parts) > 1 and any(
        isinstance(part, ast.Slice) and part.lower is None and isinstance(part.upper, ast.UnaryOp) for part in parts
    )


def _set_apart(source: Source, folder: Folder) -> Iterator[Finding]:
    """How many documents a script that makes shards keeps for validation."""
    told = _commands(folder)
    for call in source.calls:
        if not dotted(call.func).endswith("add_argument") or not call.args:
            continue
        option = call.args[0].value if isinstance(call.args[0], ast.Constant) else ""
        if not isinstance(option, str) or not re.fullmatch(r"--(num-)?val[-_]docs", option):
            continue
        for keyword in call.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg != "default" or not isinstance(value, int) or value >= VALIDATION_DOCUMENTS:
                continue
            if f"{option} 50000" not in told and f"{option}=50000" not in told:
                rest = f"{VALIDATION_DOCUMENTS - value:,} of {VALIDATION_DOCUMENTS:,}"
                why = f"{option} is {value:,} by default: {rest} validation documents become training data"
                yield Finding("doubtful", "val-docs", source.file, call.lineno, why)


def _without_bos(source: Source) -> Iterator[Finding]:
    """A script that writes shards, and knows no token that begins a document."""
    compared = {id(part) for node in source.nodes if isinstance(node, ast.Compare) for part in ast.walk(node)}
    constants = [node for node in source.nodes if isinstance(node, ast.Constant) and id(node) not in compared]
    magic = [node for node in constants if node.value == _SHARD_MAGIC]  # written, not only looked for
    calls = {dotted(call.func).rpartition(".")[2]: call.lineno for call in source.calls}
    writes = {"tofile", "write", "write_bytes"} & calls.keys()
    encodes = [line for name, line in calls.items() if re.match(r"encode(_|$)|Encode", name)]
    words = {name for node in source.nodes for name in _own_names(node)} | {node.value for node in source.strings}
    words |= {keyword.arg or "" for call in source.calls for keyword in call.keywords}
    if magic and writes and encodes and not any(re.search(r"(?<![a-z])bos", str(word), re.I) for word in words):
        why = "shards are written without a token that begins a document, by which evaluation finds documents"
        yield Finding("doubtful", "bos-missing", source.file, magic[0].lineno, why)
