"""Logs against claimed figures: scores, bytes, seconds, and nats against bits per byte."""

import itertools
import math
import re
from collections.abc import Iterator

from golfzoo.audit.claims import Claim, agrees, decimals, number
from golfzoo.audit.finding import Finding
from golfzoo.audit.folder import Folder
from golfzoo.audit.logs import Log
from golfzoo.audit.source import Sources

_MOST_ROWS = 100
_SCORE_KEYS = ("val_bpb", "bpb", "val_loss")


def check_figures(folder: Folder, sources: Sources, logs: list[Log], claim: Claim) -> Iterator[Finding]:
    """Every claimed figure that a log can confirm."""
    if not claim.file:
        return
    if not logs:
        if claim.bpb:
            why = f"no log has a score, so {claim.bpb[0]} {claim.bpb[1]:g} stands alone"
            yield Finding("doubtful", "no-log", ".", 0, why)
    else:
        yield from _headline(logs, claim)
        yield from _seed_scores(logs, claim)
        yield from _seed_rows(folder.texts.get("README.md", ""), logs)
        yield from _seed_seconds(logs, claim)
        yield from _totals(logs, claim)
    yield from _code(folder, sources, logs, claim)
    yield from _readme(folder, claim)
    yield from _units(folder, logs, claim)


def means(logs: list[Log], figure: str) -> dict[str, list[float]]:
    """Of every kind of score, the runs' figures; a run that is there twice counts once."""
    kinds: dict[str, dict[tuple, float]] = {}
    for log in logs:
        for score in {score.label: score for score in log.scores}.values():  # of a log with several runs, the last
            run = (log.seed.value if log.seed else log.named_seed, score.bpb)
            kinds.setdefault(score.label, {})[run] = getattr(score, figure)
    return {label: list(runs.values()) for label, runs in kinds.items()}


def _measured(logs: list[Log], figure: str) -> list[float]:
    values = [getattr(score, figure) for log in logs for score in log.scores]
    for runs in means(logs, figure).values():
        values.append(sum(runs) / len(runs))
    return values


