"""The referee: it plays the game itself, and the submission only predicts.

Text, walk, bytes, nats and ledger are here. The player is in a process of its own, which has the artifact, the code,
and what it is sent; it never has the validation file, and what it says is numbers.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golfzoo.corpus.check import file_sha256
from golfzoo.engine.components import bind, load_target, namespace
from golfzoo.engine.data import ValidationText, data_paths, describe_dataset, open_tokenizer, open_validation
from golfzoo.engine.distributed import join
from golfzoo.engine.errors import DataError, RunError
from golfzoo.engine.shards import TokenStream, find_shards
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.machine.devices import device_name
from golfzoo.verify import probes
from golfzoo.verify.challenge import Challenge, check_text
from golfzoo.verify.remote import Nursery
from golfzoo.verify.scene import OrderedLedger, Scene
from golfzoo.verify.static_checks import check_clocks, check_code, check_leak, check_seeds, check_size
from golfzoo.verify.subject import Subject, code_folders, read_subject, same_conditions
from golfzoo.verify.verdict import MEANINGS, NOT_CHECKABLE, Verdict
from golfzoo.zoo import Zoo

# How long a play may take, by what the first one took; the rest is dawdling.
_DAWDLING, _AT_LEAST = 20, 600.0


def verify(
    folder: Path,
    zoo: Zoo,
    challenge: Challenge | None = None,
    quick: bool = False,
    seed: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[Verdict], list[str]]:
    """All verdicts on a run or a submission, in order, and notes for the reader. `seed` is that of the probes, drawn
    anew where it is None: a submission that knew it could be made for it."""
    subject = read_subject(folder, zoo)
    seed = secrets.randbits(32) if seed is None else seed
    notes = [f"random cuts and changes from seed {seed}, drawn when the submission was there"]
    if quick:
        notes.append("quick: grouping, causality and isolation were probed on a sample of the text")
    data, _ = data_paths(namespace(subject.tables["data"]))
    shards = find_shards(data, "val")
    hashes = [file_sha256(path) for path in shards]
    verdicts = [
        check_size(subject, challenge), check_clocks(subject, challenge), check_seeds(subject), check_code(subject),
    ]  # fmt: skip
    say("looking for the validation text in the training text")
    verdicts.append(check_leak(subject))
    with (
        join(subject.tables["train"]["precision"]) as world,
        tempfile.TemporaryDirectory(prefix="golfzoo-", ignore_cleanup_errors=True) as place,
        contextlib.closing(Nursery(Path(place), code_folders(subject), kept_away=shards)) as nursery,
    ):
        try:
            text, control = open_texts(subject, zoo)
        except DataError as error:
            verdicts.append(Verdict("text", False, str(error)))
        else:
            verdicts.append(check_text(challenge, text, hashes))
            exact = same_conditions(subject, device_name())
            scene = Scene(subject, text, world, nursery, exact, seed, quick, say)
            verdicts += play_all(scene, control, describe_dataset(data), notes)
        notes += [f"sandbox: not on this system: {layer}" for layer in nursery.missing]
    order = list(MEANINGS)
    verdicts.sort(key=lambda verdict: order.index(verdict.probe))
    if [verdict.probe for verdict in verdicts] != order and all(verdict.holds is not False for verdict in verdicts):
        raise RuntimeError(f"probes are missing: {set(order) - {verdict.probe for verdict in verdicts}}")
    return verdicts, [*notes, f"not checkable from an artifact: {NOT_CHECKABLE}"]


def open_texts(subject: Subject, zoo: Zoo) -> tuple[ValidationText, ValidationText | None]:
    """The validation text and, where there is one, the control text; tokens are counted and decoded by the tokenizer
    that is installed here."""
    entries = {entry.component.target: entry for (kind, _), entry in zoo.entries.items() if kind == "tokenizer"}
    target = subject.targets["tokenizer"]
    if target not in entries:
        raise UsageError(
            f"{subject.folder}: its tokenizer, {subject.tables['tokenizer']['use']!r}, is not installed here, and a "
            "submission's own cannot count for itself; install its distribution"
        )
    plan = namespace(subject.tables)
    tokenizer = open_tokenizer(plan, bind(subject.tables, {"tokenizer": load_target(target)}))
    folder, _ = data_paths(plan.data)
    text = open_validation(folder, tokenizer)
    try:
        stream = TokenStream(folder, "control")
    except DataError:
        return text, None
    return text, ValidationText(stream.read(0, len(stream)), tokenizer)


def play_all(scene: Scene, control: ValidationText | None, stated: dict[str, Any], notes: list[str]) -> list[Verdict]:
    """The verdicts of all probes that play. A player that fails has no score, and what came before stays."""
    ledger, started = OrderedLedger(scene.text), time.perf_counter()
    verdicts: list[Verdict] = []
    try:
        fresh = scene.play(scene.text, examined=True, ledger=ledger)
        once = time.perf_counter() - started
        scene.longest = max(_DAWDLING * once, _AT_LEAST)
        if not scene.quick:
            scene.plain = fresh, ledger.when
        scene.say(f"the whole text took {once:.1f} s; the probes take some {scene.times:.0f} times that")
        verdicts += [
            probes.check_score(scene, fresh), probes.check_coverage(scene, fresh),
            probes.check_bytes(scene, fresh, stated), probes.check_normalization(),
        ]  # fmt: skip
        for probe in (
            lambda: probes.check_grouping(scene),
            lambda: probes.check_causality(scene),
            lambda: probes.check_score_first(scene),
            lambda: probes.check_isolation(scene),
            lambda: probes.check_round_trip(scene),
            lambda: probes.check_receipts(scene),
            lambda: probes.check_determinism(scene),
            lambda: probes.check_control(scene, fresh, control),
        ):
            verdicts.append(probe())
    except (RunError, GolfzooError) as error:
        first, *more = str(error).splitlines()
        verdicts = [verdict for verdict in verdicts if verdict.probe != "score"]
        verdicts.append(Verdict("score", False, f"the artifact cannot be scored: {first}"))
        notes += [f"the player: {line}" for line in more]
    else:
        whole = time.perf_counter() - started
        notes.append(f"scored here in {once:.1f} s, with all probes in {whole:.1f} s, {whole / once:.1f} times as long")
    return verdicts


def report(verdicts: list[Verdict], notes: list[str]) -> dict[str, Any]:
    """Verdicts for machines."""
    return {
        "holds": all(verdict.holds is not False for verdict in verdicts),
        "probes": [verdict.to_json() for verdict in verdicts],
        "notes": notes,
    }
