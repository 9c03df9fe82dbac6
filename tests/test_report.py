"""The table of runs and the report: what is in the page, that its figures are true, and what strangers cannot do."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from golfzoo.errors import UsageError
from golfzoo.report import drawing, survey
from golfzoo.report.documents import pair_up
from golfzoo.report.gather import gather, shorten, shorten_apart
from golfzoo.report.naming import name_apart
from golfzoo.report.page import MARK
from golfzoo.report.style import DARK, LIGHT, SERIES
from golfzoo.report.treemap import family_colours, family_of, lay_out

EVIL = "<script>alert('$x$')</script>"


@pytest.fixture(scope="module")
def runs(tiny_run, data_root, tmp_path_factory):
    """runs/ with an ablation of two cells (with and without adaptor), a failed, a damaged, and an unfinished run."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    home = tmp_path_factory.mktemp("home")
    shutil.copy(tiny_run.parent / "tiny.toml", home / "tiny.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        patch.chdir(home)
        arguments = ["ablate", "tiny.toml", "--vary", "adaptor.use=none", "--out", "runs/grid"]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    folder = home / "runs"
    shutil.copytree(tiny_run, folder / "tiny-evil")
    record = (folder / "tiny-evil" / "record.toml").read_text()
    assert 'summary = "A whole run in a second"' in record
    (folder / "tiny-evil" / "record.toml").write_text(record.replace("A whole run in a second", EVIL))
    shutil.copytree(tiny_run, folder / EVIL.replace("/", "!"))
    for name in ("failed", "damaged", "unfinished"):
        (folder / name).mkdir()
        shutil.copy(tiny_run / "record.toml", folder / name)
    (folder / "failed" / "result.json").write_text(
        json.dumps({"status": "failed", "record": "tiny", "profile": "none", "seed": 3, "error": f"Boom: {EVIL}"})
    )
    (folder / "damaged" / "result.json").write_text('{"status": "completed", "val_bpb": "none"')
    (folder / "unfinished" / "metrics.jsonl").write_text('{"event": "train", "step": 1, "loss": 5.0, "sec')
    for path in (folder / "unfinished").iterdir():
        os.utime(path, (1e9, 1e9))
    (folder / ".cache" / "cells" / "x").mkdir(parents=True)
    (folder / ".cache" / "cells" / "x" / "result.json").write_text("{}")
    return folder


@pytest.fixture
def here(runs, data, monkeypatch):
    monkeypatch.chdir(runs.parent)
    return runs.parent


@pytest.fixture(scope="module")
def page(runs, data_root):
    from click.testing import CliRunner

    from golfzoo.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        patch.chdir(runs.parent)
        result = CliRunner().invoke(main, ["report", "runs/*", "--out", "pages/report.html", "--png", "pages/png"])
    assert result.exit_code == 0, result.output
    return (runs.parent / "pages" / "report.html").read_text()


# ---- the table ------------------------------------------------------------------------------------------------------


def names(output):
    return [row["name"] for row in json.loads(output)]


def test_the_table_shows_every_run(here, golfzoo):
    status, output = golfzoo("runs")
    assert status == 0, output
    for word in ("grid/cells/record-seed-1337-", "tiny-evil", "damaged", "unfinished", "failed", "completed"):
        assert word in output
    assert "7 of 7 runs" in output
    rows = {row["name"]: row for row in json.loads(golfzoo("runs", "--json")[1])}
    result = json.loads((here / "runs" / "tiny-evil" / "result.json").read_text())
    row = rows["tiny-evil"]
    assert (row["bpb"], row["bytes"], row["seed"]) == (result["val_bpb"], result["bytes"]["total"], 1337)
    assert row["headroom"] == 16_000_000 - row["bytes"]
    assert row["train_s"] == result["seconds"]["train"]
    assert rows["damaged"]["bpb"] is None
    assert rows["damaged"]["record"] == "tiny"
    assert rows["failed"]["seed"] == 3


def test_the_table_is_filtered_and_sorted(here, golfzoo):
    [without] = [name for name in names(golfzoo("runs", "--json")[1]) if "/adaptor.use=none-" in name]
    assert re.fullmatch("grid/cells/adaptor.use=none-seed-1337-[0-9a-f]{6}", without)
    assert names(golfzoo("runs", "--filter", "GRID", "--sort", "name", "--json")[1])[0] == without
    assert names(golfzoo("runs", "--filter", "status=failed", "--json")[1]) == ["failed"]
    assert names(golfzoo("runs", "--filter", "adaptor.use=none", "--json")[1]) == [without]
    assert len(names(golfzoo("runs", "--filter", "train.seed=1337", "--filter", "seed=3", "--json")[1])) == 1
    ordered = json.loads(golfzoo("runs", "--sort", "bpb", "--json")[1])
    known = [row["bpb"] for row in ordered if row["bpb"] is not None]
    assert known == sorted(known)
    assert [row["bpb"] for row in ordered[len(known) :]] == [None] * 3
    assert names(golfzoo("runs", "--sort=-seed", "--json")[1])[-1] == "failed"
    assert golfzoo("runs", "--filter", "no such") == (0, "0 of 7 runs\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "bbp"], "--sort bbp: no such column; did you mean 'bpb'?"),
        (["--sort", "nope"], "--sort nope: no such column; known: bpb, bytes, changed, eval_s, headroom, name,"),
        (["--filter", "statu=x"], "as train.seed is, nor a column; did you mean 'status'?"),
        (["--filter", "train.sed=1"], "--filter train.sed=1: 'train.sed' is neither a key of any run's record"),
    ],
)
def test_mistakes_in_the_table_s_options(here, golfzoo, arguments, message):
    status, output = golfzoo("runs", *arguments)
    assert status == 2
    assert message in output
    assert len(output.splitlines()) == 1
    assert output.count("headroom") <= 1


