"""What a confined command and all that it has started use, held against its limits; from outside, through /proc."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from golfzoo.verify.launcher import children, descendants

_MAX_ENTRIES = 20_000  # of its folder


@dataclass(frozen=True)
class Limits:
    """Of all its processes together. `memory_bytes` is memory of its own and shared, not the files that it maps;
    `processes` counts threads too; `file_bytes` is all that lies in its folder; `output_bytes` both streams."""

    memory_bytes: int
    cpu_seconds: float
    wall_seconds: float
    processes: int
    file_bytes: int
    output_bytes: int


def over_limit(launcher: int, limits: Limits, folder: Path | None) -> str | None:
    """Which limit the processes below the launcher are over, if any."""
    keeper = children(launcher)
    below = descendants(keeper)
    memory = num_tasks = ticks = 0
    unlinked: dict[tuple[int, int], int] = {}
    for process in below | keeper:
        try:
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, stat[13:15] if process in keeper else stat[11:15]))
            if process in below:
                status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
                memory += (
                    sum(int(status.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem", "VmSwap")) * 1024
                )
                num_tasks += int(status["Threads"])
                if folder is not None:
                    unlinked |= _open_unlinked(process, folder.stat().st_dev)
        except (OSError, ValueError, IndexError, KeyError):
            continue  # it has just ended
    if num_tasks > limits.processes:
        return f"processes: more than {limits.processes}"
    if memory > limits.memory_bytes:
        return f"memory: more than {limits.memory_bytes:,} bytes"
    if ticks / os.sysconf("SC_CLK_TCK") > limits.cpu_seconds:
        return f"CPU time: more than {limits.cpu_seconds:g} s"
    if folder is not None:
        return _over_files(folder, limits.file_bytes - sum(unlinked.values()), limits.file_bytes)
    return None


def _open_unlinked(process: int, device: int) -> dict[tuple[int, int], int]:
    """Bytes of files on that device that no folder names any more."""
    found = {}
    for name in os.listdir(f"/proc/{process}/fd"):
        with contextlib.suppress(OSError):
            known = os.stat(f"/proc/{process}/fd/{name}")
            if known.st_dev == device and known.st_nlink == 0:
                found[known.st_dev, known.st_ino] = known.st_blocks * 512
    return found


def _over_files(folder: Path, left: int, limit: int) -> str | None:
    rest, num_entries = [str(folder)], 0
    if left < 0:
        return f"files: more than {limit:,} bytes"
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    num_entries += 1
                    with contextlib.suppress(FileNotFoundError):
                        left -= entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(entry.path)
                    if left < 0 or num_entries > _MAX_ENTRIES:
                        return f"files: more than {limit:,} bytes" if left < 0 else f"files: more than {_MAX_ENTRIES:,}"
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"files: its folder cannot be measured ({error.strerror})"
    return None


def kill_tree(launcher: int) -> None:
    """By hand, where the launcher does not do it. To be called until all are gone: as long as anything lives below its
    keeper, the keeper is left, because orphans come to it."""
    keeper = children(launcher)
    below = {process for process in descendants(keeper) if not _is_zombie(process)}
    for process in below or {*keeper, launcher}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
