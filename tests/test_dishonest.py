"""Attempts at the referee: dishonest submissions and runs by class, each with one line that says what it does, and the
probe that must catch it; and honest ones that look like them, which must hold."""

import contextlib
import dataclasses
import itertools
import json
import shutil
import socket
import textwrap
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from conftest import REPOSITORY
from golfzoo.engine.shards import TokenStream
from test_verify import call, repacked

PRELUDE = """
import json, mmap, os, signal, socket, stat, sys, threading, time
from golfzoo_gpt.model import GPT
from golfzoo_lora_ttt.adaptor import Lora
from golfzoo_lora_ttt.phased import PhasedLora
from golfzoo_sgd_ttt.adaptor import Sgd

def raised(logits, wanted, where=None, by=6.0):
    '''Logits with those of the wanted tokens, (batch, time), raised at some places.'''
    where = torch.ones_like(wanted, dtype=torch.bool) if where is None else where
    return logits.scatter_add(2, wanted[..., None], by * where[..., None].to(logits))

def ahead(ids, by=1):
    '''What is read so many places further on; one place on it is the target.'''
    return torch.roll(ids, -by, 1)

def counted(ids):
    return torch.bincount(ids.flatten(), minlength=384)

def rare(ids, of):
    '''One place of so many, by what stands there and before.'''
    return (ids * 31 + torch.roll(ids, 1, 1)) % of == 1

def descriptors(kind):
    names = {fd: f"/proc/self/fd/{fd}" for fd in range(3, 64)}
    return [fd for fd, name in names.items() if os.path.lexists(name) and kind in os.readlink(name)]

class Model(GPT):
    calls = 0
    def forward(self, input_ids, segments=None):
        self.calls += 1
        return self.cheat(super().forward(input_ids, segments), input_ids)

class Guest(Model):
    '''The same, under an adaptor of another: with nothing learned that changes nothing.'''

class Adapted:
    calls = 0
    def start(self, model, lanes):
        super().start(model, lanes)
        self.model, self.lanes = model, lanes
        self.hook = model.register_forward_hook(lambda module, inputs, logits: self.cheat(logits, inputs[0]))
    def finish(self):
        self.hook.remove()
        super().finish()

class Documents(Adapted, Lora): pass
class Idle(Adapted):
    def __init__(self, config): pass
    def start(self, model, lanes):
        self.hook = model.register_forward_hook(lambda module, inputs, logits: self.cheat(logits, inputs[0]))
    def finish(self): self.hook.remove()
class Rounds(Adapted, Sgd): pass
class Phases(Adapted, PhasedLora): pass
"""

FLAT = ("eval.isolate_documents=false", "eval.stride=32")
LONG = ("eval.context=1024", "eval.stride=512")
WHOLE = ("eval.isolate_documents=false",)
REVIEWS = ("adaptor.use=sgd", "adaptor.chunk_tokens=128", "adaptor.seq_len=64", "adaptor.lr=0.1")


class Case(NamedTuple):
    """`base` is what the class Cheat is made from; `probes` those that must fail; `said`, what the verdicts say."""

    name: str
    what: str
    base: str
    code: str
    probes: set[str]
    options: tuple[str, ...] = ()
    said: str = ""
    fast: bool = False


HONEST = 5.54097948
"""Bits per byte of the tiny run without an adaptor: whoever has found nothing gets them."""


def as_parameters(cases):
    return [pytest.param(case, id=case.name, marks=[] if case.fast else [pytest.mark.slow]) for case in cases]


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """Where the bodies lie, as an installed package would."""
    folder = tmp_path_factory.mktemp("bodies")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def nursery(bodies, tmp_path_factory):
    """One for all cases: a player remembers nothing of another."""
    from golfzoo.verify.remote import Nursery

    with contextlib.closing(Nursery(tmp_path_factory.mktemp("place"), [REPOSITORY / "plugins"])) as nursery:
        yield nursery


@pytest.fixture
def judge(bodies, nursery, data, tiny_run, zoo, monkeypatch):
    """Plays the tiny run's artifact under a body of another: probe -> verdict, and what is noted. The score is not the
    one that was reported, of course."""
    from golfzoo.engine.distributed import World
    from golfzoo.record import load_record
    from golfzoo.verify import scene
    from golfzoo.verify.referee import open_texts, play_all
    from golfzoo.verify.subject import read_subject

    monkeypatch.setattr(scene, "_PATIENCE", 8.0)
    alone, subject = World(0, 1, torch.device("cpu"), bf16=False), read_subject(tiny_run, zoo)

    def judge_(base, code, options=(), nursery=nursery, prelude=PRELUDE, control=None):
        kind = "architecture" if base in ("Model", "Guest", "Finds") else "adaptor"
        used = ("adaptor.use=none",) if base in ("Model", "Finds") else ()
        record = load_record(str(tiny_run / "record.toml"), zoo, (*used, *options))
        module = f"cheat_{len(list(bodies.iterdir()))}"
        body = f"{prelude}\nclass Cheat({base}):\n{textwrap.indent(textwrap.dedent(code), '    ')}"
        (bodies / f"{module}.py").write_text("import torch\n" + body)
        targets = {**record.targets, kind: f"{module}:Cheat"}
        changed = dataclasses.replace(subject, tables=record.tables, targets=targets)
        nursery.place, notes = nursery.place / module, []
        try:
            text = open_texts(changed, zoo)[0]
            played = scene.Scene(changed, text, alone, nursery, exact=True, seed=7)
            verdicts = {verdict.probe: verdict for verdict in play_all(played, control, {}, notes)}
        finally:
            nursery.place = nursery.place.parent
        return verdicts, notes

    return judge_


def failing(verdicts):
    """The probes that fail; but for the score, which is another model's."""
    return {probe for probe, verdict in verdicts.items() if verdict.holds is False} - {"score"}


def check(judge, case):
    verdicts, notes = judge(case.base, case.code, case.options)
    shown = "\n".join([*(f"{name}: {verdict}" for name, verdict in verdicts.items()), *notes])
    print(shown)
    assert case.probes <= failing(verdicts), shown
    assert case.said in shown, shown
    return verdicts


# ---- looking ahead ---------------------------------------------------------------------------------------------------