def test_figures_are_found_as_they_are_shown(here, golfzoo):
    row = json.loads(golfzoo("runs", "--filter", "tiny-evil", "--json")[1])[0]
    for shown in (f"bpb={row['bpb']:.4f}", f"headroom={row['headroom']:,}", f"bpb={row['bpb']}"):
        assert "tiny-evil" in names(golfzoo("runs", "--filter", shown, "--json")[1])


def test_what_a_run_changed_is_told(tmp_path, here, tiny_run, golfzoo, monkeypatch):
    assert {row["changed"] for row in json.loads(golfzoo("runs", "--json")[1])} == {""}
    assert "changed" not in golfzoo("runs")[1]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, tmp_path / "runs" / "a")
    path = tmp_path / "runs" / "a" / "env.json"
    command = ["golfzoo", "ablate", "x.toml", "--vary", "a.b=1,2", "--fresh", "train.seed=3", "quantizer.use=int6"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"command": command}))
    assert json.loads(golfzoo("runs", "--json")[1])[0]["changed"] == "quantizer.use=int6"
    assert "quantizer.use=int6" in golfzoo("runs")[1]


def test_no_runs_at_all(tmp_path, monkeypatch, golfzoo):
    monkeypatch.chdir(tmp_path)
    assert golfzoo("runs") == (0, "0 of 0 runs\n")


def test_the_table_takes_no_torch_and_no_drawing(here):
    code = "import sys; from golfzoo.cli import main\ntry: main(['runs'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", ["", "[1]", '{"status": 3}', "[" * 9999, "\ud800", '{"status": "completed"}', None])
def test_damaged_results_are_damaged(tmp_path, content):
    path = tmp_path / "run" / "result.json"
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
    (row,) = survey.survey(tmp_path)
    assert row.status == "damaged"


