"""The artifact: the compressed model as one file. No pickle; no names, shapes or lengths that are trusted.

    "GOLF"  version u8  crc32 u32 of all that follows  header length u16  header (JSON)  payload

The header names the quantizer and the compressor and holds the quantizer's metadata. The payload is what the compressor
makes of the quantizer's tensors. Their names, types and shapes are what the quantizer lays out for the record's
architecture, so the length of everything is known before anything is decoded.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golfzoo.engine.clock import Clock
from golfzoo.engine.errors import ArtifactError, RunError
from golfzoo.engine.store import StageResult

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components, Tensors
    from golfzoo.engine.setup import Model, Setup

MAGIC = b"GOLF"
VERSION = 1
_HEAD = struct.Struct("<4sBIH")
_CHECKED_FROM = 9  # the checksum covers all that follows it


def compress(setup: Setup, quantized: StageResult, clock: Clock) -> StageResult:
    """The artifact's bytes, as a tensor of its own."""
    with clock.stage("compress"):
        data = encode_model(quantized.tensors, quantized.facts["metadata"], setup.components, setup.model)
    return StageResult({"artifact": torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())}, {})


def encode_model(tensors: Tensors, metadata: dict[str, Any], components: Components, model: Model) -> bytes:
    """The artifact of a quantized model, whose names, types and shapes must be as its quantizer lays `model` out."""
    check_layout(tensors, components.quantizer.layout(model.template, model.roles))
    header = json.dumps(_names(components) | {"metadata": metadata}, sort_keys=True, separators=(",", ":")).encode()
    if len(header) > 0xFFFF:
        raise RunError(f"quantizer metadata takes {len(header)} bytes of JSON; tensors are the place for data")
    body = struct.pack("<H", len(header)) + header + components.compressor.encode(tensors, metadata)
    return struct.pack("<4sBI", MAGIC, VERSION, zlib.crc32(body)) + body


def decode_model(data: bytes, components: Components, model: Model, where: str) -> Tensors:
    """The state in an artifact; the inverse of encode_model and quantize. Raises ArtifactError, naming the file."""
    quantizer = components.quantizer
    try:
        tensors, metadata = read_tensors(data, components, quantizer.layout(model.template, model.roles))
        try:
            return quantizer.dequantize(tensors, metadata)
        except Exception as error:
            raise ArtifactError(f"damaged: {components.names['quantizer']} cannot dequantize it: {error}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {error}") from None


def read_tensors(data: bytes, components: Components, layout: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """The quantizer's tensors and metadata. `layout` has their names, types and shapes, on the meta device."""
    if len(data) < _HEAD.size:
        raise ArtifactError(f"truncated: {len(data)} bytes, and its head alone is {_HEAD.size}")
    magic, version, checksum, header_length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ArtifactError(f"not an artifact: should start with {MAGIC!r}, got {magic!r}")
    if version != VERSION:
        raise ArtifactError(f"of format version {version}; this engine reads version {VERSION}")
    if zlib.crc32(data[_CHECKED_FROM:]) != checksum:
        raise ArtifactError("damaged: its checksum does not match; get it again")
    payload_at = _HEAD.size + header_length
    try:
        header = json.loads(data[_HEAD.size : payload_at])
        metadata = header.pop("metadata")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(f"damaged: no readable header in bytes {_HEAD.size}-{payload_at}") from None
    if header != (names := _names(components)):
        raise ArtifactError(f"made with {header}, and the record has {names}")
    try:
        tensors = components.compressor.decode(data[payload_at:], layout, metadata)
    except ArtifactError:
        raise
    except Exception as error:  # a compressor says in its own way that the data is damaged
        raise ArtifactError(f"damaged: {components.names['compressor']} cannot decompress it: {error}") from None
    if _layout_of(tensors) != _layout_of(layout):
        raise ArtifactError("damaged: its tensors are not those of the record's model")
    return tensors, metadata


def _names(components: Components) -> dict[str, str]:
    """What the header says of how it was made."""
    return {kind: components.names[kind] for kind in ("quantizer", "compressor")}


def check_layout(tensors: Tensors, layout: Tensors) -> None:
    """A quantizer must return what it laid out, or its artifact could not be read back."""
    got, wanted = _layout_of(tensors), _layout_of(layout)
    if got != wanted:
        differing = sorted({name for name, *_ in set(got) ^ set(wanted)}) or ["the order"]
        raise RunError(f"the quantizer returned other tensors than it laid out: {', '.join(differing[:5])}")


def _layout_of(tensors: Tensors) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    return [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
