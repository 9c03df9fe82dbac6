"""Columns and tensors in files of strangers: .npz, .safetensors and .pt. Whatever a file says that it holds is checked
against what is wanted, and against what it has, before room is made for it."""

import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from golfzoo.errors import UsageError
from golfzoo.strangers.files import opened
from golfzoo.strangers.values import parse_json, quoted

if TYPE_CHECKING:
    import numpy as np

MOST_DOCUMENTS = 2**22
"""Of a validation text; the challenge's has 50,000."""

_ARRAY_HEAD = 4096  # bytes, of which numpy writes 128
_NPZ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END, _END_64, _LOCATOR = struct.Struct("<4s4H2IH"), struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")

_HEADER_MOST = 2**22  # bytes of JSON; of a model with 1,000 tensors 100 KB
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip

_PICKLE_MOST = 2**24
_MOST_MEMBERS = 2**16
_NEEDED_BY_A_STATE = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter|sparse_tensor)|torch \w+Storage|torch Size"
    r"|torch\.serialization _get_layout"
)


def read_columns(path: Path, wanted: Mapping[str, str]) -> dict[str, "np.ndarray"]:
    """The columns of an .npz: name -> type, as in "int64"; each one-dimensional, and all of one length.

    Raises UsageError where the file has others, or more than MOST_DOCUMENTS values in each.
    """
    with opened(path, "documents") as (file, size):
        try:
            with _open_zip(file, size, len(wanted)) as archive:
                if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in wanted):
                    raise ValueError(f"should hold {', '.join(wanted)}")
                columns = {name: _read_column(archive, f"{name}.npy", kind) for name, kind in wanted.items()}
            if len({len(column) for column in columns.values()}) > 1:
                raise ValueError("its columns differ in length")
        except UsageError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise whatever they like
            raise UsageError(f"{path}: {quoted(error)}") from None
    return columns


def _read_column(archive: zipfile.ZipFile, name: str, kind: str) -> "np.ndarray":
    """One member, once its header says what it should, and the directory gives it as many bytes as that needs."""
    import numpy as np
    from numpy.lib import format as npy

    member = archive.getinfo(name)
    if member.compress_type not in _NPZ_METHODS:
        raise ValueError(f"{name} is compressed in a way that numpy does not use")
    dtype = np.dtype(kind)
    with archive.open(member) as column:
        version = npy.read_magic(column)
        if version != (1, 0):
            raise ValueError(f"{name} is not an array of numbers")
        shape, _, found = npy.read_array_header_1_0(column, max_header_size=_ARRAY_HEAD)
        if found != dtype or len(shape) != 1 or not 0 < shape[0] <= MOST_DOCUMENTS:
            raise ValueError(f"{name} should hold a number of type {kind} for each document, got {found} {shape}")
        num_bytes = shape[0] * dtype.itemsize
        if member.file_size != column.tell() + num_bytes:
            raise ValueError(f"{name} has not the length that it says")
        data = column.read(num_bytes)
        if len(data) != num_bytes or column.read(1):
            raise ValueError(f"{name} is cut short")
    return np.frombuffer(data, dtype=dtype)


def _open_zip(file: BinaryIO, size: int, most_members: int) -> zipfile.ZipFile:
    """A zip archive whose directory is where every reader looks for it, and small. Raises ValueError on others."""
    at = size - _END.size
    file.seek(max(at, 0))
    end = file.read(_END.size)
    if len(end) < _END.size or end[:4] != b"PK\5\6":
        raise ValueError("is not a zip archive, or has something behind it")
    *_, members, length, offset, comment = _END.unpack(end)
    if at >= _LOCATOR.size + _END_64.size:
        file.seek(at - _LOCATOR.size - _END_64.size)
        end_64, locator = file.read(_END_64.size), file.read(_LOCATOR.size)
        if locator[:4] == b"PK\6\7":
            at -= _LOCATOR.size + _END_64.size
            if _LOCATOR.unpack(locator)[2] != at or end_64[:4] != b"PK\6\6":
                raise ValueError("is a damaged zip archive")
            *_, members, length, offset = _END_64.unpack(end_64)
    if comment or offset + length != at or members > most_members or length > 512 * members:
        raise ValueError("is a zip archive with another directory than it should have")
    archive = zipfile.ZipFile(file)
    if len(set(archive.namelist())) != len(archive.infolist()):
        raise ValueError("is a zip archive with two files of one name")
    return archive


@dataclass(frozen=True)
class Stored:
    """A tensor in a .safetensors: its type as that calls it, its shape, and where it lies in the file."""

    kind: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int


def read_safetensors_header(file: BinaryIO, size: int) -> dict[str, Stored]:
    """What a .safetensors holds. Raises ValueError unless its tensors fill the file, one after the other."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(size - 8, _HEADER_MOST):
        raise ValueError("is no .safetensors file: its header is longer than it may be")
    header = parse_json(file.read(length).decode())
    if not isinstance(header, dict):
        raise ValueError("is no .safetensors file: its header is no JSON object")
    header.pop("__metadata__", None)
    found = {name: _read_entry(name, entry) for name, entry in header.items()}
    end = 0
    for name, stored in sorted(found.items(), key=lambda item: (item[1].start, item[1].num_bytes)):
        if stored.start != end:
            raise ValueError(f"{quoted(name)} does not begin where the tensor before it ends")
        end += stored.num_bytes
    if 8 + length + end != size:
        raise ValueError(f"its tensors take {end:,} bytes, and it has {size - 8 - length:,} for them")
    return {
        name: Stored(stored.kind, stored.shape, 8 + length + stored.start, stored.num_bytes)
        for name, stored in found.items()
    }


def _read_entry(name: str, entry: Any) -> Stored:
    try:
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
        if not whole or len(shape) > 16 or end - start != math.prod(shape) * ITEM_BYTES[kind]:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{quoted(name)} is no tensor of the length that it says") from None
    return Stored(kind, tuple(shape), start, end - start)


def check_pickled_state(file: BinaryIO, size: int) -> None:
    """Whether a .pt is as torch.save writes tensors: nothing in it unpacks to more than it takes, and its pickle asks
    for nothing but what tensors are made of. Raises ValueError."""
    with _open_zip(file, size, _MOST_MEMBERS) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError("has compressed files in it, as torch.save does not write them")
        pickles = [member for member in archive.infolist() if member.filename.endswith("/data.pkl")]
        if sum(member.file_size for member in archive.infolist()) > size or len(pickles) != 1:
            raise ValueError("is not as torch.save writes it")
        if pickles[0].file_size > _PICKLE_MOST:
            raise ValueError(f"holds {pickles[0].file_size:,} bytes beside its tensors")
        _check_pickle(archive.read(pickles[0]))
    file.seek(0)


def _check_pickle(data: bytes) -> None:
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4") or (
            operation.name == "GLOBAL" and not _NEEDED_BY_A_STATE.fullmatch(str(argument))
        ):
            what = f"{argument or operation.name}"
            raise ValueError(f"holds something else than tensors: {quoted(what)}")