# ---- the page -------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Tags with their attributes, in order; those left open, and the text."""

    empty = ("meta", "br")

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.empty:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_the_page_has_every_section_and_stands_alone(page, runs):
    read = Reader(page)
    assert read.open == []
    identifiers = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    wanted = {"leaderboard", "ablation-1-table", "curves", "bytes", "quantization", "adaptation", "records"}
    assert wanted <= set(identifiers)
    plots = {path.stem for path in (runs.parent / "pages" / "png").iterdir()}
    expected = {"scores", "sizes", "ablation-1", "loss-over-steps", "loss-over-seconds", "bpb-over-steps", "bytes-1"}
    assert plots >= expected | {"bpb-over-seconds", "norm-over-steps", "errors-1", "adaptation"}
    assert sum(name.startswith("adapt") for name in plots) == 1
    assert {f"{name}-title" for name in plots} <= set(identifiers)
    assert sum(tag == "svg" for tag, _ in read.tags) == len(plots)
    for tag, attributes in read.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "image", "base", "form")
        for name in ("src", "href", "xlink:href", "action", "style"):
            value = attributes.get(name) or ""
            assert "//" not in value
            if name.endswith("href") and value:
                assert value[1:] in identifiers, value
        assert not any(name.startswith("on") for name in attributes)
    assert not re.findall(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_the_page_says_what_the_runs_say(page, runs):
    read = Reader(page)
    result = json.loads((runs / "tiny-evil" / "result.json").read_text())
    for fact in (
        f"{result['val_bpb']:.4f}",
        f"{result['bytes']['total']:,}",
        "damaged",
        "unfinished",
        "No record here",
    ):
        assert fact in read.text
    rows = json.loads((runs / "grid" / "ablation.json").read_text())["rows"]
    assert f"{rows[1]['difference']:+.4f}" in read.text
    assert json.loads((runs / "tiny-evil" / "env.json").read_text())["versions"]["torch"] in read.text
    assert "documents got better" in read.text


def test_what_strangers_wrote_is_text(page):
    assert "<script" not in page
    text = Reader(page).text
    assert text.count(f"Boom: {EVIL}") == 1
    assert f'summary = "{EVIL}"' in text
    assert EVIL.replace("/", "!") in text
    assert "mathdefault" not in page


def test_published_scores(here, golfzoo, tiny_run):
    """A profiled run is not comparable; one without a profile is, and stands among the published scores."""
    for name, profile in (("plain", "none"), ("profiled", "cpu")):
        folder = here / "published" / name
        folder.mkdir(parents=True)
        for file in ("record.toml", "result.json"):
            shutil.copy(tiny_run / file, folder)
        record = (folder / "record.toml").read_text()
        published = '[record.published]\nval_bpb = 1.5\nbytes_total = 123456\nsource = "a <paper>"\n\n[data]'
        (folder / "record.toml").write_text(record.replace("[data]", published))
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(result | {"profile": profile}))
    assert tomllib.loads((folder / "record.toml").read_text())["record"]["published"]["val_bpb"] == 1.5
    status, output = golfzoo("report", "published/*", "--out", "published.html")
    assert status == 0, output
    read = Reader((here / "published.html").read_text())
    assert read.text.count("a <paper>") == 3  # once on the board, once in each record
    assert f"{result['val_bpb'] - 1.5:+.4f}" in read.text
    assert len(re.findall(r"not\s+comparable", read.text)) == 1
    assert "Runs under profile cpu had another model" in read.text
    assert "No two of these runs differ in nothing but their adaptor." in read.text
    assert "golfzoo run published/plain/record.toml adaptor.use=none" in read.text


def test_runs_without_a_score_are_listed(here, golfzoo):
    status, output = golfzoo("report", "runs/failed", "runs/damaged", "tiny.toml", "--out", "failed.html")
    assert status == 0, output
    assert "skipped: tiny.toml is not a run" in output
    text = Reader((here / "failed.html").read_text()).text
    assert "runs: 1 damaged, 1 failed" in text
    assert "None of these runs has written a curve." in text


