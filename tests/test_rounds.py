"""Learning across the text: rounds and reviews, against an oracle written from the specification alone; and misused."""

import multiprocessing
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import zoo_oracle_ttt
from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import evaluate
from golfzoo.engine.ledger import Ledger
from golfzoo.engine.setup import make_model
from golfzoo.verify.scene import OrderedLedger
from golfzoo_gpt_parts.segmented import mask
from test_recurrence import ALONE, CASES, VOCAB, load, noisy, renamed, settings_of  # noqa: F401  (load is a fixture)

BOS = 1


ONE_BYTE_EACH = SimpleNamespace(target_bytes=lambda tokens: np.ones(len(tokens) - 1, dtype=np.int16))


def text_of(lengths, seed=0):
    """Documents of so many targets each; the last ends with the text."""
    rng = np.random.default_rng(seed)
    documents = [np.append(BOS, rng.integers(2, VOCAB, length - 1)) for length in lengths]
    return ValidationText(np.append(np.concatenate(documents), 7).astype(np.uint16), ONE_BYTE_EACH)


def windowing(context, stride, isolate, batch=4):
    return SimpleNamespace(context=context, stride=stride, isolate_documents=isolate, batch_sequences=batch)


@pytest.fixture
def in_double(monkeypatch):
    """AdamW makes steps of what rounding leaves of a gradient: two float32 writings part company."""

    def nats(logits, target_ids):
        return F.cross_entropy(logits.flatten(0, 1), target_ids.flatten(), reduction="none").view_as(target_ids)

    monkeypatch.setattr("golfzoo.engine.model.nats", nats)


def model_of(load, case, *changes):  # noqa: F811
    return noisy(make_model(*load(*CASES[case][0], *changes), VOCAB, ALONE).module, 0.1).double()


# ---- against the oracle ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", ["3Layer", "9Hp"])
def test_score_first_sgd_is_the_records(case, load, in_double):  # noqa: F811
    from golfzoo_sgd_ttt.adaptor import Sgd

    model, text = model_of(load, case), text_of([90, 150, 60])  # whole strides
    options = dict(epochs=2, lr=0.05, momentum=0.9, batch_sequences=8)
    expected = zoo_oracle_ttt.score_first_sgd(
        zoo_oracle_ttt.zoo_model(settings_of(case)).forward_nats, renamed(model.state_dict()), text.tokens,
        context=16, stride=4, chunk=64, clip=0.5, **options,
    )["nats"].numpy()  # fmt: skip
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = SimpleNamespace(chunk_tokens=64, seq_len=16, grad_clip_norm=0.5, **options)
    score = evaluate(model, text, windowing(16, 4, isolate=False), ALONE, Sgd(config))
    plain = evaluate(model, text, windowing(16, 4, isolate=False), ALONE)
    assert np.abs(score.nats - expected).max() < 2e-6
    assert np.array_equal(score.nats[:64], plain.nats[:64])
    assert np.abs(score.nats - plain.nats).max() > 0.01
    assert score.updates == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


OFTEN = "warm, of 9Hp"
# Case, options, lanes, after how many documents in how many phases, longest piece of a document in them.
PHASED = {
    "warm, of 9Hp": ("9Hp", dict(warm_start=True, alpha=6.0, weight_decay=0.5, beta1=0.0), 2, (6, 2), 32),
    "redrawn, of VarLen": ("loop", dict(warm_start=False, alpha=0.0, weight_decay=1.0, beta1=0.0), 2, (0, 1), 32),
    "one phase, in pieces": ("loop", dict(warm_start=False, alpha=0.0, weight_decay=0.5, beta1=0.0), 2, (5, 1), 16),
    # A gate on the embedding sees what comes before a piece.
    "packed, in pieces": ("9Hp", dict(warm_start=True, alpha=6.0, weight_decay=0.5, beta1=0.0), 2, (6, 2), 16),
    "two phases due": ("gated skips", dict(warm_start=True, alpha=2.0, weight_decay=0.5, beta1=0.0), 3, (6, 3), 32),
}


