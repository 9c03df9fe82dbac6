"""The probes that run the model. Each takes the scene and gives a verdict; the whole evaluation path is what they test,
the adaptor included."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from golfzoo.corpus.counting import find_miscount
from golfzoo.engine.artifact import encode_model
from golfzoo.engine.data import ValidationText
from golfzoo.engine.ledger import Score
from golfzoo.engine.model import hash_state, relative_error
from golfzoo.verify.scene import Scene
from golfzoo.verify.verdict import Verdict

_ROUNDS = 4
_DETERMINISM_TOKENS = 50_000


def check_score(scene: Scene, fresh: Score, shipped: float | None) -> Verdict:
    """`shipped` is what a submission's own train_gpt.py said, in another process."""
    claimed = scene.claim["val_bpb"]
    tolerance = scene.repeatability if scene.exact else 1e-3 * claimed
    figure = f"reported {claimed:.8f}, afresh {fresh.val_bpb:.8f}"
    holds = abs(fresh.val_bpb - claimed) <= tolerance and abs(fresh.val_loss - scene.claim["val_loss"]) <= 2 * tolerance
    if shipped is not None:
        figure += f", by its own code {shipped:.8f}" if shipped == shipped else "; its own code failed"
        holds = holds and abs(shipped - claimed) <= tolerance + 1e-8
    return Verdict(
        "score", holds, figure + ("" if scene.exact else f"; other device or versions, within {tolerance:.4f}")
    )


def check_coverage(scene: Scene, fresh: Score) -> Verdict:
    claimed = scene.claim["tokens_scored"]
    holds = fresh.tokens == scene.text.num_targets == claimed
    return Verdict("coverage", holds, f"{fresh.tokens:,} targets scored once each, {claimed:,} reported")


def check_bytes(scene: Scene, fresh: Score, stated: dict[str, Any]) -> Verdict:
    """Every document is decoded. `stated` is the dataset's own description."""
    text, claimed = scene.text, scene.claim["bytes_scored"]
    wrong = find_miscount(text)
    figure = f"{fresh.bytes:,} counted, {claimed:,} reported"
    raw = stated.get("text_bytes", {}).get("val")
    if raw and raw != fresh.bytes:
        figure += f"; {fresh.bytes / raw:.4f} of the text before it was normalized"
    figure += f"; {wrong}" if wrong else ""
    return Verdict("bytes", not wrong and fresh.bytes == text.total_bytes == claimed, figure)


def check_causality(scene: Scene) -> Verdict:
    """Change every token after a position, in every document at once; nothing up to it may change. Several rounds.
    Where an adaptor learns across documents, "after" is in the order of scoring."""
    worst, compared = _change_what_follows(scene, _cut_between_lessons if scene.across_documents else _cut_anywhere)
    holds = worst <= scene.tolerance
    return Verdict("causality", holds, f"{compared:,} scores compared, {worst:.2g} nats the largest change")


def check_score_first(scene: Scene) -> Verdict:
    """Causality at the seams between chunks, to the bit; and an adaptor kept from learning must change nothing."""
    worst, _ = _change_what_follows(scene, _cut_before_lesson if scene.across_documents else _cut_after_chunk)
    figure = f"{worst:.2g} nats the largest change before a changed chunk"
    if scene.components.adaptor is None:
        return Verdict("score first", worst <= _to_the_bit(scene), figure + "; no adaptor")
    # A window at a time: with and without an adaptor, batches then have the same shapes.
    without = scene.score(scene.small, adaptor=None, batch_sequences=1).nats
    unlearned = scene.score(scene.small, adaptor=Idle(scene.components.adaptor), batch_sequences=1).nats
    idle = float(np.abs(unlearned - without).max())
    holds = worst <= _to_the_bit(scene) and idle <= scene.tolerance
    return Verdict("score first", holds, f"{figure}; {idle:.2g} by an adaptor that learned nothing")


def _change_what_follows(scene: Scene, cut: Callable[[Scene, int], np.ndarray]) -> tuple[float, int]:
    """`cut` tells for a round which targets are kept, (num_targets,) bool. All others are changed: by how much do those
    move, and how many were compared?"""
    plain = scene.score_small(scene.small).nats
    worst, compared = 0.0, 0
    for number in range(_ROUNDS):
        kept = cut(scene, number)
        # Target i is token i + 1.
        changed = scene.score_small(scene.change(scene.small, np.append(False, ~kept), seed=number)).nats
        worst = max(worst, float(np.abs(changed - plain)[kept].max(initial=0.0)))
        compared += int(kept.sum())
    return worst, compared


