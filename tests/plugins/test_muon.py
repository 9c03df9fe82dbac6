"""Muon's arithmetic against the oracle, and its division over processes."""

import pytest
import torch

import oracle
from golfzoo.engine.components import namespace
from golfzoo_muon import MuonConfig
from golfzoo_muon.optimizer import QUINTIC, Muon, build, orthogonalize


@pytest.mark.parametrize("shape", [(48, 48), (24, 48), (96, 48)])
def test_newton_schulz_is_the_oracle_s_for_each_of_a_stack(shape):
    torch.manual_seed(0)
    stack = torch.randn(3, *shape)
    for matrix, result in zip(stack, orthogonalize(stack, [QUINTIC] * 5), strict=True):
        assert torch.allclose(result, oracle.newton_schulz(matrix, 5), atol=1e-4)
        assert torch.linalg.svdvals(result).sub(1).abs().max() < 0.4


def test_momentum_rises_over_its_warm_up():
    muon = Muon([torch.nn.Parameter(torch.ones(2, 2))], namespace(MuonConfig().model_dump()), None)
    momenta = []
    for step in (0, 250, 500, 9000):
        muon.set_step(step)
        momenta.append(muon.momentum)
    assert momenta == pytest.approx([0.85, 0.90, 0.95, 0.95])


def test_rates_by_role_and_by_tying():
    def rates(roles):
        parameters = {name: torch.nn.Parameter(torch.ones(4, 4)) for name in roles}
        optimizers = build(namespace(MuonConfig().model_dump()), parameters, roles, None)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        names = {id(parameter): name for name, parameter in parameters.items()}
        return {names[id(parameter)]: group["base_lr"] for group in groups for parameter in group["params"]}

    assert rates({"e": "embedding", "m": "matrix", "c": "control"}) == {"e": 0.05, "m": 0.04, "c": 0.04}
    assert rates({"e": "embedding", "h": "head"}) == {"e": 0.6, "h": 0.008}


def test_the_shares_of_two_processes_add_up_to_the_update_of_one():
    config = namespace(MuonConfig().model_dump())

    def updates(rank, size):
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.zeros(8, 4 + number % 2)) for number in range(5)]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        muon = Muon(parameters, config, None)
        muon.rank, muon.size = rank, size
        return muon._updates(parameters)

    for whole, first, second in zip(updates(0, 1), updates(0, 2), updates(1, 2), strict=True):
        assert torch.equal(whole, first + second)
        assert (first == 0).all() or (second == 0).all()  # each is orthogonalized once