def _headline(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    for figure, claimed in (("bpb", claim.bpb), ("loss", claim.loss)):
        if claimed is None:
            continue
        key, value = claimed
        results = [number(result.get(key)) for result in claim.seed_results.values()]
        known = [result for result in results if result is not None]
        measured = _measured(logs, figure) + ([sum(known) / len(known)] if known else [])
        if figure == "loss" and any(agrees(value, one) for one in _measured(logs, "bpb")):
            continue  # a score under the wrong name, which the units tell
        if not any(agrees(value, one) for one in measured):
            nearest = min(measured, key=lambda one: abs(one - value))
            # The nearest may be a mean over runs of which some are not there.
            why = f"{key} {value:g} is neither in a log nor a mean of logs; the nearest is {nearest:.6f}"
            yield Finding("wrong", "claim-score", claim.file, claim.line(key), why)


def _logs_of(logs: list[Log], seed: int) -> list[Log]:
    """Those of a seed, by name or by text."""
    return [log for log in logs if log.named_seed == seed or (log.seed and log.seed.value == seed)]


def _seed_scores(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    for seed, result in claim.seed_results.items():
        own = _logs_of(logs, seed)
        for key in _SCORE_KEYS:
            value = number(result.get(key))
            if value is None or not own:
                continue
            measured = [getattr(score, "loss" if key == "val_loss" else "bpb") for log in own for score in log.scores]
            if not any(agrees(value, one) for one in measured):
                nearest = min(measured, key=lambda one: abs(one - value))
                why = f"seed {seed}: {key} {value:g} is not in {own[-1].file}; the nearest there is {nearest:.6f}"
                yield Finding("wrong", "claim-seed-score", claim.file, claim.line(key, seed), why)


def _seed_rows(readme: str, logs: list[Log]) -> Iterator[Finding]:
    """Rows of README.md's tables that begin with a seed: the score in bold, and totals written out."""
    rows = re.finditer(r"^\| *\**(\d{1,9})\**(?: \([^)|\n]{1,40}\))? *\|.*$", readme, flags=re.M)
    for row in itertools.islice(rows, _MOST_ROWS):
        own = _logs_of(logs, int(row[1]))
        if not own:
            continue
        line, line_number = row[0], readme.count("\n", 0, row.start()) + 1
        scores = [score.bpb for log in own for score in log.scores]
        sizes = [count.value for log in own for count in (*log.totals, *log.models)]
        for cell in re.findall(r"\*\*([0-3]\.\d{4,10})\*\*", line):
            if scores and not any(agrees(float(cell), one) for one in scores):
                nearest = min(scores, key=lambda one: abs(one - float(cell)))
                why = f"seed {row[1]}: {cell} is not in {own[-1].file}; the nearest there is {nearest:.6f}"
                yield Finding("wrong", "claim-seed-score", "README.md", line_number, why)
        for cell in re.findall(r"(?<![\d,])1[0-9],\d{3},\d{3}(?![\d,])", line):
            value = int(cell.replace(",", ""))
            if sizes and not any(abs(value - one) <= max(2, _rounding(value)) for one in sizes):
                nearest = min(sizes, key=lambda one: abs(one - value))
                why = f"seed {row[1]}: {cell} bytes are not in {own[-1].file}; the nearest there is {nearest:,}"
                yield Finding("wrong", "claim-bytes", "README.md", line_number, why)


def _seed_seconds(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    for seed, result in claim.seed_results.items():
        own = _logs_of(logs, seed)
        for key in ("train_time_s", "eval_time_s", "ttt_eval_time_s"):
            value = number(result.get(key))
            if value is None:
                continue
            measured = [seconds for log in own for seconds in _seconds(log, key)]
            if measured and not any(abs(one - value) <= max(1.0, 0.01 * one) for one in measured):
                nearest = min(measured, key=lambda one: abs(one - value))
                why = f"seed {seed}: {key} {value:g} is not in {own[-1].file}; the nearest there is {nearest:.1f} s"
                yield Finding("wrong", "claim-seconds", claim.file, claim.line(key, seed), why)


def _seconds(log: Log, key: str) -> list[float]:
    if key == "train_time_s":
        return [log.train.value] if log.train else []
    found = [score.seconds for score in log.scores if score.seconds is not None]
    return found + ([log.evaluation.value] if log.evaluation else [])


def _totals(logs: list[Log], claim: Claim) -> Iterator[Finding]:
    measured = [count.value for log in logs for count in log.totals]
    last = [log.totals[-1].value for log in logs if log.totals]
    models = [log.models[-1].value for log in logs if log.models]
    if not last:
        return
    known = [*measured, round(sum(last) / len(last))]
    figures: list[tuple[str, float, int | None]] = [(*claim.bytes_total, None)] if claim.bytes_total else []
    for of_seed, result in claim.seed_results.items():
        for key in ("artifact_bytes", "bytes_total"):
            claimed = number(result.get(key))
            if claimed is not None:
                figures.append((key, claimed, of_seed))
    for key, value, seed in figures:
        own = known if seed is None else [count.value for log in _logs_of(logs, seed) for count in log.totals]
        if not own or any(abs(value - one) <= max(2, _rounding(value)) for one in own):
            continue
        of = f"seed {seed}: " if seed is not None else ""
        if value in models or (models and abs(value - sum(models) / len(models)) <= 2):
            why = f"{of}{key} {value:,.0f} is the model without its code"
        else:
            nearest = min(own, key=lambda one: abs(one - value))
            why = f"{of}{key} {value:,.0f} is no log's total; the nearest is {nearest:,}"
        yield Finding("wrong", "claim-bytes", claim.file, claim.line(key, seed), why)


def _rounding(value: float, least: int = 4) -> float:
    """What a count was rounded or cut to: 15,900,000 may stand for up to 15,999,999."""
    zeros = len(str(int(value))) - len(str(int(value)).rstrip("0"))
    return 10**zeros if zeros >= least else 0


def _code(folder: Folder, sources: Sources, logs: list[Log], claim: Claim) -> Iterator[Finding]:
    if claim.bytes_code is None or not sources.script:
        return
    key, value = claim.bytes_code
    shipped = folder.sizes[sources.script]
    counted = [count.value for log in logs for count in (*log.codes, *log.compressed_codes)]
    if not any(abs(value - one) <= _rounding(value, 3) for one in (shipped, *counted)):
        why = f"{key} {value:,.0f}, and {sources.script} is {shipped:,} bytes"
        why += f"; the logs say {counted[-1]:,}" if counted else ""
        yield Finding("wrong", "claim-code", claim.file, claim.line(key), why)


def _readme(folder: Folder, claim: Claim) -> Iterator[Finding]:
    """README.md has the claimed score, to three places at least."""
    readme = next((path for path in folder.texts if path.lower() == "readme.md"), "")
    if not readme or claim.bpb is None:
        return
    value = claim.bpb[1]
    found = [
        (float(match[0]), match.start()) for match in re.finditer(r"(?<![\d.])[0-3]\.\d{3,12}", folder.texts[readme])
    ]
    if found and not any(agrees(one, value) or agrees(value, one) for one, _ in found):
        text = folder.texts[readme]
        headline = re.search(r"val_bpb\W{1,12}([0-3]\.\d{3,12})", text)
        place = headline.start() if headline else min(found, key=lambda one: abs(one[0] - value))[1]
        told = headline[1] if headline else f"{min(found, key=lambda one: abs(one[0] - value))[0]:g}"
        why = f"{claim.bpb[0]} {value:g} is not in it; it has {told}"
        yield Finding("doubtful", "claim-readme", readme, text.count("\n", 0, place) + 1, why)


def _units(folder: Folder, logs: list[Log], claim: Claim) -> Iterator[Finding]:
    """Losses in nats per token and scores in bits per byte are one ratio apart, and so are differences of them."""
    ratios = [log.final.loss / log.final.bpb for log in logs if log.final and log.final.bpb]
    if claim.loss and not claim.bpb and ratios and claim.loss[1] < 0.8 * min(ratios):
        why = f"{claim.loss[0]} {claim.loss[1]:g} can only be bits per byte; the logs' losses are nats per token"
        yield Finding("wrong", "units", claim.file, claim.line(claim.loss[0]), why)
    if claim.loss and claim.bpb and claim.bpb[1]:
        own = claim.loss[1] / claim.bpb[1]
        if ratios and min(abs(own / ratio - 1) for ratio in ratios) > 0.002:
            why = f"{claim.loss[0]} / {claim.bpb[0]} is {own:.4f}, in the logs it is {ratios[-1]:.4f}"
            yield Finding("wrong", "units", claim.file, claim.line(claim.loss[0]), why)
        ratios = ratios or [own]
    if not ratios:
        return
    for key, value in claim.values.items():
        nats = number(value)
        if key.startswith("delta") and "nats" in key and nats:
            other = re.sub("_?loss_nats|nats", lambda match: "_bpb" if match[0].startswith("_") else "bpb", key)
            bits = number(claim.values.get(other))
            digits = max(decimals(nats), decimals(bits or 0.0), 4)  # JSON has lost the zeros at the end
            yield from _difference(claim.file, claim.line(key), nats, bits, digits, ratios)
    text = folder.texts.get("README.md", "")
    pairs = re.finditer(r"([-−+]?0\.\d{3,8}) BPB ?/ ?([-−+]?0\.\d{3,8}) nats", text)
    for match in itertools.islice(pairs, 100):
        bits, nats = (float(one.replace("−", "-")) for one in match.groups())
        digits = min(len(one.partition(".")[2]) for one in match.groups())
        yield from _difference("README.md", text.count("\n", 0, match.start()) + 1, nats, bits, digits, ratios)


def _difference(
    file: str, line: int, nats: float, bits: float | None, digits: int, ratios: list[float]
) -> Iterator[Finding]:
    """Both were rounded, or cut, to so many digits: their ratio is known to within what that allows."""
    if not bits or not math.isfinite(nats / bits):
        return
    slack = 0.02 + sum(10.0**-digits / abs(figure) for figure in (nats, bits))
    if min(abs(abs(nats / bits) / ratio - 1) for ratio in ratios) > slack:
        why = f"{nats:g} nats are {abs(nats) / ratios[-1]:.5f} BPB with this tokenizer, not {abs(bits):g}"
        yield Finding("wrong", "units", file, line, why)
