"""pack, size, verify, compare: what a result is worth."""

import json
import sys
from pathlib import Path

import click

from golfzoo.commands.arguments import json_option, load, profile_option
from golfzoo.overlay import OF_A_RUN
from golfzoo.strangers.files import read_bytes
from golfzoo.terminal.prose import echo, tell


@click.command()
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
    from golfzoo.shipping.submission import write_submission
    from golfzoo.zoo import discover

    about = {"author": author, "github_id": github_id, "blurb": blurb}
    submission, forced = write_submission(list(runs), out, discover(), about, force)
    for line in forced:
        tell(f"forced: {line}", err=True)
    tell(
        f"{out}: code {submission['bytes_code']:,} + model {submission['bytes_model']:,} = "
        f"{submission['bytes_total']:,} of {submission['limit_bytes']:,} bytes, "
        f"{submission['val_bpb']:.6f} bits per byte"
    )


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN|RECORD|ARTIFACT")
@profile_option
@json_option
def size(path: Path, profile: str | None, as_json: bool) -> None:
    """Show where the bytes go: tensors by group, code by module, and the room that is left.

    An ARTIFACT is read with the record.toml that lies beside it.
    """
    from golfzoo.shipping import sizes
    from golfzoo.terminal.costs import show_sizes

    if path.suffix == ".toml":
        record, artifact, data = load(str(path), (), profile, quiet=as_json), None, None
    else:
        artifact = path / "artifact.golf" if path.is_dir() else path
        data = read_bytes(artifact, "artifact", follow=not path.is_dir())
        record = load(str(artifact.with_name(OF_A_RUN)), (), "none")
    measured = sizes.measure(record, data, str(artifact))
    if as_json:
        echo(json.dumps(measured, indent=1))
    else:
        show_sizes(measured)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN|FOLDER")
@click.option("--challenge", metavar="NAME|FILE", help="Rank it by this challenge's limits and text.")
@click.option("--quick", is_flag=True, help="Probe a sample of the text, and say so.")
@click.option("--seed", type=click.IntRange(0), help="Repeat the probes of an earlier verdict.")
@json_option
def verify(folder: Path, challenge: str | None, quick: bool, seed: int | None, as_json: bool) -> None:
    """Check that the score of a RUN, or of a packed submission in FOLDER, holds.

    The referee plays the validation text itself, several times; the submission, in a process of its own, only predicts.
    Ends with status 0 only if every probe holds.
    """
    from golfzoo.terminal.scores import show_verdicts
    from golfzoo.verify.challenge import read_challenge
    from golfzoo.verify.referee import report, verify
    from golfzoo.zoo import discover

    rules = read_challenge(challenge) if challenge else None
    verdicts, notes = verify(folder, discover(), rules, quick, seed, lambda text: echo(f"{text} ...", err=True))
    reported = report(verdicts, notes)
    if as_json:
        echo(json.dumps(reported, indent=1))
    else:
        show_verdicts(verdicts, notes)
    sys.exit(0 if reported["holds"] else 1)


@click.command()
@click.argument("base")
@click.argument("others", nargs=-1, required=True, metavar="OTHER...")
@click.option("--margin", default=0.005, show_default=True, help="Nats per token that a gain must exceed.")
@click.option("--alpha", default=0.01, show_default=True, help="Probability of error that is accepted.")
@json_option
@click.option("--md", "as_markdown", is_flag=True, help="Print a Markdown table.")
def compare(base: str, others: tuple[str, ...], margin: float, alpha: float, as_json: bool, as_markdown: bool) -> None:
    """Compare each OTHER with BASE: runs, globs of runs, or names of records under runs/.

    A name means the runs of records/NAME.toml as it is; those with changes are left out, which is said. Several runs
    of one name or glob are a group, whose records may differ in nothing but the seed.
    Groups over seeds are compared by Welch's t test against the margin; two single runs document by document.
    """
    from golfzoo.studies.compare import compare, read_group
    from golfzoo.terminal.scores import show_comparisons

    reference = read_group(base)
    reports = [compare(reference, read_group(other), margin, alpha) for other in others]
    if as_json:
        echo(json.dumps(reports, indent=1))
    else:
        show_comparisons(reports, as_markdown)