@pytest.mark.parametrize(
    "name", [OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in PHASED if name != OFTEN)]
)
def test_phased_lora_is_the_records(name, load, in_double):  # noqa: F811
    from golfzoo_lora_ttt.phased import PhasedLora

    case, options, lanes, (prefix, parts), piece = PHASED[name]
    packed = ["parts.segmented={}"] if name.startswith("packed") else []
    model, text, rank = model_of(load, case, *packed), text_of([30, 9, 61, 17, 40, 25, 33]), 3

    def drawn(call, layer, shape):
        seed = hash((call, layer)) % 2**31
        draws = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return (2 * draws - 1) * shape[-1] ** -0.5

    sgd = dict(chunk=32, lr=0.02, momentum=0.9, epochs=2, clip=1.0, context=piece)
    betas = dict(lr=0.01, betas=(options["beta1"], 0.99))
    oracle = zoo_oracle_ttt.zoo_model(settings_of(case))
    expected = zoo_oracle_ttt.phased_lora(
        oracle, renamed(model.state_dict()), text.tokens, drawn, rank=rank, alpha=options["alpha"] or None,
        warm_start=options["warm_start"], batch_size=lanes, chunk=8, context=32, weight_decay=options["weight_decay"],
        sgd=sgd, prefix_documents=prefix, phases=parts, **betas,
    )  # fmt: skip
    calls = [call for call, _, why in expected["calls"] if options["warm_start"] or why not in ("first", "phase")]
    if options["warm_start"]:  # the first set is drawn when it is first used: behind the smaller batch
        calls[:2] = calls[1::-1]
    if options["warm_start"] and expected["phases"][-1]["after_batch"] == len(expected["served"]):
        calls.pop()  # nothing comes after the last phase

    class Given(PhasedLora):
        def draw(self):
            call, order = calls.pop(0), model.orders[-1][0]
            layers = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in TARGETS]
            place = 0
            for name in layers:
                kind = TARGETS[name.rpartition(".")[2]]
                at = [p for p, layer in enumerate(order) if kind != "head" and layer == int(name.split(".")[1])]
                for position in at or [None]:
                    label = kind if position is None else f"{kind}.{position}"
                    size = next(size for number, size, _ in expected["calls"] if number == call)
                    draws = drawn(call, label, (size, *self.weights[place].shape[1:]))
                    self.weights[place].data[:size] = draws.flip(0)  # lane 0 has the longest document
                    place += 2

    config = SimpleNamespace(
        **options, rank=rank, lr=betas["lr"], beta2=0.99, eps=1e-10, targets=tuple(TARGETS),
        phases=[prefix * (part + 1) // parts for part in range(parts)] if prefix else [],
        review_tokens=32, review_context=piece, review_epochs=2, review_lr=0.02, review_momentum=0.9,
        grad_clip_norm=1.0,
    )  # fmt: skip
    adaptor = Given(config)
    adaptor_start = adaptor.start

    def start(model, lanes):
        adaptor_start(model, lanes)
        adaptor.weights = [weights.detach().double().requires_grad_() for weights in adaptor.weights]
        adaptor.optimizer = torch.optim.AdamW(
            adaptor.weights, config.lr, (config.beta1, config.beta2), config.eps, config.weight_decay
        )

    adaptor.start = start
    score = evaluate(model, text, windowing(32, 8, isolate=True, batch=lanes), ALONE, adaptor)
    assert not calls
    assert score.updates > 10 + len(expected["phases"])
    assert np.abs(score.nats - expected["nats"].numpy()).max() < 2e-6


TARGETS = {"c_q": "q", "c_k": "k", "c_v": "v", "attn": "o", "mlp": "mlp", "lm_head": "head"}


# ---- rounds ---------------------------------------------------------------------------------------------------------


class Table(torch.nn.Module):
    """What follows a token, as a table that can be trained."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(VOCAB, VOCAB, generator=generator))

    def forward(self, ids):
        return F.embedding(ids, self.table)


class Counting:
    """Reviews as its rounds say, and writes down what it was given."""

    across_documents = True

    def __init__(self, rounds):
        self.rounds, self.reviews = rounds, []

    def start(self, model, lanes):
        self.model = model

    def review(self, texts, group):
        assert all(parameter.requires_grad for parameter in self.model.parameters())
        self.reviews.append(texts)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(1)  # no logit moves against another

    def finish(self): ...


class CountingInLanes(Counting):
    def reset(self): ...

    def learn(self, nll, scored): ...

    def start(self, model, lanes):
        super().start(model, lanes)
        leaf = torch.zeros((), requires_grad=True)
        self.hook = model.register_forward_hook(lambda module, inputs, logits: logits + leaf)

    def finish(self):
        self.hook.remove()


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("ends", [[1], [50, 51, 120], [33, 100, 200], [200], []])
def test_a_review_is_given_exactly_the_targets_of_its_round(ends, isolate):
    text, told = text_of([70, 3, 90, 37]), []
    adaptor = Counting(lambda sizes: told.append(sizes) or ends)
    ledger = OrderedLedger(text)
    evaluate(Table(), text, windowing(32, 8, isolate), ALONE, adaptor, ledger=ledger)
    assert told == [[70, 3, 90, 37] if isolate else [200]]
    bounds = {0, 200, *([70, 73, 163] if isolate else [])}
    for begin, end, texts in zip([0, *ends], ends, adaptor.reviews, strict=False):
        inner = sorted(bound for bound in bounds if begin < bound < end)
        pieces = list(zip([begin, *inner], [*inner, end], strict=True))
        assert [given.tolist() for given in texts] == [text.tokens[a : b + 1].tolist() for a, b in pieces]
    assert len(adaptor.reviews) == len(ends)
    for number, end in enumerate(ends):  # a target of a later round is scored after the review, but for a window's rest
        assert (ledger.when[:end] <= number).all()
        assert (ledger.when[end + 8 :] > number).all()
    assert ledger.updates == len(ends)


def test_in_lanes_rounds_count_documents_the_longest_first():
    text, told = text_of([20, 50, 10, 40, 30]), []
    adaptor = CountingInLanes(lambda sizes: told.append(sizes) or [2, 3])
    evaluate(Table(), text, windowing(32, 8, True, batch=2), ALONE, adaptor)
    assert told == [[50, 40, 30, 20, 10]]
    # Batches from the shortest on, served from the longest: [50], [40, 30], [20, 10]. The first round ends with the
    # second of them, the next with the third.
    assert [[len(given) - 1 for given in texts] for texts in adaptor.reviews] == [[50, 40, 30], [20, 10]]


@pytest.mark.parametrize("ends", [[0, 5], [5, 5], [7, 5], [201], [5.0], [-1]])
def test_rounds_that_are_none_are_refused(ends):
    with pytest.raises(RunError, match="rounds must be whole numbers that rise from 1 to at most 200, got"):
        evaluate(Table(), text_of([70, 3, 90, 37]), windowing(32, 8, True), ALONE, Counting(lambda sizes: ends))


def test_a_review_with_a_target_missing_is_refused(monkeypatch):
    text, write = text_of([70, 3, 90, 37]), Ledger.write
    monkeypatch.setattr(Ledger, "write", lambda self, at, nats: write(self, at[at != 17], nats[at != 17]))
    with pytest.raises(RunError, match="1 targets of a round are not scored once before its review"):
        evaluate(Table(), text, windowing(32, 8, True), ALONE, Counting(lambda sizes: [100]))


def test_what_a_review_does_to_the_weights_is_undone_after_an_error_too():
    model, text = Table(), text_of([70, 3, 90, 37])
    before, adaptor = model.table.detach().clone(), Counting(lambda sizes: [50, 100])
    score = evaluate(model, text, windowing(32, 8, True), ALONE, adaptor)
    assert np.allclose(score.nats, evaluate(model, text, windowing(32, 8, True), ALONE).nats, atol=1e-5)
    assert torch.equal(model.table, before)
    assert model.table.requires_grad
    review = adaptor.review
    adaptor.review = lambda texts, group: review(texts, group) or 1 / 0
    with pytest.raises(ZeroDivisionError):
        evaluate(model, text, windowing(32, 8, True), ALONE, adaptor)
    assert torch.equal(model.table, before)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCAB, 16)
        self.lm_head = torch.nn.Linear(16, VOCAB)

    def forward(self, ids):
        return self.lm_head(torch.tanh(self.embedding(ids)))


class Packed(Linear):
    """Each position has the mean over its segment so far of what it and the one before it are."""

    takes_segments = True

    def forward(self, ids, segments=None):
        x = self.embedding(ids)
        x = torch.cat((x[:, :1], x[:, 1:] + 0.5 * x[:, :-1]), dim=1)
        alone = torch.tensor([0, ids.numel()], dtype=torch.int32)
        seen = mask(alone if segments is None else segments, *ids.shape)[:, 0].float()
        return self.lm_head(torch.tanh(seen / seen.sum(-1, keepdim=True) @ x))


def reviewers():
    from golfzoo_lora_ttt.phased import PhasedLora
    from golfzoo_sgd_ttt.adaptor import Sgd

    sgd = dict(chunk_tokens=64, seq_len=16, epochs=2, lr=0.5, momentum=0.9, batch_sequences=4, grad_clip_norm=1.0)
    lora = dict(
        rank=2, alpha=0.0, lr=0.01, beta1=0.0, beta2=0.99, eps=1e-8, weight_decay=0.5, targets=("lm_head",),
        phases=(2, 4), warm_start=False, review_tokens=64, review_context=16, review_epochs=1, review_lr=0.5,
        review_momentum=0.9, grad_clip_norm=1.0,
    )  # fmt: skip
    return {
        "sgd": (Linear, Sgd(SimpleNamespace(**sgd))),
        "phased_lora": (Linear, PhasedLora(SimpleNamespace(**lora))),
        "packed phased_lora": (Packed, PhasedLora(SimpleNamespace(**lora))),
    }


LENGTHS = [90, 150, 60, 33, 7, 80]


def one_of(rank, size, port, made, out):
    model, adaptor = made
    torch.set_num_threads(1)
    group = None
    if size > 1:
        import torch.distributed as dist

        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
        group = dist.group.WORLD
    world = World(rank, size, torch.device("cpu"), bf16=False, group=group, patient=group)
    isolate = hasattr(adaptor, "learn")
    score = evaluate(model(), text_of(LENGTHS), windowing(32, 16, isolate, batch=2), world, adaptor)
    if rank == size - 1:
        np.save(out, score.nats)


@pytest.mark.parametrize("name", ["sgd", "phased_lora", "packed phased_lora"])
def test_on_three_processes_as_on_one(name, tmp_path):
    context, scores = multiprocessing.get_context("fork"), {}
    for size in (1, 3):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        out = tmp_path / f"{size}.npy"
        together = [
            context.Process(target=one_of, args=(rank, size, port, reviewers()[name], out)) for rank in range(size)
        ]
        for process in together:
            process.start()
        for process in together:
            process.join(60)
        assert [process.exitcode for process in together] == [0] * size
        scores[size] = np.load(out)
    assert np.abs(scores[3] - scores[1]).max() < 1e-5
    assert abs(scores[3].mean() - scores[1].mean()) < 1e-6
    plain = evaluate(reviewers()[name][0](), text_of(LENGTHS), windowing(32, 16, name != "sgd", 2), ALONE)
    assert np.abs(scores[1] - plain.nats).max() > 0.01


# ---- in a run -------------------------------------------------------------------------------------------------------


def tiny(tmp_path):
    from conftest import TINY_RECORD

    (tmp_path / "tiny.toml").write_text(TINY_RECORD)
    return tmp_path / "tiny.toml"


SGD = ("adaptor.use=sgd", "adaptor.chunk_tokens=512", "adaptor.seq_len=64", "eval.isolate_documents=false")


@pytest.mark.slow
def test_interrupted_in_a_review_and_resumed_it_ends_with_the_same_bits(golfzoo, tmp_path, monkeypatch):
    import json

    from golfzoo.engine.errors import Interrupted
    from golfzoo_reviews import TextSGD

    command = ("run", tiny(tmp_path), *SGD, "--out")
    assert golfzoo(*command, tmp_path / "whole", "--fresh")[0] == 0
    calls, step = [], TextSGD.step

    def interrupted(self, *given):
        calls.append(0)
        if len(calls) == 5:
            raise Interrupted(15)
        step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(TextSGD, "step", interrupted)
        status, output = golfzoo(*command, tmp_path / "halves", "--fresh")
    assert status == 143, output
    status, output = golfzoo("run", "--resume", tmp_path / "halves")
    assert status == 0, output
    whole, halves = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "halves"))
    assert halves["stages"] == whole["stages"]
    assert halves["receipts"] == whole["receipts"]
    assert halves["receipts"]["adaptor_updates"] > 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("adaptor.chunk_tokens=64000000", "adaptor.seq_len=64"), "[adaptor] sgd: never reviews a text of "),
        (("adaptor.seq_len=100",), "chunk_tokens (512) must be a multiple of seq_len (100)"),
        (("adaptor.epochs=0",), "epochs"),
        (
            ("adaptor.use=phased_lora", "adaptor.phases=[5,3]"),
            "phases ([5, 3]) must be numbers of documents, from 1, that",
        ),
        (("adaptor.use=phased_lora", "adaptor.targets=['c_x']"), "nothing with a linear layer is named 'c_x'"),
    ],
)
def test_what_cannot_act_is_said_before_training(golfzoo, tmp_path, changes, said):
    first = changes if changes[0].startswith("adaptor.use") else (*SGD, *changes)
    status, output = golfzoo("run", tiny(tmp_path), *first, "--out", tmp_path / "run")
    assert status in (1, 2)
    assert said in output
    assert "Traceback" not in output
    assert "step 1" not in output


def test_learning_across_documents_must_be_declared(zoo, data, tiny_record):
    from golfzoo.engine.components import namespace
    from golfzoo.engine.setup import set_up, set_up_training
    from golfzoo.record import load_record
    from golfzoo.running.rehearse import rehearse

    record = load_record(str(tiny_record), zoo)
    components = record.bind()
    setup = set_up(namespace(record.tables), components, ALONE)
    training = set_up_training(setup)
    for attribute, value, said in [
        ("across_documents", False, "must say so: across_documents = True"),
        ("review", None, r"has no review\(\)"),
        ("finish", None, r"has no finish\(\)"),
        ("rounds", lambda sizes: [3, 2], "rounds must be whole numbers"),
    ]:
        components.adaptor = Counting(lambda sizes: [8])
        setattr(components.adaptor, attribute, value)
        with pytest.raises(RunError, match=said):
            rehearse(setup, training, lambda event: None)
    components.adaptor = Counting(lambda sizes: [8])
    before = {name: tensor.clone() for name, tensor in setup.model.module.state_dict().items()}
    rehearse(setup, training, lambda event: None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in setup.model.module.state_dict().items())
