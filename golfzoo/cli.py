"""The commands. Thin: each reads its arguments, calls one function, and shows what comes back."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from golfzoo.errors import GolfzooError, UsageError


class Commands(click.Group):
    """Prints errors that are meant for people as lines, and keeps tracebacks for bugs."""

    def invoke(self, ctx: click.Context) -> Any:
        from golfzoo.engine.errors import RunError

        try:
            return super().invoke(ctx)
        except GolfzooError as error:
            _fail(str(error), error.exit_status)
        except RunError as error:
            _fail(str(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
            sys.exit(0)


def _fail(message: str, status: int) -> None:
    for line in message.split("\n"):
        click.echo(line if line.startswith("  ") else f"golfzoo: {line}", err=True)
    sys.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="golfzoo")
def main() -> None:
    """Train, quantize, pack and score small language models, from a record that names its plugins.

    \b
    golfzoo run records/baseline.toml
    golfzoo run records/baseline.toml quantizer.use=int6 adaptor.use=none
    """


_record = click.argument("record", type=click.Path(path_type=str))
_overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
_profile = click.option(
    "--profile", metavar="NAME|none", help="Lay this profile over the record; by default `cpu`, where there is no CUDA."
)


@main.command()
@_record
@_overrides
@_profile
@click.option("--nproc", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; by default one under runs/.")
@click.option("--dry-run", is_flag=True, help="Check record and data, say what would run, and stop.")
def run(
    record: str, overrides: tuple[str, ...], profile: str | None, nproc: int, out: Path | None, dry_run: bool
) -> None:
    """Run RECORD: train, quantize, pack, read the artifact back, and score it.

    KEY=VALUE overrides a key of the record, as in train.seed=7 or quantizer.use=int6.
    """
    from golfzoo import launch
    from golfzoo.display import Display, show_result

    resolved = _load(record, overrides, profile)
    rank = launch.joined_rank()
    display = Display(resolved.tables)
    if not rank:
        for note in resolved.notes:
            display.say(note)
        launch.prepare_data(resolved, display.say)
    launch.check_processes(resolved, nproc)
    if dry_run:
        display.say(f"{record}: {resolved.name} would run with these components:")
        for kind, entry in resolved.entries.items():
            display.say(f"  {kind:12} {entry.component.name} ({entry.distribution} {entry.version})")
        return
    with display:
        if nproc > 1 and rank is None:
            folder, result = launch.run_several(resolved, out, nproc, display.show)
        else:
            folder, result = launch.run_here(resolved, out, display.show)
    if not rank:
        show_result(display.console, result, resolved.tables["record"]["published"])
        display.say(f"Everything is in {folder}")


@main.command()
@_record
@_overrides
@_profile
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
    from golfzoo import launch
    from golfzoo.display import Display

    resolved = _load(record, overrides, profile, quiet=as_json)
    display = Display(resolved.tables, quiet=as_json)
    launch.prepare_data(resolved, display.say)
    with display:
        score = launch.score_file(resolved, path, artifact is not None, display.show)
    if as_json:
        click.echo(json.dumps(score, indent=1))
    else:
        display.say(
            f"{score['val_bpb']:.8f} bits per byte, {score['val_loss']:.8f} nats per token, over "
            f"{score['tokens_scored']:,} tokens and {score['bytes_scored']:,} bytes, "
            f"in {score['seconds']['eval']:.1f} s"
        )


@main.command()
@_record
@_overrides
@_profile
def show(record: str, overrides: tuple[str, ...], profile: str | None) -> None:
    """Print RECORD resolved: every option of every table, as a record that runs."""
    click.echo(_load(record, overrides, profile).to_toml(), nl=False)


@main.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(kind: str | None, name: str | None, as_json: bool) -> None:
    """List the components that records can name; with KIND, those of a kind; with KIND NAME, the options of one."""
    from golfzoo import listing
    from golfzoo.zoo import discover

    zoo = discover()
    if kind and name:
        click.echo(listing.options(zoo, kind, name, as_json))
    else:
        click.echo(listing.components(zoo, kind, as_json))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("records"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def records(folder: Path, as_json: bool) -> None:
    """List the records in FOLDER (by default records/): name, summary, published score."""
    from golfzoo import listing
    from golfzoo.zoo import discover

    click.echo(listing.records(discover(), folder, as_json))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The submission's folder, which is made.")
@click.option("--author", default="", help="For submission.json.")
@click.option("--github-id", default="", help="For submission.json.")
@click.option("--blurb", default="", help="A line about it, for submission.json and README.md.")
@click.option("--force", is_flag=True, help="Pack what is over the limit or incomplete too, and mark it.")
def pack(runs: tuple[Path, ...], out: Path, author: str, github_id: str, blurb: str, force: bool) -> None:
    """Pack RUN into a folder that stands alone: code in one file, artifact, submission.json.

    Further RUNs are the same record under other seeds; their results are reported beside the first one's.
    """
    from golfzoo.submission import write_submission
    from golfzoo.zoo import discover

    about = {"author": author, "github_id": github_id, "blurb": blurb}
    submission, forced = write_submission(list(runs), out, discover(), about, force)
    for line in forced:
        click.echo(f"forced: {line}", err=True)
    click.echo(
        f"{out}: code {submission['bytes_code']:,} + model {submission['bytes_model']:,} = "
        f"{submission['bytes_total']:,} of {submission['limit_bytes']:,} bytes, "
        f"{submission['val_bpb']:.6f} bits per byte"
    )


@main.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN|RECORD|ARTIFACT")
@_profile
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def size(path: Path, profile: str | None, as_json: bool) -> None:
    """Show where the bytes go: tensors by group, code by module, and the room that is left.

    An ARTIFACT is read with the record.toml that lies beside it.
    """
    from golfzoo import sizes
    from golfzoo.display import show_sizes

    if path.suffix == ".toml":
        record, artifact = _load(str(path), (), profile, quiet=as_json), None
    else:
        artifact = path / "artifact.golf" if path.is_dir() else path
        if not artifact.is_file():
            raise UsageError(f"{artifact}: no such file")
        record = _load(str(artifact.with_name("record.toml")), (), "none")
    measured = sizes.measure(record, artifact.read_bytes() if artifact else None, str(artifact))
    if as_json:
        click.echo(json.dumps(measured, indent=1))
    else:
        show_sizes(measured)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Check that the score of a RUN, or of a packed submission in FOLDER, holds.

    Runs the probes in a fresh process, from the artifact and the validation data alone. A submission's own code is run
    there too. Ends with status 0 only if every probe holds.
    """
    from golfzoo.display import show_verdicts
    from golfzoo.verify.referee import report, verify
    from golfzoo.zoo import discover

    verdicts, notes = verify(folder, discover())
    reported = report(verdicts, notes)
    if as_json:
        click.echo(json.dumps(reported, indent=1))
    else:
        show_verdicts(verdicts, notes)
    sys.exit(0 if reported["holds"] else 1)


