from types import SimpleNamespace

import pytest
from golfzoo.testing import check_plugin

from golfzoo_newcomer.schedule import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")
    check_plugin("newcomer", rise=0.0, fall=0.0)


def test_it_rises_stays_and_falls():
    schedule, train = Newcomer(SimpleNamespace(rise=0.1, fall=0.4)), SimpleNamespace(iterations=1000)
    found = [schedule.multipliers(0, fraction, 0.0, train)["lr"] for fraction in (0.0, 0.0495, 0.2, 0.6, 0.7, 1.0)]
    assert found == pytest.approx([0.01, 0.505, 1.0, 1.0, 0.5, 0.0])
