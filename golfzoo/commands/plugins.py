"""plugins, records: what there is."""

from pathlib import Path

import click

from golfzoo.commands.arguments import json_option
from golfzoo.terminal.prose import echo


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@json_option
def plugins(kind: str | None, name: str | None, as_json: bool) -> None:
    """List the components that records can name; with KIND, those of a kind; with KIND NAME, the options of one."""
    from golfzoo.terminal import listing
    from golfzoo.zoo import discover

    zoo = discover()
    if kind and name:
        echo(listing.options(zoo, kind, name, as_json))
    else:
        echo(listing.components(zoo, kind, as_json))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("records"))
@click.option("--sizes", is_flag=True, help="Also the bytes of code that each would ship.")
@json_option
def records(folder: Path, sizes: bool, as_json: bool) -> None:
    """List the records in FOLDER (by default records/): name, file, published score, summary."""
    from golfzoo.terminal import listing
    from golfzoo.zoo import discover

    echo(listing.records(discover(), folder, as_json, sizes))
