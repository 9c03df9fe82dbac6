"""Bytes per token: the table in the script, the ratio that logs imply, and the tokenizer."""

import ast
import re
from collections.abc import Iterator

from golfzoo.audit.finding import Finding
from golfzoo.audit.folder import Folder
from golfzoo.audit.logs import Log
from golfzoo.audit.source import Function, Source, Sources, dotted, names_in

CANONICAL_BYTES = 151_080_891
"""Of the validation text: the first 50,000 documents."""

OLD_EXPORT_TOKENS = 63_779_840
_KNOWN = {1024: 2.4359, 4096: 3.3197, 8192: 3.7266}  # the published tokenizers' bytes per token on that text
_TOLERANCE = 0.005  # a cut tail is 0.0005 at most
_MARKER = "▁"


def check_byte_tables(folder: Folder, sources: Sources, logs: list[Log]) -> Iterator[Finding]:
    """Whether a target's bytes are counted as the challenge counts them."""
    for source in sources.needed:
        yield from _constant(source)
        for function in source.functions:
            yield from _table(source, function)
    yield from _implied(logs)
    yield from _tokenizers(logs)


def _constant(source: Source) -> Iterator[Finding]:
    """`bpb = bits / (tokens * 4.3)`."""
    seen = set()
    for node in source.nodes:
        if not isinstance(node, ast.Assign) or not any("bpb" in name for name in names_in(node.targets[0])):
            continue
        for value in _factors(node.value):
            if 1.2 < abs(value) < 20 and (node.lineno, value) not in seen:
                seen.add((node.lineno, value))
                why = f"bits per byte are computed with a constant {value:g}, instead of the bytes of the scored text"
                yield Finding("wrong", "bytes-constant", source.file, node.lineno, why)


def _factors(node: ast.expr) -> Iterator[float]:
    """Numbers by which something is multiplied or divided; those inside of calls, as in log(2), are others."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        for side in (node.left, node.right):
            if isinstance(side, ast.Constant) and isinstance(side.value, int | float):
                yield float(side.value)
            else:
                yield from _factors(side)
    elif isinstance(node, ast.IfExp):
        yield from _factors(node.body)


def _table(source: Source, function: Function) -> Iterator[Finding]:
    """A loop over pieces that fills a table of lengths."""
    nodes = list(ast.walk(function))
    calls = {dotted(node.func).rpartition(".")[2] for node in nodes if isinstance(node, ast.Call)}
    if not {"id_to_piece", "IdToPiece"} & calls:
        return
    lengths = [node for node in nodes if isinstance(node, ast.Assign) and _is_length(node)]
    if not lengths:
        return
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    spaces = [node for node in nodes if isinstance(node, ast.Assign) and _flags_space(node)]
    plus = [node for node in lengths if _adds_one(node.value)]
    if plus and spaces:
        why = f"{function.name} counts the leading space in the table, and the evaluation adds it where one is flagged"
        yield Finding("wrong", "space-twice", source.file, plus[0].lineno, why)
    if not any(_MARKER in text for text in strings):
        why = f"{function.name} does not take the marker {_MARKER} off a piece: a space counts as three bytes"
        yield Finding("wrong", "space-marker", source.file, lengths[0].lineno, why)
    if not {"is_byte", "IsByte"} & calls and not any("<0x" in text for text in strings):
        why = f"{function.name} measures tokens of one byte by their names, such as <0x0A>: six bytes for one"
        yield Finding("wrong", "byte-tokens", source.file, lengths[0].lineno, why)
    for node in nodes:
        if isinstance(node, ast.If) and any(name.lower() in ("is_byte", "isbyte") for name in names_in(node.test)):
            for inner in node.body:
                value = inner.value if isinstance(inner, ast.Assign) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, int) and value.value > 1:
                    why = f"{function.name} counts a token of one byte as {value.value}"
                    yield Finding("wrong", "byte-tokens", source.file, inner.lineno, why)


def _is_length(node: ast.Assign) -> bool:
    """`table[i] = len(piece.encode(...))`."""
    called = {dotted(call.func).rpartition(".")[2] for call in ast.walk(node.value) if isinstance(call, ast.Call)}
    return {"len", "encode"} <= called and isinstance(node.targets[0], ast.Subscript)


def _adds_one(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Add)
        and "1" in (_text(value.left), _text(value.right))
    )


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _flags_space(node: ast.Assign) -> bool:
    truth = isinstance(node.value, ast.Constant) and node.value.value is True
    return truth and any("space" in name for name in names_in(node.targets[0]))


def _implied(logs: list[Log]) -> Iterator[Finding]:
    """Loss over score is bytes per token; times the tokens it is the bytes of the text, whatever the tokenizer."""
    said = set()
    for log in logs:
        ratio, final = log.bytes_per_token(), log.final
        if not ratio or not final:
            continue
        if log.val_tokens and log.val_tokens.value == OLD_EXPORT_TOKENS:
            why = f"{OLD_EXPORT_TOKENS:,} tokens are an older export of the text; the published one has 62,021,632"
            finding = Finding("note", "val-export", log.file, log.val_tokens.line, why)
        elif log.val_tokens:
            total = log.val_tokens.value * ratio
            why = f"{log.val_tokens.value:,} tokens x {ratio:.4f} bytes are {total:,.0f} of {CANONICAL_BYTES:,}"
            if total < CANONICAL_BYTES * (1 - _TOLERANCE):
                finding = Finding("wrong", "val-subset", log.file, log.val_tokens.line, why)
            elif total > CANONICAL_BYTES * (1 + _TOLERANCE):
                finding = Finding("wrong", "bytes-per-token", log.file, final.line, why)
            else:
                continue
        else:
            vocabulary = _vocabulary(log)
            known = _KNOWN.get(vocabulary)
            if known is None or abs(ratio / known - 1) <= _TOLERANCE:
                continue
            why = f"loss and score imply {ratio:.4f} bytes per token; with {vocabulary:,} tokens the text has {known}"
            finding = Finding("wrong", "bytes-per-token", log.file, final.line, why)
        if (finding.what, round(ratio, 3)) not in said:
            said.add((finding.what, round(ratio, 3)))
            yield finding


def _vocabulary(log: Log) -> int:
    """The size in the tokenizer's file name, as `fineweb_1024_bpe.model`."""
    found = re.search(r"fineweb_(\d{3,5})_bpe\.model$", log.tokenizer)
    return int(found[1]) if found else 0


def _tokenizers(logs: list[Log]) -> Iterator[Finding]:
    names = {log.tokenizer.rpartition("/")[2]: log for log in logs if log.tokenizer}
    if len(names) > 1:
        log = names[max(names)]
        why = f"the runs had different tokenizers: {', '.join(sorted(names)[:4])}"
        yield Finding("doubtful", "tokenizer", log.file, log.tokenizer_line, why)
    elif names and "fineweb_1024_bpe.model" not in names:
        name, log = next(iter(names.items()))
        why = f"{name} is not the challenge's own; the rules ask for proof that val_bpb is right with it"
        yield Finding("note", "tokenizer", log.file, log.tokenizer_line, why)
