"""Results of stages, kept under a fingerprint of everything they depend on. Nothing is computed twice.

    $GOLFZOO_CACHE or runs/.cache
      <stage>/<fingerprint>/  facts.json  tensors.safetensors

An entry appears whole or not at all, and one whose tensors are damaged counts as missing.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo import engine
from golfzoo.record import Record
from golfzoo.shipping.code import closure, pack_code, requirements
from golfzoo.tables import ONLY_SHOWN

_ENGINE = {
    "train": ["golfzoo.engine.train", "golfzoo.engine.batches", "golfzoo.engine.model", "golfzoo.engine.evaluate"],
    "calibrate": ["golfzoo.engine.calibrate"],
    "quantize": ["golfzoo.engine.calibrate", "golfzoo.engine.fit"],
    "compress": ["golfzoo.engine.artifact"],
    "roundtrip": ["golfzoo.engine.evaluate", "golfzoo.engine.model"],
    "eval": ["golfzoo.engine.evaluate", "golfzoo.engine.model"],
}
"""The engine modules that each stage runs; what they import is found from there."""

_EVERYWHERE = {f"golfzoo.engine.{name}": Path(engine.__file__).with_name(f"{name}.py") for name in ("run", "parts")}
"""What calls every stage: it counts by itself, without the other stages' modules that it imports."""

STAGES = tuple(_ENGINE)


@dataclass(frozen=True)
class Entry:
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
            facts = _checked_facts((folder / "facts.json").read_text())
            data = (folder / "tensors.safetensors").read_bytes()
            os.utime(folder)
        except (OSError, ValueError):
            return None
        if hashlib.sha256(data).hexdigest() != facts.get("tensors_sha256"):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        tensors = safetensors.torch.load(data)
        return {name: tensors[name] for name in facts["names"]}, facts

    def save(
        self, stage: str, fingerprint: str, tensors: dict[str, Any], facts: dict[str, Any], replace: bool = False
    ) -> None:
        """Keep a result. What is there already stays, unless told to `replace` it."""
        import safetensors.torch

        folder = self.root / stage / fingerprint
        if folder.exists() and not replace:
            return
        partial = folder.with_name(f".{fingerprint}.partial-{os.getpid()}")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
            (partial / "tensors.safetensors").write_bytes(data)
            # The file sorts its tensors; an artifact depends on the order in which its quantizer gave them.
            described = {**facts, "names": list(tensors), "tensors_sha256": hashlib.sha256(data).hexdigest()}
            (partial / "facts.json").write_text(json.dumps(described | {"sha256": _hash_of(described)}))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        except OSError:
            if not folder.exists():  # if it does, another run was quicker
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def has(self, stage: str, fingerprint: str) -> dict[str, Any] | None:
        """The facts of an entry, without its tensors."""
        try:
            return _checked_facts((self.root / stage / fingerprint / "facts.json").read_text())
        except (OSError, ValueError):
            return None

    def entries(self) -> list[Entry]:
        """Everything that is kept, the least recently used first."""
        found = []
        for folder in self.root.glob("*/[!.]*"):
            facts = self.has(folder.parent.name, folder.name)
            if facts is not None:
                with suppress(FileNotFoundError):  # another process may be removing it
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    used = folder.stat().st_mtime
                    found.append(Entry(folder.parent.name, folder.name, folder, size, used, facts))
        return sorted(found, key=lambda entry: entry.used)

    def prune(self, max_bytes: int | None = None, older_than_days: float | None = None) -> list[Entry]:
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


def _hash_of(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _checked_facts(text: str) -> dict[str, Any]:
    """Raises ValueError on what is not as it was written: a changed score must not be taken over."""
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.pop("sha256", "") != _hash_of(facts):
        raise ValueError("damaged")
    return facts


class Fingerprints:
    """The fingerprint of each stage of a run: its part of the resolved record, the sources of the components and engine
    modules that it uses, the dataset, the kind of device, the libraries' versions, and the stages before it."""

    def __init__(self, record: Record, dataset: dict[str, Any], device: str, num_processes: int) -> None:
        self.record, self.dataset = record, dataset
        self.machine = {"device": device, "processes": num_processes}
        self.known: dict[tuple[str, str], str] = {}

    def of(self, stage: str, key: str = "") -> str:
        """The fingerprint of a stage. `key` is the hash of the weights that it was given, and of all else that it was
        given and the record does not tell; training has none."""
        if (stage, key) not in self.known:
            self.known[stage, key] = self._compute(stage, key)
        return self.known[stage, key]

    def _compute(self, stage: str, key: str) -> str:
        tables = self.record.tables
        if stage == "train":
            settings = {name: value for name, value in tables["train"].items() if name not in ONLY_SHOWN}
            parts: list[Any] = [settings, self.dataset, self._code(stage, "architecture", "optimizer")]
        elif stage == "quantize":
            parts = [self.of("train"), key, self._code(stage, "quantizer")]
            if tables["size"]["fit"]:
                parts += [tables["size"], self._code("compress", "compressor"), len(pack_code(self.record))]
        elif stage == "calibrate":
            parts = [self.of("train"), key, self._code(stage, "architecture")]
        elif stage == "compress":
            parts = [self.of("quantize", key), self._code(stage, "compressor")]
        else:
            parts = [key, self.dataset["tokenizer"], self.dataset["val"], self._code(stage, "architecture")]
            train = tables["train"]
            if stage == "eval":
                walk = {name: value for name, value in tables["eval"].items() if name != "max_seconds"}
                parts += [walk, train["seed"], train["precision"], self._code(stage, "adaptor")]
            else:
                parts += [train["seq_len"], train["micro_batch_tokens"], train["precision"]]
        text = json.dumps([stage, self.machine, *parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _code(self, stage: str, *kinds: str) -> list[Any]:
        """The tables of some components, the sources of their bodies and of the engine's part, and library versions."""
        used = [kind for kind in kinds if kind in self.record.entries]
        bodies = [self.record.entries[kind].component.target.partition(":")[0] for kind in used]
        modules = closure([*_ENGINE[stage], *bodies])
        files = modules | _EVERYWHERE
        sources = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
        return [{kind: self.record.tables[kind] for kind in used}, sources, requirements(modules)]
