from types import SimpleNamespace

import pytest
import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.averager import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


@pytest.mark.parametrize(("gamma", "average"), [(0.0, 50.5), (8.0, 90.1)])
def test_later_weights_count_for_more(gamma, average):
    averager, state = Newcomer(SimpleNamespace(gamma=gamma)), {"w": torch.zeros(1)}
    averager.start(state)
    assert averager.result() is None
    for step in range(1, 101):
        state["w"].fill_(step)
        averager.update(state, None)
    assert averager.result()["w"].item() == pytest.approx(average, abs=0.1)
