"""A grid's cells as jobs, through submitit: on Slurm, or as processes of this machine."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golfzoo.errors import UsageError
from golfzoo.results import read_object, write_json
from golfzoo.studies.ablate import Cell, Grid, by_training, make_cell, run_folders
from golfzoo.zoo import discover

_JOBS = "jobs.json"
_POLL_SECONDS = 1.0
_DAY_IN_MINUTES = 1440


def run_on(
    executor: str, options: dict[str, Any], grid: Grid, fresh: bool, processes: int, say: Callable[[str], None]
) -> dict[str, str]:
    """Submit the cells that are still to be run, and wait for them. Returns cell folder -> what went wrong.

    Cells that share their training are one job, so that it is trained once. Interrupted, jobs on Slurm go on: the same
    command finds what they have done. Those of this machine are ended, and go on from their checkpoints.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError("--executor needs the extra [slurm]: pip install 'golfzoo[slurm]'") from None
    try:
        made = submitit.AutoExecutor(folder=grid.folder / "jobs", cluster=executor)
    except RuntimeError as error:
        raise UsageError(f"--executor {executor}: {error}") from None
    try:
        made.update_parameters(**{"timeout_min": _DAY_IN_MINUTES, "name": "golfzoo", **options})
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(f"--job: {error}") from None
    to_do = [cell for cell in grid.cells if cell.status() != "completed"]
    jobs = _under_way(grid, to_do, submitit.SlurmJob if executor == "slurm" else submitit.LocalJob)
    taken = [cell for cells in jobs.values() for cell in cells]
    for cells in by_training([cell for cell in to_do if cell not in taken]):
        for cell in cells:
            make_cell(cell)
        jobs[made.submit(run_job, [cell.folder.absolute() for cell in cells], fresh, processes)] = cells
        write_json(grid.folder / _JOBS, {job.job_id: [cell.folder.name for cell in jobs[job]] for job in jobs})
    again = f", {len(taken)} of them under way" if taken else ""
    ids = ", ".join(job.job_id for job in jobs)
    say(f"{len(jobs)} jobs of {sum(map(len, jobs.values()))} cells on {executor}{again}: {ids}")
    failed: dict[str, str] = {}
    waiting = set(jobs)
    try:
        while waiting:
            for job in [job for job in waiting if job.done()]:
                waiting.remove(job)
                failed |= _outcome(job, [cell.folder.name for cell in jobs[job]])
                say(f"job {job.job_id}: done; {len(waiting)} to go")
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        if executor == "local":
            for job in waiting:
                job.cancel()
        else:
            say("the jobs go on; the same command given again waits for them and shows the table")
        raise
    return failed


def _under_way(grid: Grid, to_do: list[Cell], job_class: Any) -> dict[Any, list[Cell]]:
    """Jobs that an earlier command submitted and that have not ended, with their cells."""
    known = read_object(grid.folder / _JOBS)
    jobs = {job_class(grid.folder / "jobs", job_id): names for job_id, names in known.items()}
    cells = {job: [cell for cell in to_do if cell.folder.name in names] for job, names in jobs.items()}
    return {job: of_job for job, of_job in cells.items() if of_job and not job.done()}


def run_job(folders: list[Path], fresh: bool, processes: int) -> dict[str, str]:
    """What a job does."""
    return run_folders(folders, discover(), fresh, processes)


def _outcome(job: Any, names: list[str]) -> dict[str, str]:
    try:
        return job.result()
    except Exception as error:  # whatever ended the job: killed, out of memory, timed out
        return dict.fromkeys(names, f"job {job.job_id} ended: {' '.join(str(error).split())[:300]}")
