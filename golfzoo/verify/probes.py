"""The probes that play: each takes the scene and gives a verdict. The whole path of an evaluation is what they test,
the adaptor included."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from golfzoo.corpus.counting import find_miscount
from golfzoo.engine.data import ValidationText
from golfzoo.engine.evaluate import gather, plan_windows
from golfzoo.engine.ledger import Score
from golfzoo.engine.model import hash_state, nats, relative_error
from golfzoo.running.weights import read_weights
from golfzoo.verify.doubts import STRANGERS, Deaf, Doubts
from golfzoo.verify.remote import RemotePlayer
from golfzoo.verify.scene import OrderedLedger, Scene, of_documents, other_tokens, sample
from golfzoo.verify.verdict import Verdict

# Bits per byte by which another grouping of documents may change an adapted score, whose draws are others then, beside
# what draws do to few targets; and one that learns across documents, which then come in another order.
_REGROUPED, _DRAWS, _REORDERED = 0.005, 1.5, 0.05
# Standard deviations by which the validation text may be better than other text.
_TOO_GOOD = -4.0


def check_score(scene: Scene, fresh: Score) -> Verdict:
    claimed = scene.claim["val_bpb"]
    tolerance = scene.repeatability if scene.exact else 1e-3 * fresh.val_bpb
    holds = abs(fresh.val_bpb - claimed) <= tolerance and abs(fresh.val_loss - scene.claim["val_loss"]) <= 2 * tolerance
    figure = f"reported {claimed:.8f}, afresh {fresh.val_bpb:.8f}"
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


def check_normalization() -> Verdict:
    return Verdict("normalization", True, "by construction: the referee takes the log-softmax of what is predicted")


def check_grouping(scene: Scene) -> Verdict:
    """The whole text again, in batches of another size, and where documents are apart among other neighbours: the same
    for every target without an adaptor, the same in all with one."""
    text, size = scene.probed, scene.plan.eval.batch_sequences
    other = size // 2 + 1 if size > 1 else 2
    order = np.arange(len(text.starts) - 1)
    if scene.plan.eval.isolate_documents and not scene.across_documents:
        order[:-1] = scene.rng(1).permutation(order[:-1])  # the last has a last target that is no start of another
    again = scene.play(_reordered(text, order), batch_sequences=other)
    before = scene.plain[0].nats
    moved = before[np.concatenate([np.arange(text.starts[one], text.starts[one + 1]) for one in order])]
    if scene.learns or scene.reviews:
        apart = abs(float(again.nats.sum() - before.sum())) / np.log(2) / again.bytes
        allowed = _REORDERED if scene.across_documents else _REGROUPED + _DRAWS * text.num_targets**-0.5
        return Verdict("grouping", apart <= allowed, f"{apart:.2g} bits per byte apart, in other groups")
    worst = float(np.abs(again.nats - moved).max())
    return Verdict("grouping", worst <= scene.regrouped, f"{worst:.2g} nats the largest change, in other batches")


def _reordered(text: ValidationText, order: np.ndarray) -> ValidationText:
    """The text with its documents in another order, before the token that ends it."""
    documents = [text.tokens[text.starts[one] : text.starts[one + 1]] for one in order]
    return of_documents(text, documents, text.tokens[-1])


def check_causality(scene: Scene) -> Verdict:
    """Change what comes later, everywhere in the text; nothing earlier may move. Where nothing is learned from a window
    the cut is in every window; else in every document, or where an adaptor learns across them in the order of
    scoring, and of windows it is asked beforehand what it would say if they went on otherwise."""
    text, (plain, when) = scene.probed, scene.plain
    if not scene.learns and not scene.reviews:
        worst, compared = _change_windows(scene, text, plain.nats)
    else:
        cut = _cut_between_lessons if scene.across_documents else _cut_anywhere
        doubts = Doubts(scene.plan.eval, text, scene.rng(8))
        worst, compared = _change_what_follows(scene, text, plain.nats, [cut(scene, text, when, 2)], doubts.of)
        worst, compared = max(worst, doubts.worst), compared + doubts.compared
        if scene.across_documents:  # in few lanes, so that there are groups that follow one another
            ledger = OrderedLedger(scene.small)
            small = scene.play_small(scene.small, ledger=ledger).nats
            cuts = [_cut_between_lessons(scene, scene.small, ledger.when, number) for number in (3, 4)]
            cuts.append(_cut_before_lesson(ledger.when, 1, 2))
            more, also = _change_what_follows(scene, scene.small, small, cuts)
            worst, compared = max(worst, more), compared + also
    figure = f"{compared:,} scores compared, {worst:.2g} nats the largest change"
    return Verdict("causality", worst <= scene.tolerance, figure)


def _change_windows(scene: Scene, text: ValidationText, plain: np.ndarray) -> tuple[float, int]:
    """Of every window, the part right of some position among those that it scores is changed; of half of them all is,
    because what one holds another may have told: the row below, or a window that was read before."""
    windowing, vocab_size, rng = scene.plan.eval, text.tokenizer.vocab_size, scene.rng(2)
    worst, compared = 0.0, 0
    scene.say(f"changing the end of every window of {text.num_targets:,} targets")
    with scene.player(windowing) as player, player.playing(windowing.batch_sequences):
        width_step = windowing.context if player.whole_windows else 64
        for number, group in enumerate(plan_windows(text.starts, windowing, in_lanes=False)):
            player.reset(scene.plan.train.seed + number)
            for windows in group:
                inputs, targets, scored = gather(text.tokens, text.tokens, windows, width_step, windowing.context)
                cuts, columns = rng.integers(windows.seen, windows.length), np.arange(inputs.shape[1])
                cuts[rng.random(len(cuts)) < STRANGERS] = -1
                later = columns > cuts[:, None]
                changed = other_tokens(inputs.numpy(), later, vocab_size, rng)
                with torch.no_grad():
                    losses = nats(player.predict(torch.from_numpy(changed)), targets.to(scene.world.device))
                kept = scored & ~later
                positions = (windows.start[:, None] + columns)[kept]
                apart = np.abs(losses.cpu().numpy()[kept] - plain[positions])
                worst, compared = max(worst, float(apart.max(initial=0.0))), compared + len(apart)
    return worst, compared


def _change_what_follows(
    scene: Scene,
    text: ValidationText,
    plain: np.ndarray,
    cuts: list[np.ndarray],
    through: Callable[[RemotePlayer], Any] = lambda player: player,
) -> tuple[float, int]:
    """Each cut tells which targets are kept, (num_targets,) bool. Of what the player reads the token from which one of
    the others is predicted is changed, and so is the kept target before it: by how much do the kept ones move, and how
    many were compared?"""
    worst, compared = 0.0, 0
    play = scene.play_small if text is scene.small else scene.play
    for number, kept in enumerate(cuts):
        changed = play(text, shown=scene.change(text, np.append(~kept, True), number).tokens, through=through).nats
        worst = max(worst, float(np.abs(changed - plain)[kept].max(initial=0.0)))
        compared += int(kept.sum())
    return worst, compared


def _cut_anywhere(scene: Scene, text: ValidationText, when: np.ndarray, number: int) -> np.ndarray:
    """Up to some position of every document; in the second half of a text that is one, so that much is compared."""
    bounds, rng = scene.bounds(text), scene.rng(number)
    begin = bounds[:-1] if len(bounds) > 2 else bounds[1:] // 2
    cuts = rng.integers(begin, bounds[1:])
    return np.arange(text.num_targets) <= np.repeat(cuts, np.diff(bounds))


def _cut_between_lessons(scene: Scene, text: ValidationText, when: np.ndarray, number: int) -> np.ndarray:
    """In the order of scoring: all that was scored before a lesson, and of what was scored between it and the next some
    of each document, which may be nothing."""
    bounds, rng = scene.bounds(text), scene.rng(number)
    lesson = int(rng.integers(when.max() + 1))
    kept = when < lesson
    document = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    for one in np.unique(document[when == lesson]):
        targets = np.flatnonzero((when == lesson) & (document == one))
        kept[targets[: rng.integers(len(targets) + 1)]] = True
    return kept


def _cut_before_lesson(when: np.ndarray, number: int, count: int) -> np.ndarray:
    """In the order of scoring: up to a lesson, the first to the last."""
    return when <= (when.max() - 1) * number // count


def check_score_first(scene: Scene) -> Verdict:
    """Targets are revealed when they are entered. What is left to see is that an adaptor which was told none, and so
    has nothing to learn from, changes nothing."""
    said = "by construction: a target is revealed once it is entered"
    if not scene.adapts:
        return Verdict("score first", True, said + "; no adaptor")
    # A window at a time: with and without an adaptor, batches then have the same shapes.
    without = scene.play(scene.small, adapted=False, batch_sequences=1).nats
    unlearned = scene.play(scene.small, through=Deaf, batch_sequences=1).nats
    idle = float(np.abs(unlearned - without).max())
    figure = f"{said}; {idle:.2g} nats the largest change by an adaptor that was told nothing"
    return Verdict("score first", idle <= scene.tolerance, figure)


def check_isolation(scene: Scene) -> Verdict:
    """Change the contents of half of the documents; the others must not notice. An adaptor that declares that it learns
    across documents is left out: what it may know of others is for causality to tell."""
    if not scene.plan.eval.isolate_documents:
        return Verdict("isolation", None, "the record does not isolate documents")
    text, adapted = scene.probed, not scene.across_documents
    of_target = np.repeat(np.arange(len(text.starts) - 1), np.diff(text.starts))
    drawn = scene.rng(5).permutation(len(text.starts) - 1) % 2 == 1
    plain = scene.plain[0].nats if adapted else scene.play(text, adapted=False).nats
    # The token behind the last target belongs to no document.
    changed = scene.change(text, np.append(drawn[of_target], False), 5)
    moved = np.abs(scene.play(changed, adapted=adapted).nats - plain)
    worst = float(moved[~drawn[of_target]].max(initial=0.0))
    holds, figure = worst <= scene.tolerance, f"{worst:.2g} nats the largest change"
    if scene.across_documents:
        figure = f"not applicable: the adaptor declares that it learns across documents; without it {figure}"
        return Verdict("isolation", None if holds else False, figure)
    return Verdict("isolation", holds, figure)


def check_round_trip(scene: Scene) -> Verdict:
    """The same bytes come out again; every weight follows from the artifact's tensors. That no other file was read is
    for the sandbox to see to."""
    artifact, found = scene.artifact, hash_state(scene.state)
    faults = {
        "other bytes than the artifact's": scene.facts.get("again") != hashlib.sha256(artifact).hexdigest(),
        f"the run scored model {scene.claim['model_sha256'][:12]}": scene.exact
        and found != scene.claim["model_sha256"],
        f"{scene.facts.get('unmoved')} weights do not depend on the artifact": scene.facts.get("unmoved") != 0,
    }
    wrong = [text for text, fault in faults.items() if fault]
    return Verdict("round trip", not wrong, "; ".join([f"{len(artifact):,} bytes again, model {found[:12]}", *wrong]))


def check_receipts(scene: Scene) -> Verdict:
    """Where the weights before quantization are there, it is seen what the quantizer changed."""
    receipts, facts = scene.claim.get("receipts", {}), scene.facts
    size = len(scene.artifact)
    trained = read_weights(scene.subject.weights) if scene.subject.weights else None
    changed = relative_error(trained, scene.state) if trained else receipts.get("quantizer_changed", 0.0)
    done = {
        "optimizer": (facts["learned"] > 1e-3, f"weights moved {facts['learned']:.2f}"),
        "quantizer": (changed > 0, f"quantizer changed {changed:.2g}"),
        "compressor": (size < facts["stored"], f"{facts['stored']:,} bytes to {size:,}"),
        "report": (bool(scene.claim["intact"]), "submission.json was edited after packing"),
    }
    if scene.adapts:
        adapted = scene.play(scene.small)
        effect = float(np.abs(adapted.nats - scene.play(scene.small, adapted=False).nats).max())
        updates = receipts.get("adaptor_updates", 0)
        acted = adapted.updates > 0 and effect > 0 and updates > 0
        done["adaptor"] = (acted, f"adaptor learned {updates:,} times")
    idle = [f"{name}: {figure}" for name, (acted, figure) in done.items() if not acted]
    figures = "; ".join(figure for name, (_, figure) in done.items() if name != "report")
    return Verdict("receipts", not idle, "did nothing: " + "; ".join(idle) if idle else figures)


def check_determinism(scene: Scene) -> Verdict:
    """Score a sample twice, in two processes."""
    part = sample(scene.text, scene.rng(6))
    first, second = scene.play(part), scene.play(part)
    apart = abs(first.val_bpb - second.val_bpb)
    return Verdict("determinism", apart <= scene.repeatability, f"{apart:.2g} apart over {part.num_targets:,} tokens")


def check_control(scene: Scene, fresh: Score, control: ValidationText | None) -> Verdict:
    """Documents that the submission cannot have seen, beside those of the validation text: bits per byte of each, and
    how much better the validation text does than chance would have it (Welch's z)."""
    if control is None:
        return Verdict("control", None, "no held-out documents are here (shards NAME_control_*.bin beside the others)")
    seen, unseen = _per_document(fresh), _per_document(scene.play(control))
    spread = seen.var(ddof=1) / len(seen) + unseen.var(ddof=1) / len(unseen)
    z = float((seen.mean() - unseen.mean()) / np.sqrt(spread))
    means = f"{seen.mean():.4f} bits per byte of {len(seen):,} documents, {unseen.mean():.4f} of {len(unseen):,}"
    return Verdict("control", z > _TOO_GOOD, f"{means} held out; z = {z:.1f}")


def _per_document(score: Score) -> np.ndarray:
    documents = score.documents
    counted = documents["bytes"] > 0
    return documents["nats"][counted] / np.log(2) / documents["bytes"][counted]
