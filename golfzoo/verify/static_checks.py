"""The probes that need no model: what is reported against what lies there, and the training data against the text."""

import itertools
import re

import numpy as np

from golfzoo.corpus.check import hash_shards
from golfzoo.engine.components import namespace
from golfzoo.engine.data import data_paths, describe_dataset, tokenizer_bytes
from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import BOS, TokenStream
from golfzoo.engine.size import count_bytes
from golfzoo.shipping.code import repack
from golfzoo.strangers.files import NoSuchFile, read_text
from golfzoo.verify.challenge import Challenge
from golfzoo.verify.subject import Subject, own_engine, shadowing
from golfzoo.verify.verdict import Verdict

_RUN, _RUN_BYTES = 24, 60  # tokens, and more of them where they are short
# Of a document's runs: a half of it that stands elsewhere is a leak, licences and headers are not.
_LEAKED = 0.4
_OVERRUN = 0.01
_STEP = re.compile(r"(?:\d\d:\d\d:\d\d )?step (\d{1,9}): loss \S+, (\d{1,7}\.\d) s")
_ROUNDED = 0.1  # seconds of the log have one digit
_CHUNK_TOKENS = 2**24
_TABLE_BITS = 28


def check_size(subject: Subject, challenge: Challenge | None) -> Verdict:
    """Bytes as they lie there; the challenge's limit, where there is one, and else the record's own."""
    plan = namespace(subject.tables)
    tokenizer = tokenizer_bytes(plan.data)
    measured = count_bytes(subject.artifact.stat().st_size, len(subject.code), tokenizer, plan.size)
    claimed = subject.claim["bytes"]
    wrong = [f"{key} {claimed[key]:,} reported" for key in measured if claimed.get(key) != measured[key]]
    limit = challenge.limit_bytes if challenge else measured["limit"]
    figure = f"{measured['model']:,} + {measured['code']:,} = {measured['total']:,} of {limit:,}"
    return Verdict("size", not wrong and measured["fits"] and measured["total"] <= limit, "; ".join([figure, *wrong]))


def check_clocks(subject: Subject, challenge: Challenge | None) -> Verdict:
    """Training may overrun its cap by the step that crossed it, which a challenge wants to be a short one. The log's
    steps must have been as long as what is reported."""
    plan, seconds = namespace(subject.tables), subject.claim["seconds"]
    trained, cap = seconds["train"], plan.train.max_wallclock_seconds  # calibration is in it
    longest = plan.eval.max_seconds
    if challenge:
        cap, longest = challenge.train_seconds, min(longest, challenge.eval_seconds)
    step = trained / max(subject.claim["steps"], 1)
    step = min(step, _OVERRUN * cap) if challenge else step  # two steps of 599 s would have 1,198
    evaluated, with_loading = seconds["eval"], seconds["eval"] + seconds["load"]
    holds = (not cap or trained <= cap + step) and with_loading <= longest
    added_up, logged = _add_up(subject)
    return Verdict(
        "clocks",
        holds and min(trained, evaluated) >= 0 and added_up,
        f"training {trained:.1f} s{f' of {cap:.0f}' if cap else ', no cap'}; evaluation {evaluated:.1f} s, with "
        f"loading {with_loading:.1f} s, of {longest:.0f}; on no limited clock: {_beside(seconds)}; {logged}",
    )


def _beside(seconds: dict[str, float]) -> str:
    """What a run did before training, and for what nobody has set a limit: it is there to be seen."""
    return ", ".join(f"{name} {seconds[name]:.1f} s" for name in ("setup", "warmup") if name in seconds) or "nothing"


def _add_up(subject: Subject) -> tuple[bool, str]:
    """Whether the steps in the log add up to the training that is reported; what there is to say of it. Those of a run
    that was resumed are those of its last try."""
    name = "log.txt" if subject.sources is None else "train.log"
    try:
        text = read_text(subject.folder / name, "log", errors="replace")
    except NoSuchFile:
        return True, f"no {name}"
    found = [match for line in text.splitlines() if (match := _STEP.match(line))]
    if not found:
        return True, f"no step in {name}"
    steps = sorted({int(match[1]): float(match[2]) for match in found}.items())
    (last, seconds), pace = steps[-1], [after[1] - before[1] for before, after in itertools.pairwise(steps)]
    claimed = subject.claim["seconds"]["train"] - subject.claim["seconds"].get("calibrate", 0.0)
    figure = f"step {last} of {subject.claim['steps']} logged at {seconds:.1f} s"
    faults = [
        (last > subject.claim["steps"], "more steps than reported"),
        (seconds > claimed + _ROUNDED, f"longer than the {claimed:.1f} s reported"),
        (min(pace, default=0.0) < 0, "seconds that go backwards"),
    ]
    wrong = [what for fault, what in faults if fault]
    return not wrong, "; ".join([figure, *wrong])


