"""What an audit found: a table of findings, worst first, and what it could not tell."""

from rich.box import ROUNDED
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from golfzoo.audit.audit import Audit
from golfzoo.audit.finding import NOT_CHECKABLE, SEVERITIES
from golfzoo.strangers.values import printable
from golfzoo.terminal.prose import say
from golfzoo.terminal.tables import make_console

_COLOURS = {"wrong": "bold red", "doubtful": "yellow", "note": "dim"}
_LEAST_WIDTH = 110  # with less, the findings themselves would be a few letters wide
_WIDEST = 30


def show_audit(found: Audit, name: str) -> None:
    """The folder's text is a stranger's: nothing of it is printed but as letters."""
    console = make_console()
    if console.is_terminal and console.width < _LEAST_WIDTH:
        say(console, printable(name))
        for finding in found.findings:
            say(console, printable(f"{finding.severity}: {finding.what}, {finding.where}: {finding.text}"))
    else:
        console.print(_table(console, found, name))
    counts = [sum(finding.severity == severity for finding in found.findings) for severity in SEVERITIES]
    say(console, ", ".join(f"{count} {word}" for count, word in zip(counts, SEVERITIES, strict=True)))
    say(console, f"Read: {found.sources} sources, {found.logs} logs. Not checkable from the folder:")
    for subject, what in NOT_CHECKABLE.items():
        say(console, f"  {subject}: {what}")


def _table(console: Console, found: Audit, name: str) -> Table:
    table = Table(title=escape(printable(name)), title_justify="left", box=ROUNDED if console.is_terminal else None)
    for header in ("", "what", "where"):
        table.add_column(header, overflow="fold", max_width=_WIDEST if console.is_terminal else None)
    table.add_column("finding", overflow="fold", ratio=1 if console.is_terminal else None)
    for finding in found.findings:
        cells = [escape(printable(cell)) for cell in (finding.what, finding.where, finding.text)]
        table.add_row(f"[{_COLOURS[finding.severity]}]{finding.severity}[/]", *cells)
    return table
