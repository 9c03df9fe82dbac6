"""Is one better than the other? Groups of runs over seeds by Welch's t test, single runs document by document.

The challenge asks for a gain of 0.005 nats per token at p < 0.01. Nats per token compare only under one tokenizer;
under two, bits per byte do.
"""

import glob
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golfzoo.errors import UsageError
from golfzoo.results import read_environment, read_object, read_result, read_status
from golfzoo.strangers.files import is_there, read_text
from golfzoo.strangers.tensors import read_columns
from golfzoo.strangers.values import parse_toml, quoted
from golfzoo.studies.statistics import seeds_needed, welch
from golfzoo.tables import NO_RESULT_DEPENDS_ON

_BOOTSTRAP_ROUNDS = 10_000
_MOST_DRAWN = 2**16  # the challenge's text has 50,000 documents
_MOST_OF_A_DOCUMENT = 2**40  # tokens, bytes or nats


@dataclass(frozen=True)
class Group:
    """Completed runs of one thing. `name` is what the user called it, `note` what was decided about it for the user."""

    name: str
    folders: list[Path]
    results: list[dict[str, Any]]
    environments: list[dict[str, Any]]
    note: str = ""

    def values(self, unit: str) -> list[float]:
        return [result[unit] for result in self.results]


def read_group(what: str, runs: Path = Path("runs")) -> Group:
    """A run's folder, a glob of folders, or the name of a record: its runs under runs/, without those of the record
    with changes, which are most often there as well.

    Raises UsageError where there is no completed run, or where their records differ in more than the seed."""
    folders = [Path(what)] if is_there(Path(what) / "result.json") else sorted(map(Path, glob.glob(what)))
    folders = [folder for folder in folders if is_there(folder / "result.json")]
    is_name = not folders
    if is_name:
        folders = [
            path.parent for path in sorted(runs.glob("*/result.json")) if read_object(path).get("record") == what
        ]
    kept = [folder for folder in folders if read_status(folder) == "completed"]
    if not kept:
        raise UsageError(
            f"{what}: no completed run; give a run's folder, a glob, or the name of a record under {runs}/"
        )
    kept, note = _of_record(what, kept) if is_name else (kept, "")
    _check_alike(what, kept)
    environments = [read_environment(folder) for folder in kept]
    return Group(what, kept, [read_result(folder) for folder in kept], environments, note)


def _of_record(name: str, folders: list[Path]) -> tuple[list[Path], str]:
    """Of the runs of a record, those of the record as it is: as records/NAME.toml says, or, where that is not there,
    as most of them have it. The second is what to tell the user of it."""
    path = Path("records") / f"{name}.toml"
    options = {folder: _read_options(folder) for folder in folders}
    unchanged, what = folders, "that are alike, which is most of them"
    if path.is_file():
        wanted = {profile: _resolved(path, profile) for profile in {_profile_of(folder) for folder in folders}}
        unchanged = [folder for folder in folders if options[folder] == wanted[_profile_of(folder)]]
        what = f"of {path} as it is"
        if not unchanged:
            raise UsageError(
                f"{name}: none of its {len(folders)} completed runs is {what}, they have changes or are older than "
                "its latest one; name their folders, or a glob of them"
            )
    alike: dict[str, list[Path]] = {}
    for folder in unchanged:
        alike.setdefault(repr(sorted(options[folder].items())), []).append(folder)
    largest, *others = sorted(alike.values(), key=len, reverse=True)
    if others and len(others[0]) == len(largest):
        return unchanged, ""  # neither is meant more than the other, and _check_alike says in what they differ
    if len(largest) == len(folders):
        return folders, ""
    missing = "" if path.is_file() else f" (there is no {path})"
    left_out = f"{len(folders) - len(largest)} with changes left out"
    return largest, f"{name}: {len(largest)} of its {len(folders)} runs: those {what}{missing}; {left_out}"


