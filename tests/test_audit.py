"""golfzoo audit: the defects that happened in the challenge, each in a folder that is honest otherwise; and hostile
folders. Nothing of a folder is ever run."""

import base64
import json
import lzma
import os
import zlib
from pathlib import Path

import pytest

from audit_folder import MODEL_BYTES, SCRIPT, honest, with_edits, write
from golfzoo.audit.audit import audit
from golfzoo.audit.finding import MEANINGS, NOT_CHECKABLE, Finding
from golfzoo.errors import UsageError

GPT, PREPARE, CLAIM, README = "train_gpt.py", "prepare_data.py", "submission.json", "README.md"
LOGS = [f"train_seed{seed}.log" for seed in (42, 0, 1234)]
ADDED = ('if __name__ == "__main__":', '{code}\n\n\nif __name__ == "__main__":')


def add(code):
    """A definition more in the script."""
    return (GPT, ADDED[0], ADDED[1].format(code=code))


def in_logs(old, new):
    return [(log, old, new) for log in LOGS]


def counted_as_if_packed():
    """A script of 125,000 bytes, of which the logs count 3,000."""
    edit = (GPT, "def adapt", "# " + "x" * 120_000 + "\n\n\ndef adapt")
    code = len(SCRIPT.replace(*edit[1:]).encode())
    edits = [edit, *in_logs(f"Code size: {code} bytes", f"Code size (uncompressed): {code} bytes")]
    edits += in_logs("Total sub", "Code size (compressed): 3000 bytes\nTotal sub")
    for seed in (42, 0, 1234):
        total = MODEL_BYTES + seed
        edits += [(file, str(total + code), str(total + 3000)) for file in (f"train_seed{seed}.log", CLAIM)]
        edits += [(README, f"{total + code:,}", f"{total + 3000:,}")]
    return edits


