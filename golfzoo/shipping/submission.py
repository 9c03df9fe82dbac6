"""A submission: one folder that stands alone, with every figure in it measured on the files that are in it."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from golfzoo.engine.components import namespace
from golfzoo.engine.files import write_whole
from golfzoo.engine.size import count_bytes
from golfzoo.errors import UsageError
from golfzoo.record import Record, load_record
from golfzoo.results import read_environment, read_result, write_json
from golfzoo.shipping.code import code_hashes, pack_code, requirements, shipped_modules
from golfzoo.strangers.files import read_bytes
from golfzoo.strangers.values import visible
from golfzoo.zoo import Zoo


def read_run(folder: Path, zoo: Zoo) -> tuple[Record, dict[str, Any]]:
    """The record and the result of a run that was completed. Its loggers are gone: they need not be installed here."""
    result = read_result(folder)
    return load_record(str(folder / "record.toml"), zoo, ("loggers=[]",)), result


def write_submission(
    runs: list[Path], out: Path, zoo: Zoo, about: dict[str, str], force: bool
) -> tuple[dict[str, Any], list[str]]:
    """Pack the first run into the new folder `out`; the others are the same record under other seeds.

    `about` has author, github_id and blurb. Returns submission.json, and what `force` let pass; without `force`, that
    would have been an error.
    """
    if out.exists():
        raise UsageError(f"--out {out}: exists already; choose another")
    record, result = read_run(runs[0], zoo)
    objections = _changed_code(runs[0], record) + _seed_gaps(runs, record, zoo)
    code = pack_code(record)
    artifact = read_bytes(runs[0] / "artifact.golf", "artifact")
    size = count_bytes(len(artifact), len(code), result["bytes"]["tokenizer"], namespace(record.tables["size"]))
    if len(artifact) != result["bytes"]["model"]:
        said = f"{result['bytes']['model']:,}"
        objections.append(f"{runs[0]}: artifact.golf has {len(artifact):,} bytes, and result.json says {said}")
    if init := record.tables["train"]["init"]:
        objections.append(f"{runs[0]}: started from the weights in {init}; its train_gpt.py would start without them")
    if not size["fits"]:
        objections.append(_over_limit(size, record, artifact))
    if objections and not force:
        raise UsageError("\n".join([*objections, "  --force packs it all the same, and marks it"]))
    submission = _describe(runs, record, result, size, zoo, about, objections)
    files = {
        "train_gpt.py": code,
        "artifact.golf": artifact,
        "README.md": visible(_readme(submission)).encode(),
        "train.log": read_bytes(runs[0] / "log.txt", "log"),
        "requirements.txt": "".join(f"{line}\n" for line in requirements(shipped_modules(record))).encode(),
    }
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for name, data in files.items():
            write_whole(partial / name, data)
        write_json(partial / "submission.json", submission)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return submission, objections


def checksum(submission: dict[str, Any]) -> str:
    """Of every field of a submission.json but itself: shows that no figure was edited afterwards."""
    fields = {key: value for key, value in submission.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _changed_code(folder: Path, record: Record) -> list[str]:
    """A submission must hold the code that made its score."""
    ran, now = read_environment(folder)["code"], code_hashes(record)
    changed = sorted(name for name in ran.keys() | now.keys() if ran.get(name) != now.get(name))
    if not changed:
        return []
    return [f"{folder}: the code has changed since the run ({', '.join(changed[:4])}); run it again"]


def _seed_gaps(runs: list[Path], record: Record, zoo: Zoo) -> list[str]:
    """Every seed that the record declares is there, once, from the same record."""
    declared = list(record.tables["record"]["seeds"]) or [record.tables["train"]["seed"]]
    given = []
    for folder in runs:
        other, _ = read_run(folder, zoo)
        given.append(other.tables["train"]["seed"])
        tables = {**other.tables, "train": {**other.tables["train"], "seed": record.tables["train"]["seed"]}}
        if tables != record.tables:
            raise UsageError(f"{folder}: is a run of another record than {runs[0]}; only the seed may differ")
    objections = []
    if len(set(given)) != len(given):
        objections.append(f"a seed is there twice: {sorted(given)}")
    if missing := sorted(set(declared) - set(given)):
        objections.append(f"the record declares seeds {sorted(declared)}, and there is no run of {missing}; add theirs")
    if extra := sorted(set(given) - set(declared)):
        objections.append(f"seeds {extra} are not among those that the record declares, {sorted(declared)}")
    return objections


def _over_limit(size: dict[str, Any], record: Record, artifact: bytes) -> str:
    from golfzoo.shipping.sizes import heaviest, measure

    over = size["total"] - size["limit"]
    lines = [f"{size['total']:,} bytes are {over:,} over the limit of {size['limit']:,}; heaviest are"]
    return "\n".join(lines + [f"  {line}" for line in heaviest(measure(record, artifact))])


def _describe(
    runs: list[Path],
    record: Record,
    result: dict[str, Any],
    size: dict[str, Any],
    zoo: Zoo,
    about: dict[str, str],
    objections: list[str],
) -> dict[str, Any]:
    results = {str(other["seed"]): other for other in (read_run(folder, zoo)[1] for folder in runs)}
    environment = read_environment(runs[0])
    described = {
        **about,
        "name": record.name,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "val_loss": result["val_loss"],
        "val_bpb": result["val_bpb"],
        "bytes_total": size["total"],
        "bytes_code": size["code"],
        "bytes_model": size["model"],
        "bytes_tokenizer": size["tokenizer"],
        "limit_bytes": size["limit"],
        "fits": size["fits"],
        "seeds": [other["seed"] for other in results.values()],
        "seed_results": {
            seed: {
                "val_bpb": other["val_bpb"],
                "val_loss": other["val_loss"],
                "bytes_model": other["bytes"]["model"],
                "steps": other["steps"],
                "seconds": other["seconds"],
            }
            for seed, other in results.items()
        },
        "profile": result["profile"],
        "device": result["device"],
        "processes": result["processes"],
        "versions": {"python": environment["python"], **environment["versions"]},
        "dataset": result["dataset"],
        **{
            key: result[key]
            for key in ("stages", "steps", "tokens_scored", "bytes_scored", "seconds", "model_sha256", "receipts")
        },
    }
    described |= {"forced": objections} if objections else {}
    return described | {"checksum": checksum(described)}


def _readme(submission: dict[str, Any]) -> str:
    """The folder's README: what it is, what was measured, how to run it."""
    marks = "".join(f"\n> **Forced:** {line}\n" for line in submission.get("forced", []))
    profile = submission["profile"]
    if profile != "none":
        marks += f"\n> Profile `{profile}` was laid over the record: not comparable with published scores.\n"
    seeds = "\n".join(
        f"| {seed} | {one['val_bpb']:.6f} | {one['val_loss']:.6f} | {one['bytes_model']:,} | {one['steps']:,} |"
        for seed, one in submission["seed_results"].items()
    )
    return f"""# {submission["name"]}

{submission["blurb"]}
{marks}
**{submission["val_bpb"]:.4f} bits per byte**; code {submission["bytes_code"]:,} + model {submission["bytes_model"]:,} =
{submission["bytes_total"]:,} of {submission["limit_bytes"]:,} bytes (tokenizer: {submission["bytes_tokenizer"]:,}).
Measured on {submission["processes"]} x {submission["device"]}.

| seed | BPB | nats per token | model bytes | steps |
|---|---|---|---|---|
{seeds}

`train_gpt.py` is everything that ran, in one file; it needs what requirements.txt lists, and the dataset
`{submission["dataset"]["name"]}` under `$GOLFZOO_DATA` or `./data`.

```sh
torchrun --standalone --nproc_per_node={submission["processes"]} train_gpt.py   # train
python train_gpt.py --eval            # score artifact.golf
python train_gpt.py --unpack source   # read the source
```
"""
