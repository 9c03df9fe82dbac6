import csv
from types import SimpleNamespace

from golfzoo.testing import check_plugin

from golfzoo_newcomer.logger import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


def test_a_resumed_run_adds_rows(tmp_path):
    for steps in ([1, 2, 3], [3, 4]):
        logger = Newcomer(SimpleNamespace(every=2), {}, tmp_path)
        logger.event({"event": "val", "step": steps[0] - 1, "val_loss": 2.0, "val_bpb": 1.5, "seconds": 0.5})
        for step in steps:
            logger.event({"event": "train", "step": step, "loss": 3.0, "seconds": 1.0, "lr_multiplier": 1.0})
        logger.event({"event": "note", "text": "of no number"})
        logger.finish({"status": "interrupted"})
    with open(tmp_path / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["event"], row["step"]) for row in rows] == [("val", "0"), ("train", "2"), ("val", "2"), ("train", "4")]
    assert rows[1] == {"event": "train", "step": "2", "seconds": "1.0", "loss": "3.0", "val_loss": "", "val_bpb": ""}
