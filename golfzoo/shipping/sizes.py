"""Where the bytes go: the tensors of an artifact by group, the modules of the code, and the room that is left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golfzoo.engine.artifact import read_tensors
from golfzoo.engine.components import namespace
from golfzoo.engine.data import open_tokenizer, tokenizer_bytes
from golfzoo.engine.errors import ArtifactError
from golfzoo.engine.size import count_bytes
from golfzoo.machine.memory import make_weightless
from golfzoo.record import Record
from golfzoo.shipping.closure import requirement_bytes
from golfzoo.shipping.code import module_bytes, pack_code, shipped_modules

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components, Tensors
    from golfzoo.engine.setup import Model

# Codes of one bit, stored in bytes and then coded ideally, expand eightfold; zeros without end expand a thousandfold.
_MOST_EXPANSION = 64
_SMALL = 2**26  # bytes that need no asking


@dataclass(frozen=True)
class Group:
    """Tensors of one name, over all layers. Sizes in bytes; `compressed` and `entropy` are None without an artifact.

    raw         as float32
    quantized   as the quantizer stores them
    compressed  by the record's compressor, on their own
    entropy     the zeroth-order bound: what an ideal coder needs that knows each tensor's histogram of symbols
    """

    name: str
    parameters: int
    raw: int
    quantized: int
    compressed: int | None
    entropy: int | None


def measure(record: Record, artifact: bytes | None, where: str = "") -> dict[str, Any]:
    """Everything `golfzoo size` prints. Without an artifact, what can be told of a model that is not trained yet."""
    components, untrained = make_untrained(record)
    roles, template = untrained.roles, untrained.template
    tensors = components.quantizer.layout(template, roles)
    metadata: dict[str, Any] = {}
    if artifact is not None:
        try:
            check_expansion(artifact, components, untrained)
            tensors, metadata = read_tensors(artifact, components, tensors)
        except ArtifactError as error:
            raise ArtifactError(f"{where}: {error}") from None
    groups: dict[str, list[str]] = {}
    for name in template:
        groups.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append(name)
    pricer = (lambda stored: len(components.compressor.encode(stored, metadata))) if artifact else None
    rows = [_group(name, members, template, tensors, pricer) for name, members in groups.items()]
    code = pack_code(record)
    model = len(artifact) if artifact is not None else 0
    tokenizer = tokenizer_bytes(namespace(record.tables["data"]))
    size = count_bytes(model, len(code), tokenizer, namespace(record.tables["size"]))
    modules = module_bytes(record)
    return {
        "groups": [vars(row) for row in rows],
        "modules": modules,
        "rest": {  # less than 0 where groups compress better together than each on its own
            "model": model - sum(row.compressed or 0 for row in rows),
            "code": len(code) - sum(modules.values()),
        },
        "requirements": requirement_bytes(shipped_modules(record)),
        "bytes": size,
        "headroom": size["limit"] - size["total"],
    }


def make_untrained(record: Record) -> tuple[Components, Model]:
    """A record's components, and its model: names, types and shapes, without weights."""
    plan, components = namespace(record.tables), record.bind()
    return components, make_weightless(plan, components, open_tokenizer(plan, components).vocab_size)


def check_expansion(artifact: bytes, components: Components, model: Model) -> None:
    """See that an artifact does not unpack to many times more than it holds. Raises ArtifactError."""
    layout = components.quantizer.layout(model.template, model.roles)
    num_bytes = sum(tensor.nbytes for tensor in layout.values())
    if num_bytes > max(_SMALL, _MOST_EXPANSION * len(artifact)):
        raise ArtifactError(
            f"has {len(artifact):,} bytes, and the record's model needs {num_bytes:,} unpacked: more than "
            f"{_MOST_EXPANSION} times as many; it was made from another record"
        )


def _group(
    name: str, members: list[str], template: Tensors, tensors: Tensors, price: Callable[[Tensors], int] | None
) -> Group:
    """A tensor of the quantizer's belongs to the parameter whose name its own starts with."""
    stored = {
        key: tensor
        for key, tensor in tensors.items()
        if max((other for other in template if key == other or key.startswith(other + ".")), key=len, default="")
        in members
    }
    return Group(
        name=name,
        parameters=sum(template[member].numel() for member in members),
        raw=sum(4 * template[member].numel() for member in members),
        quantized=sum(tensor.nbytes for tensor in stored.values()),
        compressed=price(stored) if price else None,
        entropy=round(sum(map(_entropy_bytes, stored.values()))) if price else None,
    )


def _entropy_bytes(tensor: torch.Tensor) -> float:
    """The zeroth-order entropy of a tensor's symbols, over all of them, in bytes; floats count as they are."""
    if tensor.is_floating_point() or tensor.numel() == 0:
        return float(tensor.nbytes)
    counts = np.unique(tensor.numpy(), return_counts=True)[1]
    return float(-(counts * np.log2(counts / tensor.numel())).sum() / 8)


def heaviest(measured: dict[str, Any], count: int = 5) -> list[str]:
    """The groups and modules that weigh most, as lines."""
    groups = Counter({row["name"]: row["compressed"] or row["quantized"] for row in measured["groups"]})
    modules = Counter(measured["modules"])
    return [
        *(f"tensors {name}: {size:,} bytes" for name, size in groups.most_common(count)),
        *(f"module {name}: {size:,} bytes" for name, size in modules.most_common(count)),
    ]