# The defects of the table that this project began with, by their numbers there: the edits that make a folder have one,
# and the words that must be found, all that are wrong or doubtful.
DEFECTS = {
    "B1 a constant instead of bytes": (
        [(GPT, "bpb = loss_sum / math.log(2.0) / byte_count", "bpb = loss_sum / math.log(2.0) / (total * 4.3)")],
        {"bytes-constant"},
    ),
    "B1 few sequences": (
        [(GPT, "    loss_sum, byte_count = 0.0, 0.0\n    for ws", "    n = min(500, val_tokens.numel())\n    for ws")],
        {"val-subset"},
    ),
    "B2 the space twice": (
        [(GPT, 'len(piece.encode("utf-8"))', 'len(piece.encode("utf-8")) + 1')],
        {"space-twice"},
    ),
    "B2 the marker as three bytes": (
        [
            (
                GPT,
                SCRIPT[SCRIPT.index("        if piece.starts") : SCRIPT.index("        base_bytes[token_id] = len")],
                "",
            )
        ],
        {"space-marker"},
    ),
    "B2 byte tokens as three": ([(GPT, "base_bytes[token_id] = 1", "base_bytes[token_id] = 3")], {"byte-tokens"}),
    "B2 byte tokens by their names": (
        [(GPT, "        if sp.is_byte(token_id):\n            base_bytes[token_id] = 1\n            continue\n", "")],
        {"byte-tokens"},
    ),
    "B3 more bytes than the text has": (in_logs("val_tokens: 62021632", "val_tokens: 66000000"), {"bytes-per-token"}),
    "B3 no token count": (
        [
            *in_logs("val_tokens: 62021632\n", ""),
            *in_logs("fineweb_1024_bpe", "fineweb_4096_bpe"),
        ],
        {"bytes-per-token"},
    ),
    "B4 part of the text": (in_logs("val_tokens: 62021632", "val_tokens: 9662464"), {"val-subset"}),
    "B4 a cap": (
        [
            (
                GPT,
                "    size_limit =",
                '    max_tokens = int(os.environ.get("VAL_MAX_TOKENS", 500_000))\n    size_limit =',
            )
        ],
        {"val-subset"},
    ),
    "B5 validation documents as training data": ([(PREPARE, "default=50_000", "default=10_000")], {"val-docs"}),
    "B5 its fingerprint": (in_logs("train_shards: 80", "train_shards: 1499"), {"val-docs"}),
    "B6 whole batches only": (
        [
            (
                GPT,
                "    total = val_tokens",
                "    end = val_tokens.size(0) // batch_seqs * batch_seqs\n    total = val_tokens",
            )
        ],
        {"tail-dropped"},
    ),
    "B6 targets twice": (
        [
            (GPT, " if ws == 0 or ws + args.seq_len - args.stride < total]", "]"),
            (GPT, "        first = 0 if ws == 0 else args.seq_len - args.stride\n", "        first = 0\n"),
        ],
        {"targets-twice"},
    ),
    "B7 byte counts as tokens": (
        [
            (
                GPT,
                '[file for file in sorted(glob.glob(pattern)) if "val_bytes_" not in file]',
                "sorted(glob.glob(pattern))",
            ),
            (
                GPT,
                "    hessians =",
                '    sizes = glob.glob(f"{args.data_path}/fineweb_val_bytes_*.bin")\n    hessians =',
            ),
        ],
        {"val-glob"},
    ),
    "B8 no token begins a document": (
        [(PREPARE, "[BOS_ID, *sp.encode(text)]", "sp.encode(text)"), (PREPARE, "BOS_ID = 1\n", "")],
        {"bos-missing"},
    ),
    "B8 across a document's start": ([(GPT, " * not_bos", ""), (GPT, "x, not_bos", "x")], {"smear-boundary"}),
    "B9 optimized on what is scored": (
        [
            (
                GPT,
                '        nll = F.cross_entropy(model(x), y, reduction="none")\n        loss_sum += nll[first:]',
                "        slot_delta = torch.zeros(1, requires_grad=True)\n"
                "        F.cross_entropy(model(x) + slot_delta, y).backward()\n"
                '        nll = F.cross_entropy(model(x) + slot_delta, y, reduction="none")\n'
                "        loss_sum += nll[first:]",
            )
        ],
        {"slot"},
    ),
    "B9 a tilt": ([add("def ngram_tilt(logits, tokens):\n    return logits")], {"tilt"}),
    "B10 a mixture": ([add("def mix_probs_ppm(probabilities):\n    return probabilities")], {"mixture"}),
    "B11 learned from, then scored": (
        [
            (GPT, "        loss_sum += nll.sum().item()\n        # learn", "        # learn"),
            (GPT, "        # done", "        loss_sum += nll.sum().item()"),
        ],
        {"train-first"},
    ),
    "B11 in epochs": (
        [
            (
                GPT,
                "    for chunk in val_tokens.split(32768):",
                "    for epoch, chunk in product(range(2), val_tokens.split(9)):",
            )
        ],
        {"rescored"},
    ),
    "B11 the best of two passes": (
        [(GPT, "    return loss_sum\n", "    return min(first_bpb, second_bpb)\n")],
        {"rescored"},
    ),
    "B12 trained on validation tokens": (
        [(GPT, "    blob = serialize(model)", "    adapt(model, val_tokens)\n    blob = serialize(model)")],
        {"val-training"},
    ),
    "B12 calibrated on validation tokens": (
        [(GPT, "collect_hessians(model, train_loader)\n    blob", "collect_hessians(model, val_tokens)\n    blob")],
        {"val-calibration"},
    ),
    "B13 calibration after the clock": (in_logs("Hessians in 3.5s", "Hessians in 12.7s"), {"clock-calibration"}),
    "B13 training too long": (
        [*in_logs("590012ms", "612000ms"), (CLAIM, '"train_time_s": 590.0', '"train_time_s": 612.0')],
        {"clock-train"},
    ),
    "B14 compiling left out": (in_logs("warmup done (80.0s)", "warmup done (240.0s)"), {"clock-eval-parts"}),
    "B14 evaluation too long": (
        [*in_logs("eval_time:400000ms", "eval_time:650000ms"), (CLAIM, '"eval_time_s": 400.0', '"eval_time_s": 650.0')],
        {"clock-eval"},
    ),
    "B15 a stub": (
        [
            (GPT, "", 'exec(open(__file__.replace("train_gpt.py", "train_gpt_decode.py")).read())\n'),
            ("train_gpt_decode.py", "", SCRIPT),
        ],
        {"code-stub"},
    ),
    "B15 helpers uncounted": (
        [(GPT, "import sentencepiece", "import tables\nimport sentencepiece"), ("tables.py", "", "ROWS = (1, 2, 3)\n")],
        {"helpers"},
    ),
    "B15 counted as if it were packed": (counted_as_if_packed(), {"shipped-code"}),
    "B16 mebibytes": ([(GPT, "size_limit = 16_000_000", "size_limit = 16 * 1024 * 1024")], {"mebibytes"}),
    "B17 a tokenizer uncounted": ([("tokenizers/own.model", "", "pieces")], {"tokenizer-bytes"}),
    "B18 over the limit": (
        [(LOGS[0], "Total submission size int6+lzma: 15", "Total submission size int6+lzma: 16")],
        {"over-limit", "claim-bytes"},
    ),
    "B19 a score that is in no log": (
        [(CLAIM, '"val_bpb": 1.0812,\n "val_loss"', '"val_bpb": 1.0712,\n "val_loss"')],
        {"claim-score", "claim-readme", "units"},
    ),
    "B19 a seed's score": ([(CLAIM, '"val_bpb": 1.0802', '"val_bpb": 1.0702')], {"claim-seed-score"}),
    "B19 a seed's score in README.md": ([(README, "**1.08020**", "**1.07020**")], {"claim-seed-score"}),
    "B19 the same bytes for every seed": (
        [(README, f"{MODEL_BYTES + 42 + len(SCRIPT.encode()):,}", f"{MODEL_BYTES + 1234 + len(SCRIPT.encode()):,}")],
        {"claim-bytes"},
    ),
    "B19 seconds": ([(CLAIM, '"train_time_s": 590.0', '"train_time_s": 540.0')], {"claim-seconds"}),
    "B19 bytes": ([(CLAIM, '"bytes_total": 15', '"bytes_total": 14')], {"claim-bytes"}),
    "B19 bytes of code": ([(CLAIM, '"bytes_code": ', '"bytes_code": 1')], {"claim-code"}),
    "B19 README.md has another score": ([(README, "1.0812", "1.0512")], {"claim-readme"}),
    "B20 an average that is not used": ([(GPT, "    model.load_state_dict(swa_state)\n", "")], {"never-applied"}),
    "B20 folded away by the compiler": (
        [
            (
                GPT,
                "        for name, weight in model.state",
                "        CastedLinear.qat_enabled = True\n        for name, weight in model.state",
            )
        ],
        {"compiled-away"},
    ),
    "B20 switched off": ([(README, "# A gate", "# A gate + YaRN")], {"switched-off"}),
    "B21 a variable that is not read": ([(README, "SEED=42", "SEED=42 EMA_DECAY=0.997")], {"env-unread"}),
    "B22 the best seed": (
        [
            (CLAIM, '"val_bpb": 1.0812,\n "val_loss": ', '"val_bpb": 1.0802,\n "val_loss_of_all": '),
            (README, "1.0812", "1.0802"),
        ],
        {"best-seed"},
    ),
    "B22 some of the seeds": (
        [(CLAIM, '"seeds": [', '"all_runs": {"42": 1.0802, "0": 1.0815, "1234": 1.0819, "7": 1.0853},\n "seeds": [')],
        {"seed-subset"},
    ),
    "B22 a seed without a log": ([(LOGS[1], "", "")], {"seed-log"}),
    "B22 one run under two seeds": (
        [(LOGS[1], "", honest()[LOGS[2]].replace("seed: 1234", "seed: 0"))],
        {"same-result", "claim-seed-score", "claim-bytes"},
    ),
    "B23 another script's log": ([(LOGS[0], "Code size: ", "Code size: 1")], {"stale-log"}),
    "B23 another source in the log": (
        [(LOGS[0], "Hyperparameters:", SCRIPT.replace("* not_bos", "* 1.0") + "=" * 100 + "\nHyperparameters:")],
        {"stale-log"},
    ),
    "B23 another seed in the log": (
        [(LOGS[1], "  seed: 0", "  seed: 1337")],
        {"seed-mismatch"},
    ),
    "B24 different amounts of data": ([(LOGS[0], "train_shards: 80", "train_shards: 39")], {"train-shards"}),
    "B25 adapting makes it worse": (
        in_logs("legal_ttt", "legal_ttt val_loss:3.22000000 val_bpb:1.90800000 eval_time:400000ms\nfinal"),
        {"ttt-worse"},
    ),
    "B26 a queue of documents": (
        [add("def claim(file):\n    import fcntl\n\n    fcntl.flock(file, fcntl.LOCK_EX)")],
        {"doc-queue"},
    ),
    "B27 nats for bits per byte": ([(CLAIM, "-0.0169", "-0.0259")], {"units"}),
    "B27 nats for bits per byte in README.md": ([(README, "-0.0169", "-0.0259")], {"units"}),
    "B27 a gain that is not shown": ([(CLAIM, "1.0912", "1.0815")], {"significance"}),
    "B28 a package that is not named": (
        [(GPT, "import numpy", "from flash_attn_interface import flash_attn_func\nimport numpy")],
        {"dependency"},
    ),
    "B28 a program": ([(GPT, '["nvidia-smi"]', '["lrzip", "-z"]')], {"program"}),
    "network": ([(GPT, "import subprocess", "import subprocess\nimport urllib.request")], {"network"}),
    "network by a program": ([(GPT, '["nvidia-smi"]', '["pip", "install", "more"]')], {"network"}),
    "files outside": ([(GPT, "    blob =", '    extra = torch.load("/data/more.pt")\n    blob =')], {"file-access"}),
}

