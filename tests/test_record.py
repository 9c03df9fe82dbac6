"""Records: resolving, profiles, overrides, and every mistake in one at once."""

from pathlib import Path

import pytest

from golfzoo.errors import RecordError
from golfzoo.record import load_record, parse_override

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
            "[quantizer].use: must be a string, got 8; known: gptq, gptq_fisher, gptq_trellis, int6, int8",
        ),
        ('use = "int8"\n', "", "[quantizer].use: is missing; known: gptq, gptq_fisher, gptq_trellis, int6, int8"),
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
