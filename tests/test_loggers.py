"""Loggers: told everything in order, unable to change anything, and never the end of a run."""

import json
import os
import signal
import sys
from types import SimpleNamespace

import pytest
import tomli

from golfzoo.engine.stages import STAGES
from golfzoo.errors import PluginError, RecordError
from golfzoo.record import load_record
from golfzoo.running.fingerprints import Fingerprints
from golfzoo.running.journal import Journal
from golfzoo.running.loggers import Loggers, check_loggers
from golfzoo.shipping.code import code_hashes, pack_code
from golfzoo.zoo import discover

PLUGIN = """
    import json
    from golfzoo import Component, Config, hookimpl, option

    class Options(Config):
        fail_in: str = option("", "raise there")
        at: str = option("", "raise at this event")
        size: int | None = option(None, "nothing")

    class Recording:
        def __init__(self, config, record, folder):
            self.config, self.path = config, folder / f"heard{config.fail_in}.jsonl"
            record["train"]["iterations"] = 0
            self.fail("init")

        def fail(self, place, event=""):
            if place == self.config.fail_in and event == self.config.at:
                raise SystemExit(1) if event == "score" else ValueError("no\\nluck")

        def event(self, event):
            self.write(event)
            self.fail("event", event["event"])
            event.clear()

        def finish(self, result):
            self.write({"result": result})
            self.fail("finish")
            result.clear()

        def write(self, value):
            with open(self.path, "a") as file:
                file.write(json.dumps(value) + "\\n")

    @hookimpl
    def golfzoo_loggers():
        target = "zoo_logging_recording:Recording"
        return [
            Component(kind="logger", name="recording", config=Options, target=target, summary=""),
            Component(kind="logger", name="absent", config=Config, target="not_there:X", summary="", extra="absent"),
            Component(kind="logger", name="broken", config=Config, target="json:not_there", summary=""),
        ]
"""
RECORDING = 'loggers=[{use="recording"}]'
FAILING = """loggers=[
    {use="recording", fail_in="init"}, {use="recording", fail_in="event", at="val"}, {use="recording"},
    {use="recording", fail_in="event", at="score"}, {use="recording", fail_in="finish"}]"""


@pytest.fixture(autouse=True)
def plugin(install):
    install("zoo-logging", {"recording": PLUGIN})


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def load(record, *overrides):
    return load_record(str(record), discover(), overrides)


# ---- in a record ----------------------------------------------------------------------------------------------------


def test_a_record_with_loggers_resolves_to_itself(tiny_record, tmp_path):
    plain = load(tiny_record)
    assert "loggers" not in plain.to_toml()
    assert load(tiny_record, "loggers=[]").to_toml() == plain.to_toml()
    record = load(tiny_record, 'loggers=[{use="recording", at="val"}, {use="recording"}]')
    assert tomli.loads(record.to_toml())["loggers"] == [
        {"use": "recording", "fail_in": "", "at": "val"},
        {"use": "recording", "fail_in": "", "at": ""},
    ]
    (tmp_path / "again.toml").write_text(record.to_toml())
    assert load(tmp_path / "again.toml").to_toml() == record.to_toml()
    with open(tiny_record, "a") as file:
        file.write('\n[[loggers]]\nuse = "recording"\nat = "val"\n[[loggers]]\nuse = "recording"\n')
    assert load(tiny_record).to_toml() == record.to_toml()
    assert load(tiny_record, "loggers=[]").to_toml() == plain.to_toml()
    assert load(tiny_record, "loggers=[]").tables == record.tables


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('[{use="recordin"}]', "[[loggers]] #1.use: unknown logger 'recordin'; did you mean 'recording'?"),
        ('[{use="recording"}, {use="lora"}]', "[[loggers]] #2.use: unknown logger 'lora'; known: absent, broken, "),
        ('[{use="recording", fail_on=1}]', "[[loggers]] #1: unknown key 'fail_on'; did you mean 'fail_in'?"),
        ('[{use="recording", at=1}]', "[[loggers]] #1.at: should be a valid string, got 1"),
        ("[{}]", "[[loggers]] #1.use: is missing; known: absent, broken, recording, "),
        ("[{use=1}]", "[[loggers]] #1.use: must be a string, got 1; known: absent, broken, recording, "),
        ('{use="recording"}', "[[loggers]]: must be an array of tables, got {'use': 'recording'}"),
    ],
)
def test_each_mistake_is_one_clear_line(tiny_record, written, expected):
    with pytest.raises(RecordError) as caught:
        load(tiny_record, f"loggers={written}", "train.sead=1")
    lines = str(caught.value).split("\n")
    assert len(lines) == 2
    assert lines[0] == f"{tiny_record}: [train]: unknown key 'sead'; did you mean 'seed'?"
    assert lines[1].startswith(f"{tiny_record}: {expected}")


