"""The size check: what counts against the limit."""

from typing import Any


def count_bytes(model: int, code: int, limit: int) -> dict[str, Any]:
    """`model` is the artifact's size on disk, `code` that of the file it ships with; both in bytes."""
    total = model + code
    return {"model": model, "code": code, "total": total, "limit": limit, "fits": total <= limit}