def _resolved(path: Path, profile: str) -> dict[str, str] | None:
    """The options of a record under a profile; None where it has no such profile."""
    from golfzoo.overlay import profile_names
    from golfzoo.record import load_record
    from golfzoo.zoo import discover

    if profile != "none" and profile not in profile_names(str(path)):
        return None
    return _options_of(load_record(str(path), discover(), (), profile).to_toml())


def _profile_of(folder: Path) -> str:
    return str(read_object(folder / "result.json").get("profile", "none"))


def _check_alike(what: str, folders: list[Path]) -> None:
    """Runs whose records differ in more than the seed are not runs of one thing."""
    if len(folders) < 2:
        return
    records = [_read_options(folder) for folder in folders]
    different = len({repr(sorted(record.items())) for record in records})
    for key in dict.fromkeys(key for record in records for key in record):
        values = list(dict.fromkeys(record.get(key, "none") for record in records))
        if len(values) > 1:
            more = ", ..." if len(values) > 4 else ""
            raise UsageError(
                f"{what}: its {len(folders)} runs have {different} different records; {key} is "
                f"{', '.join(values[:4])}{more}; name the folders of one record, or a glob of them"
            )


def _read_options(folder: Path) -> dict[str, str]:
    """Every option that a run's results depend on, but for its seed: "table.key" -> value as TOML has it, or nearly."""
    path = folder / "record.toml"
    try:
        return _options_of(read_text(path, "record"))
    except UsageError as error:
        fault = str(error).removeprefix(f"{path}: ")
    except ValueError as error:
        fault = quoted(error)
    raise UsageError(f"{path}: cannot be read, so its run cannot be grouped with others ({fault})")


def _options_of(text: str) -> dict[str, str]:
    return {
        f"{name}.{key}": json.dumps(value, default=str)
        for name, table in parse_toml(text).items()
        if name != "record" and isinstance(table, dict)  # [[loggers]] is none, and no result depends on it
        for key, value in table.items()
        if f"{name}.{key}" not in ("train.seed", *NO_RESULT_DEPENDS_ON)
    }


def compare(base: Group, other: Group, margin: float, alpha: float) -> dict[str, Any]:
    """What there is to say of `other` against `base`. `margin` is in nats per token."""
    same_tokenizer = len({result["dataset"]["tokenizer"] for result in (*base.results, *other.results)}) == 1
    unit = "val_loss" if same_tokenizer else "val_bpb"
    report: dict[str, Any] = {
        "base": summarize(base),
        "other": summarize(other),
        "unit": "nats per token" if same_tokenizer else "bits per byte",
        "margin": margin,
        "alpha": alpha,
        "warnings": weaknesses(base, other),
    }
    if not same_tokenizer:
        report["warnings"].append(
            "tokenizers differ: nats per token do not compare, so gain and margin are in bits per byte"
        )
    first, second = other.values(unit), base.values(unit)
    if len(first) > 1 and len(second) > 1:
        test = welch(first, second, margin)
        report["test"] = {**vars(test), "better": test.p < alpha}
        report["seeds_needed"] = seeds_needed(first, second, margin, alpha)
    if len(first) == len(second) == 1 and same_tokenizer:
        report["paired"] = paired(base.folders[0], other.folders[0])
    return report


def paired(base: Path, other: Path) -> dict[str, Any]:
    """What `other` gains over `base` on one validation text, with a bootstrap over documents, in bits per byte."""
    first, second = read_documents(base), read_documents(other)
    if not np.array_equal(first["bytes"], second["bytes"]):
        raise UsageError(f"{base} and {other}: were not scored on the same validation text; their documents differ")
    nats, num_bytes = first["nats"] - second["nats"], first["bytes"]
    better = int((nats > 0).sum())
    documents = len(nats)
    nats, num_bytes = _in_blocks(nats), _in_blocks(num_bytes)
    rng = np.random.default_rng(0)
    gains = np.empty(_BOOTSTRAP_ROUNDS)
    with np.errstate(divide="ignore", invalid="ignore"):  # documents without bytes may be drawn alone
        for number in range(_BOOTSTRAP_ROUNDS):
            drawn = rng.integers(0, len(nats), len(nats))
            gains[number] = nats[drawn].sum() / num_bytes[drawn].sum()
    gains = gains[np.isfinite(gains)] / math.log(2)
    return {
        "gain_bpb": float(nats.sum() / num_bytes.sum() / math.log(2)),
        "interval": [float(bound) for bound in np.quantile(gains, [0.025, 0.975])],
        "p": min(1.0, 2 * (min(int((gains <= 0).sum()), int((gains >= 0).sum())) + 1) / (_BOOTSTRAP_ROUNDS + 1)),
        "documents": documents,
        "documents_better": better,
    }