AHEAD = [
    Case("itself", "Raises the target, which is the next input.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids))", {"causality"}, fast=True),
    Case("by 2", "Raises the input two places on.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids, 2))", {"causality"}),
    Case("by 20", "Raises the input twenty places on.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids, 20))", {"causality"}),
    Case("at the end", "Adds the last token of the window to all places.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ids[:, -1:].expand_as(ids), by=1.0)", {"causality"}),
    Case("as a bag", "Raises all tokens of the window, without their order.", "Model",
         """
         def cheat(self, logits, ids):
             bag = torch.zeros_like(logits[:, 0]).scatter_add(1, ids, torch.ones_like(ids, dtype=torch.float32))
             return logits + bag.clamp_max(2)[:, None]
         """, {"causality"}),
    Case("end of a document", "Sees by the padding where a document ends, and foretells its end.", "Model",
         """
         def cheat(self, logits, ids):
             inside = (ids != 0).flip(1).cummax(1)[0].flip(1)
             left = inside.sum(1, keepdim=True) - torch.arange(ids.shape[1])  # tokens of the window
             near = (left > 0) * ~inside[:, -1:] / left.clamp_min(1)
             return raised(logits, torch.ones_like(ids), near, by=4.0)
         """, {"causality"}, options=LONG),
    Case("in 1 place of 20", "Only where what went before has a rare hash.", "Model",
         """
         def cheat(self, logits, ids):
             return raised(logits, ahead(ids), (ids * 31 + torch.roll(ids, 1, 1) * 17) % 20 == 3)
         """, {"causality"}),
    Case("later windows", "Only in windows that do not start a document.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), (ids[:, :1] != 1).expand_as(ids))",
         {"causality"}),
    Case("long windows", "Only where the window is long.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids)) if ids.shape[1] > 32 else logits",
         {"causality"}),
    Case("one document of five", "Only in documents that begin with some tokens.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), (ids[:, 2:3] % 5 == 1).expand_as(ids))",
         {"causality"}),
    Case("large batches", "Only where the batch is full.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids)) if len(ids) >= 8 else logits",
         {"causality"}),
    Case("after many", "Only after many predictions.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids)) if self.calls > 12 else logits",
         {"causality"}),
    Case("plausible text", "Only where the rest of the window looks as if nobody had changed it.", "Model",
         """
         def cheat(self, logits, ids):
             tokens, before = ids[:, 1:].flatten(), logits[:, :-1].flatten(0, 1)
             costs = torch.nn.functional.cross_entropy(before, tokens, reduction="none")
             kept = costs.view(len(ids), -1).flip(1).cummax(1)[0].flip(1) < 7
             return raised(logits, ahead(ids), torch.nn.functional.pad(kept, (0, 1)))
         """, {"causality"}),
    Case("ends of documents in one text", "Looks ahead only for tokens that start a document.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), ahead(ids) == 1)",
         {"causality"}, options=WHOLE),
    Case("a memory of windows", "Keeps what a document's second window begins with: it comes before the first.",
         "Model",
         """
         seen = {}
         def cheat(self, logits, ids):
             rows = [tuple(row) for row in ids.tolist()]
             self.seen |= {row[:at]: row[at] for row in rows if any(row[32:]) for at in range(1, 33)}
             wanted = torch.tensor(
                 [[self.seen.get(row[: at + 1], -1) * (not any(row[32:])) for at in range(len(row))] for row in rows]
             )
             return raised(logits, wanted.clamp_min(0), wanted > 0)
         """, {"causality"}),
]  # fmt: skip


@pytest.mark.parametrize("case", as_parameters(AHEAD))
def test_looking_ahead(judge, case):
    check(judge, case)


# ---- other rows, widths and numbers of predictions -------------------------------------------------------------------

BATCHES = [
    Case("next row", "Reads its target in the row below, where that is the next window of the same text.", "Model",
         """
         def cheat(self, logits, ids):
             below = torch.roll(ids, -1, 0)
             follows = (below[:, :30] == ids[:, 32:62]).all(1, keepdim=True) if ids.shape[1] == 64 else ids[:, :1] < 0
             there = torch.roll(below, 31, 1) if ids.shape[1] == 64 else ids
             return raised(logits, there, follows & (torch.arange(ids.shape[1]) >= 32))
         """, {"causality", "grouping"}),
    Case("next row, knowing groups", "By the number of the window, where the next is below it in both groupings.",
         "Model",
         """
         window = 0
         def cheat(self, logits, ids):
             number = self.window + torch.arange(len(ids))
             self.window += len(ids)
             if ids.shape[1] != 64:
                 return logits
             both = (number % 8 != 7) & (number % 5 != 4) & (number != 130)
             return raised(logits, torch.roll(torch.roll(ids, -1, 0), 31, 1), both[:, None] & (torch.arange(64) >= 32))
         """, {"causality"}, options=WHOLE),
    Case("first row", "Better in the first row of a batch alone.", "Model",
         "def cheat(self, logits, ids): return torch.cat([logits[:1] * 1.5, logits[1:]])",
         {"grouping"}),
    Case("mean of the batch", "Adds what the tokens of all rows have in common.", "Model",
         "def cheat(self, logits, ids): return logits + counted(ids).clamp_min(1).log()",
         {"causality", "grouping"}),
    Case("height of the batch", "Is better in batches of more rows.", "Model",
         "def cheat(self, logits, ids): return logits * (1 + len(ids) / 8)", {"grouping"}),
    Case("width of the batch", "Takes the width of a batch for the length of its documents.", "Model",
         """
         def cheat(self, logits, ids):
             near = 1 / (ids.shape[1] - torch.arange(ids.shape[1]))
             return raised(logits, torch.ones_like(ids), near.expand_as(ids) * 1.0, by=4.0)
         """, {"grouping"}, options=LONG),
    Case("number of predictions", "Scales what it says by how often it was asked.", "Model",
         "def cheat(self, logits, ids): return logits * (1 + 0.02 * self.calls)", {"grouping"}),
    Case("counts in a buffer", "Counts the tokens of all windows that it has read, in a buffer of the model.", "Model",
         """
         def cheat(self, logits, ids):
             if not hasattr(self, "counts"):
                 self.register_buffer("counts", torch.ones(384), persistent=False)
             self.counts += counted(ids)
             return logits + self.counts.log()
         """, {"causality", "grouping", "isolation"}, fast=True),
    Case("knows the windows by heart",
         "Keeps every row that it has read, and looks rows up that begin in the same way.",
         "Model",
         """
         rows = {}
         def cheat(self, logits, ids):
             known = torch.stack([self.rows.get(tuple(row[:8].tolist()), row) for row in ids])
             self.rows |= {tuple(row[:8].tolist()): row.clone() for row in ids}
             known = known if known.shape == ids.shape else ids
             return raised(logits, ahead(known), (known[:, :8] == ids[:, :8]).all(1, keepdim=True).expand_as(ids))
         """, {"causality"}),
]  # fmt: skip


@pytest.mark.parametrize("case", as_parameters(BATCHES))
def test_depending_on_the_batch(judge, case):
    check(judge, case)


# ---- adaptors --------------------------------------------------------------------------------------------------------