@main.group()
def data() -> None:
    """Build, list and check datasets. They lie under $GOLFZOO_DATA, or ./data."""


@data.command()
@click.argument("name")
@click.option("--text", metavar="GLOB", help="Text files, a document each.")
@click.option("--jsonl", type=click.Path(path_type=Path), help='A file of JSON lines with a "text" each.')
@click.option("--vocab-size", type=click.IntRange(min=260, max=65536), default=1024, show_default=True)
@click.option("--val-every", type=click.IntRange(min=2), default=20, show_default=True, help="Every n-th document.")
def build(name: str, text: str | None, jsonl: Path | None, vocab_size: int, val_every: int) -> None:
    """Build dataset NAME: train a tokenizer, encode, write shards.

    `stdlib` is made from this Python's standard library. Any other NAME needs --text or --jsonl; a --vocab-size of 260
    means bytes, without a tokenizer.
    """
    from golfzoo.corpus import build, sources
    from golfzoo.engine.data import data_root

    if name == build.STDLIB and not (text or jsonl):
        build.build_stdlib(data_root(), click.echo)
        return
    if text and not jsonl:
        documents = sources.text_documents(text)
    elif jsonl and not text:
        documents = sources.jsonl_documents(jsonl)
    else:
        raise UsageError(f"data build {name}: needs one of --text GLOB and --jsonl FILE")
    build.build_dataset(name, documents, vocab_size, data_root(), click.echo, text or str(jsonl), val_every)


@data.command("list")
def list_() -> None:
    """List the datasets that are there."""
    from golfzoo.corpus.check import list_datasets
    from golfzoo.engine.data import data_root

    for name, line in list_datasets(data_root()):
        click.echo(f"{name:24} {line}")


@data.command()
@click.argument("name")
@click.option("--tokenizer", help="The tokenizer's file name, where the dataset does not say.")
def check(name: str, tokenizer: str | None) -> None:
    """Check dataset NAME: headers, sizes, numbering, every token id, byte totals."""
    from golfzoo.corpus.check import check_dataset
    from golfzoo.engine.data import data_root

    root = data_root()
    folder = root / "datasets" / name
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such dataset; `golfzoo data list` shows what is there")
    counts = check_dataset(folder, root / "tokenizers" / tokenizer if tokenizer else None)
    for split in ("train", "val"):
        click.echo(
            f"{split:5} {counts['documents'][split]:,} documents, {counts['tokens'][split]:,} tokens, "
            f"{counts['bytes'][split]:,} bytes"
        )
    click.echo("every check passed")


def _load(record: str, overrides: tuple[str, ...], profile: str | None, quiet: bool = False) -> Any:
    """Resolve a record with the profile that applies, and say so where one was not asked for."""
    from golfzoo.launch import has_cuda
    from golfzoo.record import load_record, profile_names
    from golfzoo.zoo import discover

    if profile is None:
        profile = "none"
        if "cpu" in profile_names(record) and not has_cuda():
            profile = "cpu"
            if not quiet:
                click.echo(
                    "No CUDA device: laying profile 'cpu' over the record. Its scores are not comparable with "
                    "published ones; --profile none runs the record as it is.",
                    err=True,
                )
    return load_record(record, discover(), overrides, profile)