def test_other_ways_to_write_it_are_refused(tiny_record):
    for override, expected in [
        ("loggers=[1]", "override 'loggers=[1]': must read table.key=value"),
        ("loggers.use=recording", "[[loggers]]: must be an array of tables, got {'use': 'recording'}"),
        ("logger.use=recording", "unknown table [logger]; did you mean 'loggers'?"),
    ]:
        with pytest.raises(RecordError) as caught:
            load(tiny_record, override)
        assert str(caught.value).removeprefix(f"{tiny_record}: ") == expected


def test_they_are_no_part_of_a_submission_or_of_a_fingerprint(tiny_record):
    plain, logged = load(tiny_record), load(tiny_record, RECORDING)
    assert pack_code(logged) == pack_code(plain)
    assert code_hashes(logged) == code_hashes(plain)
    dataset = {"train": "a", "val": "b", "tokenizer": "c"}
    prints = [Fingerprints(record, dataset, "cpu", 1) for record in (plain, logged)]
    for stage in STAGES:
        assert prints[0].of(stage, "weights") == prints[1].of(stage, "weights")


def test_a_missing_package_is_said_before_anything_starts(tiny_record, tmp_path, golfzoo):
    out = tmp_path / "run"
    for number in (1, 2):
        status, output = golfzoo(
            "run", tiny_record, 'loggers=[{use="absent"}]', "--nproc", number, "--out", out, "--fresh"
        )
        assert status == 2
        needs = "golfzoo: [[loggers]] absent: needs the extra [absent]: pip install 'zoo-logging[absent]'"
        assert output.splitlines()[-1] == f"{needs} (No module named 'not_there')"
        assert not out.exists()
    with pytest.raises(PluginError, match=r"^\[\[loggers\]\] broken: component target 'json:not_there' cannot be"):
        check_loggers(load(tiny_record, 'loggers=[{use="broken"}]'))


# ---- in a run -------------------------------------------------------------------------------------------------------


def test_every_event_in_order_and_the_result_and_nothing_changes(tiny_record, tiny_run, tmp_path, golfzoo):
    status, output = golfzoo("run", tiny_record, RECORDING, "--fresh", "--out", tmp_path / "run")
    assert status == 0, output
    *events, last = read(tmp_path / "run" / "heard.jsonl")
    assert events == read(tmp_path / "run" / "metrics.jsonl")
    assert {"stage", "val", "train", "size", "score"} <= {event["event"] for event in events}
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert last == {"result": result}
    assert {"kind": "logger", "name": "recording", "plugin": "recording", "distribution": "zoo-logging",
            "version": "1.0"} in result["components"]  # fmt: skip
    for name in ("weights.safetensors", "artifact.golf"):
        assert (tmp_path / "run" / name).read_bytes() == (tiny_run / name).read_bytes()
    assert result["bytes"] == json.loads((tiny_run / "result.json").read_text())["bytes"]


def test_a_run_is_verified_and_packed_where_its_logger_is_not_installed(tiny_record, tmp_path, golfzoo, monkeypatch):
    run = tmp_path / "run"
    assert golfzoo("run", tiny_record, RECORDING, "--out", run)[0] == 0
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-zoo-logging" not in path])
    assert "unknown logger 'recording'" in golfzoo("show", run / "record.toml")[1]
    status, output = golfzoo("pack", run, "--out", tmp_path / "packed", "--author", "A", "--github-id", "a")
    assert status == 0, output
    assert b"recording" not in b"".join(path.read_bytes() for path in (tmp_path / "packed").glob("*.*"))