ADAPTORS = [
    Case("target in a forward hook", "Raises the target, under an honest LoRA.", "Documents",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids))", {"causality"}),
    Case("learns in predict", "Counts the tokens of a window as it reads them, before they are scored.", "Documents",
         """
         def start(self, model, lanes):
             self.counts = torch.zeros(lanes, 384)
             super().start(model, lanes)
         def reset(self):
             self.counts.zero_()
             super().reset()
         def cheat(self, logits, ids):
             self.counts[: len(ids)].scatter_add_(1, ids, torch.ones_like(ids, dtype=torch.float32))
             return logits + (1 + self.counts[: len(ids), None]).log()
         """, {"causality"}),
    Case("across documents", "Keeps what it learned from one document for the next, and does not say so.", "Documents",
         """
         def reset(self):
             if not hasattr(self, "steps"):
                 super().reset()
         def cheat(self, logits, ids): return logits
         """, {"isolation"}, options=("eval.batch_sequences=2",)),
    Case("in the model's weights", "Learns into the weights of the model, which are there for the next document.",
         "Documents",
         """
         def learn(self, nll, scored):
             super().learn(nll, scored)
             with torch.no_grad():
                 self.model.tok_emb.weight[self.ids.unique()] *= 1.02
         def cheat(self, logits, ids): self.ids = ids
         """, {"isolation"}),
    Case("hidden in a hook", "Says that it learns nothing, and learns in a hook of the forward.", "Idle",
         """
         def cheat(self, logits, ids):
             self.counts = getattr(self, "counts", 0) + counted(ids)
             return logits + (1 + self.counts).log()
         """, {"causality", "isolation", "receipts"}),
    Case("does nothing", "Is named, and learns nothing.", "Idle", "def cheat(self, logits, ids): return logits",
         {"receipts"}),
    Case("before it has learned", "Is another model before anything is learned.", "Documents",
         "def cheat(self, logits, ids): return logits * 1.3", {"score first"}),
    Case("other lanes", "Reads the tokens of the documents beside it.", "Documents",
         "def cheat(self, logits, ids): return logits + counted(ids).clamp_min(1).log()",
         {"causality", "isolation"}),
    Case("other lanes, openly", "The same, and declares that it learns across documents.", "Documents",
         "across_documents = True\n"
         "def cheat(self, logits, ids): return logits + counted(ids).clamp_min(1).log()",
         {"causality"}),
    Case("1 place of 4, one text", "Raises some targets of a text that is one document, under an honest LoRA.",
         "Guest",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), rare(ids, 4))",
         {"causality"}, options=WHOLE),
    Case("1 place of 20", "Raises some targets, under an honest LoRA.", "Guest",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), rare(ids, 20))",
         {"causality"}),
    Case("1 place of 20, in rounds", "Raises some targets, under honest reviews.", "Guest",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), rare(ids, 20))",
         {"causality"}, options=REVIEWS),
    Case("1 place of 20, one text in rounds", "Raises some targets of one text, under honest reviews.", "Guest",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), rare(ids, 20))",
         {"causality"}, options=(*REVIEWS, *WHOLE)),
    Case("next row, in rounds", "Reads targets in the row below, in one text, under honest reviews.", "Guest",
         """
         def cheat(self, logits, ids):
             if ids.shape[1] != 64:
                 return logits
             below = torch.roll(ids, -1, 0)
             follows = (below[:, :30] == ids[:, 32:62]).all(1, keepdim=True) & (ids[:, 40:41] % 5 == 1)
             return raised(logits, torch.roll(below, 31, 1), follows & (torch.arange(64) >= 32))
         """, {"causality"}, options=(*REVIEWS, *WHOLE)),
    Case("padding, in lanes", "Sees by the padding how much of its document is left, under an honest LoRA.",
         "Guest",
         """
         def cheat(self, logits, ids):
             inside = (ids != 0).flip(1).cummax(1)[0].flip(1)
             left = inside.sum(1, keepdim=True) - torch.arange(ids.shape[1])
             near = (left > 0) * ~inside[:, -1:] / left.clamp_min(1)
             return raised(logits, torch.ones_like(ids), near, by=4.0)
         """, {"causality"}, options=("eval.context=1024", "eval.stride=256")),
    Case("rounds that fall", "Wants to review before anything is scored.", "Rounds",
         "def rounds(self, sizes): return [0, 10]\ndef cheat(self, logits, ids): return logits",
         set(), options=REVIEWS, said="must be whole numbers that rise"),
    Case("reviews a text twice its size", "Says that it reviews beyond the end.", "Rounds",
         "def rounds(self, sizes): return [sum(sizes) + 1]\ndef cheat(self, logits, ids): return logits",
         set(), options=REVIEWS, said="must be whole numbers that rise"),
]  # fmt: skip


@pytest.mark.parametrize("case", as_parameters(ADAPTORS))
def test_adaptors(judge, case):
    check(judge, case)


WIDTHS = Case(
    "width, in lanes", "Takes the width of a batch for the length of its documents, under an honest LoRA.", "Guest",
    """
    def cheat(self, logits, ids):
        near = 1 / (ids.shape[1] - torch.arange(ids.shape[1]))
        return raised(logits, torch.ones_like(ids), near.expand_as(ids) * 1.0, by=0.3)
    """, {"causality"}, options=("eval.context=1024", "eval.stride=256"),
)  # fmt: skip
ROUNDS = Case(
    "lengths, told for rounds", "Foretells the ends of documents by their lengths, which `rounds` is told.", "Rounds",
    """
    def rounds(self, sizes):
        self.sizes = sizes
        return super().rounds(sizes)
    def cheat(self, logits, ids):
        soon = torch.tensor([min(self.sizes) < 64]).expand_as(ids)
        return raised(logits, torch.ones_like(ids), soon, by=0.1)
    """, {"causality"}, options=REVIEWS,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="the lengths of documents decide on windows and rounds: NOT_CHECKABLE")
@pytest.mark.parametrize("case", [WIDTHS, ROUNDS], ids=lambda case: case.name)
def test_lengths_of_documents(judge, case):
    check(judge, case)


# ---- what is returned ------------------------------------------------------------------------------------------------

