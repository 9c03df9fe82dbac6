"""Steps by measured damage, on a model that is small enough to try all of them, and that was really trained."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from golfzoo.engine.calibrate import calibrate
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.damage import Damage
from golfzoo.engine.distributed import World
from golfzoo_gptq.curves import CURVE, GROUP, balanced_steps, group_rows

WORLD = World(0, 1, torch.device("cpu"), False)
VOCAB = 40


class Net(nn.Module):
    """Guesses a token from the one before: an embedding, a layer of squared ReLUs, a head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 12)
        self.fc, self.head = nn.Linear(12, 32, bias=False), nn.Linear(32, VOCAB, bias=False)

    def forward(self, ids):
        return self.head(self.fc(self.embedding(ids)).relu().square())


class Text:
    """A Markov chain of which some tokens are rare."""

    tokens = 1024
    stream = range(1_000_000)

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.chances = torch.softmax(2 * torch.randn(VOCAB, VOCAB, generator=generator), 1)
        self.chances *= torch.linspace(0, -6, VOCAB).exp()

    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        ids = [torch.randint(0, VOCAB // 2, (16,), generator=generator)]
        for _ in range(64):
            ids.append(torch.multinomial(self.chances[ids[-1]], 1, generator=generator).squeeze(1))
        ids = torch.stack(ids, 1)
        return [ids[:, :-1], ids[:, 1:]]


@pytest.fixture(scope="module")
def trained(zoo_once):
    """A trained model with its calibration, and how to ask for quantizers and damage."""
    torch.manual_seed(0)
    model, text = Net(), Text()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = last = 0.0
    for step in range(120):
        inputs, targets = text.batch(step)
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.75 * first
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    roles = {"embedding.weight": "embedding", "fc.weight": "matrix", "head.weight": "head"}
    calibration = calibrate(model, {"hessian": 8192, "fisher": 16384}, text, 0, WORLD)
    setup = SimpleNamespace(world=WORLD, model=SimpleNamespace(module=model))
    damage = Damage(setup, torch.cat([text.batch(1000 + number)[0] for number in range(2)]))
    unseen = Damage(setup, torch.cat([text.batch(2000 + number)[0] for number in range(8)]))

    def make(name, **options):
        component = zoo_once.find("quantizer", name).component
        config, problems = component.config.read({"keep_numel": 16, "fisher_tokens": 16384, **options}, name)
        assert not problems
        quantizer = load_target(component.target)(namespace(config.model_dump(mode="json")))
        known = calibration
        if "damage" in quantizer.needs:
            known = {**known, **quantizer.measure_damage(dict(state), roles, calibration, damage)}
        return quantizer, known

    coder = load_target("golfzoo_rans.coder:Rans")(namespace({"lanes": 1}))

    def at(quantizer, known, knob):
        """Bytes of the codes, and the damage on text that nobody has seen."""
        tensors, metadata = quantizer.quantize(dict(state), roles, known, knob)
        size = len(coder.encode(tensors, metadata))
        return size, unseen([quantizer.dequantize(tensors, metadata)]).item()

    return SimpleNamespace(state=state, roles=roles, calibration=calibration, make=make, at=at, unseen=unseen)


@pytest.fixture(scope="module")
def zoo_once():
    from golfzoo.zoo import discover

    return discover()


def test_balanced_steps_are_nearly_the_best_of_all_steps(trained):
    """Of all steps that three matrices could have, half octaves apart, none takes no more bits and does much less
    damage; those of the estimate with one knob everywhere are among what is tried."""
    _, known = trained.make("gptq_fisher", groups=1, feedback=False)
    knob = 0.03
    steps = {name: balanced_steps(known, name, knob) for name in trained.state}
    assert all(len(step.unique()) == 1 for step in steps.values())
    choices = {}
    for name, weight in trained.state.items():
        for octaves in torch.arange(-1, 1.01, 0.5).tolist():
            codes = (weight / steps[name][0] / 2**octaves).round()
            counts = codes.unique(return_counts=True)[1].double()
            bits = (counts * (counts.sum() / counts).log2()).sum().item()
            choices.setdefault(name, []).append((octaves, bits, codes * steps[name][0] * 2**octaves))
    ours = [next(choice for choice in choices[name] if choice[0] == 0) for name in choices]
    combinations = list(itertools.product(*choices.values()))
    costs = trained.unseen(
        {name: levels for name, (_, _, levels) in zip(choices, combination, strict=True)}
        for combination in [ours, *combinations]
    )
    bits = torch.tensor([sum(choice[1] for choice in combination) for combination in combinations])
    best = costs[1:][bits <= sum(choice[1] for choice in ours) * 1.0001].min()
    assert len(combinations) == 125
    assert costs[0] <= 1.25 * best
    assert costs[1:].max() > 4 * best  # that steps matter at all


@pytest.mark.parametrize("name", ["gptq_fisher", "gptq_trellis"])
def test_the_knob_is_monotone_on_a_trained_model(trained, name):
    """From a tenth of a nat down to nothing that could be seen: fewer bytes and more damage, every half octave; and no
    step of any row ever falls. Of 1,300 weights: in a larger model, chance has less of a say."""
    quantizer, known = trained.make(name)
    knobs = [0.04 / 2 ** (number / 2) for number in range(10)]
    points = [trained.at(quantizer, known, knob) for knob in knobs]
    for (size, cost), (more, less) in itertools.pairwise(points):
        assert more > size
        assert less < cost
    assert points[0][1] > 0.03
    assert points[0][1] > 100 * points[-1][1]
    for weight in trained.state:
        for coarse, fine in itertools.pairwise(balanced_steps(known, weight, knob) for knob in knobs):
            assert (coarse >= fine).all()


def test_a_bit_buys_the_same_in_every_group(trained):
    """Where a curve is quadratic all through, its step is that of the estimate."""
    known = dict(trained.calibration)
    for name, cost in (("a", 3.0), ("b", 0.002)):
        steps = torch.tensor([0.5, 1.0, 2.0, 4.0])
        damage, bits = 50 * cost * steps**2 / 24, 50 * (6 - steps.log2())
        known[CURVE + name] = torch.stack([steps, damage, bits, torch.full((4,), 50.0)], 1)[None]
        known[GROUP + name] = torch.zeros(5, dtype=torch.int64)
        for knob in (0.01, 0.05):
            expected = min(knob / cost**0.5, 4.0)
            assert balanced_steps(known, name, knob)[0].item() == pytest.approx(expected, rel=0.03)
    assert balanced_steps(known, "c", 0.01) is None


def test_steps_stop_where_damage_outruns_its_estimate(trained):
    """A matrix whose errors switch something on: quadratic up to a step of 1, and a hundred times that beyond."""
    steps = torch.tensor([0.25, 1.0, 2.0, 8.0])
    cost, bits = 0.01, 50 * (6 - steps.log2())
    damage = 50 * cost * steps**2 / 24 * torch.tensor([1.0, 1.0, 100.0, 100.0])
    known = {
        CURVE + "a": torch.stack([steps, damage, bits, torch.full((4,), 50.0)], 1)[None],
        GROUP + "a": torch.zeros(5, dtype=torch.int64),
    }
    for estimated in (1.0, 2.0, 4.0):  # where the estimate alone would put the step
        assert 0.97 <= balanced_steps(known, "a", estimated * cost**0.5)[0] <= 1.3


def test_what_calibration_has_not_seen_counts_as_half_a_token(trained):
    quantizer, _ = trained.make("gptq_fisher", per="row")
    calibration = {"lookup/e": torch.tensor([0.4, 0.0, 0.1]), "fisher/w": torch.tensor([0.0, 6.0])}
    costs = quantizer.costs("e", torch.zeros(3, 4), calibration, torch.tensor(1.0))
    assert torch.allclose(costs, calibration["lookup/e"] + 0.5 * 0.5 / 16384)
    costs = quantizer.costs("w", torch.zeros(2, 4), calibration, torch.tensor(2.0))
    assert costs[0].item() == pytest.approx(0.5 * 3 * 2 / 16384)
    tensors, _ = quantizer.quantize({"e": torch.randn(3, 40)}, {"e": "embedding"}, calibration, 0.1)
    assert tensors["e.rows"].tolist()[1] > tensors["e.rows"].tolist()[2] > tensors["e.rows"].tolist()[0]


def test_groups_are_of_rows_that_cost_alike():
    costs = torch.tensor([5.0, 0.1, 3.0, 0.2, 0.0, 9.0, 1.0])
    groups = group_rows(costs, 3)
    assert groups.tolist() == [0, 2, 0, 1, 2, 0, 1]
    assert group_rows(costs[:2], 4).tolist() == [0, 1]


def test_what_is_measured_is_the_same_twice_and_told_for_everything_together(trained):
    quantizer, known = trained.make("gptq_fisher")
    _, again = trained.make("gptq_fisher")
    assert all(torch.equal(known[name], again[name]) for name in known)
    assert (known["damage"].diff(dim=0) > 0).all()
    knob, nats = known["damage"][3].tolist()
    assert trained.at(quantizer, known, knob)[1] == pytest.approx(nats, rel=0.25)


def test_a_group_that_no_text_has_shown_is_taken_to_cost_what_its_neighbours_do(trained):
    """As if half a token more had shown each of its rows, of a layer's outputs; of an embedding's that is looked up, at
    the least what lookups are estimated to cost."""
    quantizer, _ = trained.make("gptq_fisher", per="row", groups=2)
    state = {"e": torch.randn(8, 40), "w": torch.randn(8, 40)}
    calibration = {"lookup/e": torch.arange(8.0), "fisher/w": torch.arange(8.0)}

    def damage(changes):
        return torch.tensor([(1.0, 3.0, 0.0)[number % 3] for number, _ in enumerate(changes)])

    known = quantizer.measure_damage(state, {"e": "embedding", "w": "matrix"}, calibration, damage)
    assert known[GROUP + "e"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    for name, share in (("e", 6 / 28 + 4 * 0.5 / 16384), ("w", 4 * 0.5 / 16384 / 8)):
        assert torch.allclose(known[CURVE + name][1, :, 1], torch.tensor(3.0 * share))


def test_groups_that_can_stand_in_for_each_other_cost_what_they_do_together(trained):
    """Two groups, each of which costs next to nothing as long as the other is there."""
    quantizer, _ = trained.make("gptq_fisher", per="row", groups=2)
    state = {"w": torch.randn(8, 40), "v": torch.randn(8, 40)}
    calibration = {"fisher/w": torch.arange(8.0), "fisher/v": torch.arange(8.0)}
    asked = []

    def damage(changes):
        found = []
        for change in changes:
            if len(change) > 1:  # everything together
                found.append(1.0)
                continue
            ((name, tensor),) = change.items()
            rows = (tensor != state[name]).any(1)
            asked.append((name, rows.tolist()))
            found.append(
                {"w": 0.5 if rows.all() else 0.1 if rows[0] else 0.02, "v": 0.01 + 0.01 * rows[0].item()}[name]
            )
        return torch.tensor(found, dtype=torch.float64)

    known = quantizer.measure_damage(state, {"w": "matrix", "v": "matrix"}, calibration, damage)
    curve = known[CURVE + "w"][:, :, 1]
    assert torch.allclose(curve.sum(0), torch.tensor(0.5))
    assert torch.allclose(curve[1] / curve[0], torch.tensor(0.1 / 0.02))
    assert torch.allclose(known[CURVE + "v"][:, :, 1].sum(0), torch.tensor(0.03))  # the whole costs less: as they are
    assert len(asked) == 4 * 2 * 3
