"""Records: resolving, profiles, overrides, and every mistake in one at once."""

from pathlib import Path

import pytest

import pin_records
from golfzoo.errors import RecordError
from golfzoo.overlay import parse_override, profile_names
from golfzoo.record import load_record
from golfzoo.tables import TABLES

RECORDS = sorted((Path(__file__).parent.parent / "records").glob("*.toml"))


def lines(path, zoo, *overrides, **kwargs):
    with pytest.raises(RecordError) as caught:
        load_record(str(path), zoo, overrides, **kwargs)
    return str(caught.value).split("\n")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["none", "cpu"])
def test_every_shipped_record_resolves_to_a_record_that_resolves_to_itself(path, profile, zoo, tmp_path):
    first = load_record(str(path), zoo, profile=profile)
    again = tmp_path / "record.toml"
    again.write_text(first.to_toml())
    second = load_record(str(again), zoo)
    assert second.to_toml() == first.to_toml()
    assert second.profile == profile
    assert first.name == path.stem
    assert first.tables["record"]["summary"]


def test_defaults_are_filled_in(tiny_record, zoo):
    record = load_record(str(tiny_record), zoo)
    assert record.tables["optimizer"]["matrix_lr"] == 0.04
    assert record.tables["train"]["seed"] == 1337
    assert record.tables["size"]["limit_bytes"] == 16_000_000


def test_overrides_are_toml_values_or_strings():
    assert parse_override("train.seed=7") == {"train": {"seed": 7}}
    assert parse_override("train.lr=1e-3") == {"train": {"lr": 0.001}}
    assert parse_override("adaptor.use=none") == {"adaptor": {"use": "none"}}
    assert parse_override('adaptor.targets=["c_q"]') == {"adaptor": {"targets": ["c_q"]}}
    for text in ("train.seed", "seed=7", ".seed=7", "train.=7"):
        with pytest.raises(RecordError, match="must read table.key=value"):
            parse_override(text)


def test_changing_use_drops_the_other_keys_and_says_so(tiny_record, zoo):
    record = load_record(str(tiny_record), zoo, ("quantizer.use=int6",))
    assert record.tables["quantizer"]["keep_numel"] == 65536
    assert record.notes == ["[quantizer] now uses 'int6': dropped keep_numel"]
    same = load_record(str(tiny_record), zoo, ("quantizer.use=int8",))
    assert same.tables["quantizer"]["keep_numel"] == 512
    off = load_record(str(tiny_record), zoo, ("adaptor.use=none",))
    assert "adaptor" not in off.entries


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_no_default_changes_a_record_in_silence(path, zoo):
    """The hash of every record, resolved, as it is and under the cpu profile. One that is meant to change is written
    down anew: `python tests/pin_records.py`."""
    assert pin_records.hashes(path, zoo) == pin_records.read()[path.stem], "see tests/pin_records.py"


def test_every_pin_is_of_a_record():
    assert pin_records.read().keys() == {path.stem for path in RECORDS}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_restate_no_default(path, zoo):
    import tomli

    written, resolved = tomli.loads(path.read_text()), load_record(str(path), zoo)
    for name, table in written.items():
        if name in ("record", "data", "profiles"):
            continue
        named = {f"{name}.{key}": one for key, one in table.items()} if name == "parts" else {name: table}
        for slot, one in named.items():
            kept = {key: value for key, value in one.items() if key != "use"}
            config = resolved.entries[slot].component.config if slot in resolved.entries else TABLES[slot]
            for key, value in kept.items():
                assert value != config.model_fields[key].get_default(), f"[{slot}].{key}"


@pytest.fixture
def records_folder(tmp_path, tiny_record):
    """A folder of records with a shared profile, and a record in it."""
    (tmp_path / "records" / "profiles").mkdir(parents=True)
    (tmp_path / "records" / "profiles" / "cpu.toml").write_text(
        "small = true\n[train]\niterations = 3\nlog_every = 2\n"
    )
    path = tmp_path / "records" / "tiny.toml"
    path.write_text(tiny_record.read_text())
    return tmp_path / "records"


def test_a_profile_in_a_file_serves_all_records_beside_and_below_it(records_folder, zoo, tmp_path):
    elsewhere = tmp_path / "mine" / "deep"
    elsewhere.mkdir(parents=True)
    (elsewhere / "copy.toml").write_text((records_folder / "tiny.toml").read_text())
    for path in (records_folder / "tiny.toml", elsewhere / "copy.toml"):
        record = load_record(str(path), zoo, profile="cpu")
        assert (record.tables["train"]["iterations"], record.profile) == (3, "cpu")
        assert profile_names(str(path)) == ["cpu"]
    nearer = elsewhere / "profiles"
    nearer.mkdir()
    (nearer / "cpu.toml").write_text("[train]\niterations = 4\n")
    record = load_record(str(elsewhere / "copy.toml"), zoo, profile="cpu")
    assert (record.tables["train"]["iterations"], record.tables["train"]["log_every"]) == (4, 1)


