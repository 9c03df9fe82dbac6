from pathlib import Path
from types import SimpleNamespace

import numpy as np
from golfzoo.testing import check_plugin

from golfzoo_newcomer.encoder import Encoder
from golfzoo_newcomer.tokenizer import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


def test_spaces_are_one_token():
    config = SimpleNamespace(longest=8)
    tokenizer = Newcomer(config, Path(), Path())
    (ids,) = Encoder(config).encode(["if x:\n        y = 1" + " " * 11])
    assert len(ids) == len("if x:\n" + "?" + "y = 1" + "??")
    assert tokenizer.target_bytes(np.array([1, *ids], dtype=np.uint16)).sum() == len("if x:\n        y = 1") + 11
    assert tokenizer.decode(ids) == b"if x:\n        y = 1" + b" " * 11
