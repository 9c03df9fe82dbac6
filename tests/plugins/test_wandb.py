"""What Weights & Biases' own file holds of an offline run is what metrics.jsonl says. Nothing needs a network."""

import json
import struct

import pytest

pytest.importorskip("wandb", reason="the extra [wandb] is not installed")


def records(data):
    """The records of a .wandb file: LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes."""
    position, parts = 7, []
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # too short for a header: padding
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def read(folder):
    """Config, history and summary of the only offline run under a folder, and its exit code."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    config, history, summary, exit_code = {}, [], {}, None

    def values(items):
        return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}

    for data in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                config |= values(record.run.config.update)
            case "history":
                history.append(values(record.history.item))
            case "summary":
                summary |= values(record.summary.update)
            case "exit":
                exit_code = record.exit.exit_code
    return config, history, summary, exit_code


def test_an_offline_run(tiny_record, tmp_path, golfzoo):
    run = tmp_path / "run"
    status, output = golfzoo("run", tiny_record, 'loggers=[{use="wandb", mode="offline"}]', "--out", run)
    assert status == 0, output
    assert "warning" not in output
    config, history, summary, exit_code = read(run)
    assert config["train"]["iterations"] == 10
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for event, key in [("train", "loss"), ("train", "lr_multiplier"), ("val", "val_loss"), ("val", "val_bpb")]:
        name = f"{event}/{key}"
        assert [(row["_step"], row[name]) for row in history if name in row] == [
            (line["step"], line[key]) for line in lines if line["event"] == event
        ]
    result = json.loads((run / "result.json").read_text())
    assert summary["val_bpb"] == result["val_bpb"]
    assert summary["status"] == "completed"
    assert exit_code == 0


def test_a_resumed_run_keeps_its_id(tmp_path):
    from golfzoo.engine.components import namespace
    from golfzoo_wandb.logger import Wandb

    ids = set()
    for status in ("interrupted", "completed"):
        logger = Wandb(namespace({"project": "mine", "entity": "", "mode": "offline"}), {}, tmp_path)
        ids.add(logger.run.id)
        logger.finish({"status": status})
    assert ids == {(tmp_path / "wandb" / "run-id").read_text()}


def test_wandb_s_own_setting_holds_unless_the_record_has_another(tmp_path, monkeypatch):
    import wandb

    from golfzoo.engine.components import namespace
    from golfzoo_wandb import WandbConfig
    from golfzoo_wandb.logger import Wandb

    wandb.teardown()  # it reads the environment once
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = Wandb(namespace({**WandbConfig().model_dump(), "project": "mine"}), {}, tmp_path)
    logger.finish({"status": "completed"})
    assert list(tmp_path.glob("wandb/offline-run-*"))
    wandb.teardown()


def test_without_a_login_the_run_goes_on(tiny_record, tmp_path, golfzoo, monkeypatch):
    """No key, nobody to ask for one, and an address where nothing answers."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    status, output = golfzoo("run", tiny_record, 'loggers=[{use="wandb"}]', "--out", tmp_path / "run")
    assert status == 0, output
    assert output.count("warning: logger wandb: ") == 1
    assert "it is told nothing more" in output


def test_an_unknown_mode_is_refused(tiny_record, golfzoo):
    status, output = golfzoo("show", tiny_record, 'loggers=[{use="wandb", mode="of"}]')
    assert status == 2
    assert output.splitlines()[-1].endswith(
        "[[loggers]] #1: mode must be 'online', 'offline' or 'disabled', or empty, got 'of'"
    )
