"""The commands as a user meets them: what they print, how they end, and how little they load."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from itertools import groupby
from operator import itemgetter

import pytest


def in_fresh_process(*arguments, cwd=None, env=None):
    """Run a command in a new interpreter; also says whether torch was imported."""
    code = (
        "import sys; from golfzoo.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('TORCH' if 'torch' in sys.modules else 'LIGHT', file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=env
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["plugins", "--json"], ["plugins", "optimizer", "muon"], ["show", "RECORD"],
     ["run", "RECORD", "train.sead=1"], ["run", "--help"], ["data", "list"]],
)  # fmt: skip
def test_light_commands_do_not_import_torch(arguments, tiny_record):
    done = in_fresh_process(*[tiny_record if argument == "RECORD" else argument for argument in arguments])
    assert "LIGHT" in done.stderr, done.stderr
    assert done.returncode == (2 if "train.sead=1" in arguments else 0)


def test_threads_do_not_spin_unless_they_are_told_to():
    code = (
        "import os; from golfzoo.cli import main\ntry: main(['plugins'])\nfinally: print(os.environ['OMP_WAIT_POLICY'])"
    )
    for told, policy in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        done = subprocess.run([sys.executable, "-c", code], env=inherited | told, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == policy


def test_plugins_lists_components_with_their_origin(golfzoo):
    status, output = golfzoo("plugins")
    assert status == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["quantizer", "int8", "golfzoo", "0.1.0"] in [line[:4] for line in lines]
    assert all(line[4].endswith("__init__.py") for line in lines)
    rows = json.loads(golfzoo("plugins", "--json")[1])
    assert rows["broken"] == []
    assert {"kind", "name", "distribution", "version", "file", "summary"} == set(rows["components"][0])


def test_plugins_lists_broken_ones_last_with_the_reason(golfzoo, install):
    install("zoo-broken", {"broken": "import not_a_module_xyz"})
    status, output = golfzoo("plugins")
    assert status == 0
    assert output.splitlines()[-1] == (
        "broken: plugin 'broken' of zoo-broken 1.0: ModuleNotFoundError: No module named 'not_a_module_xyz'"
    )


def test_plugins_prints_the_options_of_one(golfzoo):
    status, output = golfzoo("plugins", "optimizer", "muon")
    assert status == 0
    assert any(line.split()[:3] == ["matrix_lr", "float", "0.04"] for line in output.splitlines())
    assert json.loads(golfzoo("plugins", "optimizer", "muon", "--json")[1])["options"][0]["default"] == 0.04
    assert golfzoo("plugins", "optimiser")[1] == "golfzoo: unknown kind 'optimiser'; did you mean 'optimizer'?\n"
    assert golfzoo("plugins", "optimizer", "moun")[0] == 2
    meant = "did you mean: golfzoo plugins architecture gpt"
    assert golfzoo("plugins", "gpt") == (2, f"golfzoo: unknown kind 'gpt'; {meant}\n")
    assert meant in golfzoo("plugins", "gpt", "--json")[1]


def test_records_lists_names_and_published_scores(golfzoo, tmp_path):
    status, output = golfzoo("records")
    assert status == 0
    assert any(line.split()[:3] == ["baseline", "records/baseline.toml", "1.1928"] for line in output.splitlines())
    rows = json.loads(golfzoo("records", "--json")[1])
    families = {family: [row["published"] or 9 for row in some] for family, some in groupby(rows, itemgetter("family"))}
    assert sum(map(len, families.values())) == len(rows), "each family in one place"
    assert all(scores == sorted(scores) for scores in families.values()), "the best first, those without one last"
    assert sorted(families, key=lambda family: families[family][0]) == list(families), "and families by their best"
    assert [line for line in output.splitlines() if line in families] == list(families), "under headings"
    (tmp_path / "bad.toml").write_text("[record")
    assert "broken: " in golfzoo("records", tmp_path)[1]
    status, output = golfzoo("records", tmp_path / "none")
    assert status == 2
    assert "/none: no such folder; give one that holds records" in output


def test_show_prints_a_record_that_runs(golfzoo, tiny_record):
    status, output = golfzoo("show", tiny_record, "train.seed=5")
    assert status == 0
    assert tomllib.loads(output)["train"]["seed"] == 5


def test_dry_run_checks_and_stops(golfzoo, tiny_record, tmp_path):
    status, output = golfzoo("run", tiny_record, "--dry-run", "--out", tmp_path / "run")
    assert status == 0
    assert "tiny would run with these components" in output
    assert "quantizer    int8 (golfzoo 0.1.0)" in output
    assert not (tmp_path / "run").exists()
    status, output = golfzoo("run", tiny_record, "--dry-run", "--nproc", "3")
    assert status == 2
    assert "[train].batch_tokens: 512 cannot be divided over 3 processes of micro_batch_tokens = 128" in output


def test_the_cpu_profile_is_laid_over_and_said_out_loud(golfzoo, monkeypatch):
    monkeypatch.setattr("golfzoo.machine.devices.has_cuda", lambda: False)
    status, output = golfzoo("show", "records/baseline.toml")
    assert status == 0
    assert "No CUDA device: laying profile 'cpu' over the record." in output
    assert 'profile = "cpu"' in output
    monkeypatch.setattr("golfzoo.machine.devices.has_cuda", lambda: True)
    assert 'profile = "none"' in golfzoo("show", "records/baseline.toml")[1]
    assert 'profile = "none"' in golfzoo("show", "records/baseline.toml", "--profile", "none")[1]


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_does_not_end_the_run(tiny_record, data_root, tmp_path):
    golfzoo = f"{sys.executable} -m golfzoo run {tiny_record} --out {tmp_path / 'run'}"
    command = golfzoo + " | head -1; exit ${PIPESTATUS[0]}"
    environment = {**os.environ, "GOLFZOO_DATA": str(data_root)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "completed"


@pytest.mark.slow
def test_ctrl_c_after_the_last_table_does_not_fail_a_completed_run(tiny_record, data_root, tmp_path, golfzoo):
    code = (
        "import atexit, os, signal, sys\n"
        "import golfzoo.terminal.scores as scores\n"
        "from golfzoo.cli import main\n"
        "def press(): os.kill(os.getpid(), signal.SIGINT)\n"
        "show = scores.show_result\n"
        "scores.show_result = lambda *arguments: (show(*arguments), press())\n"
        "atexit.register(press)\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "run", str(tiny_record), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "GOLFZOO_DATA": str(data_root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"Everything is in {tmp_path / 'run'}"
    before = signal.getsignal(signal.SIGINT)
    golfzoo("run", tiny_record, "--out", tmp_path / "within")
    assert signal.getsignal(signal.SIGINT) is before, "a program that calls a command keeps its own Ctrl-C"


@pytest.mark.slow
def test_output_into_a_pipe_is_plain_lines(tiny_record, data_root, tmp_path):
    import os

    done = in_fresh_process(
        "run", tiny_record, "--fresh", "--out", tmp_path / "run", env={**os.environ, "GOLFZOO_DATA": str(data_root)}
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[:2] == ["importing torch, reading the data ...", "warmup ..."]
    assert any(line.startswith("step 10: loss") for line in lines)
    assert any(line.split()[0] == "final" for line in lines if line.strip())
    assert lines[-1] == f"Everything is in {tmp_path / 'run'}"
    assert all(ord(letter) < 128 for letter in done.stdout)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.dataset=nowhere", "datasets/nowhere: no such dataset; `golfzoo data list` shows what is there"),
        ("data.dataset=fineweb9", "no such dataset; `golfzoo data fetch fineweb9` fetches it into $GOLFZOO_DATA"),
        ("data.tokenizer=nothing.model", "was made with tokenizer tiny_384_bpe.model, and the record names nothing"),
        ("quantizer.use=int9", "[quantizer].use: unknown quantizer 'int9'; did you mean 'int8'?"),
        ("architecture.num_layrs=3", "[architecture]: unknown key 'num_layrs'; did you mean 'num_layers'?"),
        ("train.iterations=many", "[train].iterations: should be a valid integer, got 'many'"),
        ("eval.context=8", "[eval]: context (8) must not be smaller than stride (32)"),
    ],
)
def test_mistakes_end_with_status_2_and_one_line(golfzoo, tiny_record, tmp_path, override, message):
    status, output = golfzoo("run", tiny_record, override, "--out", tmp_path / "run")
    assert status == 2
    assert message in output
    assert len(output.splitlines()) == 1
    assert output.startswith("golfzoo: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["records", "records"], ["runs"], ["show", "RECORD"]])
def test_a_closed_pipe_is_no_failure(tiny_record, tmp_path, arguments):
    import os

    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "golfzoo", *(tiny_record if word == "RECORD" else word for word in arguments)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_eval_wants_one_file(golfzoo, tiny_record, tmp_path):
    assert golfzoo("eval", tiny_record)[0] == 2
    assert golfzoo("eval", tiny_record, "--weights", "a", "--artifact", "b")[0] == 2
    status, output = golfzoo("eval", tiny_record, "--artifact", tmp_path / "no.golf")
    assert status == 2
    assert "no.golf: no such file" in output
    (tmp_path / "bad.pt").write_bytes(b"junk")
    status, output = golfzoo("eval", tiny_record, "--weights", tmp_path / "bad.pt")
    assert status == 1
    assert "bad.pt: not a file of weights" in output


def test_weights_of_another_architecture_are_refused(golfzoo, tiny_run):
    status, output = golfzoo(
        "eval", tiny_run / "record.toml", "architecture.model_dim=64", "--weights", tiny_run / "weights.safetensors"
    )
    assert status == 1
    assert "weights.safetensors: skip_weights is (1, 32), and the record's architecture makes it (1, 64)" in output
    status, output = golfzoo(
        "eval", tiny_run / "record.toml", "architecture.model_dim=64", "--artifact", tiny_run / "artifact.golf"
    )
    assert status == 1
    assert "artifact.golf: " in output
    assert "bytes of tensors, and the record's model needs" in output


def test_an_artifact_is_scored_with_the_record_that_it_was_made_with(golfzoo, tiny_record, tmp_path):
    status, output = golfzoo("run", tiny_record, "architecture.model_dim=64", "--out", tmp_path / "wide run")
    assert status == 0, output
    for option, name in (("--artifact", "artifact.golf"), ("--weights", "weights.safetensors")):
        file = tmp_path / "wide run" / name
        status, output = golfzoo("eval", tiny_record, option, file)
        assert status == 1
        made_with = (
            f"it was made with the record.toml beside it: golfzoo eval '{file.parent}/record.toml' {option} '{file}'"
        )
        assert output.endswith(f"; {made_with}\n")
    moved = tmp_path / "artifact.golf"
    moved.write_bytes((tmp_path / "wide run" / "artifact.golf").read_bytes())
    status, output = golfzoo("eval", tiny_record, "--artifact", moved)
    assert (status, "made with" in output) == (1, False)


def test_scoring_in_a_pipe_says_now_and_then_how_far_it_is(monkeypatch, capsys):
    from golfzoo.terminal import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = progress.Display({"train": {}})
    display.show({"event": "stage", "stage": "eval"})
    for second in range(1, 601):
        now[0] = float(second)
        display.show({"event": "progress", "done": second * 100, "total": 60_000})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "eval ..."
    assert lines[1] == "  3,000 of 60,000 targets"
    assert 15 < len(lines) <= 21
    display.show({"event": "stage", "stage": "eval"})
    for second in range(601, 627):
        now[0] = float(second)
        display.show({"event": "progress", "done": (second - 600) * 100, "total": 2600})
    assert len(capsys.readouterr().out.splitlines()) == 6, "26 seconds: a line every 5"


def on_a_terminal(columns, *arguments, cwd):
    """What a command prints on a terminal of so many columns, without colours."""
    import fcntl
    import pty
    import re
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "golfzoo", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65536):
            printed += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode()).replace("\r\n", "\n")


def test_runs_on_a_narrow_terminal_can_be_told_apart(tiny_run, tmp_path):
    import shutil

    swaps = {"int6": ["quantizer.use=int6", "compressor.use=brotli"], "int8": []}
    for number, changed in enumerate(swaps.values()):
        folder = tmp_path / "runs" / f"baseline-20261125-22141{number}-f2fc37"
        shutil.copytree(tiny_run, folder)
        environment = json.loads((folder / "env.json").read_text())
        environment["command"] = ["golfzoo", "run", "records/baseline.toml", *changed]
        (folder / "env.json").write_text(json.dumps(environment))
    lines = on_a_terminal(80, "runs", cwd=tmp_path).splitlines()
    assert max(map(len, lines)) <= 80
    row = next(number for number, line in enumerate(lines) if "quantizer=int6" in line)
    assert "baseline-20261125-221410-f2fc37" in lines[row]
    assert "completed" in lines[row]
    assert "compressor=brotli" in lines[row + 1]
    assert lines[-1].endswith("--json has them.")
    wide = on_a_terminal(200, "runs", cwd=tmp_path)
    assert "quantizer.use=int6 compressor.use=brotli" in wide


def test_words_are_not_broken_on_a_narrow_terminal(tmp_path):
    from pathlib import Path

    repository = Path(__file__).parent.parent
    summaries = [row["summary"] for row in json.loads(in_fresh_process("records", "--json", cwd=repository).stdout)]
    for columns in (80, 60):
        lines = on_a_terminal(columns, "records", cwd=repository).splitlines()
        assert max(map(len, lines)) <= columns
        words = " ".join(lines).split()
        assert all(word in words for summary in summaries for word in summary.split())
    lines = on_a_terminal(80, "compare", "nothing", "else", cwd=tmp_path).splitlines()
    assert lines == [
        "golfzoo: nothing: no completed run; give a run's folder, a glob, or the name of",
        "  a record under runs/",
    ]


@pytest.mark.slow
def test_a_report_says_what_it_examines(tiny_run, tmp_path):
    done = in_fresh_process("report", tiny_run, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("examining what became of the weights of ")
    assert done.stdout.startswith(f"{tmp_path / 'page.html'}: 1 runs")
