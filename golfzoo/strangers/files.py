"""The one place where a stranger's file is opened: one of a run, a submission, an ablation, or weights from elsewhere.

A regular file is read, of no more bytes than its kind may have, and no more of it than it had when it was opened.
Folders, pipes, sockets and devices are refused without waiting for them.

Links: what lies in a stranger's folder is read only if it lies there itself. A file or a folder that the user has named
may be a link, for it is the user who points there; so may the folders on the way to it.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from golfzoo.errors import UsageError

LIMITS = {
    "record": 2**18,  # a resolved record has 3 KB
    "json": 2**21,  # result.json, env.json, submission.json, ablation.json: 3 KB to 100 KB
    "events": 2**26,  # metrics.jsonl
    "log": 2**26,  # log.txt
    "text": 2**26,  # what somebody wants to have scored
    "code": 2**24,  # train_gpt.py; as much as may be packed in it
    "documents": 2**27,  # documents.npz: 24 bytes a document, compressed
    "artifact": 2**28,  # 16 times the challenge's limit
    "weights": 2**36,  # and no more than memory, or the record's model, has room for
}
"""The bytes that a file of each kind may have."""

# Without O_NONBLOCK a pipe that nobody writes to would be waited for. Windows has neither that, nor O_NOFOLLOW.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_CHUNK = 2**20


class NoSuchFile(UsageError):
    """There is none. Some files need not be there."""


@contextmanager
def opened(path: Path, kind: str, follow: bool = False) -> Iterator[tuple[BinaryIO, int]]:
    """A stranger's file, and how many bytes it has. `follow`: the user has named it, so it may be a link.

    Raises UsageError, in one line, where it is not such a file, or cannot be read to the end.
    """
    try:
        number = os.open(path, _FLAGS | (0 if follow else _NO_LINKS))
    except OSError as error:
        raise _refusal(path, error) from None
    except ValueError:  # a NUL in its name
        raise NoSuchFile(f"{str(path)!r}: no such file") from None
    about = os.fstat(number)
    fault = ""
    if stat.S_ISDIR(about.st_mode):
        fault = "is a folder, and should be a file"
    elif not stat.S_ISREG(about.st_mode):
        fault = "is not a regular file, but a pipe, a socket or a device"
    elif about.st_size > LIMITS[kind]:
        fault = f"has {about.st_size:,} bytes, and {LIMITS[kind]:,} are the most that are read"
    if fault:
        os.close(number)
        raise UsageError(f"{path}: {fault}")
    with os.fdopen(number, "rb") as file:
        try:
            yield file, about.st_size
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_bytes(path: Path, kind: str, follow: bool = False) -> bytes:
    """All of a stranger's file; see `opened`."""
    with opened(path, kind, follow) as (file, size):
        return file.read(size)


def read_text(path: Path, kind: str, follow: bool = False, errors: str = "strict") -> str:
    """The same as text, with every end of a line as "\\n"."""
    try:
        text = read_bytes(path, kind, follow).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start}: not UTF-8 text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sha256_of(path: Path, kind: str, follow: bool = False) -> str:
    """The hash of a stranger's file, read piece by piece."""
    digest = hashlib.sha256()
    with opened(path, kind, follow) as (file, size):
        while size > 0 and (piece := file.read(min(size, _CHUNK))):
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def check_file(path: Path, kind: str) -> None:
    """Whether `opened` would open it."""
    with opened(path, kind):
        pass


def is_there(path: Path) -> bool:
    """Whether anything has that name, be it a link to nowhere."""
    return os.path.lexists(path)


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a folder lies in another, once every link is followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links that go round in a circle
        return False


def _refusal(path: Path, error: OSError) -> UsageError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NoSuchFile(f"{path}: no such file")
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return UsageError(f"{path}: is a link, and links are not followed here; put the file itself in its place")
    return UsageError(f"{path}: cannot be read: {error.strerror}")
