"""run, eval, show: a record, run or scored or resolved."""

import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import click

from golfzoo.commands.arguments import load, overrides_argument, profile_option, record_argument
from golfzoo.engine.kinds import BY_TABLE
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.record import Record
from golfzoo.strangers.values import quoted
from golfzoo.terminal.prose import echo


@click.command()
@click.argument("record", type=click.Path(path_type=str), required=False)
@overrides_argument
@profile_option
@click.option("--nproc", type=click.IntRange(min=1), help="Processes on this machine.  [default: 1]")
@click.option("--nnodes", type=click.IntRange(min=1), default=1, help="Machines; each is given this command.")
@click.option("--rdzv-endpoint", metavar="HOST:PORT", help="Where they meet: one of them, and a free port of it.")
@click.option("--rdzv-timeout", type=click.IntRange(min=1), default=600, help="Seconds to wait for each other.")
@click.option("--lost-after", type=click.IntRange(min=2), default=60, help="Seconds until a silent machine is lost.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; by default one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with the run in DIR.")
@click.option("--fresh", is_flag=True, help="Run every stage, even one whose result is known from another run.")
@click.option("--init", type=click.Path(path_type=Path), metavar="FILE", help="Start from weights (.safetensors, .pt).")
@click.option("--dry-run", is_flag=True, help="Check record and data, say what would run, and stop.")
def run(
    record: str | None,
    overrides: tuple[str, ...],
    profile: str | None,
    nproc: int | None,
    nnodes: int,
    rdzv_endpoint: str | None,
    rdzv_timeout: int,
    lost_after: int,
    out: Path | None,
    resume: Path | None,
    fresh: bool,
    init: Path | None,
    dry_run: bool,
) -> None:
    """Run RECORD: train, quantize, pack, read the artifact back, and score it.

    KEY=VALUE overrides a key of the record, as in train.seed=7 or quantizer.use=int6. A stage whose result is known
    from another run is taken over, and said so. A run that was interrupted goes on with --resume DIR.
    """
    from golfzoo.running import elastic, launch
    from golfzoo.running.folder import describe_components
    from golfzoo.terminal.progress import Display

    if resume:
        if record or overrides or profile or out or init:
            raise UsageError("--resume DIR goes on with the record in DIR; give no other, no --out and no --init")
        record, profile = str(resume / "record.toml"), "none"
        processes = launch.processes_of(resume)
        if nproc and nproc * nnodes != processes:
            raise UsageError(f"--resume {resume}: the run has {processes} processes in all, not {nproc * nnodes}")
        nproc = processes // nnodes
    if record is None:
        raise UsageError("run needs a RECORD, or --resume DIR")
    if nnodes > 1 and not re.fullmatch(r".+:\d+", rdzv_endpoint or ""):
        raise UsageError("--nnodes needs --rdzv-endpoint HOST:PORT, where the machines meet")
    if init:
        if not init.is_file():
            raise UsageError(f"--init {init}: no such file")
        overrides = (*overrides, f"train.init={json.dumps(str(init.resolve()))}")
    start = launch.Start(out, resume, fresh, nproc or 1, nnodes, rdzv_endpoint or "", rdzv_timeout, lost_after)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what torch logs of connections, its exceptions say too
    resolved = load(record, overrides, profile)
    rank = launch.joined_rank()
    display = Display(resolved.tables)
    with display:
        if not rank:
            for note in resolved.notes:
                display.say(note)
            launch.prepare_data(resolved, display.say)
            display.begin()
        launch.check_processes(resolved, start.processes * start.nodes)
        if dry_run:
            display.say(f"{record}: {resolved.name} would run with these components:")
            for used in describe_components(resolved):
                display.say(f"  {used['kind']:12} {used['name']} ({used['distribution']} {used['version']})")
            return
        if start.processes * start.nodes > 1 and rank is None:
            folder, result = elastic.run_several(resolved, start, display.show)
        else:
            folder, result = launch.run_here(resolved, start, display.show)
    if click.get_current_context().obj and result.get("status") == "completed":
        for number in (signal.SIGINT, signal.SIGTERM):  # nothing is left to interrupt, until the process has ended
            signal.signal(number, signal.SIG_IGN)
    if result and not rank:  # other machines have none
        options = ["--profile", profile] if profile and not resume else []
        options += ["--nproc", str(nproc)] if nproc and nproc > 1 else []
        _close(display, resolved, [record, *overrides, *options], result, folder)