def _cut_anywhere(scene: Scene, number: int) -> np.ndarray:
    """Up to some position of every document."""
    bounds, rng = scene.bounds(scene.small), np.random.default_rng(number)
    cuts = [int(rng.integers(start, end)) for start, end in itertools.pairwise(bounds)]
    return np.arange(scene.small.num_targets) <= np.repeat(cuts, np.diff(bounds))


def _cut_after_chunk(scene: Scene, number: int) -> np.ndarray:
    """Up to the end of every document's chunk of that number."""
    bounds = scene.bounds(scene.small)
    position = np.arange(scene.small.num_targets) - np.repeat(bounds[:-1], np.diff(bounds))
    return position < (number + 1) * scene.plan.eval.stride


def _cut_between_lessons(scene: Scene, number: int) -> np.ndarray:
    """In the order of scoring: all that was scored before a lesson, and of what was scored between it and the next some
    of each document, which may be nothing."""
    lessons, bounds, rng = scene.lessons, scene.bounds(scene.small), np.random.default_rng(number)
    lesson = int(rng.integers(lessons.max() + 1))
    kept = lessons < lesson
    document = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    for one in np.unique(document[lessons == lesson]):
        targets = np.flatnonzero((lessons == lesson) & (document == one))
        kept[targets[: rng.integers(len(targets) + 1)]] = True
    return kept


def _cut_before_lesson(scene: Scene, number: int) -> np.ndarray:
    """In the order of scoring: up to a lesson, from the first one to the last by and by."""
    lessons = scene.lessons
    return lessons <= (lessons.max() - 1) * number // (_ROUNDS - 1)


class Idle:
    """An adaptor that is kept from learning."""

    def __init__(self, adaptor: Any) -> None:
        for name in {"start", "reset", "rounds", "finish"} & set(dir(adaptor)):
            setattr(self, name, getattr(adaptor, name))
        for name in {"learn", "review"} & set(dir(adaptor)):
            setattr(self, name, self._learn_nothing)

    def _learn_nothing(self, *given: Any) -> None:
        pass


def check_normalization(scene: Scene) -> Verdict:
    """At a position, put every token of the vocabulary in turn; the probabilities must sum to 1. They do not where a
    prediction has seen its target. One position lies in a first chunk; one in a second, which an adaptor has learned
    for. Adaptors meet each variant in an evaluation of its own: they may learn from one document for another."""
    tokens = scene.small.tokens
    sums = [_sum_probabilities(scene, tokens[:16], 9), _sum_probabilities(scene, tokens[:25], -4)]
    holds = all(abs(total - 1) <= 1e-3 for total in sums)
    return Verdict("normalization", holds, "sums of " + " and ".join(f"{total:.6f}" for total in sums))


def _sum_probabilities(scene: Scene, document: np.ndarray, place: int) -> float:
    """Over all tokens, that `document` has it at `place`."""
    tokenizer, windowing = scene.small.tokenizer, {"context": 32, "stride": 16, "isolate_documents": True}
    variants = np.tile(document, (tokenizer.vocab_size, 1))
    variants[:, place] = np.arange(tokenizer.vocab_size)
    at = place % len(document) - 1 - len(document)  # from the end of a text that ends with this document
    if scene.components.adaptor is None:
        nats = scene.score(_join(list(variants), tokenizer), **windowing).nats
        return float(np.exp(-nats[at % len(document) :: len(document)]).sum())
    # One that keeps what it learns is given something to learn from first.
    before = [scene.small.tokens[:25]] if scene.across_documents else []
    texts = (_join([*before, variant], tokenizer) for variant in variants)
    return sum(float(np.exp(-scene.score(text, batch_sequences=1, **windowing).nats[at])) for text in texts)


def _join(documents: list[np.ndarray], tokenizer: Any) -> ValidationText:
    """A text of these documents, whatever tokens are in them."""
    text = ValidationText(np.concatenate([*documents, documents[0][:1]]), tokenizer)
    text.starts = np.cumsum([0, *map(len, documents)])
    return text