def summarize(group: Group) -> dict[str, Any]:
    """Means and standard deviations of a group."""

    def spread(unit: str) -> dict[str, float | None]:
        values = group.values(unit)
        return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}

    return {
        "name": group.name,
        "note": group.note,
        "runs": [str(folder) for folder in group.folders],
        "seeds": [result["seed"] for result in group.results],
        "val_loss": spread("val_loss"),
        "val_bpb": spread("val_bpb"),
        "bytes_total": max(result["bytes"]["total"] for result in group.results),
        "fits": all(result["bytes"]["fits"] for result in group.results),
    }


def weaknesses(base: Group, other: Group) -> list[str]:
    """What makes a comparison weaker than it looks."""
    found = []
    for group in (base, other):
        seeds = [result["seed"] for result in group.results]
        if len(set(seeds)) < len(seeds):
            found.append(f"{group.name}: a seed is there twice: {sorted(seeds)}")
        if len(seeds) < 3:
            found.append(f"{group.name}: {len(seeds)} run(s); fewer than 3 seeds show little")
    everything = list(zip((*base.results, *other.results), (*base.environments, *other.environments), strict=True))
    aspects = {
        "validation texts": lambda result, _: result["dataset"]["val"]["sha256"],
        "training data": lambda result, _: result["dataset"]["train"]["sha256"],
        "training budgets (tokens)": lambda result, _: _rounded(result["tokens_trained"]),
        "devices": lambda result, _: (result["device"], result["processes"]),
        "library versions": lambda _, environment: str(
            {name: environment["versions"].get(name) for name in ("golfzoo", "torch", "numpy", "sentencepiece")}
        ),
        "profiles": lambda result, _: result["profile"],
    }
    for name, read in aspects.items():
        seen = {read(result, environment) for result, environment in everything}
        if len(seen) > 1:
            found.append(f"{name} differ: {', '.join(sorted(map(str, seen)))}")
    return found


def _rounded(tokens: int) -> int:
    """To two digits: runs that end by the clock never see quite the same number of tokens."""
    return int(float(f"{tokens:.1e}"))


def read_documents(folder: Path, called: str = "") -> dict[str, np.ndarray]:
    """Tokens, bytes and nats of a run's validation documents. Errors name the run as `called`, or by its folder."""
    try:
        columns = read_columns(folder / "documents.npz", {"tokens": "int64", "bytes": "int64", "nats": "float64"})
    except UsageError:
        raise UsageError(f"{called or folder}: has no readable documents.npz; run it again") from None
    counts = (columns["tokens"], columns["bytes"])
    if any(column.min() < 0 or column.max() > _MOST_OF_A_DOCUMENT for column in counts) or not columns["bytes"].any():
        raise UsageError(f"{called or folder}: documents.npz is not what a run writes; run it again")
    if not np.isfinite(columns["nats"]).all() or np.abs(columns["nats"]).max() > _MOST_OF_A_DOCUMENT:
        raise UsageError(f"{called or folder}: documents.npz has scores that are not finite")
    return columns


def _in_blocks(values: np.ndarray) -> np.ndarray:
    """Sums over blocks of neighbours, where there are too many documents to draw each on its own."""
    size = -(-len(values) // _MOST_DRAWN)
    return np.add.reduceat(values, np.arange(0, len(values), size))