def test_a_run_whose_weights_or_data_are_gone(here, golfzoo, tiny_run, zoo, monkeypatch):
    from golfzoo.report.weights import weigh

    shutil.copytree(tiny_run, here / "bare")
    (here / "bare" / "weights.safetensors").unlink()
    (here / "bare" / "documents.npz").write_bytes(b"x")
    ((artifact,), notes) = weigh(gather(["bare"]).completed, zoo, print)
    assert artifact.errors is None
    assert artifact.measured["groups"]  # the bytes can be told all the same
    assert notes == ["#1 tiny: bare/weights.safetensors: no such file"]
    (here / "bare" / "metrics.jsonl").unlink()
    monkeypatch.setenv("GOLFZOO_DATA", str(here / "nowhere"))
    assert golfzoo("report", "bare", "--out", "bare.html")[0] == 0
    assert "nowhere/tokenizers" in Reader((here / "bare.html").read_text()).text


def test_what_makes_no_sense_is_left_out(here, golfzoo, tiny_run):
    """Every file but the result is anything at all; then an ablation's table is."""
    odd = here / "odd" / "cells" / "a"
    odd.mkdir(parents=True)
    result = json.loads((tiny_run / "result.json").read_text())
    (odd / "result.json").write_text(json.dumps(result))
    (odd / "record.toml").write_text("record = 3\n[adaptor]\nuse = 1\n[[train]]\n")
    (odd / "env.json").write_text('{"components": 5, "git": [], "versions": 1, "platform": "\\ud800", "command": 0}')
    lines = ["[", "3", '{"event": "train"}', '{"event": "val", "step": 1, "seconds": NaN, "val_bpb": 2}']
    (odd / "metrics.jsonl").write_text("\n".join(lines))
    (odd / "artifact.golf").write_bytes(b"GOLF")
    plan = {
        "vary": 1,
        "cells": [4, {}],
        "rows": [1, {"name": "\u001b[2J", "difference": "x", "interval": [1], "bytes": []}],
    }
    (here / "odd" / "ablation.json").write_text(json.dumps(plan))
    status, output = golfzoo("report", "odd", "--out", "odd.html")
    assert status == 0, output
    assert "\x1b" not in (here / "odd.html").read_text()
    assert golfzoo("runs", "--filter", "odd")[0] == 0


# ---- the figures ----------------------------------------------------------------------------------------------------


def test_areas_are_in_proportion_to_bytes(data, tiny_run, zoo):
    from golfzoo.record import load_record
    from golfzoo.shipping.sizes import measure

    record = load_record(str(tiny_run / "record.toml"), zoo)
    measured = measure(record, (tiny_run / "artifact.golf").read_bytes())
    tiles = lay_out(measured)
    sizes = [row["compressed"] for row in measured["groups"]] + list(measured["modules"].values())
    assert sorted(tile.num_bytes for tile in tiles) == sorted(sizes)
    areas = np.array([tile.width * tile.height for tile in tiles])
    num_bytes = np.array([tile.num_bytes for tile in tiles])
    np.testing.assert_allclose(areas / areas.sum(), num_bytes / num_bytes.sum(), rtol=1e-9)
    assert lay_out({"groups": [], "modules": {}}) == []
    assert family_of("blocks.*.attn.proj.weight") == "blocks attn"
    assert family_of("tok_emb.weight") == "tok_emb"


def test_the_error_of_a_tensor(data, tiny_run, zoo):
    """Against int8 done again by hand, in numpy, from the trained weights: one scale a row, clipped at a quantile."""
    from golfzoo.engine.artifact import read_tensors
    from golfzoo.record import load_record
    from golfzoo.report.weights import tensor_errors
    from golfzoo.shipping.sizes import make_untrained

    record = load_record(str(tiny_run / "record.toml"), zoo)
    (run,) = gather([str(tiny_run)]).runs
    errors = {tensor.name: tensor for tensor in tensor_errors(run, record)}
    weights = safetensors.numpy.load_file(tiny_run / "weights.safetensors")
    assert errors.keys() == weights.keys()
    components, model = make_untrained(record)
    layout = components.quantizer.layout(model.template, model.roles)
    stored, _ = read_tensors((tiny_run / "artifact.golf").read_bytes(), components, layout)
    name = "blocks.0.mlp.fc.weight"
    codes, scales = (stored[key].numpy() for key in sorted(key for key in stored if key.startswith(name)))
    if codes.ndim < 2:
        codes, scales = scales, codes
    decoded = codes.astype(np.float64) * scales.astype(np.float64).reshape(-1, 1)
    expected = np.sqrt(np.mean((weights[name] - decoded) ** 2)) / np.sqrt(
        np.mean(weights[name].astype(np.float64) ** 2)
    )
    assert errors[name].error == pytest.approx(expected, rel=1e-5)
    assert 0 < errors[name].error < 0.5
    assert errors[name].role == "matrix"


