"""TensorBoard's own reader finds in the event files what metrics.jsonl says."""

import json

import pytest

pytest.importorskip("tensorboard")
LOGGER = 'loggers=[{use="tensorboard"}]'


def points(folder):
    """Name -> (step, value) of every point, and name -> text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "tensorboard"))
    reader.Reload()
    tags = reader.Tags()
    scalars = {tag: [(point.step, point.value) for point in reader.Scalars(tag)] for tag in tags["scalars"]}
    texts = {tag: reader.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags["tensors"]}
    return scalars, texts


def curve(folder, event, key):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(one["step"], pytest.approx(one[key])) for one in map(json.loads, lines) if one["event"] == event]


def text_of(markdown):
    return json.loads(markdown.replace("\n    ", "\n"))


def test_a_run_s_curves_scores_and_texts(tiny_record, tmp_path, golfzoo):
    run = tmp_path / "run"
    status, output = golfzoo("run", tiny_record, LOGGER, "--out", run)
    assert status == 0, output
    assert "warning" not in output
    scalars, texts = points(run)
    result = json.loads((run / "result.json").read_text())
    assert len(scalars["train/loss"]) == 10
    for event, key in [("train", "loss"), ("train", "lr_multiplier"), ("train", "seconds")]:
        assert scalars[f"{event}/{key}"] == curve(run, event, key)
    for key in ("val_loss", "val_bpb"):
        assert [step for step, _ in scalars[f"val/{key}"]] == [0, 5, 10]
        assert scalars[f"val/{key}"] == curve(run, "val", key)
    seconds = [value.expected for _, value in curve(run, "train", "seconds")]
    assert [value for _, value in scalars["train/step_ms"]] == pytest.approx(
        [1000 * total / step for step, total in enumerate(seconds, start=1)]
    )
    for stage, score in result["stages"].items():
        assert scalars[f"score/{stage}_bpb"] == [(10, pytest.approx(score["val_bpb"]))]
    assert text_of(texts["result/text_summary"]) == result
    assert text_of(texts["record/text_summary"])["train"]["iterations"] == 10


def test_steps_that_a_resumed_run_takes_again_are_there_once(tmp_path):
    from golfzoo.engine.components import namespace
    from golfzoo_tensorboard.logger import TensorBoard

    def train(step, loss):
        return {"event": "train", "step": step, "loss": loss, "seconds": 1.0, "lr_multiplier": 1.0}

    def val(step, loss):
        return {"event": "val", "step": step, "val_loss": loss, "val_bpb": loss, "seconds": 1.0}

    def log(events):
        logger = TensorBoard(namespace({"flush_seconds": 10}), {}, tmp_path)
        for event in events:
            logger.event(event)
        logger._open().close()  # as when it is killed: without a result

    log([val(0, 5.0), train(1, 4.0), train(2, 3.0), train(3, 9.0), val(4, 9.0)])
    log([val(2, 3.0), train(3, 2.0), val(4, 1.0)])
    scalars, _ = points(tmp_path)
    assert scalars["train/loss"] == [(1, 4.0), (2, 3.0), (3, 2.0)]
    assert scalars["val/val_loss"] == [(0, 5.0), (2, 3.0), (4, 1.0)]


def test_without_the_package_the_run_does_not_start(tiny_record, tmp_path, golfzoo, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith(("torch.utils.tensorboard", "golfzoo_tensorboard."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    status, output = golfzoo("run", tiny_record, LOGGER, "--out", tmp_path / "run")
    assert status == 2
    needs = "golfzoo: [[loggers]] tensorboard: needs the extra [tensorboard]: pip install 'golfzoo[tensorboard]'"
    assert output.splitlines()[-1].startswith(needs)
    assert not (tmp_path / "run").exists()
