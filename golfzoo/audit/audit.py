"""An audit, from top to bottom: read the folder, parse its sources, logs and claims, and ask every question."""

from dataclasses import dataclass, replace
from pathlib import Path

from golfzoo.audit.access import check_access
from golfzoo.audit.bytetables import check_byte_tables
from golfzoo.audit.claims import read_claim
from golfzoo.audit.clocks import check_clocks
from golfzoo.audit.figures import check_figures
from golfzoo.audit.finding import MEANINGS, NOT_CHECKABLE, SEVERITIES, Finding
from golfzoo.audit.folder import read_folder
from golfzoo.audit.logs import read_logs
from golfzoo.audit.order import check_order
from golfzoo.audit.scoring import check_scoring
from golfzoo.audit.seeds import check_seeds
from golfzoo.audit.sizes import check_sizes
from golfzoo.audit.source import read_sources
from golfzoo.audit.techniques import check_techniques

MOST_OF_A_KIND = 5


@dataclass(frozen=True)
class Audit:
    """Findings, the worst first; `logs` and `sources` are what there was to look at."""

    findings: list[Finding]
    logs: int
    sources: int

    @property
    def wrong(self) -> bool:
        return any(finding.severity == "wrong" for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        words = {finding.what for finding in self.findings}
        return {
            "wrong": self.wrong,
            "logs": self.logs,
            "sources": self.sources,
            "findings": [finding.to_json() for finding in self.findings],
            "meanings": {word: meaning for word, meaning in MEANINGS.items() if word in words},
            "not_checkable": NOT_CHECKABLE,
        }


def audit(path: Path, against: Path | None = None) -> Audit:
    """Everything that can be said of a submission's folder. `against`: the folder of the record before it."""
    folder = read_folder(path)
    findings = folder.findings
    sources = read_sources(folder, findings)
    claim = read_claim(folder, findings)
    logs = read_logs(folder)
    base = read_logs(read_folder(against)) if against else []
    findings += check_sizes(folder, sources, logs, claim)
    findings += check_figures(folder, sources, logs, claim)
    findings += check_seeds(folder, sources, logs, claim, base)
    findings += check_clocks(logs, claim)
    findings += check_byte_tables(folder, sources, logs)
    findings += check_scoring(folder, sources)
    findings += check_order(sources, logs)
    findings += check_techniques(folder, sources, logs)
    findings += check_access(folder, sources)
    return Audit(_in_order(findings), len(logs), len(sources.parsed))


def _in_order(findings: list[Finding]) -> list[Finding]:
    """The worst first; of one kind in one file no more than a few, with how many there are."""
    kinds: dict[tuple[int, int, str], list[Finding]] = {}
    words = list(MEANINGS)
    for finding in sorted(set(findings), key=lambda finding: finding.line):
        kind = SEVERITIES.index(finding.severity), words.index(finding.what), finding.file
        kinds.setdefault(kind, []).append(finding)
    shown: list[Finding] = []
    for _, found in sorted(kinds.items(), key=lambda item: item[0]):
        shown += found[:MOST_OF_A_KIND]
        more = len(found) - MOST_OF_A_KIND
        if more > 0:
            shown[-1] = replace(shown[-1], text=f"{shown[-1].text}; {more:,} more in this file")
    return shown
