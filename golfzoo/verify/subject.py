"""What is to be verified: a run's folder, or a packed submission, read without running anything of it."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo.errors import UsageError
from golfzoo.machine.memory import check_room
from golfzoo.record import without_none
from golfzoo.results import read_environment, read_submission
from golfzoo.running.weights import check_weights
from golfzoo.shipping.closure import closure, find, is_installed_apart
from golfzoo.shipping.code import pack_code, strip, unpack_code
from golfzoo.shipping.sizes import check_expansion, make_untrained
from golfzoo.shipping.submission import checksum, read_run
from golfzoo.strangers.files import check_file, is_there, read_bytes
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
    if not is_there(folder / "artifact.golf"):
        raise UsageError(f"{folder}: has no artifact.golf")
    check_file(folder / "artifact.golf", "artifact")
    return _read_submission(folder) if is_there(folder / "submission.json") else _read_finished_run(folder, zoo)


def _read_finished_run(folder: Path, zoo: Zoo) -> Subject:
    record, result = read_run(folder, zoo)
    weights = folder / "weights.safetensors" if is_there(folder / "weights.safetensors") else None
    components, model = make_untrained(record)
    check_room(model)
    check_expansion(read_bytes(folder / "artifact.golf", "artifact"), components, model)
    if weights:
        check_weights(weights, sum(tensor.numel() for tensor in model.template.values()))
    claim = {**result, "versions": read_environment(folder)["versions"], "intact": True}
    return Subject(
        folder=folder,
        tables=record.tables,
        targets=record.targets,
        sources=None,
        code=pack_code(record),
        claim=claim,
        weights=weights,
    )


def _read_submission(folder: Path) -> Subject:
    submission = read_submission(folder / "submission.json")
    file = folder / "train_gpt.py"
    try:
        code = read_bytes(file, "code")
    except UsageError as error:
        raise UsageError(f"{error}; it is no packed submission without it") from None
    try:
        record, sources = unpack_code(code)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    problems = []
    for name, table in TABLES.items():
        given = record["tables"].get(name)
        if not isinstance(given, dict):
            problems.append(f"{file}: [{name}]: is missing")
        else:
            config, wrong = table.read(without_none(given), f"{file}: [{name}]")
            problems += wrong
            if config is not None:
                record["tables"][name] = config.model_dump(mode="json")
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
    return _differing(subject, engine=True)


def own_plugins(subject: Subject) -> list[str]:
    """The other modules in a submission that differ from those here, or are not here at all."""
    return _differing(subject, engine=False)


def _differing(subject: Subject, engine: bool) -> list[str]:
    changed = []
    for name, source in (subject.sources or {}).items():
        if (name.partition(".")[0] == "golfzoo") == engine:
            spec = find(name)
            known = spec is not None and (spec.origin or "").endswith(".py")
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
