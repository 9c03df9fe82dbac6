"""The run's folder: made once, by the process that launches. Everything that a run leaves is in it."""

import importlib.metadata
import os
import platform
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from golfzoo.engine.files import write_whole
from golfzoo.errors import UsageError
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


def describe_environment(record: Record, device: str, num_processes: int) -> dict[str, Any]:
    """What env.json says: versions, device, git state, and where every component came from."""
    distributions = ("golfzoo", "torch", "numpy", "sentencepiece", "pluggy", "pydantic")
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in distributions},
        "device": device,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processes": num_processes,
        "git": _git_state(),
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
        for kind, entry in [*record.entries.items(), *(("logger", entry) for entry, _ in record.loggers)]
    ]


def _git_state() -> dict[str, Any] | None:
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
