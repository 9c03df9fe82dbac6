"""Measured damage: against its definition, shared by processes; and what fit says of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from golfzoo.engine.damage import Damage, read_text
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.fit import FINER
from golfzoo.running.outlook import explained, outlook
from golfzoo.running.rehearse import rehearse_damage
from golfzoo_gptq.fisher import Later

WORLD = World(0, 1, torch.device("cpu"), False)


class Bigram(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(13, 6), nn.Linear(6, 13, bias=False)

    def forward(self, ids):
        return self.head(self.embedding(ids))


@pytest.fixture
def asked():
    module, text = Bigram(), torch.randint(0, 13, (5, 8), generator=torch.Generator().manual_seed(1))
    setup = SimpleNamespace(world=WORLD, model=SimpleNamespace(module=module))
    changes = [{"head.weight": module.head.weight.detach() * (1 + number / 10)} for number in range(5)]
    changes[4]["embedding.weight"] = module.embedding.weight.detach() + 0.1
    return setup, text, changes


def test_damage_is_the_divergence_from_the_trained_model(asked):
    setup, text, changes = asked
    module = setup.model.module
    got = Damage(setup, text)(changes)
    assert got.dtype == torch.float64
    assert got[0] == pytest.approx(0, abs=1e-7)
    state = {name: tensor.double() for name, tensor in module.state_dict().items()}
    plain = (state["embedding.weight"] @ state["head.weight"].T).log_softmax(-1)
    for change, found in zip(changes, got.tolist(), strict=True):
        new = {**state, **{name: tensor.double() for name, tensor in change.items()}}
        changed = (new["embedding.weight"] @ new["head.weight"].T).log_softmax(-1)
        kl = (plain.exp() * (plain - changed)).sum(-1)[text.flatten()].mean().item()
        assert found == pytest.approx(kl, rel=1e-4, abs=1e-7)
    assert got[1] > 1e-5
    assert all(torch.equal(module.state_dict()[name], state[name].float()) for name in state)


def test_processes_share_what_is_measured(asked):
    setup, text, changes = asked
    whole, measured = Damage(setup, text)(iter(changes)), []

    class Half(World):
        def gather(self, values):
            measured.append([rank for rank, value in enumerate(values) if value])
            return super().gather(values)

    halves = [
        Damage(SimpleNamespace(world=Half(rank, 2, WORLD.device, False), model=setup.model), text)(changes)
        for rank in range(2)
    ]
    assert measured == [[2, 4], [1, 3]] or measured == [[0, 2, 4], [1, 3]]
    assert torch.equal(sum(halves), whole)


def test_a_change_is_read_by_the_process_that_measures_it_and_by_no_other(asked):
    setup, text, changes = asked
    world, read = World(1, 2, WORLD.device, False), []
    whole = Damage(setup, text)(changes)
    later = [Later(lambda number=number: read.append(number) or changes[number]) for number in range(5)]
    got = Damage(SimpleNamespace(world=world, model=setup.model), text)(later)
    assert read == [1, 3]  # once each
    assert torch.equal(got[1::2], whole[1::2])


def test_the_text_is_the_same_for_any_number_of_processes():
    tokens = np.arange(1000, dtype=np.uint16)
    stream = SimpleNamespace(read=lambda start, count: tokens.take(range(start, start + count), mode="wrap"))
    training = SimpleNamespace(batches=SimpleNamespace(stream=type("Stream", (), {
        "__len__": lambda self: 1000, "read": staticmethod(stream.read)})()))  # fmt: skip

    def read(size, seed):
        plan = SimpleNamespace(train=SimpleNamespace(seq_len=16, seed=seed))
        world = World(size - 1, size, WORLD.device, False)
        return read_text(SimpleNamespace(plan=plan, world=world, components=SimpleNamespace(calibration=None)),
                         training, 70)  # fmt: skip

    assert read(1, 3).shape == (5, 16)
    assert torch.equal(read(1, 3), read(4, 3))
    assert not torch.equal(read(1, 3), read(1, 4))
    assert (read(1, 3).diff(dim=1) % 1000 == 1).all()


@pytest.mark.parametrize("knob", [0.01, 0.5, 3.0, 40.0])
def test_what_a_tenth_of_the_bytes_costs(knob):
    """Where damage goes with the knob's square and bytes with its logarithm, it is known."""
    measured = [[0.1, 1e-4], [1.0, 1e-2], [10.0, 1.0]]
    size, finer = (round(1_000_000 - 100_000 * np.log2(at)) for at in (knob, knob / FINER))
    rows = list(outlook(measured, knob, size, finer))
    assert [size for size, _ in rows] == [round(share * size) for share in (0.8, 0.9, 1.0, 1.1, 1.2)]
    for other, nats in rows:
        assert nats == pytest.approx(1e-2 * 4 ** ((1_000_000 - other) / 100_000), rel=1e-3)


def test_what_a_fit_costs_is_told_behind_it():
    told = []
    event = {"event": "fitted", "knob": 1.0, "sizes": [1000, 1025], "damage": [[0.5, 1e-3], [2.0, 16e-3]]}
    tell = explained(told.append)
    tell({"event": "note", "text": "something else"})
    tell(event | {"bytes_per_token": 2.5})
    assert [line["event"] for line in told] == ["note", "fitted", *["note"] * 6]
    size, nats, bits = told[5]["outlook"]
    assert (size, nats, bits) == (1000, pytest.approx(4e-3), pytest.approx(4e-3 / np.log(2) / 2.5))
    assert told[5]["text"] == f"fit:        1,000 bytes: 0.004 nats a token, {bits:.3g} bits per byte"


def test_a_quantizer_that_needs_damage_must_ask_for_it():
    components = SimpleNamespace(quantizer=SimpleNamespace(needs={"damage": 1}), names={"quantizer": "foreign"})
    with pytest.raises(RunError, match=r"\[quantizer\] foreign needs damage, and has no measure_damage"):
        rehearse_damage(SimpleNamespace(components=components), None, {})


def test_of_sizes_that_no_knob_gives_nothing_is_said():
    measured = [[0.1, 1e-4], [1.0, 1e-2]]
    assert [size for size, _ in outlook(measured, 1e-6, 1_000_000, 1_000_000)] == [1_000_000]
