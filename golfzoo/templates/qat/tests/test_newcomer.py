from types import SimpleNamespace

import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.qat import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")
    check_plugin("newcomer", bits=3)


def test_a_row_has_no_more_values_than_its_bits_tell_apart():
    torch.manual_seed(0)
    qat = Newcomer(SimpleNamespace(bits=3, start=0.5))
    rounded = qat.fake_quantize("w", torch.randn(10, 400), "matrix")
    assert max(len(row.unique()) for row in rounded) == 2 * 3 + 1
    assert qat.fake_quantize("w", torch.randn(10, 400), "embedding") is None
    assert [qat.active(SimpleNamespace(fraction=fraction)) for fraction in (0.49, 0.5)] == [False, True]
