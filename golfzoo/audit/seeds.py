"""Which seeds were run, whose scores are reported, and whether the gain over the score before is shown."""

import math
import re
from collections.abc import Iterator

from golfzoo.audit import claims
from golfzoo.audit.claims import Claim, agrees
from golfzoo.audit.figures import means
from golfzoo.audit.finding import Finding, listed
from golfzoo.audit.folder import Folder
from golfzoo.audit.logs import Log
from golfzoo.audit.source import Sources

MARGIN = 0.005  # nats per token
ALPHA = 0.01


def check_seeds(folder: Folder, sources: Sources, logs: list[Log], claim: Claim, base: list[Log]) -> Iterator[Finding]:
    """`base`: the logs of the record before, where the user gave its folder."""
    yield from _named(logs)
    yield from _same(logs)
    yield from _reported(logs, claim)
    yield from _best(logs, claim)
    yield from _significance(logs, claim, base)
    yield from _stale(folder, sources, logs)
    yield from _shards(logs)


def _named(logs: list[Log]) -> Iterator[Finding]:
    for log in logs:
        if log.seed and log.named_seed is not None and log.seed.value != log.named_seed:
            why = f"the file is named after seed {log.named_seed}, and its run had seed {log.seed.value}"
            yield Finding("doubtful", "seed-mismatch", log.file, log.seed.line, why)


def _seed_of(log: Log) -> int | None:
    return log.named_seed if log.named_seed is not None else log.seed.value if log.seed else None


def _same(logs: list[Log]) -> Iterator[Finding]:
    """Two seeds never give the same losses to eight places."""
    seen: dict[tuple, Log] = {}
    for log in logs:
        figures = tuple((score.loss, score.bpb) for score in log.scores)
        first = seen.setdefault(figures, log)
        if first is not log and _seed_of(first) != _seed_of(log) and None not in (_seed_of(first), _seed_of(log)):
            why = f"has the scores of {first.file}, whose seed is another"
            yield Finding("wrong", "same-result", log.file, log.scores[-1].line, why)


