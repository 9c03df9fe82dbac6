"""A stranger's folder, read as text: regular files alone, no links, and never more than a bound."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from golfzoo.audit.finding import Finding
from golfzoo.errors import UsageError

TEXTS = {".py", ".json", ".md", ".txt", ".log", ".sh", ".toml", ".yaml", ".yml", ".cfg", ".tsv", ".csv"}
LARGEST_LOG = 4_000_000
LARGEST_TEXT = 1_000_000
MOST_TEXT = 32_000_000
MOST_FILES = 2_000
DEEPEST = 6


@dataclass
class Folder:
    """`sizes` has every regular file, `texts` those that were read; both by path relative to the folder."""

    name: str
    sizes: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def texts_that_end(self, *endings: str) -> list[str]:
        return [path for path in self.texts if path.lower().endswith(endings)]


def read_folder(path: Path) -> Folder:
    """Everything that can be read. What cannot becomes a finding."""
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give one that holds a train_gpt.py")
    # The challenge's folders lie in one of their track, whose name says whether a record is meant.
    folder = Folder(os.path.join(*path.resolve().parts[-2:]))
    _list(path, "", folder, 0)
    room = MOST_TEXT
    for name in sorted(folder.sizes):
        if Path(name).suffix.lower() not in TEXTS:
            continue
        most = LARGEST_LOG if name.lower().endswith((".log", ".txt")) else LARGEST_TEXT
        if folder.sizes[name] > min(most, room):
            _skip(folder, name, f"{folder.sizes[name]:,} bytes; at most {most:,} of one are, and {MOST_TEXT:,} in all")
            continue
        text = _read(path / name, folder, name, most)
        if text is not None:
            room -= folder.sizes[name]
            folder.texts[name] = text
    return folder


def _skip(folder: Folder, name: str, why: str) -> None:
    folder.findings.append(Finding("doubtful", "skipped", name, 0, f"not read: {why}"))


def _list(path: Path, prefix: str, folder: Folder, depth: int) -> None:
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        _skip(folder, prefix or ".", error.strerror or "cannot be opened")
        return
    for entry in found:
        name = prefix + entry.name
        if len(folder.sizes) + len(folder.findings) >= MOST_FILES:
            _skip(folder, prefix or ".", f"has more than {MOST_FILES:,} files; the rest is left out")
            return
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            _skip(folder, name, error.strerror or "cannot be looked at")
            continue
        if stat.S_ISLNK(status.st_mode):
            _skip(folder, name, "is a link")
        elif stat.S_ISDIR(status.st_mode):
            if depth < DEEPEST and entry.name not in ("__pycache__", ".git"):
                _list(path / entry.name, name + "/", folder, depth + 1)
            else:
                _skip(folder, name, "is a folder that no submission needs" if depth < DEEPEST else "lies too deep")
        elif stat.S_ISREG(status.st_mode):
            folder.sizes[name] = status.st_size
        else:
            _skip(folder, name, "is no regular file")


def _read(path: Path, folder: Folder, name: str, most: int) -> str | None:
    try:
        # It may have been exchanged since it was listed: no link is followed, and no pipe waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                _skip(folder, name, "is no regular file")
                return None
            content = file.read(most + 1)
    except OSError as error:
        _skip(folder, name, error.strerror or "cannot be opened")
        return None
    if len(content) > most:
        _skip(folder, name, f"grew beyond {most:,} bytes")
        return None
    if b"\0" in content:
        _skip(folder, name, "holds NUL bytes, so it is no text")
        return None
    return content.decode("utf-8", errors="replace").replace("\r\n", "\n")