# What of the defects no reading can see. Of each, the folder above shows only a sign; the rest is what the printed list
# of what is not checkable has, under these words.
UNSEEN = {
    "B2": ("byte counts", "counts that lie beside the shards are data, and no part of a folder"),
    "B3": ("byte counts", "a log that prints neither tokens nor tokenizer has no ratio to compare"),
    "B4": ("validation data", "the text itself is no part of a folder"),
    "B5": ("validation data", "which documents are in which shards is not, either"),
    "B8": ("isolation", "whether a score changes with the document before can only be tried"),
    "B9": ("causality", "looking ahead under another name has no shape of its own"),
    "B10": ("normalization", "sums over the vocabulary can only be computed"),
    "B20": ("receipts", "there are more ways to do nothing than can be listed"),
    "B22": ("all runs", "a run that is told nowhere leaves no trace"),
    "B23": ("score", "a log that was edited with care looks like one that was not"),
    "B25": ("round trip", "two forward passes can only be compared by running both"),
    "B27": ("score before", "a figure of another folder is not in this one"),
    "B28": ("installed", "what an image has is not in the folder"),
}


@pytest.fixture(scope="module")
def found_in_honest(tmp_path_factory):
    return audit(write(tmp_path_factory.mktemp("honest"), honest()))


def told(found, severities=("wrong", "doubtful")):
    return {finding.what for finding in found.findings if finding.severity in severities}


