"""Calibration against what the statistics are by definition; fitting on functions whose answer is known."""

import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from golfzoo.engine.artifact import encode_model
from golfzoo.engine.bytewise import Bytewise
from golfzoo.engine.calibrate import calibrate, frequencies
from golfzoo.engine.clock import Clock
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.fit import WINDOW, fit_knob
from golfzoo.engine.setup import Model

WORLD = World(0, 1, torch.device("cpu"), False)


class Text:
    """Batches as TrainingText gives them."""

    tokens = 512
    stream = range(100_000)

    def batch(self, index):
        ids = torch.randint(0, 11, (8, 65), generator=torch.Generator().manual_seed(index))
        return ids[:, :-1], ids[:, 1:]


class Tied(nn.Module):
    """An embedding, a layer, and the embedding again as the head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.layer, self.head = nn.Embedding(11, 6), nn.Linear(6, 6, bias=False), Head()

    def forward(self, ids):
        x = self.embedding(ids)
        return self.head(x + self.layer(x), self.embedding.weight)


class Head(nn.Module):
    def forward(self, x, weight):
        return x @ weight.T


def test_hessians_and_fisher_information():
    model, text = Tied(), Text()
    got = calibrate(model, {"hessian": 512, "fisher": 512 * 60}, text, 0, WORLD)
    assert set(got) == {
        "hessian/layer.weight", "hessian/embedding.weight", "fisher/layer.weight", "fisher/embedding.weight",
        "lookup/embedding.weight",
    }  # fmt: skip
    every = torch.arange(11)
    counts = torch.zeros(11)
    drawn = torch.randperm(100_000 // 513, generator=torch.Generator().manual_seed(0)).tolist()
    for index in drawn[:1]:
        counts += torch.bincount(text.batch(index)[0].flatten(), minlength=11)
    share = (counts / counts.sum()).double()
    x = model.embedding.weight.detach().double()  # input of the layer, for each of the 11 tokens
    hidden = x + x @ model.layer.weight.detach().double().T
    for name, inputs in (("layer", x), ("embedding", hidden)):
        expected = (share[:, None, None] * inputs[:, :, None] * inputs[:, None, :]).sum(0)
        assert torch.allclose(got[f"hessian/{name}.weight"].double(), expected, atol=1e-5)

    # The exact Fisher information: labels in the proportions of the model's own probabilities.
    counts = torch.zeros(11)
    for index in drawn[:60]:
        counts += torch.bincount(text.batch(index)[0].flatten(), minlength=11)
    share = (counts / counts.sum()).double()
    p = (hidden @ x.T).softmax(-1)  # (token, label)
    head = (share[:, None] * p * (1 - p)).sum(0)  # of output v: E (p_v - [label = v])^2
    assert torch.allclose(got["fisher/embedding.weight"].double(), head, rtol=0.1)
    errors = p[:, None, :] - torch.eye(11).double()[None]  # (token, label drawn, output)
    at_layer = errors @ x  # gradient at the head's input, (token, label, 6)
    layer = (share[:, None, None] * p[:, :, None] * at_layer.square()).sum((0, 1))
    assert torch.allclose(got["fisher/layer.weight"].double(), layer, rtol=0.1)
    at_lookup = at_layer + at_layer @ model.layer.weight.detach().double()
    lookup = share * (p * at_lookup.square().mean(-1)).sum(1)
    assert torch.allclose(got["lookup/embedding.weight"].double(), lookup, rtol=0.15, atol=1e-3)
    assert every.numel() == 11
    assert all(parameter.requires_grad for parameter in model.parameters())


class Lookups(nn.Module):
    """Two tables that are asked for the tokens, one of them with rows to spare, and one for something else."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.pairs = nn.Embedding(11, 6), nn.Embedding(16, 6), nn.Embedding(11, 6)

    def forward(self, ids):
        x = self.first(ids) + self.second(ids) + self.pairs((3 * ids + ids.roll(1, -1)) % 11)
        return x @ self.first.weight.T


class Whole:
    """A text in which token 10, of which batches have none, stands now and then; and token 0 never."""

    tokens = torch.cat([1 + torch.arange(1_000_000) % 9, torch.full((5_000,), 10)]).numpy().astype("uint16")

    def __len__(self):
        return len(self.tokens)

    def read(self, start, count):
        return self.tokens.take(range(start, start + count), mode="wrap")


