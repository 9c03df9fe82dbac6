"""bench, doctor: this machine, for a record and in itself."""

import json
import os
import sys
from pathlib import Path

import click

from golfzoo.commands.arguments import json_option, load, overrides_argument, profile_option, record_argument
from golfzoo.errors import UsageError
from golfzoo.terminal.prose import echo, tell


@click.command()
@record_argument
@overrides_argument
@profile_option
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Repetitions, at most.")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Validation tokens scored in a repetition, about.  [default: 524288 on CUDA, else 16384]",
)
@click.option(
    "--trace", type=click.Path(path_type=Path), metavar="FILE", help="Write what some training steps do, as JSON."
)
@json_option
def bench(
    record: str,
    overrides: tuple[str, ...],
    profile: str | None,
    repeats: int,
    tokens: int | None,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Measure how fast RECORD trains and scores on this machine, with one process, and what its seconds would buy.

    Nothing is kept. Warm-up is not counted, and what takes long is repeated less. chrome://tracing and ui.perfetto.dev
    show what --trace writes.
    """
    from golfzoo.running import launch

    if launch.joined_rank() is not None:
        raise UsageError("bench measures one process; start it without torchrun or srun")
    if trace and (trace.exists() or not trace.absolute().parent.is_dir()):
        raise UsageError(f"--trace {trace}: {'exists already' if trace.exists() else 'its folder is not there'}")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler says that it starts and stops
    resolved = load(record, overrides, profile, quiet=as_json)

    def say(line: str) -> None:
        if not as_json:
            tell(line, err=True)

    for note in resolved.notes:
        say(note)
    launch.prepare_data(resolved, say)
    launch.check_processes(resolved, 1)

    from golfzoo.engine.distributed import join
    from golfzoo.machine.bench import bench as measure
    from golfzoo.terminal.costs import show_bench
    from golfzoo.terminal.tables import make_console

    with join(resolved.tables["train"]["precision"]) as world:
        report = measure(resolved, world, repeats, tokens, say, trace)
    if as_json:
        echo(json.dumps(report, indent=1))
    else:
        show_bench(make_console(), report)
        if trace:
            tell(f"{trace}: a trace of training, for ui.perfetto.dev")


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what is here and what is broken: a block to paste into an issue.

    Looks at Python, torch, devices, compiler, data, plugins and extras, and lets two processes add up a tensor. Ends
    with status 0 only if nothing is broken.
    """
    from golfzoo.machine.doctor import examine, report, write

    findings = examine()
    echo(json.dumps(report(findings), indent=1) if as_json else write(findings))
    sys.exit(1 if any(finding.faults for finding in findings) else 0)