def test_one_that_raises_is_reported_once_and_the_run_goes_on(tiny_record, tmp_path, golfzoo):
    run = tmp_path / "run"
    status, output = golfzoo("run", tiny_record, FAILING, "--out", run)
    assert status == 0, output
    events = read(run / "metrics.jsonl")
    notes = [event["text"] for event in events if "logger" in event.get("text", "")]
    warning = "warning: logger recording: {}; it is told nothing more"
    assert notes == [warning.format(reason) for reason in ["ValueError: no luck"] * 2 + ["SystemExit: 1"]] + [notes[3]]
    assert notes[3] == notes[0]
    assert [output.count(note) for note in set(notes)] == [notes.count(note) for note in set(notes)]
    *heard, last = read(run / "heard.jsonl")
    assert heard == events[:-1]  # the last is about another's finish
    assert last == {"result": json.loads((run / "result.json").read_text())}
    assert not (run / "heardinit.jsonl").exists()


def test_finish_is_called_when_a_run_fails(tiny_record, tmp_path, golfzoo):
    overrides = ["optimizer.use=adamw", "optimizer.lr=1e30", "schedule.warmdown_iters=0"]
    status, output = golfzoo("run", tiny_record, *overrides, RECORDING, "--out", tmp_path / "run")
    assert status == 1, output
    result = read(tmp_path / "run" / "heard.jsonl")[-1]["result"]
    assert result["status"] == "failed"
    assert "the loss became" in result["error"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_finish_is_called_when_a_run_is_interrupted_and_a_resumed_one_is_told_the_rest(
    tiny_record, tmp_path, golfzoo, monkeypatch, number
):
    """The logger of this test sends the signal itself, in the middle of training."""
    run = tmp_path / "run"
    module = __import__("zoo_logging_recording")
    write = module.Recording.write

    def kill(self, value):
        write(self, value)
        if value.get("event") == "train" and value["step"] == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(module.Recording, "write", kill)
    status, output = golfzoo("run", tiny_record, RECORDING, "--fresh", "--out", run)
    assert status == 128 + number, output
    told = read(run / "heard.jsonl")
    assert told[-1]["result"]["status"] == "interrupted"
    status, output = golfzoo("run", "--fresh", "--resume", run)
    assert status == 0, output
    rest = read(run / "heard.jsonl")[len(told) :]
    assert [event["step"] for event in rest if event.get("event") == "train"] == list(range(6, 11))
    assert rest[-1]["result"]["status"] == "completed"
    assert [line for line in read(run / "metrics.jsonl") if line["event"] == "train"] == [
        event for event in [*told, *rest] if event.get("event") == "train"
    ]


def test_only_the_first_process_has_them(tiny_record, tmp_path, data, monkeypatch):
    from golfzoo.running import worker

    monkeypatch.setattr(worker, "run", lambda *parts: {})
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        folder.mkdir()
        world = SimpleNamespace(rank=rank, size=2, device=SimpleNamespace(type="cpu"))
        worker.work(load(tiny_record, RECORDING), folder, world)
        assert (folder / "heard.jsonl").exists() == (rank == 0)


def test_what_failed_before_the_first_event_is_said_after_it(tiny_record, tmp_path):
    with Journal(tmp_path, []) as journal:
        loggers = Loggers(journal)
        loggers.open(load(tiny_record, 'loggers=[{use="recording", fail_in="init"}]'), tmp_path)
        assert read(tmp_path / "metrics.jsonl") == []
        journal.emit({"event": "stage", "stage": "train"})
        assert [event["event"] for event in read(tmp_path / "metrics.jsonl")] == ["stage", "note"]
        loggers.finish({"status": "completed"})
    assert len(read(tmp_path / "metrics.jsonl")) == 2
