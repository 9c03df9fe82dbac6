"""The walk over the validation text, the ledger, and the seam between scoring and learning."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golfzoo.engine.data import open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import evaluate, flat_walk, plan_windows
from golfzoo.engine.ledger import Ledger
from golfzoo.engine.tokens import open_tokenizer

ALONE = World(0, 1, torch.device("cpu"), bf16=False)


def walk(context, stride, isolate=True, batch=3):
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
    plan = walk(stride + extra, stride, isolate, batch)
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


class Recorder(torch.nn.Module):
    """Scores a target as its own position over 1000, read off the input: shows which slot each score went to."""

    def __init__(self, text):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, input_ids, target_ids):
        return self.scale * (input_ids * 7 + target_ids).float() / 1000


@pytest.mark.parametrize(
    "plan",
    [
        flat_walk(SimpleNamespace(seq_len=64, micro_batch_tokens=256)),
        walk(64, 32),
        walk(50, 7, batch=2),
        walk(64, 64, isolate=False),
    ],
)
def test_each_score_lands_in_its_own_slot(text, plan):
    score = evaluate(Recorder(text), text, plan, ALONE)
    expected = (text.tokens[:-1].astype(np.float64) * 7 + text.tokens[1:]) / 1000
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
        self.hook = model.register_forward_hook(lambda module, inputs, nll: nll + leaf)

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
    witness, plan = Witness(), walk(64, 32, batch=2)
    model = Recorder(text)
    evaluate(model, text, plan, ALONE, witness)
    assert model.scale.requires_grad  # given back as it was
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
    broken = Ledger(text)
    broken.write(np.arange(text.num_targets), np.full(text.num_targets, np.nan))
    with pytest.raises(RunError, match="target 0 scored nan nats"):
        broken.close(ALONE)