def test_pairs_differ_only_in_their_adaptor(here):
    gathered = gather(["runs/grid"])
    assert sorted(run.name for run in gathered.runs) == ["(the record)", "adaptor.use=none"]
    ((pair,), notes) = pair_up(gathered.completed)
    assert notes == []
    assert pair.adapted.tables["adaptor"]["use"] == pair.adaptor
    assert "adaptor" not in pair.without.tables
    weighted = (pair.gains * pair.num_bytes).sum() / pair.num_bytes.sum()
    difference = pair.without.result["val_bpb"] - pair.adapted.result["val_bpb"]
    assert weighted == pytest.approx(difference, abs=1e-9)
    pair.adapted.tables["train"]["seed"] = 5
    assert pair_up(gathered.completed) == ([], [])


def test_labels_stay_apart():
    """Names of cells that differ in their middle, which is what is left out of a long one."""
    names = [
        f"quantizer.use={quantizer} architecture.num_layers={layers} adaptor.use=none, seed 1"
        for quantizer in ("int8", "int6") for layers in (9, 10, 11)
    ]  # fmt: skip
    names += ["a" * 50 + letter + "b" * 50 for letter in "xyz"]
    names += ["baseline-20261123-182141-ccb584", "baseline-20261123-182145-cb0584", "short"]
    for most in (29, 38):
        labels = shorten_apart(names, most)
        assert len(set(labels)) == len(names), labels
        assert max(map(len, labels)) <= most
        assert labels[-1] == "short"
    assert shorten_apart(["same" * 20] * 2, 29) == [shorten("same" * 20, 29)] * 2


def test_nothing_is_cut_off_and_few_points_are_marked(here):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from golfzoo.report.figures import draw_curves, draw_differences
    from golfzoo.report.gather import Ablation

    rows = [{"name": "quantizer.use=gptq_trellis adaptor.use=lora " * 2, "difference": 0.01, "interval": [0.0, 0.02]}]
    with drawing.styled():
        figure = draw_differences(Ablation("a", [], rows), 1).figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.axes[0].xaxis.label.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        curves, left_out = draw_curves(gather(["runs/tiny-evil"]).runs)
        assert left_out == []
        assert len(curves) == 6
        for curve in curves:
            assert curve.figure.axes[0].lines[0].get_marker() == "o"


# ---- names, colours and labels --------------------------------------------------------------------------------------


def a_row(folder, record="tiny", seed=1337, profile="none", bpb=2.0):
    return survey.Row(
        name=folder, folder=Path(folder), record=record, changed="", profile=profile, status="completed", seed=seed,
        bpb=bpb, bytes=1000, headroom=1, train_s=1.0, eval_s=1.0, when=0.0,
    )  # fmt: skip


