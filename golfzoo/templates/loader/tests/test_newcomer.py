from types import SimpleNamespace

import numpy as np
from golfzoo.testing import check_plugin

from golfzoo_newcomer.loader import Newcomer


class Text:
    shards = (np.arange(1000, dtype=np.uint16),)

    def read(self, start, count):
        return self.shards[0][start : start + count]


def batches(seed=0, rank=0):
    train = SimpleNamespace(seq_len=10, micro_batch_tokens=40)
    loader = Newcomer(SimpleNamespace(seed=seed), Text(), train, SimpleNamespace(rank=rank, size=2))
    return [loader.batch(index)[0] for index in range(200)]


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


def test_it_reads_everywhere_and_each_process_elsewhere():
    starts = np.array([row[0].item() for batch in batches() for row in batch])
    assert np.histogram(starts, bins=10, range=(0, 990))[0].min() > 40
    assert not any((one == other).all() for one, other in zip(batches(), batches(rank=1), strict=True))
    assert not any((one == other).all() for one, other in zip(batches(), batches(seed=1), strict=True))
