"""The measured leaderboard: what its table says, against scipy; when it no longer holds; and a subset run anew."""

import json
import platform
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from conftest import REPOSITORY
from golfzoo.studies.leaderboard import by_family, differences, rows_of

CONDITIONS = {
    "profile": "cpu", "overrides": [], "seeds": [1, 2, 3], "device": "cpu", "platform": "here",
    "versions": {"torch": "2"}, "git": None, "date": "2026-01-01", "dataset": None,
}  # fmt: skip


def record(name, family, published, date, scores):
    source = {"val_bpb": published, "source": f"somewhere, {date}_{name}"} if published else None
    runs = [
        {"seed": seed, "val_bpb": score, "artifact": 1000 + seed, "train_seconds": 2.0, "steps": 4,
         "model_sha256": f"{name}{seed}"}
        for seed, score in enumerate(scores, 1)
    ]  # fmt: skip
    about = {"name": name, "file": f"{name}.toml", "family": family, "published": source}
    return {**about, "sha256": name, "code": 7, "val": "text", "runs": runs}


@pytest.fixture
def table():
    return {
        "schema": 1,
        "conditions": json.loads(json.dumps(CONDITIONS)),
        "records": [
            record("first", "old", 1.22, "2026-03-17", [3.0, 3.1, 3.05]),
            record("second", "old", 1.20, "2026-03-18", [2.5, 2.6, 2.55]),
            record("apart", "other", 1.21, "2026-04-01", [4.0, 4.1, 4.2]),
            record("third", "new", 1.10, "2026-03-19", [3.6, 3.8, 3.7]),
            record("alone", "", None, "", [2.0]),
            record("never run", "new", 1.0, "2026-05-01", []),
        ],
    }


def test_rows_are_what_scipy_says_of_the_runs(table):
    rows = {row["name"]: row for row in rows_of(table)}
    assert list(rows) == ["third", "second", "first", "apart", "alone"]
    assert {name: row.get("before") for name, row in rows.items()} == {
        "first": None, "second": "first", "third": "second", "apart": "first", "alone": None,
    }  # fmt: skip
    for name, row in rows.items():
        scores = next(record["runs"] for record in table["records"] if record["name"] == name)
        scores = [run["val_bpb"] for run in scores]
        assert row["pocket"] == pytest.approx(np.mean(scores))
        if len(scores) == 1:
            assert row["reach"] is None
            continue
        low, high = stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))
        assert (row["pocket"] - row["reach"], row["pocket"] + row["reach"]) == pytest.approx((low, high))
    compared = [rows[name] for name in ("second", "third", "apart")]
    raw = []
    for row in compared:
        test = stats.ttest_ind(rows[row["before"]]["scores"], row["scores"], equal_var=False)
        interval = test.confidence_interval(0.95)
        assert row["interval"] == pytest.approx((interval.low, interval.high))
        assert row["published_gain"] == pytest.approx(rows[row["before"]]["published"] - row["published"])
        raw.append(test.pvalue)
    order = np.argsort(raw)
    holm = np.maximum.accumulate(np.minimum(1, np.sort(raw) * np.arange(3, 0, -1)))
    assert [compared[place]["p"] for place in order] == pytest.approx(list(holm))


def test_the_page_says_what_was_turned_round(table):
    from golfzoo.report.pocket import render

    page = render(table, "leaderboard.json", None)
    assert "Of 3 published gains 1 are gains here too, 2 are turned round" in page
    assert "Turned round: third, apart." in page
    assert "**Fewer seeds** so far: alone." in page
    assert "| [second](second.toml) | **2.5500** ± 0.1242 | first | +0.5000 [+0.3867, +0.6133] | 0.0" in page
    assert "**Without a run that was completed**: never run." in page
    assert page.count("never run") == 1
    for line in page.splitlines():
        assert not line.startswith("|") or line.count("|") == 11, line


