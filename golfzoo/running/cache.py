"""Results of stages, kept under a fingerprint of everything they depend on. Nothing is computed twice.

    $GOLFZOO_CACHE or runs/.cache
      <stage>/<fingerprint>/  facts.json  tensors.safetensors

An entry appears whole or not at all, and one whose tensors are damaged counts as missing.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CachedResult:
    """One kept result. `used` is when it was last written or read, in seconds since the epoch."""

    stage: str
    fingerprint: str
    path: Path
    size: int
    used: float
    facts: dict[str, Any]


class Cache:
    """The kept results of all runs on this machine."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(os.environ.get("GOLFZOO_CACHE", "runs/.cache"))

    def load(self, stage: str, fingerprint: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Tensors and facts of an entry, or None."""
        import safetensors.torch

        folder = self.root / stage / fingerprint
        try:
            facts, data = _read(folder)
            os.utime(folder)
        except (OSError, ValueError):
            return None
        tensors = safetensors.torch.load(data)
        return {name: tensors[name] for name in facts["names"]}, facts

    def save(
        self, stage: str, fingerprint: str, tensors: dict[str, Any], facts: dict[str, Any], replace: bool = False
    ) -> None:
        """Keep a result. What is there already stays, unless it is damaged or this is told to `replace` it."""
        import safetensors.torch

        folder = self.root / stage / fingerprint
        if not replace and _is_whole(folder):
            return
        partial = folder.with_name(f".{fingerprint}.partial-{os.getpid()}-{secrets.token_hex(3)}")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
            _write_through(partial / "tensors.safetensors", data)
            # The file sorts its tensors; an artifact depends on the order in which its quantizer gave them.
            described = {**facts, "names": list(tensors), "tensors_sha256": hashlib.sha256(data).hexdigest()}
            _write_through(partial / "facts.json", json.dumps(described | {"sha256": _hash_of(described)}).encode())
            self._move_away(folder, replace)
            os.replace(partial, folder)
        except OSError:
            if not folder.exists():  # if it does, another run was quicker
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _move_away(self, folder: Path, replace: bool) -> None:
        """Remove an entry as a whole. One that turns out to be another run's new one, and whole, goes back."""
        old = folder.with_name(f".{folder.name}.partial-{os.getpid()}-{secrets.token_hex(3)}")
        with suppress(FileNotFoundError):
            os.rename(folder, old)
            if not replace and _is_whole(old):
                os.rename(old, folder)
        shutil.rmtree(old, ignore_errors=True)

    def has(self, stage: str, fingerprint: str) -> dict[str, Any] | None:
        """The facts of an entry, without its tensors."""
        try:
            return _checked_facts((self.root / stage / fingerprint / "facts.json").read_text())
        except (OSError, ValueError):
            return None

    def entries(self) -> list[CachedResult]:
        """Everything that is kept, the least recently used first."""
        found = []
        for folder in self.root.glob("*/[!.]*"):
            facts = self.has(folder.parent.name, folder.name)
            if facts is not None:
                with suppress(FileNotFoundError):  # another process may be removing it
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    used = folder.stat().st_mtime
                    found.append(CachedResult(folder.parent.name, folder.name, folder, size, used, facts))
        return sorted(found, key=lambda entry: entry.used)

    def prune(self, max_bytes: int | None = None, older_than_days: float | None = None) -> list[CachedResult]:
        """Remove what has not been used for so long, and the least recently used until the rest fits. Returns it."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        removed = []
        for entry in entries:
            too_old = older_than_days is not None and time.time() - entry.used > older_than_days * 86400
            too_much = max_bytes is not None and total > max_bytes
            if too_old or too_much:
                shutil.rmtree(entry.path, ignore_errors=True)
                total -= entry.size
                removed.append(entry)
        known = {entry.path for entry in entries}
        for damaged in [folder for folder in self.root.glob("*/[!.]*") if folder not in known]:
            shutil.rmtree(damaged, ignore_errors=True)
        for leftover in self.root.glob("*/.*.partial-*"):
            if time.time() - leftover.stat().st_mtime > 3600:  # younger: a run may be writing it
                shutil.rmtree(leftover, ignore_errors=True)
        return removed


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Facts and the bytes of the tensors. Raises OSError or ValueError where they are not there as written."""
    facts = _checked_facts((folder / "facts.json").read_text())
    data = (folder / "tensors.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != facts.get("tensors_sha256"):
        raise ValueError("damaged")
    return facts, data


def _is_whole(folder: Path) -> bool:
    try:
        _read(folder)
    except (OSError, ValueError):
        return False
    return True


def _write_through(path: Path, data: bytes) -> None:
    """An entry that is there after a power cut must have its contents, too."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _hash_of(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _checked_facts(text: str) -> dict[str, Any]:
    """Raises ValueError on what is not as it was written: a changed score must not be taken over."""
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.pop("sha256", "") != _hash_of(facts):
        raise ValueError("damaged")
    return facts