def check_code(subject: Subject) -> Verdict:
    """A submission's file is what this golfzoo makes of its contents, its engine this golfzoo's, and no module of it
    has the name of an installed package."""
    if subject.sources is None:
        return Verdict("code", True, "a run: its code is what is installed here")
    wrong = []
    if changed := own_engine(subject):
        wrong.append(f"the engine differs in {', '.join(changed)}")
    if repack(subject.code) != subject.code:
        wrong.append("packed otherwise than this golfzoo packs the same contents")
    if hidden := shadowing(subject):
        wrong.append(f"{', '.join(hidden)} would hide an installed package")
    return Verdict("code", not wrong, "; ".join(wrong) or f"{len(subject.sources)} modules, the engine's as here")


def check_seeds(subject: Subject) -> Verdict:
    claim = subject.claim
    declared = sorted(subject.tables["record"]["seeds"] or [subject.tables["train"]["seed"]])
    if "seed_results" not in claim:  # a run is one seed of those that its record declares
        return Verdict("seeds", claim["seed"] in declared, f"seed {claim['seed']}, declared {declared}")
    reported, results = sorted(claim["seeds"]), claim["seed_results"]
    headline = results.get(str(claim["seed"]), {})
    holds = (
        reported == declared
        and sorted(results) == sorted(map(str, reported))
        and all(headline.get(key) == claim[key] for key in ("val_bpb", "val_loss"))
    )
    return Verdict("seeds", holds, f"declared {declared}, reported {reported}")


def check_leak(subject: Subject) -> Verdict:
    """How much of every validation document stands in the training shards, in runs of tokens: a document of which a
    good part does is one that was trained on, whether its first token is gone, one is changed, or it was cut. What
    was trained on must be what is here: nothing is known of other shards."""
    folder = data_paths(namespace(subject.tables["data"]))[0]
    try:
        train = TokenStream(folder, "train")
    except DataError as error:
        return Verdict("leak", None, f"the training data are not here: {error}")
    stated = describe_dataset(folder)
    tokens, num_bytes = (stated.get(name, {}).get("val", 0) for name in ("tokens", "bytes"))
    run = max(_RUN, -(-_RUN_BYTES * tokens // num_bytes)) if num_bytes else _RUN
    shares = leaked_shares(TokenStream(folder, "val"), train, run)
    leaked, most = int((shares >= _LEAKED).sum()), float(shares.max(initial=0.0))
    figure = f"{leaked} of {len(shares):,} validation documents stand in the {len(train):,} training tokens"
    figure += f"; of one {most:.0%}, in runs of {run}"
    claimed = subject.claim["dataset"]["train"]
    first = train.paths[: int(claimed.get("shards", len(train.paths)))]
    if hash_shards(first, whole=False) == claimed["sha256"]:
        return Verdict("leak", not leaked, figure)
    return Verdict("leak", False if leaked else None, f"{figure}; and it was trained on other shards than those here")


def leaked_shares(val: TokenStream, train: TokenStream, run: int = 24) -> np.ndarray:
    """Of each validation document, the share of its runs of tokens that are in the training text too, (documents,)."""
    tokens = val.read(0, len(val))
    wanted = _hashes(tokens, run)
    table = np.zeros(2**_TABLE_BITS, dtype=bool)  # leaves few to be looked for
    table[wanted >> np.uint64(64 - _TABLE_BITS)] = True
    known = np.unique(wanted)
    found = np.zeros(len(known), dtype=bool)
    for begin in range(0, len(train), _CHUNK_TOKENS):
        chunk = train.read(begin, min(_CHUNK_TOKENS + run - 1, len(train) - begin))
        hashes = _hashes(chunk, run)
        hashes = hashes[table[hashes >> np.uint64(64 - _TABLE_BITS)]]
        places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        found[places[known[places] == hashes]] = True
    inside = np.append(found[np.searchsorted(known, wanted)], np.zeros(len(tokens) - len(wanted), dtype=bool))
    starts = np.flatnonzero(tokens == BOS)
    starts = starts if len(starts) and starts[0] == 0 else np.append(0, starts)
    runs = np.diff(np.append(starts, len(tokens))) - run  # that lie in a document, and do not start with its BOS
    runs = np.maximum(runs, 0)
    counts = np.cumsum(np.append(0, inside))
    hits = counts[starts + 1 + runs] - counts[starts + 1]
    return np.where(runs >= run, hits / np.maximum(runs, 1), 0.0)


def _hashes(tokens: np.ndarray, run: int) -> np.ndarray:
    """A hash of every run of so many tokens, (tokens - run + 1,) uint64: a polynomial modulo 2^64, by differences of
    its sums, and mixed, since its high bits say little."""
    if len(tokens) < run:
        return np.empty(0, dtype=np.uint64)
    base, inverse = np.uint64(0x9E3779B97F4A7C15), np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
    powers = np.cumprod(np.full(len(tokens), base))
    sums = np.append(np.uint64(0), np.cumsum((tokens.astype(np.uint64) + np.uint64(1)) * powers))
    back = np.cumprod(np.full(len(tokens) - run + 1, inverse))
    hashes = (sums[run:] - sums[:-run]) * back
    hashes ^= hashes >> np.uint64(29)
    return hashes * np.uint64(0xBF58476D1CE4E5B9)