def _close(display: Any, record: Record, arguments: list[str], result: dict[str, Any], folder: Path) -> None:
    """Say what a run came to, and what may be done next."""
    from golfzoo.terminal.closing import next_commands
    from golfzoo.terminal.scores import show_result
    from golfzoo.zoo import discover

    show_result(display.console, result, record.tables["record"]["published"])
    if display.console.is_terminal:
        _speak(display, folder, result["seed"])
    display.say("To try next:")
    for command in next_commands(record, arguments, discover(), result, folder):
        display.say(f"  {command}")
    display.say(f"Everything is in {folder}")


def _speak(display: Any, folder: Path, seed: int) -> None:
    """Show a few words of the model. The run is through: whatever goes wrong here is a warning."""
    from golfzoo.terminal.prose import tell

    try:
        from golfzoo.speaking.speaker import speak_briefly

        text = speak_briefly(folder, seed)
    except Exception as error:
        tell(f"warning: no sample of its text: {quoted(error, 200)}", err=True)
        return
    display.say(f"What the model writes (more: golfzoo sample {shlex.quote(str(folder))}):")
    for line in text.strip("\n").split("\n"):
        display.say(f"  {line}")


@click.command()
@record_argument
@overrides_argument
@profile_option
@click.option("--weights", type=click.Path(path_type=Path), help="Score these: .safetensors, or a reference .pt.")
@click.option("--artifact", type=click.Path(path_type=Path), help="Score this artifact.golf.")
@click.option("--json", "as_json", is_flag=True, help="Print the score as JSON.")
def eval(
    record: str,
    overrides: tuple[str, ...],
    profile: str | None,
    weights: Path | None,
    artifact: Path | None,
    as_json: bool,
) -> None:
    """Score weights or an artifact as RECORD's [eval] and [adaptor] say, without training."""
    path = weights or artifact
    if path is None or (weights and artifact):
        raise UsageError("eval needs one of --weights FILE and --artifact FILE")
    from golfzoo.engine.errors import RunError
    from golfzoo.running import launch
    from golfzoo.terminal.progress import Display

    resolved = load(record, overrides, profile, quiet=as_json)
    display = Display(resolved.tables, quiet=as_json)
    launch.prepare_data(resolved, display.say)
    try:
        with display:
            display.begin()
            score = launch.score_file(resolved, path, artifact is not None, display.show)
    except RunError as error:
        raise RunError(f"{error}{_made_with(resolved, path, '--weights' if weights else '--artifact')}") from None
    if as_json:
        echo(json.dumps(score, indent=1))
    else:
        display.say(
            f"{score['val_bpb']:.8f} bits per byte, {score['val_loss']:.8f} nats per token, over "
            f"{score['tokens_scored']:,} tokens and {score['bytes_scored']:,} bytes, "
            f"in {score['seconds']['eval']:.1f} s"
        )


def _made_with(record: Record, path: Path, option: str) -> str:
    """What to do about a file that cannot be scored, where a record that differs from the one given lies beside it."""
    beside = path.with_name("record.toml")
    try:
        other = load(str(beside), (), "none").tables
    except GolfzooError:
        return ""
    if all(other.get(kind) == record.tables.get(kind) for kind in BY_TABLE):
        return ""
    command = shlex.join(["golfzoo", "eval", str(beside), option, str(path)])
    return f"; it was made with the record.toml beside it: {command}"


@click.command()
@record_argument
@overrides_argument
@profile_option
@click.option("--model", "as_model", is_flag=True, help="Print its model instead: modules and parts, in forward order.")
def show(record: str, overrides: tuple[str, ...], profile: str | None, as_model: bool) -> None:
    """Print RECORD resolved: every option of every table, as a record that runs."""
    resolved = load(record, overrides, profile)
    if as_model:
        from golfzoo.terminal.modules import model_listing

        echo(model_listing(resolved))
    else:
        echo(resolved.to_toml(), end="")
