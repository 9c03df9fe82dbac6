"""The probes that need no model: what is reported against what lies there, and the training data against the text."""

import numpy as np

from golfzoo.engine.components import namespace
from golfzoo.engine.data import data_paths, tokenizer_bytes
from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import BOS, TokenStream
from golfzoo.engine.size import count_bytes
from golfzoo.verify.subject import Subject
from golfzoo.verify.verdict import Verdict

_HEAD = 8
_CHUNK_TOKENS = 2**24


def check_size(subject: Subject) -> Verdict:
    plan = namespace(subject.tables)
    tokenizer = tokenizer_bytes(plan.data)
    measured = count_bytes(subject.artifact.stat().st_size, len(subject.code), tokenizer, plan.size)
    claimed = subject.claim["bytes"]
    wrong = [f"{key} {claimed[key]:,} reported" for key in measured if claimed.get(key) != measured[key]]
    figure = f"{measured['model']:,} + {measured['code']:,} = {measured['total']:,} of {measured['limit']:,}"
    return Verdict("size", not wrong and measured["fits"], "; ".join([figure, *wrong]))


def check_clocks(subject: Subject) -> Verdict:
    """Training may overrun its cap by the step that crossed it."""
    plan, seconds = namespace(subject.tables), subject.claim["seconds"]
    trained, cap = seconds["train"], plan.train.max_wallclock_seconds  # calibration is in it
    step = trained / max(subject.claim["steps"], 1)
    evaluated, with_loading = seconds["eval"], seconds["eval"] + seconds["load"]
    holds = (not cap or trained <= cap + step) and with_loading <= plan.eval.max_seconds
    return Verdict(
        "clocks",
        holds,
        f"training {trained:.1f} s{f' of {cap:.0f}' if cap else ', no cap'}; evaluation {evaluated:.1f} s, with "
        f"loading {with_loading:.1f} s, of {plan.eval.max_seconds:.0f}",
    )


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
    """Every document of the training shards against those of the validation text, token by token."""
    folder = data_paths(namespace(subject.tables["data"]))[0]
    try:
        train = TokenStream(folder, "train")
    except DataError as error:
        return Verdict("leak", None, f"the training data are not here: {error}")
    val = TokenStream(folder, "val")
    val_starts, val_ends, val_keys = _documents(val)
    wanted = {val.read(start, end - start).tobytes() for start, end in zip(val_starts, val_ends, strict=True)}
    starts, ends, keys = _documents(train)
    # Keys of lengths and first tokens leave few candidates; only these are read whole.
    candidates = np.flatnonzero(np.isin(keys, val_keys))
    found = wanted & {train.read(int(starts[i]), int(ends[i] - starts[i])).tobytes() for i in candidates}
    figure = f"{len(found)} of {len(wanted):,} validation documents are among {len(starts):,} training documents"
    return Verdict("leak", not found, figure)


def _documents(stream: TokenStream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each document starts and ends, and a key that equal documents share; each (documents,)."""
    weights = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, _HEAD + 1, dtype=np.uint64)
    starts, heads = [], []
    for begin in range(0, len(stream), _CHUNK_TOKENS):
        count = min(_CHUNK_TOKENS, len(stream) - begin)
        tokens = stream.read(begin, min(count + _HEAD, len(stream) - begin))
        padded = np.append(tokens, np.full(_HEAD, BOS, dtype=tokens.dtype))
        here = np.flatnonzero(tokens[:count] == BOS)
        head = padded[here[:, None] + np.arange(1, _HEAD + 1)].astype(np.uint64)
        head[np.logical_or.accumulate(head == BOS, axis=1)] = 0  # the next document has begun
        starts.append(here + begin)
        heads.append((head * weights).sum(axis=1, dtype=np.uint64))
    start = np.concatenate(starts)
    end = np.append(start[1:], len(stream))
    return start, end, np.concatenate(heads) + (end - start).astype(np.uint64)
