"""What is to be verified: a run's folder, or a packed submission, read without running anything of it."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo.errors import UsageError
from golfzoo.record import without_none
from golfzoo.results import read_environment, read_submission
from golfzoo.shipping.closure import closure, is_installed_apart
from golfzoo.shipping.code import pack_code, strip, unpack_code
from golfzoo.shipping.submission import checksum, read_run
from golfzoo.tables import TABLES
from golfzoo.zoo import Zoo


@dataclass(frozen=True)
class Subject:
    """A claim and its evidence.

    tables    the resolved record
    targets   slot -> where its component is
    sources   the modules of a submission; None for a run, whose components are the installed ones
    code      the `train_gpt.py` that is counted
    claim     what is reported: result.json, or submission.json under the same names
    weights   the weights as trained, where they are there
    """

    folder: Path
    tables: dict[str, Any]
    targets: dict[str, str]
    sources: dict[str, str] | None
    code: bytes
    claim: dict[str, Any]
    weights: Path | None

    @property
    def artifact(self) -> Path:
        return self.folder / "artifact.golf"


def read_subject(folder: Path, zoo: Zoo) -> Subject:
    """Read a run or a submission. Raises UsageError where it is neither."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if not (folder / "artifact.golf").is_file():
        raise UsageError(f"{folder}: has no artifact.golf")
    return _read_submission(folder) if (folder / "submission.json").exists() else _read_finished_run(folder, zoo)


def _read_finished_run(folder: Path, zoo: Zoo) -> Subject:
    record, result = read_run(folder, zoo)
    weights = folder / "weights.safetensors"
    claim = {**result, "versions": read_environment(folder)["versions"], "intact": True}
    return Subject(
        folder=folder,
        tables=record.tables,
        targets=record.targets,
        sources=None,
        code=pack_code(record),
        claim=claim,
        weights=weights if weights.exists() else None,
    )


def _read_submission(folder: Path) -> Subject:
    submission = read_submission(folder / "submission.json")
    file = folder / "train_gpt.py"
    try:
        code = file.read_bytes()
        record, sources = unpack_code(code)
    except (OSError, UsageError) as error:
        raise UsageError(f"{file}: {error}") from None
    problems = []
    for name, table in TABLES.items():
        given = record["tables"].get(name)
        if not isinstance(given, dict):
            problems.append(f"{file}: [{name}]: is missing")
        else:
            problems += table.read(without_none(given), f"{file}: [{name}]")[1]
    if problems:
        raise UsageError("\n".join(problems))
    size = {key: submission[f"bytes_{key}"] for key in ("model", "code", "tokenizer", "total")}
    claim = {
        **submission,
        "bytes": {**size, "limit": submission["limit_bytes"], "fits": submission["fits"]},
        "seed": record["tables"]["train"]["seed"],
        "intact": submission["checksum"] == checksum(submission),
    }
    return Subject(folder, record["tables"], record["targets"], sources, code, claim, None)


def own_engine(subject: Subject) -> list[str]:
    """The engine's modules in a submission that differ from those here."""
    changed = []
    for name, source in (subject.sources or {}).items():
        if name.partition(".")[0] == "golfzoo":
            spec = importlib.util.find_spec(name)
            known = spec is not None and spec.origin is not None
            if not known or strip(Path(spec.origin).read_text()) != source:  # type: ignore[union-attr,arg-type]
                changed.append(name)
    return changed


def shadowing(subject: Subject) -> list[str]:
    """The top-level names in a submission under which another package, or the standard library, is installed."""
    names = {name.partition(".")[0] for name in subject.sources or {}} - {"golfzoo"}
    return sorted(name for name in names if is_installed_apart(name))


def code_folders(subject: Subject) -> list[Path]:
    """Where the installed code of a run's components lies; a submission brings its own."""
    if subject.sources is not None:
        return []
    modules = [target.partition(":")[0] for target in subject.targets.values()]
    return sorted({path.parent for path in closure(modules).values()})


def same_conditions(subject: Subject, device: str) -> bool:
    """Whether device and library versions are those of the claim: only then is the last digit to be expected."""
    versions = subject.claim.get("versions", {})
    libraries = ("torch", "numpy", "sentencepiece")
    same = all(versions.get(name) == importlib.metadata.version(name) for name in libraries)
    return same and subject.claim["device"] == device