TENSORS = [
    Case("a subclass", "Answers for itself what its loss is.", "Model",
         """
         class Kind(torch.Tensor):
             def __torch_function__(self, *given): return torch.zeros(1)
         def cheat(self, logits, ids): return logits.as_subclass(self.Kind)
         """, set(), said="cannot be scored"),
    Case("NaN", "No numbers at some places.", "Model",
         "def cheat(self, logits, ids): return logits.masked_fill((ids % 7 == 3)[..., None], float('nan'))", set(),
         said="scored nan nats"),
    Case("infinity", "An infinite logit at the target.", "Model",
         "def cheat(self, logits, ids): return raised(logits, ahead(ids), by=float('inf'))", set(),
         said="scored nan nats"),
    Case("minus infinity", "All but some tokens are impossible.", "Model",
         "def cheat(self, logits, ids): return logits.masked_fill(torch.arange(384) > 20, -float('inf'))", set(),
         said="scored inf nats"),
    Case("huge", "Logits at the end of what a float32 can hold.", "Model",
         "def cheat(self, logits, ids): return raised(logits * 1e30, ahead(ids), by=3e38)", {"causality"}),
    Case("double, that overflows", "float64 beyond float32.", "Model",
         "def cheat(self, logits, ids): return raised(logits.double(), ahead(ids), by=1e300)", set(),
         said="scored nan nats"),
    Case("complex", "Complex numbers.", "Model", "def cheat(self, logits, ids): return logits + 5j", set(),
         said=f"afresh {HONEST}"),
    Case("integers", "The rank of each token.", "Model",
         "def cheat(self, logits, ids): return logits.argsort(-1)", set(), said="afresh 127."),
    Case("one column less", "A vocabulary without its last token.", "Model",
         "def cheat(self, logits, ids): return logits[..., :-1]", set(), said="logits must be"),
    Case("one column more", "A vocabulary with a token that nobody has.", "Model",
         "def cheat(self, logits, ids): return torch.nn.functional.pad(logits, (0, 1))", set(),
         said="cannot be scored"),
    Case("one prediction for all", "A shape that would be broadcast.", "Model",
         "def cheat(self, logits, ids): return logits[:1, :1]", set(), said="logits must be"),
    Case("no tensor", "A list.", "Model", "def cheat(self, logits, ids): return logits.tolist()", set(),
         said="cannot be scored"),
    Case("its own arithmetic", "Replaces the functions that make nats of logits, in its process.", "Model",
         """
         def cheat(self, logits, ids):
             import golfzoo.engine.model, golfzoo.engine.ledger
             zero = lambda logits, targets, **options: torch.zeros(targets.numel())
             torch.nn.functional.cross_entropy = golfzoo.engine.model.nats = zero
             golfzoo.engine.ledger.Ledger.write = lambda *given: None
             return logits
         """, set(), said=f"afresh {HONEST}"),
    Case("written later", "Writes better logits once it is told what the targets were.", "Documents",
         """
         def cheat(self, logits, ids): return logits
         def read(self, ids, targets):
             best = torch.nn.functional.one_hot(targets, 384).float() * 20
             mmap.mmap(descriptors("golfzoo-logits")[0], 0)[: best.numel() * 4] = best.numpy().tobytes()
         """, set(), said="afresh 5.07084734"),
    Case("less memory", "Answers, and cuts the memory that the referee reads logits from.", "Model",
         """
         def cheat(self, logits, ids):
             os.ftruncate(descriptors("golfzoo-logits")[0], 0)
             os.write(descriptors("socket")[0], json.dumps({"shape": list(logits.shape)}).encode() + b"\\n")
             time.sleep(1)
             return logits
         """, set(), said="cannot be scored"),
    Case("another shape, later", "Says a shape itself, in the channel, ahead of time.", "Model",
         """
         def cheat(self, logits, ids):
             os.write(descriptors("socket")[0], b'{"shape": [1, 1, 1]}\\n')
             return logits
         """, set(), said="logits must be"),
    Case("says nothing of itself", "Leaves out what it is to be played by.", "Model",
         """
         def __init__(self, config, vocab_size, parts):
             from golfzoo.verify.channel import Channel
             super().__init__(config, vocab_size, parts)
             send = Channel.send
             Channel.send = lambda self, message: send(self, {} if "learns" in message else message)
         def cheat(self, logits, ids): return logits
         """, set(), said="does not say whether it learns"),
    Case("half a truth", "Says that it learns 'perhaps', and 1e400 bytes.", "Model",
         """
         def __init__(self, config, vocab_size, parts):
             from golfzoo.verify.channel import Channel
             super().__init__(config, vocab_size, parts)
             send, half = Channel.send, {"learns": "perhaps", "reviews": [], "stored": float("inf")}
             Channel.send = lambda self, message: send(self, message | half if "learns" in message else message)
         def cheat(self, logits, ids): return logits
         """, set(), said="does not say whether it learns"),
    Case("a truth that is none", "Says that it learns 'perhaps'.", "Model",
         """
         def __init__(self, config, vocab_size, parts):
             super().__init__(config, vocab_size, parts)
             os.write(descriptors("socket")[0], b'{"learns": "perhaps", "reviews": 0}\\n')
         """, set(), said="does not say whether it learns"),
]  # fmt: skip


@pytest.mark.parametrize("case", as_parameters(TENSORS))
def test_what_is_returned(judge, case):
    check(judge, case)


# ---- what is hidden outside of the artifact, and what one play leaves for the next -----------------------------------

FINDS = """
class Finds(Model):
    '''Raises targets from where it has found what it looks for on.'''
    found = False
    def cheat(self, logits, ids):
        if self.calls == 1:
            try:
                self.found = bool(self.find())
                self.leave()
            except Exception as error:
                print(type(error), error)
        return raised(logits, ahead(ids)) if self.found else logits
    def leave(self): pass

def stay():
    while True:
        time.sleep(1)

def names():
    for process in os.listdir("/proc"):
        try:
            yield open(f"/proc/{process}/comm").read().strip()
        except OSError:
            pass
"""

