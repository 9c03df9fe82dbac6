"""What trackio has of a run is what metrics.jsonl says. TRACKIO_DIR is the tests' own; nothing needs a network."""

import json

import pytest

pytest.importorskip("trackio", reason="the extra [trackio] is not installed")


def rows(project, run):
    """(step, metrics) of everything that a run logged, through trackio's own reader."""
    from trackio.sqlite_storage import SQLiteStorage

    logged = SQLiteStorage.get_logs(project, run)
    return [
        (row["step"], {key: value for key, value in row.items() if key not in ("step", "timestamp")}) for row in logged
    ]


def expected(folder):
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] in ("train", "val"):
            values = {f"{event['event']}/{key}": event[key] for key in event if key not in ("event", "step")}
            if event["event"] == "train":
                values["train/step_ms"] = pytest.approx(1000 * event["seconds"] / event["step"])
            yield event["step"], values


def test_a_run_in_the_local_database(tiny_record, tmp_path, golfzoo):
    run = tmp_path / "in-trackio"
    status, output = golfzoo("run", tiny_record, 'loggers=[{use="trackio"}]', "--out", run)
    assert status == 0, output
    assert "warning" not in output
    import trackio

    *curves, (step, last) = rows("tiny", "in-trackio")
    assert curves == list(expected(run))
    result = json.loads((run / "result.json").read_text())
    scores = {f"score/{stage}_bpb": score["val_bpb"] for stage, score in result["stages"].items()}
    assert (step, last) == (10, {"status": "completed", **scores})
    (known,) = [known for known in trackio.Api().runs("tiny") if known.name == "in-trackio"]
    assert known.config["train"]["iterations"] == 10


def test_a_resumed_run_goes_on_and_another_of_the_same_name_does_not(tmp_path):
    import trackio

    from golfzoo.engine.components import namespace
    from golfzoo_trackio.logger import Trackio

    def log(folder, step):
        folder.mkdir(parents=True, exist_ok=True)
        logger = Trackio(namespace({"project": "mine"}), {}, folder)
        logger.event({"event": "train", "step": step, "loss": 1.0, "seconds": 1.0, "lr_multiplier": 1.0})
        (folder / "metrics.jsonl").write_text("{}\n")
        logger.finish({"status": "interrupted"})

    log(tmp_path / "a" / "run", 1)
    log(tmp_path / "a" / "run", 2)
    assert len(list(trackio.Api().runs("mine"))) == 1
    log(tmp_path / "b" / "run", 1)
    assert len(list(trackio.Api().runs("mine"))) == 2