def test_lookups_of_tokens_are_as_frequent_as_in_the_whole_text():
    class Some(Text):
        def batch(self, index):
            return tuple(ids.clamp(max=9) for ids in super().batch(index))

    model, needs = Lookups(), {"fisher": 512 * 8}
    plain = calibrate(model, needs, Some(), 0, WORLD)
    weighed = calibrate(model, needs, Some(), 0, WORLD, Whole())
    drawn = torch.randperm(100_000 // 513, generator=torch.Generator().manual_seed(0)).tolist()[:8]
    seen = sum(np.bincount(Some().batch(index)[0].flatten(), minlength=11) for index in drawn)
    often = np.bincount(Whole.tokens, minlength=11) / len(Whole.tokens)
    assert set(weighed) == set(plain)
    for name, lookup in plain.items():
        if name in ("lookup/first.weight", "lookup/second.weight"):
            rows = lookup.numpy().astype(np.float64)
            each = (rows[:11] * seen.sum() + 2 * rows.sum()) / (seen + 2)
            assert weighed[name][:11].numpy() == pytest.approx(each * often, rel=2e-3)
            assert (weighed[name][11:] == 0).all()
            assert weighed[name][10] > 0 == weighed[name][0]
        else:
            assert torch.equal(weighed[name], lookup)


@pytest.mark.parametrize("length", [1, 100, 255, 256, 257, 70_000])
def test_frequencies_are_those_of_the_text(length):
    stream = Whole()
    stream.tokens = np.random.default_rng(length).integers(0, 7, length).astype("uint16")
    found = frequencies(stream, 9).numpy()
    assert found.sum() == pytest.approx(1, rel=1e-5)
    assert found == pytest.approx(np.bincount(stream.tokens, minlength=9) / length, rel=1e-6)


def test_in_bfloat16_the_sums_are_float32():
    needs = {"hessian": 512 * 20, "fisher": 512 * 20}
    exact = calibrate(Tied(), needs, Text(), 0, WORLD)
    for name, statistic in calibrate(Tied(), needs, Text(), 0, World(0, 1, WORLD.device, bf16=True)).items():
        assert statistic.dtype == torch.float32
        assert (statistic - exact[name]).norm() < 0.01 * exact[name].norm()


def test_the_same_seed_gives_the_same_statistics():
    runs = [calibrate(Tied(), {"hessian": 600, "fisher": 600}, Text(), seed, WORLD) for seed in (1, 1, 2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["fisher/layer.weight"], runs[2]["fisher/layer.weight"])


def test_what_cannot_be_collected_is_said():
    with pytest.raises(RunError, match="calibration gives only hessian, fisher, damage"):
        calibrate(Tied(), {"validation": 1}, Text(), 0, WORLD)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("room", [20_000, 1_000_000, 15_900_000])
def test_fitting_finds_the_room(exponent, room):
    """Bytes that follow a Gaussian source's rate: with the logarithm of the step, and flatter near zero."""
    tried, weights = [], 20_000_000

    def size_at(knob):
        tried.append(knob)
        bits = 0.5 * np.log2(1 + (2.0 / knob) ** (2 * exponent))
        return int(weights * bits / 8) + 3000

    knob = fit_knob(size_at, 1.0, room, weights, lambda event: None)
    assert room - WINDOW < size_at(knob) <= room
    assert len(tried) <= 25


def test_of_sizes_that_jump_the_largest_that_fits_is_taken():
    """Rounding with feedback: next to each other, knobs may differ by more than the window, either way."""
    tried = {}

    def size_at(knob):
        tried[knob] = int(1_000_000 / knob + 9_000 * np.sin(1e5 * knob))
        return tried[knob]

    knob = fit_knob(size_at, 1.0, 800_000, 1_000_000, lambda event: None)
    assert tried[knob] == max(size for size in tried.values() if size <= 800_000)


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(RunError, match="4,000 too many"):
        fit_knob(lambda knob: 5000, 1.0, 1000, 1000, lambda event: None)
    said = []
    assert fit_knob(lambda knob: 50, 1.0, 10_000, 1000, said.append) < 1.0
    assert "stays 9,950 bytes below the room" in said[-1]["text"]
    assert len(said) < 6  # a finer knob gave nothing more
    jump = fit_knob(lambda knob: 20_000 if knob < 3 else 5000, 1.0, 10_000, 1000, said.append)
    assert jump == pytest.approx(3, rel=1e-6)


class Slow:
    """A compressor of bytes that counts what it was given."""

    def __init__(self):
        self.given = []

    def compress(self, data):
        self.given.append(len(data))
        return zlib.compress(data, 1)


def test_a_large_artifact_is_fitted_on_samples_and_confirmed(monkeypatch):
    """A compressor that takes minutes for the whole is given it a few times, not at every knob."""
    from golfzoo.engine import fit as fit_module

    weight = torch.randn(1500, 1000, generator=torch.Generator().manual_seed(0))

    class Rounding:
        knob = 1.0

        def layout(self, state, roles):
            return {"w": torch.empty(weight.shape, dtype=torch.int32, device="meta")}

        def quantize(self, state, roles, calibration, knob):
            return {"w": (state["w"] / (0.02 * knob)).round().int()}, {}

    slow, room = Slow(), 1_000_000
    components = SimpleNamespace(
        quantizer=Rounding(), compressor=Bytewise(slow, "c"), names={"quantizer": "q", "compressor": "c"}
    )
    plan = SimpleNamespace(train=SimpleNamespace(seed=1))
    model = Model(None, {"w": "matrix"}, {"w": weight.to("meta")})
    setup = SimpleNamespace(plan=plan, components=components, model=model)
    events = []
    clock = Clock(WORLD, events.append)
    result = fit_module.fit(setup, {"w": weight}, {}, room, clock)
    size = len(encode_model(result.tensors, {}, components, setup.model))
    assert room - WINDOW < size <= room
    whole = weight.numel() * 4
    wholes = sum(given == whole for given in slow.given) - 1  # but for the line above
    assert wholes <= 6, slow.given
    assert sum(given < whole / 10 for given in slow.given) > 2
    last = [event["text"] for event in events if event["event"] == "note"][-1]
    measured = wholes - 1  # the first estimate compresses the whole too, for what samples leave out
    assert re.fullmatch(rf"fit: \d+ sizes estimated, {measured} measured, in [\d.]+ s", last)
