"""What an audit found: a table of findings, worst first, and what it could not tell."""

from rich.box import ROUNDED
from rich.markup import escape
from rich.table import Table

from golfzoo.audit.audit import Audit
from golfzoo.audit.finding import NOT_CHECKABLE, SEVERITIES
from golfzoo.terminal.printable import printable
from golfzoo.terminal.prose import say
from golfzoo.terminal.tables import make_console

_COLOURS = {"wrong": "bold red", "doubtful": "yellow", "note": "dim"}


def show_audit(found: Audit, name: str) -> None:
    """The folder's text is a stranger's: nothing of it is printed but as letters."""
    console = make_console()
    table = Table(title=escape(printable(name)), title_justify="left", box=ROUNDED if console.is_terminal else None)
    for header in ("", "what", "where"):
        table.add_column(header, overflow="fold")
    table.add_column("finding", overflow="fold", ratio=1 if console.is_terminal else None)
    for finding in found.findings:
        cells = [finding.severity, finding.what, finding.where, finding.text]
        style = _COLOURS[finding.severity]
        table.add_row(f"[{style}]{finding.severity}[/]", *(escape(printable(cell)) for cell in cells[1:]))
    console.print(table)
    counts = [sum(finding.severity == severity for finding in found.findings) for severity in SEVERITIES]
    say(console, ", ".join(f"{count} {word}" for count, word in zip(counts, SEVERITIES, strict=True)))
    say(console, f"Read: {found.sources} sources, {found.logs} logs. Not checkable from the folder:")
    for subject, what in NOT_CHECKABLE.items():
        say(console, f"  {subject}: {what}")