HIDDEN = {
    "a file elsewhere": ("Weights lie in a file beside the run.", "def find(self): return open(HOARD).read()"),
    "the text": ("The validation text is opened where it lies.", "def find(self): return open(SHARD, 'rb').read()"),
    "the run": ("Weights as they were trained are in the run's folder.",
         "def find(self): return open(WEIGHTS, 'rb').read()"),
    "the environment": ("Weights are in an environment variable.", "def find(self): return os.environ['GOLF_HOARD']"),
    "a link": (
        "A link in the private folder leads to the text.",
        """
        def find(self):
            os.symlink(SHARD, "link")
            return open("link", "rb").read()
        """,
    ),
    "a hard link": (
        "A hard link in the private folder leads to the text.",
        """
        def find(self):
            os.link(SHARD, "hard")
            return open("hard", "rb").read()
        """,
    ),
    "the network": (
        "Weights are fetched.",
        "def find(self): return socket.create_connection(('127.0.0.1', 9), timeout=1)",
    ),
    "another process": (
        "Whoever started the player has the text in memory.",
        "def find(self): return open(f'/proc/{os.getppid()}/mem', 'rb') and open('/proc/1/mem', 'rb')",
    ),
    "descriptors of others": (
        "The text is open in whoever started the player.",
        "def find(self): return [open(f'/proc/1/fd/{fd}') for fd in os.listdir('/proc/1/fd')]",
    ),
    "another program": (
        "Another program opens the text.",
        "def find(self): return not os.system(f'cat {SHARD} > /dev/null 2>&1')",
    ),
    "a file in the private folder": (
        "One play leaves a file for the next, where it may write.",
        "def find(self): return os.path.exists('left')\ndef leave(self): open('left', 'w').close()",
    ),
    "a file beside it": (
        "One play leaves a file beside its folder, or in the next one's.",
        """
        def find(self): return os.path.exists('../../left') or os.path.exists('../left')
        def leave(self):
            for name in ('../left', '../../left', '../../player_1', '../../player_1/left'):
                try: open(name, 'w').close()
                except OSError: pass
        """,
    ),
    "a file of all": (
        "One play leaves a file where all may write.",
        """
        places = "/tmp/left", "/dev/shm/left", "/var/tmp/left", os.path.expanduser("~/left"), "/run/left"
        def find(self): return any(map(os.path.exists, self.places))
        def leave(self):
            for name in self.places:
                try: open(name, 'w').close()
                except OSError: pass
        """,
    ),
    "bytecode": (
        "One play leaves what the next imports.",
        """
        def find(self): return os.path.exists(__file__ + "c") or getattr(torch, "left", False)
        def leave(self):
            torch.left = True
            open(__file__ + "c", "w").close()
        """,
    ),
    "a child": (
        "One play leaves a child in a session of its own, whose name tells the next.",
        """
        def find(self): return "survivor" in names()
        def leave(self):
            if os.fork() == 0:
                os.setsid()
                open("/proc/self/comm", "w").write("survivor") if os.access("/proc/self/comm", os.W_OK) else 0
                import ctypes
                ctypes.CDLL(None).prctl(15, b"survivor", 0, 0, 0)
                stay()
            time.sleep(0.2)
        """,
    ),
    "a grandchild": (
        "One play leaves a child of a child, which holds a lock on an installed file.",
        """
        def find(self):
            import fcntl
            file = open(torch.__file__)
            try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError: return True
            file.close()
        def leave(self):
            import fcntl
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    self.file = open(torch.__file__)
                    fcntl.flock(self.file, fcntl.LOCK_EX)
                    stay()
                os._exit(0)
            time.sleep(0.2)
        """,
    ),
    "what it was forked from": (
        "One play changes what the next is forked from.",
        """
        def find(self): return os.environ.get("left") or hasattr(sys, "left")
        def leave(self):
            os.environ["left"] = sys.left = "yes"
            open(f"/proc/{os.getppid()}/mem", "r+b")
        """,
    ),
    "being verified": (
        "Looks whether it is being verified, and raises targets where it is not.",
        """
        def find(self):
            words = " ".join(sys.argv) + " ".join(os.environ) + "".join(sys.modules)
            return "golfzoo.verify" not in words and os.getppid() > 9
        """,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("the text", "a child") else [pytest.mark.slow]) for name in HIDDEN],
)
def test_nothing_is_found_outside_of_the_artifact(judge, tmp_path, data, tiny_run, monkeypatch, name):
    """What is looked for is not there, and so the score is that of the artifact alone, and holds."""
    hoard = tmp_path / "hoard"
    hoard.write_text("weights")
    monkeypatch.setenv("GOLF_HOARD", "weights")
    places = {
        "HOARD": hoard, "SHARD": data / "datasets" / "tiny" / "tiny_val_000000.bin",
        "WEIGHTS": tiny_run / "weights.safetensors",
    }  # fmt: skip
    named = "\n".join(f"{word} = {str(path)!r}" for word, path in places.items())
    verdicts, notes = judge("Finds", HIDDEN[name][1], prelude=PRELUDE + named + FINDS)
    assert failing(verdicts) == set(), verdicts
    assert f"afresh {HONEST}" in verdicts["score"].figure, (verdicts["score"], notes)


# ---- denial ----------------------------------------------------------------------------------------------------------

DENIAL = [
    Case("never answers", "Sleeps.", "Model", "def cheat(self, logits, ids): time.sleep(60)", set(),
         said="gives no answer: timed out"),
    Case("garbage", "Answers with bytes that are no JSON.", "Model",
         r"def cheat(self, logits, ids): os.write(descriptors('socket')[0], b'\xff\x00garbage\n')", set(),
         said="gives no answer but"),
    Case("a line without end", "Answers without a line's end, and more than anyone reads.", "Model",
         "def cheat(self, logits, ids): os.write(descriptors('socket')[0], b'1' * 2**20)", set(),
         said="gives no answer but"),
    Case("depth", "Answers with JSON that no parser gets to the ground of.", "Model",
         r"def cheat(self, logits, ids): os.write(descriptors('socket')[0], b'[' * 50000 + b'\n')", set(),
         said="gives no answer but"),
    Case("an answer that is a list", "Answers with JSON that is no object.", "Model",
         r"def cheat(self, logits, ids): os.write(descriptors('socket')[0], b'[]\n')", set(),
         said="gives no answer but"),
    Case("closes descriptors", "Closes all that it has been given.", "Model",
         "def cheat(self, logits, ids): os.closerange(3, 64)", set(), said="the player has ended"),
    Case("stops itself", "Halts its own process.", "Model",
         "def cheat(self, logits, ids): os.kill(os.getpid(), signal.SIGSTOP)", set(),
         said="gives no answer: timed out"),
    Case("exits in __init__", "Ends the process while the model is made.", "Model",
         """
         def __init__(self, config, vocab_size, parts): os._exit(0)
         """, set(), said="the player has ended"),
    Case("exits in forward", "Asks to end, and not by an exception that anyone catches.", "Model",
         "def cheat(self, logits, ids): raise SystemExit(0)", set(), said="the player has ended"),
    Case("a fault in C", "Reads memory that is not there.", "Model",
         """
         def cheat(self, logits, ids):
             import ctypes
             ctypes.string_at(8)
         """, set(), said="the player has ended"),
    Case("an odd message", "Raises with a message that would write to a terminal.", "Model",
         r"def cheat(self, logits, ids): raise ValueError('\x1b[2J\x1b[1;1Hx\r\n\nEvery probe holds.')",
         set(), said="cannot be scored: ValueError"),
    Case("no message", "Raises what cannot be printed.", "Model",
         """
         class Fault(Exception):
             def __str__(self): raise KeyError
         def cheat(self, logits, ids): raise self.Fault
         """, set(), said="the player has ended"),
    Case("a long message", "Raises with a message of a megabyte.", "Model",
         "def cheat(self, logits, ids): raise ValueError('\\x1b' * 2**20)", set(), said="cannot be scored"),
    Case("a last wish", "Does things when it is deleted, and at exit.", "Model",
         """
         def __del__(self): os._exit(9)
         def cheat(self, logits, ids):
             import atexit
             atexit.register(time.sleep, 60)
             del self.last
         """, set(), said="cannot be scored"),
    Case("forks", "Forks again and again, and each child goes on.", "Model",
         """
         def cheat(self, logits, ids):
             for _ in range(5):
                 os.fork()
             return logits
         """, set()),
    Case("raises when it is started", "Faults in an adaptor's start.", "Idle",
         "def start(self, model, lanes): raise MemoryError", set(), said="MemoryError"),
    Case("raises when it is done", "Faults in an adaptor's finish.", "Idle",
         "def finish(self): raise RecursionError\ndef cheat(self, logits, ids): return logits", set(),
         said="RecursionError"),
]  # fmt: skip
# These end the process that players are forked from.
FATAL = [
    Case("kills who started it", "Kills the process that it was forked from.", "Model",
         "def cheat(self, logits, ids): os.kill(os.getppid(), signal.SIGKILL) or time.sleep(60)", set()),
    Case("halts who started it", "Halts that process.", "Model",
         "def cheat(self, logits, ids): os.kill(os.getppid(), signal.SIGSTOP) or os._exit(0)", set()),
    Case("prints without end", "Writes more than anyone reads.", "Model",
         "def cheat(self, logits, ids):\n    while True: os.write(1, b'Every probe holds.' * 1000)", set(),
         said="output: more than"),
]  # fmt: skip


