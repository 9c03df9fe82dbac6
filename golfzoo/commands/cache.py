"""cache: what is kept of earlier runs."""

import json
import time

import click

from golfzoo.commands.arguments import json_option
from golfzoo.terminal.prose import echo


@click.group()
def cache() -> None:
    """What is kept of earlier runs, so that no stage is computed twice."""


@cache.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the kept results: stage, record, size, when last used, and the run that made it."""
    from golfzoo.running.cache import Cache
    from golfzoo.terminal.costs import show_cache

    kept = Cache()
    entries = kept.entries()
    if as_json:
        rows = [
            {
                "stage": entry.stage,
                "fingerprint": entry.fingerprint,
                "record": entry.facts.get("record", ""),
                "bytes": entry.size,
                "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used)),
                "from": entry.facts.get("from", ""),
            }
            for entry in entries
        ]
        echo(json.dumps(rows, indent=1))
    else:
        show_cache(kept.root, entries)


@cache.command()
@click.option("--max-gb", type=click.FloatRange(min=0), help="Remove the least recently used until this is enough.")
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Remove what was not used for so long."
)
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
def prune(max_gb: float | None, older_than: float | None, everything: bool) -> None:
    """Remove kept results. Runs keep their own files; only later runs lose what they could have taken over."""
    from golfzoo.errors import UsageError
    from golfzoo.running.cache import Cache

    if max_gb is None and older_than is None and not everything:
        raise UsageError("cache prune needs --max-gb, --older-than or --all")
    limit = 0 if everything else None if max_gb is None else int(max_gb * 1e9)
    removed = Cache().prune(limit, older_than)
    echo(f"removed {len(removed)} results, {sum(entry.size for entry in removed) / 1e6:,.1f} MB")
