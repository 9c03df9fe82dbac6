"""The referee: prepares a place without training data, starts the fresh processes there, and collects the verdicts."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from golfzoo.corpus.counting import side_files
from golfzoo.engine.components import namespace
from golfzoo.engine.data import data_paths
from golfzoo.engine.shards import find_shards
from golfzoo.machine.devices import device_name
from golfzoo.verify.static_checks import check_clocks, check_leak, check_seeds, check_size
from golfzoo.verify.subject import Subject, installed_tokenizer, own_engine, read_subject, same_conditions
from golfzoo.verify.verdict import MEANINGS, Verdict
from golfzoo.zoo import Zoo

_SCORE_LINE = re.compile(r"final score: loss [\d.]+, ([\d.]+) bits per byte")
_STDERR_LINES = 40


def verify(folder: Path, zoo: Zoo) -> tuple[list[Verdict], list[str]]:
    """All verdicts on a run or a submission, in order, and notes for the reader."""
    subject = read_subject(folder, zoo)
    data, tokenizer_file = data_paths(namespace(subject.tables["data"]))
    find_shards(data, "val")
    notes = []
    counting = installed_tokenizer(subject, zoo)
    if not counting:
        notes.append("its tokenizer is not installed here: the bytes are as its own code counts and decodes them")
    if changed := own_engine(subject, counting):
        notes.append(f"its engine differs from this golfzoo's in {', '.join(changed)}; both have scored the artifact")
    verdicts = [check_size(subject), check_clocks(subject), check_seeds(subject), check_leak(subject)]
    with tempfile.TemporaryDirectory(prefix="golfzoo-verify-") as temporary:
        place = Path(temporary)
        _lay_out(place, subject, data, tokenizer_file)
        offline = _without_network()
        if not offline:
            notes.append("this system does not let a process be cut off from the network; the fresh process was not")
        shipped = None
        if subject.sources is not None:
            shipped, fault = _score_by_own_code(place, offline)
            notes += [f"its own code fails: {fault}"] if fault else []
        exact = same_conditions(subject, device_name())
        task = {
            "tables": subject.tables,
            "targets": subject.targets,
            "claim": subject.claim,
            "exact": exact,
            "shipped": shipped,
            "counting": counting,
        }
        (place / "task.json").write_text(json.dumps(task))
        done = _start(place, offline, "-m", "golfzoo.verify.subprocess_main", str(place))
        if not (place / "verdicts.json").exists():
            fault = _fault(done)
            verdicts.append(Verdict("score", False, f"the artifact cannot be scored: {fault.splitlines()[0]}"))
            notes.append(f"the fresh process fails: {fault}")
        else:
            inside = json.loads((place / "verdicts.json").read_text())
            verdicts += [Verdict(**verdict) for verdict in inside["verdicts"]]
            notes.append(f"scored here in {inside['seconds']:.1f} s, from the start of the process on")
    order = list(MEANINGS)
    return sorted(verdicts, key=lambda verdict: order.index(verdict.probe)), notes


def _lay_out(place: Path, subject: Subject, data: Path, tokenizer_file: Path) -> None:
    """The validation shards, the tokenizer, the artifact; nothing to train on."""
    dataset = place / "data" / "datasets" / data.name
    dataset.mkdir(parents=True)
    described = [data / "dataset.json"] if (data / "dataset.json").exists() else []
    for path in (*find_shards(data, "val"), *side_files(data), *described):
        (dataset / path.name).symlink_to(path.resolve())
    (place / "data" / "tokenizers").mkdir()
    if tokenizer_file.exists():
        (place / "data" / "tokenizers" / tokenizer_file.name).symlink_to(tokenizer_file.resolve())
    shutil.copy(subject.artifact, place)
    if subject.sources is not None:
        (place / "train_gpt.py").write_bytes(subject.code)
    if subject.weights is not None:
        shutil.copy(subject.weights, place / "weights.safetensors")


def _score_by_own_code(place: Path, offline: list[str]) -> tuple[float, str]:
    """What `python train_gpt.py --eval` prints; or NaN, and why there is none. The submission's code runs, with nothing
    but this place to work on."""
    done = _start(place, offline, str(place / "train_gpt.py"), "--eval")
    found = _SCORE_LINE.search(done.stdout)
    return (float(found[1]), "") if found else (float("nan"), _fault(done))


def _fault(done: "subprocess.CompletedProcess[str]") -> str:
    """Why a process failed: the last line that it said, which in a traceback names the error, then those before it."""
    *before, last = done.stderr.strip().splitlines()[-_STDERR_LINES:] or [f"ended with status {done.returncode}"]
    return "\n    ".join([last, *before])


def _start(place: Path, offline: list[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
        "GOLFZOO_DATA": str(place / "data"),
    }
    command = [*offline, sys.executable, *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


def _without_network() -> list[str]:
    """The command that starts another without network, where the system has one that works."""
    unshare = shutil.which("unshare")
    if unshare:
        command = [unshare, "--map-root-user", "--net"]
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


def report(verdicts: list[Verdict], notes: list[str]) -> dict[str, Any]:
    """Verdicts for machines."""
    return {
        "holds": all(verdict.holds is not False for verdict in verdicts),
        "probes": [verdict.to_json() for verdict in verdicts],
        "notes": notes,
    }
