import bz2
import lzma
import zlib
from types import SimpleNamespace

import pytest
from golfzoo.testing import check_plugin

from golfzoo_newcomer.compressor import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")
    check_plugin("newcomer", level=1)


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 9, b"golf " * 999], ids=["nothing", "bytes", "words"])
def test_no_compressor_of_the_three_does_better(data):
    packed = Newcomer(SimpleNamespace(level=9)).compress(data)
    rivals = [zlib.compress(data, 9), bz2.compress(data, 9), lzma.compress(data, preset=9)]
    assert len(packed) == 1 + min(map(len, rivals))