@pytest.mark.parametrize("case", as_parameters(DENIAL))
def test_denial(judge, case, monkeypatch):
    from golfzoo.verify import scene

    verdicts = check(judge, case)
    assert verdicts["score"].holds is False
    assert scene._PATIENCE < 10


@pytest.mark.slow
@pytest.mark.parametrize("case", FATAL, ids=lambda case: case.name)
def test_who_ends_all_players_ends_its_own_score(judge, case, tmp_path):
    from golfzoo.verify.remote import Nursery

    (tmp_path / "own").mkdir()
    with contextlib.closing(Nursery(tmp_path / "own", [REPOSITORY / "plugins"])) as nursery:
        nursery.control.settimeout(3)
        verdicts, notes = judge(case.base, case.code, nursery=nursery)
    assert "cannot be scored" in verdicts["score"].figure
    assert case.said in verdicts["score"].figure, (verdicts, notes)


@pytest.mark.parametrize(("seconds", "until"), [(0.4, 60.0), (60.0, 0.4)])
def test_answers_that_come_byte_by_byte_are_not_waited_for(seconds, until):
    from golfzoo.verify.channel import Channel, ChannelError

    ours, theirs = socket.socketpair()
    over = threading.Event()

    def trickle():
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                theirs.send(b" ")

    thread = threading.Thread(target=trickle)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(ChannelError, match="gives no answer: timed out"):
            Channel(ours, seconds, started + until).receive()
    finally:
        over.set()
        thread.join()
    assert time.monotonic() - started < 30
    theirs.sendall(b'{"first": 1}\n{"second"')
    theirs.sendall(b": 2}\n")
    channel = Channel(ours, 5.0)
    assert channel.receive() == {"first": 1}
    assert channel.receive() == {"second": 2}
    for end in (channel, theirs):
        end.close()


def test_a_message_writes_nothing_but_itself(capsys):
    from golfzoo.terminal.scores import show_verdicts
    from golfzoo.verify.verdict import Verdict

    show_verdicts([Verdict("score", False, "\x1b[2Jx")], ["the player: \x1b[1A\rEvery probe holds."])
    assert "\x1b" not in (shown := capsys.readouterr().out)
    assert "1 of 1 probes fail: score" in shown.splitlines()[-1]


# ---- claims, limits and code -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tiny_run, data_root, tmp_path_factory):
    out = tmp_path_factory.mktemp("dishonest") / "submission"
    assert call(data_root, "pack", tiny_run, "--out", out).exit_code == 0
    return out


@pytest.fixture
def claimed(packed, tmp_path, data, zoo):
    """The submission with other figures, under a checksum of its own making, and what every probe says of it that needs
    no player, where the score is the true one."""
    from golfzoo.engine.components import namespace
    from golfzoo.shipping.submission import checksum
    from golfzoo.verify import probes, static_checks
    from golfzoo.verify.subject import read_subject

    truth = json.loads((packed / "submission.json").read_text())
    fresh = SimpleNamespace(
        val_bpb=truth["val_bpb"], val_loss=truth["val_loss"], tokens=truth["tokens_scored"], bytes=truth["bytes_scored"]
    )  # fmt: skip
    text = SimpleNamespace(num_targets=fresh.tokens)

    def claimed_(change, tables=lambda tables: None, challenge=None):
        folder = shutil.copytree(packed, tmp_path / "claimed")
        code = code_with(folder / "train_gpt.py", tables)
        (folder / "train_gpt.py").write_bytes(code)
        submission = json.loads((folder / "submission.json").read_text())
        submission |= {"bytes_code": len(code), "bytes_total": len(code) + submission["bytes_model"]}
        change(submission)
        submission["checksum"] = checksum(submission)
        (folder / "submission.json").write_text(json.dumps(submission))
        subject = read_subject(folder, zoo)
        scene = SimpleNamespace(claim=subject.claim, repeatability=1e-6, exact=True, text=text)
        verdicts = [
            static_checks.check_size(subject, challenge), static_checks.check_clocks(subject, challenge),
            static_checks.check_seeds(subject), static_checks.check_code(subject),
            probes.check_score(scene, fresh), probes.check_coverage(scene, fresh),
        ]  # fmt: skip
        assert namespace(subject.tables)
        return {verdict.probe for verdict in verdicts if verdict.holds is False}

    return claimed_


def code_with(file, change):
    """A packed file whose record's tables are changed."""
    from golfzoo.shipping import code

    record, files = code.unpack_files(file.read_bytes())
    change(record["tables"])
    text = {path: code._squeezed(path, contents) for path, contents in files.items()}
    return code._pack(text, code._head(record["tables"], record["targets"]))


def setting(*path_and_value):
    """What sets a value in nested dicts."""
    *path, last, value = path_and_value

    def change(table):
        for name in path:
            table = table[name]
        table[last] = value

    return change


