"""The size check: what counts against the limit."""

from typing import Any


def count_bytes(model: int, code: int, tokenizer: int, size: Any) -> dict[str, Any]:
    """Sizes on disk in bytes: of the artifact, of the code it ships with, of the tokenizer's file. `size` is the
    record's [size] table; the tokenizer counts only where that says so."""
    total = model + code + (tokenizer if size.count_tokenizer else 0)
    return {
        "model": model,
        "code": code,
        "tokenizer": tokenizer,
        "total": total,
        "limit": size.limit_bytes,
        "fits": total <= size.limit_bytes,
    }


def room_to_fit(code: int, tokenizer: int, size: Any) -> int | None:
    """What the limit leaves for the artifact, in bytes; None where it is not to be fitted."""
    return size.limit_bytes - code - (tokenizer if size.count_tokenizer else 0) if size.fit else None