def test_the_plot_is_a_picture(table, tmp_path):
    from golfzoo.report.pocket import write_plot

    assert write_plot(rows_of(table), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert not write_plot(rows_of({**table, "records": table["records"][4:]}), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_what_no_longer_holds_is_said(table):
    def now(**changed):
        made = json.loads(json.dumps(table))
        for name, change in changed.items():
            change(next(record for record in made["records"] if record["name"] == name))
        return made

    assert differences(table, now(), anew=True) == []
    changed = now(
        first=lambda record: record.update(sha256="changed"),
        second=lambda record: record["runs"][0].update(val_bpb=2.5 + 1e-9),
        apart=lambda record: record["runs"][0].update(model_sha256="other"),
        third=lambda record: record["published"].update(source="2020-01-01"),
        alone=lambda record: record.update(val="another"),
    )
    changed["records"].append(record("new one", "new", 1.0, "2026-05-02", [1.0]))
    assert differences(table, changed, anew=False) == [
        "alone: its validation text is another than the one that was measured on",
        "apart: seed 1 gives other weights than before, at the same score",
        "first: says something else than when it was measured",
        "new one: is not in the table",
        "second: seed 1 gives 2.500000 bits per byte, and gave 2.500000",
        "third: its published is another than in the table",
    ]
    elsewhere = now(second=lambda record: record["runs"][0].update(val_bpb=2.5 + 1e-9, model_sha256="other"))
    elsewhere["conditions"] = {**CONDITIONS, "platform": "elsewhere"}  # where the last digits are others
    assert differences(table, elsewhere, anew=True) == []
    elsewhere["records"][1]["runs"][0]["val_bpb"] += 0.01
    assert len(differences(table, elsewhere, anew=True)) == 1
    lost = now(first=lambda record: record["runs"].pop())
    assert differences(table, lost, anew=False) == []
    assert differences(table, lost, anew=True) == ["first: has runs in the table that it does not complete now"]


def test_only_what_is_scored_on_one_text_is_compared(table):
    table["records"][1]["val"] = "another"
    rows = {row["name"]: row for row in rows_of(table)}
    assert "before" not in rows["second"]
    assert rows["third"]["before"] == "first"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda table: table.pop("conditions"), "conditions: Field required"),
        (lambda table: table["conditions"].update(overrides=[3]), "conditions.overrides.0: "),
        (lambda table: table["records"].insert(0, 3), "records.0: "),
        (lambda table: table["records"][0].pop("runs"), "records.0.runs: Field required"),
        (lambda table: table["records"][0]["runs"][0].update(val_bpb="x"), "records.0.runs.0.val_bpb: "),
        (lambda table: table["records"][0]["runs"][0].update(val_bpb=float("nan")), ""),
        (lambda table: table["records"][0].update(published={"val_bpb": "1"}), "records.0.published."),
        (lambda table: table["records"].append(table["records"][0]), "has a record twice"),
    ],
)
def test_figures_that_were_edited_are_refused_in_a_line(table, golfzoo, tmp_path, edit, said):
    edit(table)
    (tmp_path / "README.md").write_text("")
    (tmp_path / "leaderboard.json").write_text(json.dumps(table))
    naive = REPOSITORY / "records" / "naive_baseline.toml"
    status, output = golfzoo("leaderboard", naive, "--check", "--table", tmp_path / "README.md")
    assert (status, output.count("golfzoo: "), "Traceback" in output) == (2, 1, False)
    assert said in output


def test_families_come_by_their_best():
    rows = [
        {"family": family, "published": score} for family, score in (("", 1.0), ("a", 1.2), ("b", 1.1), ("a", None))
    ]
    assert [(row["family"], row["published"]) for row in by_family(rows)] == [
        ("b", 1.1), ("a", 1.2), ("a", None), ("", 1.0),
    ]  # fmt: skip