def some_tables(quantizer="int8", adaptor="lora", rank=8, **train):
    tables = {"train": {"seed": 0, "iterations": 10} | train, "quantizer": {"use": quantizer, f"of_{quantizer}": 1}}
    return tables | ({"adaptor": {"use": adaptor, "rank": rank}} if adaptor else {})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ([{}, {"quantizer": "int6"}], ["int8", "int6"]),
        ([{}, {"adaptor": None}], ["lora", "no adaptor"]),
        ([{"seed": 1}, {"seed": 2}, {"seed": 3}], ["seed 1", "seed 2", "seed 3"]),
        (  # the seed where it differs, or tells apart
            [{}, {"seed": 2}, {"quantizer": "int6"}, {"quantizer": "gptq"}],
            ["int8, seed 1337", "int8, seed 2", "int6", "gptq"],
        ),
        ([{}, {"adaptor": None}, {"rank": 4}, {}], ["20", "no adaptor", "lora, rank=4", "23"]),  # two alike
        ([{"iterations": 5}, {"iterations": 6}], ["iterations=5", "iterations=6"]),
        ([{"iterations": 5}, {}, {}], ["iterations=5", "21", "22"]),
        ([{"profile": "cpu"}, {}], ["profile cpu", "no profile"]),
        ([{"record": "a"}, {"record": "b", "quantizer": "int6"}], ["a", "b"]),
        ([{"record": "a"}, {"record": "b"}, {"record": "b", "seed": 2}], ["a", "b, seed 1337", "b, seed 2"]),
        ([{"iterations": ["x" * 50]}, {"iterations": {"\x1b": 1}}], None),
        ([{}], ["tiny"]),
    ],
)
def test_runs_are_named_by_what_differs(changes, names):
    rows, tables = [], []
    for number, change in enumerate(changes):
        of_row = {key: change[key] for key in ("record", "seed", "profile") if key in change}
        rows.append(a_row(f"{20 + number}", **of_row))
        tables.append(some_tables(**{key: value for key, value in change.items() if key not in of_row}))
    told = name_apart(rows, tables)
    assert len(set(told)) == len(told)
    assert all(name.isprintable() and len(name) < 60 for name in told)
    if names:
        assert told == names
    assert name_apart(rows, [{} for _ in rows]) == [row.name for row in rows]  # none can be read


def test_two_ablations_call_no_run_alike(here):
    shutil.copytree(here / "runs" / "grid", here / "again", dirs_exist_ok=True)
    for cell in list((here / "again" / "cells").iterdir()):
        cell.rename(cell.with_name(f"{cell.name}-again"))
    names = [run.name for run in gather(["runs/grid", "again"]).runs]
    assert len(names) == len(set(names)) == 4