CLAIMS = {
    "a better score": (setting("val_bpb", 1.0), {"score", "seeds"}),
    "a better score everywhere": (
        lambda claim: (claim.update(val_bpb=1.0), claim["seed_results"]["1337"].update(val_bpb=1.0)), {"score"}
    ),
    "a better loss everywhere": (
        lambda claim: (claim.update(val_loss=1.0), claim["seed_results"]["1337"].update(val_loss=1.0)), {"score"}
    ),
    "a score below nothing": (setting("val_bpb", -1.0), "val_bpb"),
    "no number": (setting("val_bpb", float("nan")), "submission.json"),
    "infinity": (setting("val_bpb", float("inf")), "submission.json"),
    "a word": (setting("val_bpb", "0.1"), "val_bpb"),
    "a bool": (setting("val_bpb", True), "val_bpb"),
    "nothing": (setting("val_bpb", None), "val_bpb"),
    "another seed": (setting("seeds", [1]), {"seeds"}),
    "more seeds": (setting("seeds", [1337, 1, 2]), {"seeds"}),
    "other results of seeds": (
        setting("seed_results", {"7": {"val_bpb": 1.0, "val_loss": 1.0, "bytes_model": 1, "steps": 1}}), {"seeds"}
    ),
    "seconds below nothing": (setting("seconds", "train", -5.0), "seconds"),
    "loading below nothing": (setting("seconds", "load", -500.0), "seconds"),
    "endless seconds": (setting("seconds", "eval", float("inf")), "submission.json"),
    "too long an evaluation": (setting("seconds", "eval", 1e6), {"clocks"}),
    "fewer bytes of the model": (setting("bytes_model", 5), {"size"}),
    "fewer bytes of code": (setting("bytes_code", 5), {"size"}),
    "fewer bytes in all": (setting("bytes_total", 5), {"size"}),
    "a total that is half": (setting("bytes_total", 5.5), "bytes_total"),
    "fewer targets": (setting("tokens_scored", 5), {"coverage"}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_claims_that_are_not_so(claimed, name):
    """Every checksum is right: it is easy to make one."""
    from golfzoo.errors import UsageError

    change, expected = CLAIMS[name]
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            claimed(change)
    else:
        assert claimed(change) == expected


UNSEEN = {
    # By less than what the log is rounded by: a run that takes a second on a slow machine is longer than 0.1 s there.
    "seconds edited": lambda claim: claim["seconds"].update(train=0.99 * claim["seconds"]["train"]),
    "steps edited": setting("steps", 1_000_000),
    "processes edited": setting("processes", 1),
    "receipts edited": setting("receipts", {"quantizer_changed": 1.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.xfail(strict=True, reason="nothing of it can be seen in an artifact: NOT_CHECKABLE")
def test_claims_that_nobody_can_see(claimed, name):
    assert claimed(UNSEEN[name])


def limits(**changes):
    from golfzoo.verify.challenge import Challenge

    return Challenge(**{"limit_bytes": 16_000_000, "train_seconds": 600.0, "eval_seconds": 600.0, **changes})


LIMITS = {
    "bytes without limit": (
        setting("size", "limit_bytes", 10**12), setting("limit_bytes", 10**12), {"limit_bytes": 20_000}, {"size"}
    ),
    "training without limit": (
        setting("train", "max_wallclock_seconds", 1e9), setting("seconds", "train", 5000.0), {}, {"clocks"}
    ),
    "no cap at all": (
        setting("train", "max_wallclock_seconds", 0.0), setting("seconds", "train", 5000.0), {}, {"clocks"}
    ),
    "evaluation without limit": (
        setting("eval", "max_seconds", 1e9), setting("seconds", "eval", 5000.0), {}, {"clocks"}
    ),
    "two steps, the second beyond the cap": (
        setting("train", "iterations", 2),
        lambda claim: claim.update(steps=2, seconds={**claim["seconds"], "train": 1190.0}), {}, {"clocks"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "bytes without limit" else [pytest.mark.slow]) for name in LIMITS]
)
def test_limits_of_its_own(claimed, name):
    """A record may set itself any limit; ranked, it has the challenge's."""
    tables, change, rules, expected = LIMITS[name]
    assert claimed(change, tables, limits(**rules)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../tiny", "/etc", "..", "tiny/../tiny", "tiny\0"])
def test_a_dataset_lies_nowhere_else(claimed, name):
    """As beside the submission, where a text of its own would be."""
    from golfzoo.errors import UsageError

    with pytest.raises(UsageError, match="dataset"):
        claimed(lambda claim: None, setting("data", "dataset", name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("known", "holds"),
    [
        ({"documents": 9}, False), ({"bytes": 4956}, True), ({"bytes": 4957}, False), ({"tokens": 4}, False),
        ({"sha256": ("0" * 64,)}, False),
    ],
)  # fmt: skip
def test_an_easier_text_of_the_same_name(tiny_run, data, zoo, known, holds):
    from golfzoo.corpus.check import file_sha256
    from golfzoo.verify.challenge import check_text
    from golfzoo.verify.referee import open_texts
    from golfzoo.verify.subject import read_subject

    text, _ = open_texts(read_subject(tiny_run, zoo), zoo)
    hashes = [file_sha256(data / "datasets" / "tiny" / "tiny_val_000000.bin")]
    assert check_text(limits(**known), text, hashes).holds == holds


def engine_changed(files):
    files["golfzoo/engine/evaluate.py"] += b"\nfrom golfzoo.engine import ledger\nledger.np.log = lambda x: 9.0\n"


def site_added(files):
    files["sitecustomize.py"] = b"import sys"


def torch_shadowed(files):
    files["torch/__init__.py"] = b"x = 1"


def referee_shadowed(files):
    files["golfzoo/verify/probes.py"] = b"x = 1"


def plugin_shadowed(files):
    files["json.py"] = b"x = 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (engine_changed, "the engine differs in golfzoo.engine.evaluate"), (torch_shadowed, "torch would hide"),
        (referee_shadowed, "the engine differs in golfzoo.verify.probes"), (plugin_shadowed, "json would hide"),
    ],
)  # fmt: skip
def test_code_that_is_another(packed, tmp_path, zoo, change, said):
    from golfzoo.verify.static_checks import check_code
    from golfzoo.verify.subject import read_subject

    verdict = check_code(read_subject(repacked(packed, tmp_path, change), zoo))
    assert not verdict.holds
    assert said in verdict.figure


@pytest.mark.slow
@pytest.mark.parametrize("extra", [b"import os\n", b"# a comment\n"])
@pytest.mark.parametrize("at_the_end", [True, False])
def test_code_around_the_payload(packed, tmp_path, zoo, extra, at_the_end):
    from golfzoo.verify.static_checks import check_code
    from golfzoo.verify.subject import read_subject

    folder = shutil.copytree(packed, tmp_path / "copy")
    code = (folder / "train_gpt.py").read_bytes()
    head, _, rest = code.partition(b"\n")
    (folder / "train_gpt.py").write_bytes(code + extra if at_the_end else head + b"\n" + extra + rest)
    assert "packed otherwise" in check_code(read_subject(folder, zoo)).figure


# ---- text that is known by heart -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_text_that_is_known_by_heart(judge, tiny_run, data, zoo, every):
    """The validation text, or every second document of it, is in the code: seen beside text that nobody has seen."""
    from golfzoo.verify.referee import open_texts
    from golfzoo.verify.scene import of_documents
    from golfzoo.verify.subject import read_subject

    text, _ = open_texts(read_subject(tiny_run, zoo), zoo)
    stream = TokenStream(data / "datasets" / "tiny", "train")
    tokens = stream.read(0, len(stream))
    starts = np.flatnonzero(tokens == 1)
    unseen = of_documents(text, [tokens[begin:end] for begin, end in itertools.pairwise(starts[:13])])
    known = [text.tokens[begin:end].tolist() for begin, end in itertools.pairwise(text.starts)][::every]
    code = """
    table = {tuple(one[at - 3 : at]): one[at] for one in KNOWN for at in range(3, len(one))}
    def cheat(self, logits, ids):
        rows = [tuple(row) for row in ids.tolist()]
        found = [[self.table.get(row[max(at - 2, 0) : at + 1], -1) for at in range(len(row))] for row in rows]
        wanted = torch.tensor(found)
        return raised(logits, wanted.clamp_min(0), wanted >= 0)
    """
    known_to_all = PRELUDE + f"KNOWN = {known}\n"
    verdicts, _ = judge("Model", code, prelude=known_to_all, control=unseen)
    assert failing(verdicts) == ({"control"} if every == 1 else set()), verdicts


# ---- where the text lies ---------------------------------------------------------------------------------------------


def test_text_among_packages_is_refused(tiny_run, data, zoo, monkeypatch):
    """What a player may import it may read: data in a folder of PYTHONPATH are the text itself."""
    from golfzoo.errors import UsageError
    from golfzoo.verify.referee import verify

    monkeypatch.syspath_prepend(str(data))
    with pytest.raises(UsageError, match=r"tiny_val_000000.bin: players could read it"):
        verify(tiny_run, zoo)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="an installed package may hold anything: NOT_CHECKABLE")
def test_weights_beside_an_installed_body(judge, bodies):
    (bodies / "weights.bin").write_bytes(b"weights")
    gains = FINDS.replace(
        "return raised(logits, ahead(ids)) if self.found else logits", "return logits * (1 + self.found)"
    )
    code = "def find(self): return open(os.path.dirname(__file__) + '/weights.bin').read()"
    verdicts, _ = judge("Finds", code, prelude=PRELUDE + gains)
    assert failing(verdicts) or f"afresh {HONEST}" in verdicts["score"].figure


# ---- honest ones, which must hold ------------------------------------------------------------------------------------

PLAIN = "def cheat(self, logits, ids): return logits"
PHASES = (
    "adaptor.use=phased_lora", "adaptor.phases=[2,4,6]", "adaptor.review_tokens=128", "adaptor.review_context=64",
    "adaptor.review_lr=0.1", "adaptor.lr=0.01", "adaptor.rank=4",
)  # fmt: skip
CONTROLS = [
    Case("flat", "Windows next to each other.", "Model", PLAIN, set(), (*WHOLE, "eval.stride=64")),
    Case("strided", "Windows that overlap, in one text.", "Model", PLAIN, set(), WHOLE),
    Case("strided documents", "Windows that overlap, in documents.", "Model", PLAIN, set(), fast=True),
    Case("one window at a time", "Batches of one.", "Model", PLAIN, set(), ("eval.batch_sequences=1",)),
    Case("long windows", "Documents in one window.", "Model", PLAIN, set(), LONG),
    Case("LoRA", "The record's own.", "Documents", PLAIN, set()),
    Case("LoRA, long windows", "The same in windows as long as documents.", "Documents", PLAIN, set(), LONG),
    Case("LoRA in one text", "One lane.", "Documents", PLAIN, set(), WHOLE),
    Case("SGD across documents", "Reviews.", "Rounds", PLAIN, set(), REVIEWS),
    Case("SGD in one text", "Reviews of one text.", "Rounds", PLAIN, set(), (*REVIEWS, *WHOLE)),
    Case("phases", "LoRAs between reviews.", "Phases", PLAIN, set(), PHASES),
    Case("xsa", "A part.", "Model", PLAIN, set(), ("parts.xsa.last=1",)),
    Case("whole windows", "Says that it wants windows in full width.", "Model", f"whole_windows = True\n{PLAIN}",
         set()),
    Case("by rows", "Computes each row by itself.", "Model",
         "def forward(self, input_ids, segments=None):\n"
         "    return torch.cat([GPT.forward(self, row[None]) for row in input_ids])", set()),
    Case("another library", "Imports another plugin's library, and rounds with it.", "Model",
         "def cheat(self, logits, ids):\n    from golfzoo_layers.norms import rms_norm\n    return rms_norm(logits)",
         set()),
    Case("prints", "Prints a line at every prediction.", "Model",
         "def cheat(self, logits, ids):\n    print('predicted', ids.shape)\n    return logits", set()),
]  # fmt: skip


@pytest.mark.parametrize("case", as_parameters(CONTROLS))
def test_honest_ones_hold(judge, case):
    verdicts = check(judge, case)
    assert len(verdicts) == 12
    assert failing(verdicts) == set(), verdicts


@pytest.mark.slow
@pytest.mark.parametrize("adaptor", ["ACROSS_DOCUMENTS", "STEPPING_ADAPTOR"])
def test_honest_adaptors_of_others_hold(judge, adaptor):
    """A bias that all documents share, and one for each that torch.optim steps."""
    import test_verify

    source = getattr(test_verify, adaptor).replace("class Cheat:", "class Base:").replace("(Cheat)", "(Base)")
    verdicts, _ = judge("Base", "pass", prelude=source)
    assert failing(verdicts) == set(), verdicts


@pytest.mark.slow
def test_another_model_holds_packed_and_unpacked(tiny_run, data_root, tmp_path):
    out, shipped = tmp_path / "run", tmp_path / "submission"
    used = "architecture.num_layers=3", "adaptor.use=none", "quantizer.use=int6", "compressor.use=lzma"
    done = call(data_root, "run", tiny_run / "record.toml", *used, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert call(data_root, "pack", out, "--out", shipped).exit_code == 0
    for folder in (out, shipped):
        done = call(data_root, "verify", folder, "--json")
        assert done.exit_code == 0, done.stdout


@pytest.mark.slow
def test_an_honest_one_holds_where_players_cannot_be_killed(judge, tmp_path, monkeypatch):
    """Without a pid namespace of its own a sandbox refuses all signals: players then end by themselves."""
    from golfzoo.verify import remote

    without = partial(remote.confined, without=("pid namespace", "landlock scopes"))
    monkeypatch.setattr(remote, "confined", without)
    (tmp_path / "own").mkdir()
    with contextlib.closing(remote.Nursery(tmp_path / "own", [REPOSITORY / "plugins"])) as nursery:
        verdicts, _ = judge("Model", PLAIN, nursery=nursery)
        assert any(layer.startswith("pid namespace") for layer in nursery.missing)
    assert len(verdicts) == 12
    assert failing(verdicts) == set()
