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