def test_the_honest_folder_is_clean(found_in_honest):
    assert not told(found_in_honest), found_in_honest.findings
    assert told(found_in_honest, ("note",)) == {"bytes", "significance"}
    assert (found_in_honest.sources, found_in_honest.logs) == (2, 3)


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_by_its_word_and_nothing_else_is(name, tmp_path):
    edits, words = DEFECTS[name]
    folder = tmp_path / "track" / "submission"
    found = audit(write(folder, with_edits(edits)))
    notes = {"tokenizer-bytes", "program"}
    assert told(found) == words - notes, found.findings
    assert words <= told(found, ("wrong", "doubtful", "note"))
    for finding in found.findings:
        if finding.what in words and finding.line:
            assert (folder / finding.file).read_text().splitlines()[finding.line - 1].strip()


def test_every_defect_has_a_folder_and_what_is_unseen_is_said():
    assert {name.split()[0] for name in DEFECTS} >= {f"B{number}" for number in range(1, 29)}
    assert set().union(*(words for _, words in DEFECTS.values())) <= set(MEANINGS)
    assert {subject for subject, _ in UNSEEN.values()} == set(NOT_CHECKABLE)
    assert UNSEEN.keys() <= {f"B{number}" for number in range(1, 29)}


def test_lines_and_figures(tmp_path):
    edits, _ = DEFECTS["B18 over the limit"]
    texts = with_edits(edits)
    found = audit(write(tmp_path, texts))
    (finding,) = (finding for finding in found.findings if finding.what == "over-limit")
    total = 16_900_042 + len(SCRIPT.encode())
    line = next(number for number, text in enumerate(texts[LOGS[0]].splitlines(), 1) if str(total) in text)
    assert finding == Finding(
        "wrong", "over-limit", LOGS[0], line, f"{total:,} bytes are {total - 16_000_000:,} more than 16,000,000"
    )


