"""The run's folder: made once, by the process that launches. Everything that a run leaves is in it."""

import importlib.metadata
import io
import platform
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from golfzoo.engine.files import write_whole
from golfzoo.errors import UsageError
from golfzoo.machine.devices import cores
from golfzoo.record import Record

RESULT_SCHEMA = 1


def make_folder(record: Record, out: Path | None) -> Path:
    """Make `out`, or runs/<name>-<utc>-<6 hex>, and write the resolved record into it."""
    if out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        out = Path("runs") / f"{record.name}-{stamp}-{secrets.token_hex(3)}"
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(
            f"--out {out}: exists already; earlier results are never overwritten, choose another"
        ) from None
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made: {error.strerror}") from None
    write_whole(out / "record.toml", record.to_toml().encode())
    return out


def write_stage_files(folder: Path, stage: str, tensors: dict[str, Any]) -> None:
    """What a run's folder has of a stage, beside the artifact, which the engine writes itself."""
    import numpy as np
    import safetensors.torch

    if stage == "train":
        write_whole(folder / "weights.safetensors", safetensors.torch.save(tensors))
    elif stage == "eval":
        packed = io.BytesIO()
        columns: Any = {name: column.numpy() for name, column in tensors.items()}
        np.savez_compressed(packed, **columns)
        write_whole(folder / "documents.npz", packed.getvalue())


def describe_environment(record: Record, device: str, num_processes: int) -> dict[str, Any]:
    """What env.json says: versions, device, git state, and where every component came from."""
    distributions = ("golfzoo", "torch", "numpy", "sentencepiece", "pluggy", "pydantic")
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in distributions},
        "device": device,
        "cores": cores(),
        "processes": num_processes,
        "git": git_state(),
        "components": describe_components(record),
    }


def describe_components(record: Record) -> list[dict[str, str]]:
    return [
        {
            "kind": kind,
            "name": entry.component.name,
            "plugin": entry.plugin,
            "distribution": entry.distribution,
            "version": entry.version,
        }
        for kind, entry in record.used()
    ]


def git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout that golfzoo itself lies in; None where it lies in none."""
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(Path(__file__).parent), *command],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "clean": not status.strip()}
