"""The last lines of a run: what was reached, in words, and commands that work as they are printed."""

import shlex

import pytest

from golfzoo.terminal.closing import next_commands, reached
from golfzoo.terminal.prose import wrapped


def printed_commands(output):
    after = output.partition("To try next:\n")[2]
    return [line.strip() for line in after.splitlines() if line.startswith("  ")]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("quantizer.use=int6", "quantizer.keep_numel=256", "adaptor.rank=4")])
def test_what_a_run_says_to_try_next_works_as_printed(golfzoo, tiny_record, tmp_path, monkeypatch, overrides):
    monkeypatch.chdir(tmp_path)
    status, output = golfzoo("run", "tiny.toml", *overrides)
    assert status == 0, output
    commands = printed_commands(output)
    assert [shlex.split(command)[1] for command in commands] == ["run", "ablate", "pack"]
    assert commands[0].startswith(f"golfzoo run tiny.toml quantizer.use={'int8' if overrides else 'int6'}")
    for command in commands:
        done = golfzoo(*shlex.split(command)[1:])
        assert done[0] == 0, (command, done[1])
    assert (tmp_path / "submission" / "submission.json").exists()
    output = golfzoo("run", "tiny.toml", *overrides)[1]
    pack = printed_commands(output)[2]
    assert golfzoo(*shlex.split(pack)[1:])[0] == 0, "the first submission is not written over"


def test_commands_for_a_run_that_makes_no_submission(golfzoo, tiny_record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = golfzoo("run", "tiny.toml", "size.limit_bytes=1000", "adaptor.use=none")[1]
    run, ablate, size = printed_commands(output)
    assert run == "golfzoo run tiny.toml quantizer.use=int6 size.limit_bytes=1000 adaptor.use=none"
    assert ablate == "golfzoo ablate tiny.toml size.limit_bytes=1000 adaptor.use=none --seeds 1,2,3"
    assert golfzoo(*shlex.split(size)[1:])[0] == 0
    assert shlex.split(size)[1] == "size"


@pytest.mark.parametrize(
    ("record", "swap"),
    [("naive_baseline", "quantizer.use=int6"), ("baseline_rd", "train.seed=1338")],  # rd's is fitted: it needs a knob
)
def test_every_sort_of_record_has_something_to_try(zoo, tmp_path, record, swap):
    from golfzoo.record import load_record

    path = f"records/{record}.toml"
    result = {"seed": 1337, "bytes": {"fits": True}}
    run, *_ = next_commands(load_record(path, zoo), [path], zoo, result, tmp_path)
    assert run.startswith(f"golfzoo run {path} {swap}")
    load_record(path, zoo, (shlex.split(run)[3],))


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (2.6, "not yet better than they are"),
        (2.1, "better than zlib, not yet than xz"),
        (1.9, "better than zlib and xz"),
    ],
)
def test_what_was_reached_stands_beside_general_compressors(score, verdict):
    result = {"val_bpb": score, "profile": "none", "dataset": {"baseline_bpb": {"zlib": 2.2507, "xz": 2.0046}}}
    first, second = reached(result, None)
    assert first == (f"Reached: {score:.4f} bits for each byte of a text that the model had not seen; fewer is better.")
    assert second == (f"General compressors take, for the same text: zlib 2.2507, xz 2.0046. The model is {verdict}.")
    assert len(list(reached(result | {"dataset": {}}, None))) == 1


def test_prose_breaks_between_words_and_commands_do_not_break():
    text = "one two three four\n  golfzoo run a-rather-long-command.toml\na/path/that/is/longer/than/the/line is kept"
    assert wrapped(text, 12).split("\n") == [
        "one two", "  three four", "  golfzoo run a-rather-long-command.toml",
        "a/path/that/is/longer/than/the/line", "  is kept",
    ]  # fmt: skip
