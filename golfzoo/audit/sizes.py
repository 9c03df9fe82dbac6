"""Bytes as the rules count them: the code of the script and what it needs, and the compressed model."""

import ast
import base64
import lzma
from collections.abc import Iterator

from golfzoo.audit.claims import Claim, number
from golfzoo.audit.finding import Finding, listed
from golfzoo.audit.folder import Folder
from golfzoo.audit.logs import Log
from golfzoo.audit.source import Source, Sources, dotted, names_in

LIMIT = 16_000_000
_WRAPPER = 110  # bytes of the two lines that unpack a script


def packed_size(text: str) -> int:
    """About what a script would take that unpacks itself, as the leaderboard's do: LZMA in base 85."""
    return len(base64.b85encode(lzma.compress(text.encode("utf-8", errors="replace"), preset=9))) + _WRAPPER


def check_sizes(folder: Folder, sources: Sources, logs: list[Log], claim: Claim) -> Iterator[Finding]:
    """What the code weighs, and whether it fits together with what the logs say of the model."""
    script = sources.script
    if not script:
        return
    plain = folder.sizes[script]
    helpers = sum(folder.sizes[path] for path in sources.helpers)
    packed = packed_size(folder.texts.get(script, "")) if not _unpacks_itself(sources, script) else plain
    smallest = min(plain, packed) + sum(
        min(folder.sizes[path], packed_size(folder.texts[path]) if path in folder.texts else folder.sizes[path])
        for path in sources.helpers
    )
    told = f"the script is {plain:,} bytes as it lies there, about {packed:,} packed"
    if helpers:
        told += f"; {helpers:,} bytes of what it needs beside it: {listed(sources.helpers)}"
    yield Finding("note", "bytes", script, 0, told)
    yield from _over_limit(logs, claim)
    yield from _shipped(script, plain + helpers, smallest, logs)
    stub = _stub(sources)
    if stub:
        yield stub
    elif helpers:
        counted = any(abs(count.value - plain - helpers) < 2 for log in logs for count in log.codes)
        if not counted:
            why = f"{helpers:,} bytes that {script} needs are not in its {plain:,}: {listed(sources.helpers)}"
            yield Finding("doubtful", "helpers", sources.helpers[0], 0, why)
    for source in sources.parsed:
        yield from _mebibytes(source)
    for path in folder.sizes:
        if path.endswith(".model"):
            told = f"a tokenizer of {folder.sizes[path]:,} bytes, which no count includes"
            yield Finding("note", "tokenizer-bytes", path, 0, told)


def _unpacks_itself(sources: Sources, script: str) -> bool:
    return any(source.file.startswith(f"{script} (") for source in sources.parsed)


def _over_limit(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    over = [(log.totals[-1], log.file) for log in logs if log.totals and log.totals[-1].value > LIMIT]
    if over:
        worst, file = max(over)
        more = f"; in {len(over)} logs" if len(over) > 1 else ""
        why = f"{worst.value:,} bytes are {worst.value - LIMIT:,} more than {LIMIT:,}{more}"
        yield Finding("wrong", "over-limit", file, worst.line, why)
    figures = [(claim.bytes_total, None)] if claim.bytes_total else []
    for key, value, seed in _claimed_totals(claim, figures):
        if value > LIMIT:
            why = f"{key} {value:,.0f} is {value - LIMIT:,.0f} more than {LIMIT:,}"
            yield Finding("wrong", "over-limit", claim.file, claim.line(key, seed), why)


def _claimed_totals(claim: Claim, figures: list) -> Iterator[tuple[str, float, int | None]]:
    for figure, seed in figures:
        yield *figure, seed
    for seed, result in claim.seed_results.items():
        for key in ("artifact_bytes", "bytes_total"):
            value = number(result.get(key))
            if value is not None:
                yield key, value, seed


def _shipped(script: str, shipped: int, smallest: int, logs: list[Log]) -> Iterator[Finding]:
    """With the code in the folder instead of the one that was counted: of the log that comes worst off."""
    fitting = [log for log in logs if log.models and not (log.totals and log.totals[-1].value > LIMIT)]
    if not fitting:
        return
    worst = max(fitting, key=lambda log: log.models[-1].value)
    model = worst.models[-1]
    if model.value + shipped <= LIMIT:
        return
    counted = worst.totals[-1].value - model.value if worst.totals else None
    why = f"model {model.value:,} + code in the folder {shipped:,} = {model.value + shipped:,} bytes"
    if counted is not None:
        why += f"; {counted:,} bytes of code were counted"
    fits = model.value + smallest <= LIMIT
    why += f"; packed as it is, {smallest:,}, it {'would fit' if fits else 'would not fit either'}"
    yield Finding("doubtful", "shipped-code", worst.file, model.line, why)


def _stub(sources: Sources) -> Finding | None:
    """A script that is nothing but `exec(open(...).read())`."""
    for source in sources.parsed:
        if source.file != sources.script:
            continue
        statements = [node for node in source.tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        for call in source.calls:
            name = dotted(call.func).rpartition(".")[2]
            runs_file = name in ("exec", "run_path") and ("open" in names_in(call) or name == "run_path")
            runs_file |= name == "exec" and bool({"read_text", "read_bytes"} & names_in(call))
            if runs_file and len(statements) <= 3:
                others = listed(sources.helpers) or "another file"
                why = f"{len(source.text):,} bytes that only execute {others}: the code is there"
                return Finding("wrong", "code-stub", source.file, call.lineno, why)
    return None


def _mebibytes(source: Source) -> Iterator[Finding]:
    """`x * 1024 * 1024` of a limit, and 16 MiB as a number."""
    for node in source.nodes:
        if isinstance(node, ast.Constant) and node.value == 16 * 2**20:
            yield Finding("wrong", "mebibytes", source.file, node.lineno, "16,777,216 bytes; the limit is 16,000,000")
        if not (isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None):
            continue
        for product in ast.walk(node.value):
            if isinstance(product, ast.BinOp) and isinstance(product.op, ast.Mult) and _is_mebi(product):
                constants = {part.value for part in ast.walk(product) if isinstance(part, ast.Constant)}
                limit = [name for name in names_in(product) if "mb" in name.lower()]
                if 16 in constants:
                    why = "16 * 1024 * 1024 bytes; the limit is 16,000,000"
                    yield Finding("wrong", "mebibytes", source.file, node.lineno, why)
                    break
                if limit:
                    why = f"{limit[0]} times 1,048,576 bytes; the rules' megabytes are 1,000,000"
                    yield Finding("doubtful", "mebibytes", source.file, node.lineno, why)
                    break


def _is_mebi(product: ast.BinOp) -> bool:
    values = [part.value for part in ast.walk(product) if isinstance(part, ast.Constant)]
    return (
        values.count(1024) >= 2 or 2**20 in values or (1024 in values and 2 in values) or (2 in values and 20 in values)
    )
