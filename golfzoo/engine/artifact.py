"""The artifact: the compressed model as one file. No pickle; no names, shapes or lengths that are trusted.

    "GOLF"  version u8  crc32 u32 of all that follows  header length u16  header (JSON)  payload

The header names the quantizer and the compressor and holds the quantizer's metadata. The payload is the compressed
bytes of the quantizer's tensors, one after the other. Their names, types and shapes are what the quantizer lays out for
the record's architecture, so the length of everything is known before anything is decoded.
"""

import json
import struct
import zlib
from typing import Any

import numpy as np
import torch

from golfzoo.engine.errors import ArtifactError, RunError

MAGIC = b"GOLF"
VERSION = 1
_HEAD = struct.Struct("<4sBIH")
_CHECKED_FROM = 9  # the checksum covers all that follows it

Tensors = dict[str, torch.Tensor]


def encode_model(
    tensors: Tensors, metadata: dict[str, Any], parts: Any, template: Tensors, roles: dict[str, str]
) -> bytes:
    """The artifact of a quantized model. `template` has the names, types and shapes of the model's own parameters, on
    the meta device; `parts` the record's quantizer, compressor and their names."""
    check_layout(tensors, parts.quantizer.layout(template, roles))
    header = json.dumps({**parts.names, "metadata": metadata}, sort_keys=True, separators=(",", ":")).encode()
    if len(header) > 0xFFFF:
        raise RunError(f"quantizer metadata takes {len(header)} bytes of JSON; tensors are the place for data")
    body = struct.pack("<H", len(header)) + header + compress_tensors(tensors, metadata, parts.compressor)
    return struct.pack("<4sBI", MAGIC, VERSION, zlib.crc32(body)) + body


def decode_model(data: bytes, parts: Any, template: Tensors, roles: dict[str, str], where: str) -> Tensors:
    """The state in an artifact; the inverse of encode_model and quantize. Raises ArtifactError, naming the file."""
    try:
        tensors, metadata = read_tensors(data, parts, parts.quantizer.layout(template, roles))
        try:
            return parts.quantizer.dequantize(tensors, metadata)
        except Exception as error:
            raise ArtifactError(f"damaged: {parts.names['quantizer']} cannot dequantize it: {error}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {error}") from None


def read_tensors(data: bytes, parts: Any, layout: Tensors) -> tuple[Tensors, dict[str, Any]]:
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
    if header != parts.names:
        raise ArtifactError(f"made with {header}, and the record has {parts.names}")
    try:
        return _decompress_tensors(data[payload_at:], metadata, layout, parts.compressor), metadata
    except ArtifactError:
        raise
    except Exception as error:  # a compressor says in its own way that the data is damaged
        raise ArtifactError(f"damaged: {parts.names['compressor']} cannot decompress it: {error}") from None


def compress_tensors(tensors: Tensors, metadata: dict[str, Any], compressor: Any) -> bytes:
    """By a coder, which knows integer codes, or by a compressor of bytes."""
    return compressor.encode(tensors, metadata) if is_coder(compressor) else compressor.compress(to_bytes(tensors))


def is_coder(compressor: Any) -> bool:
    return hasattr(compressor, "encode")


def _decompress_tensors(payload: bytes, metadata: dict[str, Any], layout: Tensors, compressor: Any) -> Tensors:
    if is_coder(compressor):
        tensors = compressor.decode(payload, layout, metadata)
        if _layout_of(tensors) != _layout_of(layout):
            raise ArtifactError("damaged: its tensors are not those of the record's model")
        return tensors
    num_bytes = sum(tensor.nbytes for tensor in layout.values())
    raw = compressor.decompress(payload, num_bytes)
    if len(raw) != num_bytes:
        raise ArtifactError(f"holds {len(raw)} bytes of tensors, and the record's model needs {num_bytes}")
    return _from_bytes(raw, layout)


def on_meta(state: Tensors) -> Tensors:
    """Names, types and shapes of a state, without the data."""
    return {name: tensor.to("meta") for name, tensor in state.items()}


def check_layout(tensors: Tensors, layout: Tensors) -> None:
    """A quantizer must return what it laid out, or its artifact could not be read back."""
    got, wanted = _layout_of(tensors), _layout_of(layout)
    if got != wanted:
        differing = sorted({name for name, *_ in set(got) ^ set(wanted)}) or ["the order"]
        raise RunError(f"the quantizer returned other tensors than it laid out: {', '.join(differing[:5])}")


def _layout_of(tensors: Tensors) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    return [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]


def to_bytes(tensors: Tensors) -> bytes:
    return b"".join(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes() for name in _order(tensors))


def _from_bytes(raw: bytes, layout: Tensors) -> Tensors:
    tensors, offset = {}, 0
    for name in _order(layout):
        like = layout[name]
        piece = np.frombuffer(raw, dtype=np.uint8, count=like.nbytes, offset=offset).copy()
        tensors[name] = torch.from_numpy(piece).view(like.dtype).view(like.shape)
        offset += like.nbytes
    return {name: tensors[name] for name in layout}


def _order(tensors: Tensors) -> list[str]:
    """Tensors of one type together: compressors do better on bytes that are alike."""
    return sorted(tensors, key=lambda name: str(tensors[name].dtype))
