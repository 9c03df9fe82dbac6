"""Seconds: training, calibration, evaluation, and what the logged clocks leave out."""

from collections.abc import Iterator

from golfzoo.audit.claims import Claim
from golfzoo.audit.finding import Finding
from golfzoo.audit.logs import Log

LIMIT = 600.0


def check_clocks(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    """Of each kind of overrun, the log that is worst; others are counted."""
    severity = "wrong" if claim.record else "note"  # the other track has no limit of seconds
    worst: dict[str, list[tuple[float, Finding]]] = {}
    for log in logs:
        for seconds, finding in _overruns(log, severity):
            worst.setdefault(finding.what, []).append((seconds, finding))
    for found in worst.values():
        finding = max(found, key=lambda pair: pair[0])[1]
        more = f"; {len(found) - 1} more logs likewise" if len(found) > 2 else ""
        more = more or ("; another log likewise" if len(found) == 2 else "")
        yield Finding(finding.severity, finding.what, finding.file, finding.line, finding.text + more)


def _overruns(log: Log, severity: str) -> Iterator[tuple[float, Finding]]:
    doubtful = "doubtful" if severity == "wrong" else severity
    if log.train:
        # A run stops after the step that crossed the cap.
        if log.train.value > LIMIT + max(2 * log.step_seconds, 1.0):
            why = f"training took {log.train.value:,.1f} s of {LIMIT:.0f} s"
            yield log.train.value, Finding(severity, "clock-train", log.file, log.train.line, why)
        elif log.hessians and log.train.value + log.hessians.value > LIMIT:
            total = log.train.value + log.hessians.value
            parts_told = f"training {log.train.value:.1f} s + calibration {log.hessians.value:.1f} s"
            why = f"{parts_told} = {total:.1f} s of {LIMIT:.0f} s"
            yield total, Finding(doubtful, "clock-calibration", log.file, log.hessians.line, why)
    final = log.final
    taken = final.seconds if final and final.seconds is not None else log.evaluation.value if log.evaluation else None
    if taken is None or final is None:
        return
    parts = [("decoding", log.decoding), ("compiling", log.compiling)]
    told = [f"{name} {part.value:.1f} s" for name, part in parts if part]
    total = taken + sum(part.value for _, part in parts if part)
    if taken > LIMIT:
        why = f"the evaluation took {taken:,.1f} s of {LIMIT:.0f} s"
        yield taken, Finding(severity, "clock-eval", log.file, final.line, why)
    elif total > LIMIT:
        why = f"{' + '.join([*told, f'scoring {taken:.1f} s'])} = {total:.1f} s of {LIMIT:.0f} s"
        yield total, Finding(doubtful, "clock-eval-parts", log.file, final.line, why)