def check_isolation(scene: Scene) -> Verdict:
    """Change the contents of every other document; the ones between must not notice. An adaptor that declares that it
    learns across documents is left out: what it may know of others is for causality to tell."""
    if not scene.plan.eval.isolate_documents:
        return Verdict("isolation", None, "the record does not isolate documents")
    changes: dict[str, Any] = {"adaptor": None} if scene.across_documents else {}
    plain, document = scene.score(scene.small, **changes).nats, _documents_of(scene.small)
    worst = 0.0
    for parity in (0, 1):
        of_token = np.append(document, document[-1] + 1)
        changed = scene.score(scene.change(scene.small, of_token % 2 == parity, seed=parity), **changes).nats
        worst = max(worst, float(np.abs(changed - plain)[document % 2 != parity].max(initial=0.0)))
    holds, figure = worst <= scene.tolerance, f"{worst:.2g} nats the largest change"
    if scene.across_documents:
        figure = f"not applicable: the adaptor declares that it learns across documents; without it {figure}"
        return Verdict("isolation", None if holds else False, figure)
    return Verdict("isolation", holds, figure)


def _documents_of(text: ValidationText) -> np.ndarray:
    """For every target, the number of its document."""
    return np.repeat(np.arange(len(text.starts) - 1), np.diff(text.starts))


def check_round_trip(scene: Scene, opened: list[str]) -> Verdict:
    """The same bytes come out again; every weight follows from the artifact's tensors; no other file was read."""
    again = encode_model(scene.tensors, scene.metadata, scene.components, scene.setup.model)
    found = hash_state(scene.state)
    blank = {name: torch.zeros_like(tensor) for name, tensor in scene.tensors.items()}
    unmoved = []
    try:
        emptied = scene.components.quantizer.dequantize(blank, scene.metadata)
        unmoved = [
            name
            for name, tensor in scene.state.items()
            if tensor.abs().max() > 0 and torch.equal(emptied[name].to(tensor.dtype), tensor)
        ]
    except Exception:
        pass  # a decoder that refuses empty tensors has looked at them
    figure = f"{len(again):,} bytes again, model {found[:12]}"
    faults = {
        "other bytes than the artifact's": again != scene.artifact,
        f"the run scored model {scene.claim['model_sha256'][:12]}": scene.exact
        and found != scene.claim["model_sha256"],
        f"{len(unmoved)} weights do not depend on the artifact": bool(unmoved),
        f"files were read: {', '.join(opened[:3])}": bool(opened),
    }
    wrong = [text for text, fault in faults.items() if fault]
    return Verdict("round trip", not wrong, "; ".join([figure, *wrong]))


def check_receipts(scene: Scene, trained: dict[str, torch.Tensor] | None) -> Verdict:
    """`trained` are the weights before quantization, where they are there."""
    receipts = scene.claim.get("receipts", {})
    learned = relative_error(scene.state, scene.start)
    changed = relative_error(trained, scene.state) if trained else receipts.get("quantizer_changed", 0.0)
    stored = sum(tensor.nbytes for tensor in scene.tensors.values())
    done = {
        "optimizer": (learned > 1e-3, f"weights moved {learned:.2f}"),
        "quantizer": (changed > 0, f"quantizer changed {changed:.2g}"),
        "compressor": (len(scene.artifact) < stored, f"{stored:,} bytes to {len(scene.artifact):,}"),
        "report": (bool(scene.claim["intact"]), "submission.json was edited after packing"),
    }
    if scene.components.adaptor is not None:
        adapted = scene.score(scene.small)
        effect = float(np.abs(adapted.nats - scene.score(scene.small, adaptor=None).nats).max())
        updates = receipts.get("adaptor_updates", 0)
        acted = adapted.updates > 0 and effect > 0 and updates > 0
        done["adaptor"] = (acted, f"adaptor learned {updates:,} times")
    idle = [f"{name}: {figure}" for name, (acted, figure) in done.items() if not acted]
    figures = "; ".join(figure for name, (_, figure) in done.items() if name != "report")
    return Verdict("receipts", not idle, "did nothing: " + "; ".join(idle) if idle else figures)


def check_determinism(scene: Scene) -> Verdict:
    """Score documents from the beginning of the text twice, as many as make up some ten thousands of tokens."""
    keep = max(1, int(np.searchsorted(scene.text.starts, _DETERMINISM_TOKENS, side="right")) - 1)
    part = ValidationText(scene.text.tokens[: scene.text.starts[keep] + 1], scene.text.tokenizer)
    first, second = scene.score(part), scene.score(part)
    apart = abs(first.val_bpb - second.val_bpb)
    return Verdict("determinism", apart <= scene.repeatability, f"{apart:.2g} apart over {part.num_targets:,} tokens")


def _to_the_bit(scene: Scene) -> float:
    return 0.0 if scene.world.device.type == "cpu" else scene.tolerance