def many_runs(here, tiny_run, count):
    """Runs that differ in their seed, and lie upon and beside one another."""
    folder = here / f"many-{count}"
    for number in range(count):
        (folder / f"{number:02}").mkdir(parents=True)
        for name in ("record.toml", "metrics.jsonl"):
            shutil.copy(tiny_run / name, folder / f"{number:02}")
        result = json.loads((tiny_run / "result.json").read_text())
        result |= {"seed": number, "val_bpb": 1.22431 + 1e-6 * (number // 2)}
        result["stages"]["final"]["val_bpb"] = result["val_bpb"]
        result["bytes"]["total"] = 15_882_446 + 7 * (number % 5)
        (folder / f"{number:02}" / "result.json").write_text(json.dumps(result))
    gathered = gather([f"{folder}/*"])
    shutil.rmtree(folder)
    return gathered.runs


_INKS = {LIGHT["line"], LIGHT["muted"]}


def colours_in(figure):
    return {line.get_color() for line in figure.axes[0].lines if len(line.get_xdata())}


def test_a_run_has_one_colour_whatever_its_rank(here, tiny_run):
    from golfzoo.report.figures import draw_curves, draw_scores, draw_sizes

    runs = many_runs(here, tiny_run, 12)
    assert sorted(run.series for run in runs) == list(range(1, 13))
    assert [run.series for run in sorted(runs, key=lambda run: run.name)] == list(range(1, 13))
    assert len({LIGHT[name] for name in SERIES}) == len({DARK[name] for name in SERIES}) == 12
    assert len(set(LIGHT.values())) == len(LIGHT)  # each is replaced by the variable of its name
    drawn = {drawing.variable_of(run.series) for run in runs}
    assert drawn == set(SERIES)
    styles = {
        (drawing.colour_of(series), str(drawing.line_style_of(series)), drawing.marker_of(series))
        for series in range(1, 37)
    }
    assert len(styles) == 36
    reordered = [dataclasses.replace(run, number=13 - run.number) for run in reversed(runs)]
    with drawing.styled():
        for draw in (draw_scores, draw_sizes):
            seen = colours_in(draw(runs[:1]).figure) - _INKS
            assert seen == {drawing.colour_of(runs[0].series)}
        for before, after in zip(draw_curves(runs)[0], draw_curves(reordered)[0], strict=True):
            assert colours_in(before.figure) == colours_in(after.figure)


def test_a_part_of_the_model_has_one_colour():
    colours = family_colours([("tok_emb.weight", 10), ("blocks.*.attn.c_q.weight", 20), ("blocks.*.mlp.fc.weight", 5)])
    again = family_colours([("blocks.*.mlp.fc.weight", 50), ("blocks.0.attn.c_q.weight", 2), ("tok_emb.weight", 1)])
    assert colours == again
    assert list(colours) == ["blocks attn", "blocks mlp", "tok_emb"]
    assert len(set(colours.values())) == 3
    many = family_colours([(f"part{number}.x.weight", number) for number in range(30)])
    assert len(many) == len(set(many.values())) < 30


def boxes_of(figure, texts):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return [text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text()]


@pytest.mark.parametrize("count", [1, 9, 24])
def test_labels_do_not_lie_over_each_other(here, tiny_run, count):
    from golfzoo.report.figures import draw_scores, draw_sizes

    runs = many_runs(here, tiny_run, count)
    with drawing.styled():
        sizes = draw_sizes(runs).figure
        axes = sizes.axes[0]
        labels = list(axes.texts)
        assert sorted(re.findall(r"#\d+", " ".join(text.get_text() for text in labels))) == sorted(
            f"#{run.number}" for run in runs
        )
        boxes = boxes_of(sizes, labels)
        for box, other in itertools.combinations(boxes, 2):
            assert not box.overlaps(other)
        for box in boxes:
            assert sizes.bbox.x0 <= box.x0
            assert box.x1 <= sizes.bbox.x1
        for figure in (sizes, draw_scores(runs).figure):
            axes = figure.axes[0]
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = axis.get_major_ticks()
                shown = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
                for box, other in itertools.combinations(boxes_of(figure, shown), 2):
                    assert not box.overlaps(other)
                texts = [text.get_text() for text in shown]
                assert len(set(texts)) == len(texts)


@pytest.mark.slow
def test_two_points_make_no_curve(here, tiny_run, golfzoo):
    """A run that was scored before and after its training, and not between."""
    folder = here / "ends"
    folder.mkdir()
    for name in ("record.toml", "result.json"):
        shutil.copy(tiny_run / name, folder)
    events = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    kept = [event for event in events if event.get("event") != "val" or event["step"] in (0, 10)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, kept)))
    assert golfzoo("report", "ends", "--out", "ends.html")[0] == 0
    read = Reader((here / "ends.html").read_text())
    identifiers = {attributes.get("id") for _, attributes in read.tags}
    assert "loss-over-steps-title" in identifiers
    assert "bpb-over-steps-title" not in identifiers
    said = (
        "Validation score while training is not drawn: one or two points make no curve. train.val_every asks for more."
    )
    assert read.text.count(said) == 1
    assert golfzoo("report", "ends", "runs/tiny-evil", "--out", "ends.html")[0] == 0
    read = Reader((here / "ends.html").read_text())
    assert "bpb-over-steps-title" in {attributes.get("id") for _, attributes in read.tags}
    assert re.search(r"Validation score while training of #\d is not drawn", read.text)