def test_compressed_bytes_and_helpers_are_told(tmp_path):
    edits, _ = DEFECTS["B15 helpers uncounted"]
    found = audit(write(tmp_path, with_edits(edits)))
    (finding,) = (finding for finding in found.findings if finding.what == "bytes")
    size = (tmp_path / GPT).stat().st_size
    assert f"the script is {size:,} bytes as it lies there, about " in finding.text
    assert "17 bytes of what it needs beside it: tables.py" in finding.text


def test_a_gain_over_another_folder(tmp_path):
    ours = write(tmp_path / "ours", honest())
    before = {name: text.replace("1.08", "1.19").replace("1.82", "2.02") for name, text in honest().items()}
    found = audit(ours, write(tmp_path / "before", before))
    (finding,) = (finding for finding in found.findings if finding.what == "significance")
    assert finding.severity == "note"
    assert "over 3 runs before; 3 runs, p = " in finding.text


# ---- scripts that unpack themselves --------------------------------------------------------------------------------


def packed(script, how):
    if how == "raw":
        filters = [{"id": lzma.FILTER_LZMA2}]
        data = base64.b85encode(lzma.compress(script.encode(), lzma.FORMAT_RAW, filters=filters)).decode()
        call = f'L.decompress(B.b85decode("{data}"),format=L.FORMAT_RAW,filters=[{{"id":L.FILTER_LZMA2}}])'
    elif how == "xz":
        data = base64.b85encode(lzma.compress(script.encode(), preset=9)).decode()
        call = f'L.decompress(B.b85decode("{data}"))'
    else:
        call = "zlib.decompress(B.b64decode(data))"
        data = base64.b64encode(zlib.compress(script.encode())).decode()
        return f'import base64 as B,zlib\ndata="{data}"\nexec({call})\n'
    return f"import lzma as L,base64 as B\nexec({call})\n"


@pytest.mark.parametrize("how", ["raw", "xz", "named"])
def test_a_packed_script_is_read_but_not_run(how, tmp_path):
    mark = tmp_path / "it-ran"
    inner = with_edits(DEFECTS["B12 trained on validation tokens"][0])[GPT]
    inner += f"\nopen({str(mark)!r}, 'w')\nprint(f'{{x['nested quotes of a newer Python']}}')\n"
    found = audit(write(tmp_path / "folder", honest(packed(inner, how))))
    assert not mark.exists()
    (finding,) = (finding for finding in found.findings if finding.what == "val-training")
    assert finding.file == "train_gpt.py (unpacked)"
    assert inner.splitlines()[finding.line - 1].strip() == "adapt(model, val_tokens)"
    assert told(found) - {"file-access"} == {"val-training"}


@pytest.mark.parametrize("make", [zlib.compress, lzma.compress])
def test_a_bomb_is_not_unpacked(make, tmp_path):
    data = base64.b85encode(make(b"#" * 10_000_000)).decode()
    script = f'import base64,zlib\nexec(zlib.decompress(base64.b85decode("{data}")))\n'
    found = audit(write(tmp_path, {GPT: script}))
    assert [finding.severity for finding in found.findings if finding.what == "packed"] == ["doubtful"]


