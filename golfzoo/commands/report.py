"""runs, report: what was run, and what came out."""

import json
from pathlib import Path

import click

from golfzoo.commands.arguments import json_option
from golfzoo.terminal.prose import echo, tell


@click.command()
@click.option(
    "--filter", "filters", multiple=True, metavar="TEXT|KEY=VALUE",
    help="Only runs with TEXT in name, record or status; or whose column, or key of the record, has this value. "
    "Several must all hold.",
)  # fmt: skip
@click.option("--sort", default="when", show_default=True, metavar="COLUMN", help="Order; -COLUMN turns it round.")
@json_option
def runs(filters: tuple[str, ...], sort: str, as_json: bool) -> None:
    """List the runs under runs/, and the cells of ablations there.

    \b
    golfzoo runs --filter baseline --sort bpb
    golfzoo runs --filter status=completed --filter quantizer.use=int6
    """
    from golfzoo.report.survey import arrange, select, show_runs, survey

    rows = survey()
    shown = arrange(select(rows, filters), sort)
    if as_json:
        echo(json.dumps([row.to_json() for row in shown], indent=1))
    else:
        show_runs(shown, len(rows))


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN|GLOB...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The page, as in report.html.")
@click.option("--png", "pngs", type=click.Path(path_type=Path), metavar="DIR", help="Write every plot there as a PNG.")
def report(runs: tuple[str, ...], out: Path, pngs: Path | None) -> None:
    """Write one HTML page about RUNs: scores, curves, bytes, quantization, adaptation, records.

    The folder of an ablation stands for its cells, and brings its table. The page needs nothing beside it. Takes the
    extra [report].
    """
    from golfzoo.report.gather import gather
    from golfzoo.report.survey import announce

    gathered = gather(list(runs))
    for path in gathered.skipped:
        echo(f"skipped: {path} is not a run", err=True)

    # Said before torch and matplotlib are imported; an artifact that is examined takes seconds.
    for line in announce([run.label for run in gathered.completed]):
        tell(line, err=True)

    from golfzoo.report.page import write_report
    from golfzoo.zoo import discover

    drawn = write_report(gathered, out, pngs, discover(), lambda line: echo(f"  {line}", err=True))
    echo(f"{out}: {len(gathered.runs)} runs, {len(drawn)} plots" + (f", also in {pngs}" if pngs else ""))