@pytest.mark.slow
def test_what_other_sizes_would_lose_is_drawn_and_told(here, tiny_run, golfzoo):
    """Of a run that was resumed the last word on a size; what is no number is left out."""
    folder = here / "fitted"
    folder.mkdir()
    for name in ("record.toml", "result.json"):
        shutil.copy(tiny_run / name, folder)
    points = [[90_000, 0.002, 0.0016], [100_000, 0.9, 0.9], [100_000, 0.001, 0.00081], [110_000, 0.0005, 0.0004],
              [120_000, float("nan"), 1], [130_000, -1, 1], [140_000, 1], 5]  # fmt: skip
    events = [{"event": "note", "text": "fit", "outlook": point} for point in points]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)))
    assert golfzoo("report", "fitted", "--out", "fitted.html")[0] == 0
    read = Reader((here / "fitted.html").read_text())
    assert "outlook-title" in {attributes.get("id") for _, attributes in read.tags}
    for told in ("90,000", "0.0016", "100,000", "0.00081", "110,000", "0.0004"):
        assert told in read.text
    assert "120,000" not in read.text
    assert "0.9" not in read.text.split("What other sizes would lose")[1].split("What adaptation gains")[0]
    assert golfzoo("report", "runs/tiny-evil", "--out", "plain.html")[0] == 0
    assert "What other sizes would lose" not in Reader((here / "plain.html").read_text()).text


def test_the_gain_of_the_longer_documents(here):
    ((pair,), _) = pair_up(gather(["runs/grid"]).completed)
    halves = [np.argsort(pair.num_bytes, kind="stable")[part] for part in (slice(None, 2), slice(2, None))]
    assert len(pair.num_bytes) in (4, 5)
    for longer, half in enumerate(halves):
        expected = np.average(pair.gains[half], weights=pair.num_bytes[half])
        assert pair.gain_of_half(bool(longer)) == pytest.approx(expected)


# ---- mistakes -------------------------------------------------------------------------------------------------------


def test_a_report_overwrites_only_its_own(here, golfzoo, page):
    own = here / "pages" / "report.html"
    assert MARK in own.read_text()
    status, output = golfzoo("report", "runs/failed", "--out", "again.html")
    assert status == 0, output
    assert golfzoo("report", "runs/failed", "--out", "again.html")[0] == 0
    (here / "mine.html").write_text("<html>mine</html>")
    status, output = golfzoo("report", "runs/failed", "--out", "mine.html")
    assert (status, output) == (
        2, "golfzoo: mine.html: is there already and was not made by golfzoo report; choose another name\n"
    )  # fmt: skip
    assert (here / "mine.html").read_text() == "<html>mine</html>"
    assert golfzoo("report", "runs/failed", "--out", "runs")[0] == 2
    assert golfzoo("report", "runs/failed", "--out", "mine.html/report.html")[0] == 2


def test_a_picture_of_somebody_else_s_is_kept(here, golfzoo, page):
    theirs = here / "theirs"
    theirs.mkdir()
    (theirs / "loss-over-steps.png").write_bytes(b"\x89PNG theirs")
    shutil.copytree(here / "runs" / "failed", here / "curved")
    shutil.copy(here / "runs" / "tiny-evil" / "metrics.jsonl", here / "curved")
    status, output = golfzoo("report", "curved", "--out", "new.html", "--png", theirs)
    assert status == 2
    assert "theirs/loss-over-steps.png: is there already" in output
    assert not (here / "new.html").exists()
    drawing_bytes = (here / "pages" / "png" / "scores.png").read_bytes()
    assert drawing_bytes.startswith(b"\x89PNG")
    assert drawing.PNG_MARK.encode() in drawing_bytes[:4096]


@pytest.mark.parametrize(
    ("argument", "message"),
    [("runs/nothing*", "runs/nothing*: no such run; give a run's folder"), ("tiny.toml", "tiny.toml: holds no run;")],
)
def test_no_run_to_report(here, golfzoo, argument, message):
    status, output = golfzoo("report", argument, "--out", "none.html")
    assert status == 2
    assert message in output
    assert output.splitlines()[-1].startswith("golfzoo: ")
    assert not (here / "none.html").exists()


def test_without_the_extra(here, golfzoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "squarify", None)
    status, output = golfzoo("report", "runs/failed", "--out", "none.html")
    assert (status, output) == (2, "golfzoo: report needs the extra [report]: pip install 'golfzoo[report]'\n")
    with pytest.raises(UsageError), drawing.styled():
        pass