# ---- hostile folders -----------------------------------------------------------------------------------------------


def test_links_pipes_and_large_files_are_not_read(tmp_path):
    folder = write(tmp_path / "folder", honest())
    (tmp_path / "secret.py").write_text("import socket\n")
    (folder / "linked.py").symlink_to(tmp_path / "secret.py")
    (folder / "linked_folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.log")
    with open(folder / "huge.log", "wb") as file:
        file.truncate(1 << 40)
    (folder / "nul.py").write_bytes(b"x = 1\0")
    found = audit(folder)
    skipped = {finding.file: finding.text for finding in found.findings if finding.what == "skipped"}
    assert skipped.keys() == {"linked.py", "linked_folder", "pipe.log", "huge.log", "nul.py"}
    assert "is a link" in skipped["linked.py"]
    assert "no regular file" in skipped["pipe.log"]
    assert "1,099,511,627,776 bytes" in skipped["huge.log"]
    assert "NUL" in skipped["nul.py"]
    assert told(found) == {"skipped"}


def test_many_files_and_deep_folders_end(tmp_path):
    deep = tmp_path / "/".join("d" * 1 for _ in range(20))
    deep.mkdir(parents=True)
    many = tmp_path / "many"
    many.mkdir()
    for number in range(2_100):
        (many / f"{number}.dat").touch()
    found = audit(tmp_path)
    skipped = [finding.text for finding in found.findings if finding.what == "skipped"]
    assert any("too deep" in text for text in skipped)
    assert any("more than 2,000 files" in text for text in skipped)


NESTED = {
    "parentheses": "x = " + "(" * 5_000 + ")" * 5_000,
    "sums": "x = " + "1 + " * 50_000 + "1",
    "negations": "x = " + "-" * 50_000 + "1",
    "attributes": "x = a" + ".b" * 50_000,
    "blocks": "\n".join(" " * depth + "if x:" for depth in range(90)) + "\n" + " " * 90 + "pass",
    "not Python": "def (",
    "surrogates": 'x = "\\ud800"\n',
    "large": "x = 1\n" * 70_000,
}


@pytest.mark.parametrize("kind", NESTED)
def test_source_that_is_hard_to_parse(kind, tmp_path, golfzoo):
    (tmp_path / GPT).write_text(NESTED[kind])
    found = audit(tmp_path)
    assert ("unparsed" in told(found)) == (kind not in ("blocks", "surrogates"))
    if kind == "surrogates":
        assert golfzoo("audit", tmp_path)[0] == 0


