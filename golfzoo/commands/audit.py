"""audit: what can be said of a hand-written submission without running it."""

import json
import sys
from pathlib import Path

import click

from golfzoo.commands.arguments import json_option
from golfzoo.terminal.prose import echo


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="Folder of the record before: is the gain shown?")
@json_option
def audit(folder: Path, against: Path | None, as_json: bool) -> None:
    """Read a hand-written submission in FOLDER, with its train_gpt.py, logs and submission.json.

    Nothing of it is run. Prints findings: wrong, doubtful, and notes; and what cannot be told without running it.
    Ends with status 1 if something is wrong.
    """
    from golfzoo.audit.audit import audit as audit_folder
    from golfzoo.terminal.findings import show_audit

    found = audit_folder(folder, against)
    if as_json:
        echo(json.dumps(found.to_json(), indent=1))
    else:
        show_audit(found, folder.name or str(folder))
    sys.exit(1 if found.wrong else 0)
