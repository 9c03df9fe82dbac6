"""Arguments that several commands share, and the record that they name."""

import click

from golfzoo.record import Record
from golfzoo.terminal.prose import tell

record_argument = click.argument("record", type=click.Path(path_type=str))
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
profile_option = click.option(
    "--profile", metavar="NAME|none", help="Lay this profile over the record; by default `cpu`, where there is no CUDA."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load(record: str, overrides: tuple[str, ...], profile: str | None, quiet: bool = False) -> Record:
    """Resolve a record with the profile that applies, and say so where one was not asked for."""
    from golfzoo.machine.devices import has_cuda
    from golfzoo.overlay import profile_names
    from golfzoo.record import load_record
    from golfzoo.zoo import discover

    if profile is None:
        profile = "none"
        if "cpu" in profile_names(record) and not has_cuda():
            profile = "cpu"
            if not quiet:
                tell(
                    "No CUDA device: laying profile 'cpu' over the record. Its scores are not comparable with "
                    "published ones; --profile none runs the record as it is.",
                    err=True,
                )
    return load_record(record, discover(), overrides, profile)
