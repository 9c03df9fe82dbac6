"""The windows over the validation text, the ledger, and the seam between scoring and learning."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import open_tokenizer
from golfzoo.engine.data import open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import evaluate, flat_windowing, plan_windows
from golfzoo.engine.ledger import Ledger

ALONE = World(0, 1, torch.device("cpu"), bf16=False)


def windowing(context, stride, isolate=True, batch=3):
    return SimpleNamespace(context=context, stride=stride, isolate_documents=isolate, batch_sequences=batch)


@pytest.fixture(scope="module")
def text(data_root):
    return open_validation(
        data_root / "datasets" / "tiny", open_tokenizer(data_root / "tokenizers" / "tiny_384_bpe.model")
    )


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    stride=st.integers(1, 20),
    extra=st.integers(0, 20),
    batch=st.integers(1, 5),
    isolate=st.booleans(),
    in_lanes=st.booleans(),
)
def test_windows_cover_every_target_once_and_obey_the_walk(lengths, stride, extra, batch, isolate, in_lanes):
    starts = np.cumsum([0, *lengths])
    plan = windowing(stride + extra, stride, isolate, batch)
    scored = np.zeros(starts[-1], dtype=int)
    bounds = starts if isolate else starts[[0, -1]]
    for group in plan_windows(starts, plan, in_lanes):
        assert in_lanes or len(group) == 1
        for windows in group:
            assert len(windows.start) <= batch
            for start, length, seen, continues in zip(*vars(windows).values(), strict=True):
                scored[start + seen : start + length] += 1
                document = np.searchsorted(bounds, start, side="right") - 1
                begin, end = bounds[document], bounds[document + 1]
                chunk = (start + seen - begin) // stride
                assert start >= begin
                assert start + length == min(begin + (chunk + 1) * stride, end)  # ends with its chunk
                assert length == min(plan.context, start + length - begin)  # as much context as there is
                assert continues == (start + length < end)
            order = windows.continues.astype(int)
            assert not in_lanes or (np.diff(order) <= 0).all()  # lanes that go on come first
    assert (scored == 1).all()


class Bigram(torch.nn.Module):
    """A table of random logits: every pair of tokens has nats of its own, which show what each slot was given."""

    def __init__(self, text):
        super().__init__()
        vocab_size = text.tokenizer.vocab_size
        self.table = torch.nn.Parameter(torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids):
        return self.table[input_ids]

    def expected(self, text):
        table = self.table.detach().double().numpy()
        nats = np.log(np.exp(table).sum(1, keepdims=True)) - table
        return nats[text.tokens[:-1], text.tokens[1:]]


@pytest.mark.parametrize(
    "plan",
    [
        flat_windowing(SimpleNamespace(seq_len=64, micro_batch_tokens=256)),
        windowing(64, 32),
        windowing(50, 7, batch=2),
        windowing(64, 64, isolate=False),
    ],
)
def test_each_score_lands_in_its_own_slot(text, plan):
    model = Bigram(text)
    score = evaluate(model, text, plan, ALONE)
    expected = model.expected(text)
    assert np.abs(score.nats - expected).max() < 1e-5
    assert score.tokens == text.num_targets
    assert score.bytes == text.total_bytes
    assert score.val_loss == pytest.approx(expected.mean(), rel=1e-6)
    assert score.val_bpb == pytest.approx(expected.sum() / np.log(2) / text.total_bytes, rel=1e-6)
    ends = text.starts[1:]
    for document, (start, end) in enumerate(zip(text.starts[:-1], ends, strict=True)):
        assert score.documents["tokens"][document] == end - start
        assert score.documents["bytes"][document] == text.target_bytes[start:end].sum()
        assert score.documents["nats"][document] == pytest.approx(expected[start:end].sum(), rel=1e-6)


class Witness:
    """An adaptor that writes down what it is allowed to see, and when."""

    def start(self, model, lanes):
        self.events = []
        leaf = torch.zeros((), requires_grad=True)
        self.hook = model.register_forward_hook(lambda module, inputs, logits: logits + leaf)

    def reset(self):
        self.events.append("reset")

    def learn(self, nll, scored):
        assert nll.requires_grad
        assert nll.shape == scored.shape
        self.events.append((nll.detach().clone(), scored.clone()))

    def finish(self):
        self.hook.remove()
        self.events.append("finish")


def test_an_adaptor_learns_only_what_is_in_the_ledger(text, monkeypatch):
    written = []
    original = Ledger.write

    def write(self, targets, nats):
        written.append((targets.copy(), nats.copy()))
        original(self, targets, nats)

    monkeypatch.setattr(Ledger, "write", write)
    witness, plan = Witness(), windowing(64, 32, batch=2)
    model = Bigram(text)
    evaluate(model, text, plan, ALONE, witness)
    assert model.table.requires_grad  # given back as it was
    lessons = [event for event in witness.events if not isinstance(event, str)]
    scored = {float(value) for _, nats in written for value in nats}
    assert lessons
    for nll, mask in lessons:
        assert mask.any()
        assert set(nll[mask].tolist()) <= scored
    assert witness.events.count("reset") == -(-(len(text.starts) - 1) // 2)
    assert witness.events[-1] == "finish"
    # Nothing is to be learned from the last chunk of a document: there is nothing left to use it on.
    chunks = -(-np.diff(text.starts) // 32)
    assert sum(int(mask.any(dim=1).sum()) for _, mask in lessons) == int((chunks - 1).sum())


def test_the_ledger_is_write_once_and_complete(text):
    ledger = Ledger(text)
    ledger.write(np.array([3, 4]), np.array([1.0, 2.0]))
    with pytest.raises(RunError, match="target 4 was scored twice"):
        ledger.write(np.array([5, 4]), np.array([1.0, 2.0]))
    with pytest.raises(RunError, match="must be scored exactly once; there were 2 scores, and target 0 had 0"):
        ledger.close(ALONE)
    doubled = Ledger(text)
    doubled.write(np.append(np.arange(text.num_targets), 7), np.ones(text.num_targets + 1))
    with pytest.raises(RunError, match="must be scored exactly once"):
        doubled.close(ALONE)
    for impossible in (np.nan, np.inf, -np.inf, -1e-6):
        broken = Ledger(text)
        with pytest.raises(RunError, match=f"target 1 scored {impossible} nats"):
            broken.write(np.array([0, 1]), np.array([0.0, impossible]))


def test_an_adaptor_meets_the_same_model_in_its_trial_and_in_scoring(data, tiny_record, zoo):
    """No parameter wants a gradient, in evaluation; and each is given back as it was, also after an error."""
    from golfzoo.engine.components import namespace
    from golfzoo.engine.setup import set_up, set_up_training
    from golfzoo.record import load_record
    from golfzoo.running.rehearse import rehearse

    class Looking:
        def __init__(self):
            self.seen = []

        def start(self, model, lanes):
            self.seen.append([model.training, *(parameter.requires_grad for parameter in model.parameters())])
            if len(self.seen) > 2:
                raise RuntimeError("enough")

        def reset(self): ...
        def learn(self, nll, scored): ...
        def finish(self): ...

    record = load_record(str(tiny_record), zoo)
    components, looking = record.bind(), Looking()
    components.adaptor = looking
    setup = set_up(namespace(record.tables), components, ALONE)
    model = setup.model.module
    frozen = next(model.parameters()).requires_grad_(False)
    rehearse(setup, set_up_training(setup), lambda event: None)
    evaluate(model, setup.validation, setup.plan.eval, ALONE, looking)
    with pytest.raises(RuntimeError):
        evaluate(model, setup.validation, setup.plan.eval, ALONE, looking)
    assert looking.seen[0] == looking.seen[1] == [False] * (1 + len(list(model.parameters())))
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        parameter is not frozen for parameter in model.parameters()
    ]


@pytest.mark.parametrize("plan", [windowing(512, 96), windowing(512, 512, isolate=False, batch=5), windowing(64, 64)])
def test_compiled_scoring_sees_few_shapes_and_gives_the_same(text, plan):
    """Whole batches in at most three widths: so many graphs, and none for the text's last, smaller batch."""
    model, shapes = Bigram(text), set()

    def compile_(graph, examples):
        shapes.add(tuple(next(example.shape for example in examples if example.dtype == torch.int64)))
        return graph.forward

    from golfzoo.engine.model import Scorer

    torch.compiler.reset()
    scorer = torch.compile(Scorer(model), backend=compile_, dynamic=False, fullgraph=True)
    plain = evaluate(model, text, plan, ALONE)
    score = evaluate(model, text, plan, ALONE, scorer=scorer)
    assert np.array_equal(score.nats, plain.nats)
    assert 1 <= len(shapes) <= 3
    assert {rows for rows, _ in shapes} == {plan.batch_sequences}
    known = set(shapes)
    evaluate(model, text, plan, ALONE, scorer=scorer)
    assert shapes == known
