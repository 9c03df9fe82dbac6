"""The last lines of a run, for who has not seen many of them: what was reached, and what to try next."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from golfzoo.engine.kinds import KINDS
from golfzoo.record import Record
from golfzoo.zoo import Entry, Zoo


def reached(result: dict[str, Any], published: dict[str, Any] | None) -> Iterator[str]:
    """What the score means, and what it can and cannot be compared with. A sentence or two in each line."""
    score = result["val_bpb"]
    yield f"Reached: {score:.4f} bits for each byte of a text that the model had not seen; fewer is better."
    if baselines := result["dataset"].get("baseline_bpb"):
        takes = ", ".join(f"{name} {bits:.4f}" for name, bits in baselines.items())
        beaten = [name for name, bits in baselines.items() if score < bits]
        others = [name for name in baselines if name not in beaten]
        verdict = (
            f"better than {' and '.join(beaten)}" + f", not yet than {' and '.join(others)}" * bool(others)
            if beaten
            else "not yet better than they are"
        )
        yield f"General compressors take, for the same text: {takes}. The model is {verdict}."
    if result["profile"] != "none":
        yield f"Profile {result['profile']!r} was laid over the record: not comparable with published scores."
    elif "init" in result:
        yield f"It started from {result['init']['file']}: not comparable with published scores."
    elif published and published.get("val_bpb"):
        yield f"Published: {published['val_bpb']:.4f} bits per byte ({published.get('source', '')})."


def next_commands(record: Record, arguments: list[str], zoo: Zoo, result: dict[str, Any], folder: Path) -> list[str]:
    """Three commands that work as they are: a swap, a grid, and what to do with the result.

    `arguments` are those that the run was started with, its record first; what they change stays changed."""
    swap = _swap(record, zoo)
    kind, component = swap or ("train", "")
    change = f"{kind}.use={component}" if swap else f"train.seed={result['seed'] + 1}"
    # An option of the component that goes is none of the one that comes.
    gone = _change(kind, arguments) if swap else [word for word in arguments if word.startswith("train.seed=")]
    kept = [word for word in arguments if word not in gone]
    return [
        shlex.join(["golfzoo", "run", kept[0], change, *kept[1:]]),
        shlex.join(["golfzoo", "ablate", *arguments, *_grid(record, arguments)]),
        shlex.join(_use(record, result, folder)),
    ]


def _swap(record: Record, zoo: Zoo) -> tuple[str, str] | None:
    """A kind, and another component of it: of the same plugin, and so of the same sort, where there is one."""
    fitted = record.tables["size"].get("fit")  # a quantizer that is fitted needs a knob, which others may not have
    for kind in ("quantizer", "compressor") if not fitted else ():
        used = record.entries[kind]
        others = [entry for entry in _of_kind(zoo, kind) if entry.component.name != used.component.name]
        siblings = [entry for entry in others if (entry.distribution, entry.plugin) == (used.distribution, used.plugin)]
        if siblings or (kind == "compressor" and others):
            return kind, (siblings or others)[0].component.name
    return None


def _of_kind(zoo: Zoo, kind: str) -> list[Entry]:
    """Those that need nothing beside their own distribution."""
    found = [entry for (of, _), entry in sorted(zoo.entries.items()) if of == kind]
    return [entry for entry in found if not entry.component.extra]


def _grid(record: Record, arguments: list[str]) -> list[str]:
    """With and without a component that may be left out: best one without which the same training counts. Otherwise
    more seeds."""
    for kind in sorted(KINDS.values(), key=lambda kind: "train" in kind.stages):
        # Options of it among the arguments could not be laid over what is switched off.
        for slot in record.slots(kind.name) if kind.optional and not _change(kind.table, arguments) else ():
            return ["--vary", f"{slot}.use=none,{record.entries[slot].component.name}"]
    return ["--seeds", "1,2,3"]


def _change(table: str, arguments: list[str]) -> list[str]:
    """The arguments that change a table."""
    return [word for word in arguments if word.startswith((f"{table}.", f"{table}="))]


def _use(record: Record, result: dict[str, Any], folder: Path) -> list[str]:
    """A submission, where it is one: within the limit, and of every seed that the record declares."""
    seeds = record.tables["record"]["seeds"]
    if not result["bytes"]["fits"] or (seeds and list(seeds) != [result["seed"]]):
        return ["golfzoo", "size", str(folder)]
    out = Path("submission")
    if out.exists():
        out = Path(f"submission-{folder.name}")
    return ["golfzoo", "pack", str(folder), "--out", str(out)]
