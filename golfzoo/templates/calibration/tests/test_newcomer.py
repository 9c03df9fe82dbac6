from types import SimpleNamespace

import numpy as np
from golfzoo.testing import check_plugin

from golfzoo_newcomer.calibration import Newcomer


class Text:
    shards = (np.arange(10_010, dtype=np.uint16),)

    def read(self, start, count):
        return self.shards[0][start : start + count]


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


def test_wherever_it_stops_no_part_of_the_text_was_left_out():
    config, train = SimpleNamespace(rows=5), SimpleNamespace(seq_len=10)
    worlds = [SimpleNamespace(rank=rank, size=2) for rank in range(2)]
    both = [Newcomer(config, Text(), train, world, model=None) for world in worlds]
    starts = sorted(row[0].item() for index in range(4) for text in both for row in text.batch(index)[0])
    assert len(starts) == 40
    assert np.diff([0, *starts, 10_000]).max() < 2 * 10_000 / 40