def test_a_record_s_own_profile_is_laid_over_the_shared_one(records_folder, zoo):
    path = records_folder / "tiny.toml"
    path.write_text(path.read_text() + "\n[profiles.cpu]\ntrain.iterations = 5\narchitecture.num_layers = 3\n")
    tables = load_record(str(path), zoo, ("train.log_every=7",), profile="cpu").tables
    assert (tables["train"]["iterations"], tables["train"]["log_every"]) == (5, 7)
    small = zoo.find("architecture", "gpt").component.small
    assert tables["architecture"] == {**tables["architecture"], **small, "num_layers": 3}


def test_what_is_small_is_the_component_s_that_is_used_in_the_end(records_folder, zoo):
    """On the cpu profile a quantizer that is swapped for another stays as small as the record's own."""
    path = records_folder / "tiny.toml"
    small = zoo.find("quantizer", "int6").component.small["keep_numel"]
    for overrides in (("quantizer.use=int6",), ("quantizer={use='int6'}",)):
        assert load_record(str(path), zoo, overrides, profile="cpu").tables["quantizer"]["keep_numel"] == small
    by_hand = ("quantizer.keep_numel=9", "quantizer.use=int6")
    assert load_record(str(path), zoo, by_hand, profile="cpu").tables["quantizer"]["keep_numel"] == 9


def test_a_resolved_record_has_had_its_profile(records_folder, zoo):
    path = records_folder / "resolved.toml"
    path.write_text(
        load_record(str(records_folder / "tiny.toml"), zoo, ("train.iterations=6",), profile="cpu").to_toml()
    )
    assert profile_names(str(path)) == []
    assert load_record(str(path), zoo).tables["train"]["iterations"] == 6


def test_profiles(tiny_record, zoo):
    with open(tiny_record, "a") as file:
        file.write('\n[profiles.small]\ntrain.iterations = 1\nquantizer = { use = "int6" }\n')
    record = load_record(str(tiny_record), zoo, profile="small")
    assert record.tables["train"]["iterations"] == 1
    assert record.tables["train"]["batch_tokens"] == 512
    assert record.tables["quantizer"]["use"] == "int6"
    assert record.profile == "small"
    assert load_record(str(tiny_record), zoo).profile == "none"
    assert lines(tiny_record, zoo, profile="smal") == [f"{tiny_record}: has no profile 'smal'; did you mean 'small'?"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seq_len = 64", "seq_len = = 64", "line 15, column 11: TOML syntax error: Invalid value"),
        ("[train]", "[trian]", "unknown table [trian]; did you mean 'train'?"),
        ("log_every = 1", "log_evry = 1", "[train]: unknown key 'log_evry'; did you mean 'log_every'?"),
        ('use = "int8"', 'use = "int9"', "[quantizer].use: unknown quantizer 'int9'; did you mean 'int8'?"),
        (
            'use = "int8"',
            "use = 8",
            "[quantizer].use: must be a string, got 8; known: binary, gptq, gptq_fisher, ",
        ),
        ('use = "int8"\n', "", "[quantizer].use: is missing; known: binary, gptq, gptq_fisher, "),
        ('dataset = "tiny"\n', "", "[data].dataset: is missing"),
        ('name = "tiny"', 'name = "a/b"', "[record].name: should match pattern"),
        ("seq_len = 64", 'seq_len = "64"', "[train].seq_len: should be a valid integer, got '64'"),
        ("context = 64", "context = 16", "[eval]: context (16) must not be smaller than stride (32)"),
        ("batch_tokens = 512", "batch_tokens = 500", "[train]: batch_tokens (500) must be a multiple of"),
        ("micro_batch_tokens = 128", "micro_batch_tokens = 100", "must be a multiple of seq_len (64)"),
        ("num_heads = 4", "num_heads = 3", "[architecture]: model_dim (32) must be an even multiple of num_heads (3)"),
        ('use = "lora"', 'use = "none"\nrank = 3', "[adaptor]: is switched off, yet has rank"),
    ],
)
def test_each_mistake_is_one_clear_line(tiny_record, zoo, old, new, expected):
    edit(tiny_record, old, new)
    found = [line for line in lines(tiny_record, zoo) if expected in line]
    assert len(found) == 1
    assert found[0].startswith(f"{tiny_record}: ")


def test_all_mistakes_are_reported_at_once(tiny_record, zoo):
    edit(tiny_record, "seq_len = 64", 'seq_len = "64"')
    edit(tiny_record, 'use = "int8"', 'use = "int9"')
    edit(tiny_record, "context = 64", "contxt = 64")
    assert len(lines(tiny_record, zoo, "train.sead=1", "nonsense")) == 5


def test_missing_files_are_said_plainly(tmp_path, tiny_record, zoo):
    assert lines(tmp_path / "tinny.toml", zoo) == [
        f"{tmp_path}/tinny.toml: no such file; did you mean '{tiny_record}'?"
    ]
    assert lines(tmp_path, zoo) == [f"{tmp_path}: is a folder, not a record"]
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    assert lines(tmp_path / "latin.toml", zoo) == [f"{tmp_path}/latin.toml: byte 2: not UTF-8 text"]