CLAIMS = {
    "a list": "[1, 2]",
    "not JSON": "{",
    "deep": "[" * 100_000,
    "large numbers": '{"val_bpb": 1e999, "val_loss": ' + "9" * 5_000 + "}",
    "wrong types": '{"val_bpb": "1.1", "seeds": {"1": 2, "x": {}}, "seed_results": [1], "bytes_total": true}',
    "odd seeds": '{"val_bpb": 1.1, "seeds": [true, null, "42", 1e400], "seed_results": {"42": {"val_bpb": []}}}',
    "infinite": '{"val_bpb": Infinity, "val_loss": NaN, "bytes_total": -Infinity, "bytes_code": 0}',
    "zero": '{"val_bpb": 0.0, "val_loss": 0, "delta_nats": 0.0, "delta_bpb": 0}',
    "a number": "7",
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_claims_of_any_shape(kind, tmp_path):
    texts = honest()
    texts[CLAIM] = CLAIMS[kind]
    found = audit(write(tmp_path, texts))
    assert ("no-claim" in told(found)) == (kind in ("a list", "not JSON", "deep", "a number", "large numbers"))


def test_logs_of_any_shape(tmp_path):
    texts = honest()
    texts["a.log"] = "val_bpb " + "a" * 3_000_000
    texts["b.log"] = (
        "x val_loss:0.0 val_bpb:0.0\n" + "seed: 999999999999999999999999\n" + "step:1/2 train_time:9.9.9ms\n"
    )
    texts["seed_99999999999999999999.log"] = "x val_loss:1.5 val_bpb:1.0\nCode size: 1 bytes\n"
    texts["d.log"] = "x val_loss:1.5 val_bpb:1.0\n" + ("Deserialize: " + "1" * 3_000 + "\n") * 1_000
    texts["c.log"] = ("a " * 40 + "val_loss:1.5 val_bpb:") * 20_000
    audit(write(tmp_path, texts))


def test_nothing_of_a_stranger_s_text_commands_the_terminal(tmp_path, golfzoo):
    texts = honest()
    texts["evil\x1b[2J\u202e.py"] = "import socket\n"
    texts["prepare.py"] = 'import argparse\nargparse.open("/\x1b]0;title\x07")\n'
    texts[README] += "\x1b[31mEVIL_\x1b=1\n"
    texts[CLAIM] = '{"val_bpb": 1.5, "name": "\\u001b[2J"}'
    status, output = golfzoo("audit", write(tmp_path / "\x1b[1mname", texts))
    assert status == 1
    assert "\\x1b[2J" in output
    assert all(letter.isprintable() or letter == "\n" for letter in output)


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_wrong_and_what_it_cannot_tell(tmp_path, golfzoo):
    clean = write(tmp_path / "clean", honest())
    status, output = golfzoo("audit", clean)
    assert status == 0
    assert "0 wrong, 0 doubtful, 2 note" in output
    for subject, what in NOT_CHECKABLE.items():
        assert f"  {subject}: {what}\n" in output
    wrong = write(tmp_path / "wrong", with_edits(DEFECTS["B1 a constant instead of bytes"][0]))
    status, output = golfzoo("audit", wrong)
    assert status == 1
    (row,) = (line for line in output.splitlines() if "bytes-constant" in line)
    assert row.split()[:2] == ["wrong", "bytes-constant"]
    assert "train_gpt.py:" in row


def test_json(tmp_path, golfzoo):
    wrong = write(tmp_path, with_edits(DEFECTS["B1 a constant instead of bytes"][0]))
    status, output = golfzoo("audit", wrong, "--json")
    report = json.loads(output)
    assert status == 1
    assert report["wrong"] is True
    assert report["findings"][0]["what"] == "bytes-constant"
    assert report["findings"][0].keys() == {"severity", "what", "file", "line", "text"}
    assert report["meanings"]["bytes-constant"] == MEANINGS["bytes-constant"]
    assert report["not_checkable"] == NOT_CHECKABLE


def test_misuse(tmp_path, golfzoo):
    status, output = golfzoo("audit", tmp_path / "nowhere")
    assert (status, output) == (2, f"golfzoo: {tmp_path}/nowhere: no such folder; give one that holds a train_gpt.py\n")
    with pytest.raises(UsageError):
        audit(write(tmp_path / "here", honest()), tmp_path / "nowhere")


def test_an_empty_folder_and_a_missing_script(tmp_path):
    assert told(audit(tmp_path)) == {"no-script", "no-claim"}
    (tmp_path / GPT).touch()
    assert [finding.text for finding in audit(tmp_path).findings if finding.what == "no-script"] == ["is empty"]


def test_the_page_shows_the_command_as_it_is(golfzoo, tmp_path, monkeypatch):
    """docs/submissions.md: its commands end as it says, and each severity and the two ends are explained there."""
    page = (Path(__file__).parent.parent / "docs" / "submissions.md").read_text()
    monkeypatch.chdir(tmp_path)
    write(Path("their_submission"), honest())
    write(Path("the_record_before"), honest())
    shown = [line for line in page.splitlines() if line.startswith("golfzoo audit ")]
    assert len(shown) == 3
    for line in shown:
        status, output = golfzoo(*line.partition("#")[0].split()[1:])
        assert status == 0, output
    assert all(f"**{severity}**" in page for severity in ("wrong", "doubtful", "note"))