def test_misuse_is_one_line(golfzoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    naive = REPOSITORY / "records" / "naive_baseline.toml"
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "README.md").write_text("")
    (tmp_path / "a_file").write_text("")
    seeds = "must name a seed, and each once, as in 1,2,3"
    for arguments, said in (
        (["train.iterations=2"], "leaderboard: names no record; give files, as in records/*.toml"),
        ([naive, "--seeds", "one"], "--seeds one: must be whole numbers, as in 1,2,3"),
        ([naive, "--seeds", ""], f"--seeds : {seeds}"),
        ([naive, "--seeds", "1,1"], f"--seeds 1,1: {seeds}"),
        ([naive, "train.seed=3"], "leaderboard: train.seed comes from --seeds"),
        ([naive, "--job", "a=1"], "--job: is for --executor"),
        ([naive, "--table", "records"], "--table records: must be the file of a page, as records/README.md"),
        ([naive, "--table", "a.json"], "--table a.json: must be the file of a page, as records/README.md"),
        ([naive, "--table", "a_file/a.md"], "--table a_file/a.md: its folder cannot be made: File exists"),
        ([naive, "--check", "--table", "none.md"], "none.md: no such file"),
        ([naive, "--check"], "records/leaderboard.json: no such file; `golfzoo leaderboard RECORD...` makes one"),
        ([naive, "x=1", "--check"],
         "leaderboard --check: takes KEY=VALUE from records/leaderboard.json; leave them out"),
    ):  # fmt: skip
        status, output = golfzoo("leaderboard", *arguments)
        assert (status, output.splitlines()[-1]) == (2, f"golfzoo: {said}")


@pytest.mark.slow
def test_a_subset_of_the_zoo_gives_what_it_gave(golfzoo, tiny_record, data_root, tmp_path):
    """Run, written, held against itself, and run anew; then something changes."""
    Path(tmp_path / "other.toml").write_text(tiny_record.read_text().replace('name = "tiny"', 'name = "other"'))
    files = [tiny_record, tmp_path / "other.toml"]
    options = ["--table", tmp_path / "README.md", "--out", tmp_path / "runs"]
    status, output = golfzoo(
        "leaderboard", *files, "train.iterations=3", "--profile", "none", "--seeds", "1,2", *options
    )
    assert status == 0, output
    assert not (tmp_path / "leaderboard.png").exists()  # no published gain to draw one beside
    for more in ([], ["--fresh"]):
        status, output = golfzoo("leaderboard", *files, "--check", *more, *options)
        assert status == 0, output
        assert "2 records are what was measured; 4 of their runs give the same" in output
    figures = json.loads((tmp_path / "leaderboard.json").read_text())
    figures["records"][0]["runs"][1]["model_sha256"] = "0" * 64
    (tmp_path / "leaderboard.json").write_text(json.dumps(figures))
    status, output = golfzoo("leaderboard", *files, "--check", *options)
    assert status == 1
    assert "tiny: seed 2 gives other weights than before, at the same score" in output


@pytest.mark.slow
def test_shipped_records_give_what_they_gave(golfzoo, monkeypatch, tmp_path):
    """The zoo as a regression test: records of every make, two steps of each. After a change that is meant to change
    them: golfzoo leaderboard with the records and KEY=VALUE that tests/pocket/README.md names, --table that file."""
    table = Path(__file__).parent / "pocket" / "README.md"
    figures = json.loads(table.with_name("leaderboard.json").read_text())
    if not (REPOSITORY / "data" / "datasets" / "stdlib").exists():
        monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path))  # where the run builds it
    else:
        monkeypatch.setenv("GOLFZOO_DATA", str(REPOSITORY / "data"))
    files = [REPOSITORY / "records" / f"{record['name']}.toml" for record in figures["records"]]
    status, output = golfzoo("leaderboard", *files, "--check", "--fresh", "--table", table)
    if platform.python_version() != figures["conditions"]["versions"]["python"]:
        pytest.skip("the standard library of another Python is another text")
    assert status == 0, output
    assert f"{len(files)} of their runs give the same" in output