def _reported(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    declared = claim.seeds
    if not declared:
        return
    known = {seed for log in logs for seed in (log.named_seed, log.seed.value if log.seed else None)}
    missing = [str(seed) for seed in declared if seed not in known]
    # A log that says no seed may be any one's.
    if missing and logs and not any(_seed_of(log) is None for log in logs):
        why = f"seeds {listed(missing)} have no log; claimed are {listed(list(map(str, declared)), 8)}"
        yield Finding("doubtful", "seed-log", claim.file, claim.line("seeds"), why)
    run = {_seed_of(log) for log in logs} - {None}
    for value in _tables(claim.values, 0):
        run |= {int(seed) for seed in value if seed.isdecimal() and len(seed) < 12}
    more = sorted(seed for seed in run - set(declared) if seed is not None)
    if more:
        why = f"the score is of {len(declared)} seeds; seeds {listed(list(map(str, more)), 8)} were run too"
        yield Finding("doubtful", "seed-subset", claim.file, claim.line("seeds"), why)


def _tables(value: object, depth: int) -> Iterator[dict]:
    """Tables inside submission.json whose keys are all seeds."""
    if not isinstance(value, dict) or depth > 4:
        return
    if value and all(isinstance(key, str) and key.isdecimal() for key in value):
        yield value
        return
    for inner in value.values():
        yield from _tables(inner, depth + 1)


def _best(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    """A claimed score that is one run's, and the lowest, where the mean is another."""
    if claim.bpb is None:
        return
    key, value = claim.bpb
    seeded = [log for log in logs if _seed_of(log) is not None]
    first = {_seed_of(log): log for log in reversed(seeded)}  # one run a seed: others may be of another kind
    for runs in means(list(first.values()), "bpb").values():
        mean = sum(runs) / len(runs)
        if len(runs) > 1 and agrees(value, min(runs)) and not agrees(value, mean) and value < mean:
            why = f"{key} {value:g} is the best of {len(runs)} runs, whose mean is {mean:.6f}"
            yield Finding("doubtful", "best-seed", claim.file, claim.line(key), why)
            return


def _significance(logs: list[Log], claim: Claim, base: list[Log]) -> Iterator[Finding]:
    """The rule: better by 0.005 nats per token at least, with p < 0.01. Only where both sides are known."""
    runs = _losses(logs, claim)
    if len(runs) < 2:
        if claim.record and claim.file and (claim.base or base):
            why = f"{len(runs)} run has no spread; whether the gain is chance cannot be said"
            yield Finding("doubtful", "significance", claim.file, 0, why)
        return
    from golfzoo.studies.statistics import student_t_tail, welch

    mean = sum(runs) / len(runs)
    spread = math.sqrt(sum((run - mean) ** 2 for run in runs) / (len(runs) - 1))
    before = _losses(base, Claim()) if base else []
    if len(before) > 1:
        test = welch(runs, before, MARGIN)
        gain, p, than = test.gain, test.p, f"{len(before)} runs before"
    else:
        earlier = before[0] if before else None
        ratio = next((log.final.loss / log.final.bpb for log in logs if log.final and log.final.bpb), None)
        if earlier is None and claim.base and ratio:
            earlier = claim.base[1] * ratio
        if earlier is None:
            return
        gain, error = earlier - mean, spread / math.sqrt(len(runs))
        p = student_t_tail((gain - MARGIN) / error, len(runs) - 1) if error else float(gain <= MARGIN)
        than = "the score before, taken as exact"
    shown = p < ALPHA
    told = f"{gain:+.5f} nats per token over {than}; {len(runs)} runs, p = {p:.2g} for a true gain of {MARGIN}"
    yield Finding("note" if shown or not claim.record else "doubtful", "significance", claim.file or ".", 0, told)


def _losses(logs: list[Log], claim: Claim) -> list[float]:
    """Per seed: as claimed, or else of the kind of score that most logs end with."""
    claimed = [claims.number(result.get("val_loss")) for result in claim.seed_results.values()]
    if len(claimed) > 1 and None not in claimed:
        return [loss for loss in claimed if loss is not None]
    kinds = means(logs, "loss")
    finals = [log.final.label for log in logs if log.final]
    return kinds[max(set(finals), key=lambda label: (finals.count(label), label))] if finals else []


def _stale(folder: Folder, sources: Sources, logs: list[Log]) -> Iterator[Finding]:
    """Logs that counted another number of bytes, or that begin with another source, than the script has."""
    if not sources.script or sources.script not in folder.texts:
        return
    shipped = folder.sizes[sources.script]
    # Some folders have several scripts, and logs of each.
    scripts = [path for path in folder.texts_that_end(".py") if path.startswith("train") or path == sources.script]
    known = {folder.sizes[path] for path in scripts}
    lines = [_letters(folder.texts[path]) for path in scripts]
    other: list[tuple[Log, int, str]] = []
    for log in logs:
        sizes = [count.value for count in log.codes]
        if sizes and not known & set(sizes) and shipped > 200:
            other.append(
                (log, log.codes[-1].line, f"{sizes[-1]:,} bytes of code where {sources.script} has {shipped:,}")
            )
        elif len(sizes) < 2 and lines:
            head = _letters(folder.texts[log.file], max(map(len, lines)) + 50)
            differing = [_repeats_another(script, head) for script in lines]
            if all(differing):
                line = max(differing)
                other.append((log, line, f"another source than {sources.script}: line {line} differs"))
    if other:
        log, line, why = other[0]
        more = f"; {listed([one.file for one, *_ in other[1:]])} likewise" if other[1:] else ""
        yield Finding("doubtful", "stale-log", log.file, line, f"was written by {why}{more}")


def _letters(text: str, most: int = -1) -> list[str]:
    """Lines without spaces and without what is not ASCII, which logs and editors change."""
    return [re.sub(r"[^!-~]", "", line) for line in text.split("\n", most)]


def _repeats_another(script: list[str], head: list[str]) -> int:
    """The line from which on a source at the top of a log is not the script's; 0 if it is, or if there is none."""
    first = next((line for line in script if line.startswith(("import", "from", '"""'))), "")
    if not first or first not in head[:50] or len(script) < 20:
        return 0
    offset = head.index(first) - script.index(first)
    for number, line in enumerate(script):
        place = number + offset
        if 0 <= place < len(head) and line and head[place] != line:
            return place + 1
    return 0


def _shards(logs: list[Log]) -> Iterator[Finding]:
    found = {log.shards.value: log for log in logs if log.shards and log.shards.value}
    if 1499 in found:
        log = found[1499]
        why = "1,499 training shards are what remains when only 10,000 of 50,000 validation documents are set apart"
        yield Finding("wrong", "val-docs", log.file, log.shards.line if log.shards else 0, why)
    if len(found) > 1:
        counts = listed([f"{count} in {log.file}" for count, log in sorted(found.items())])
        last = found[max(found)]
        why = f"the runs had different numbers of training shards: {counts}"
        yield Finding("doubtful", "train-shards", last.file, last.shards.line if last.shards else 0, why)
