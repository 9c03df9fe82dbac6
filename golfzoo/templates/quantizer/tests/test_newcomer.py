from types import SimpleNamespace

import pytest
import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.quantizer import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")
    check_plugin("newcomer", bits=3)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_weight_is_off_by_more_than_half_a_step(bits):
    torch.manual_seed(0)
    weight = torch.randn(40, 60)
    quantizer = Newcomer(SimpleNamespace(bits=bits, keep_numel=0))
    tensors, metadata = quantizer.quantize({"w": weight}, {"w": "matrix"}, {}, None)
    assert tensors["w"].abs().max() <= 2 ** (bits - 1) - 1
    steps = tensors["w.scale"].float()[:, None]
    error = (quantizer.dequantize(tensors, metadata)["w"] - weight).abs()
    assert (error <= 0.51 * steps).all()
