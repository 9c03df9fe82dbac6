"""Finished models that write, and what they make of anybody's text."""

import doctest
import html.parser
import itertools
import json
import math
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import golfzoo as public
from conftest import TINY_RECORD, open_tokenizer
from golfzoo.corpus.build import build_dataset
from golfzoo.corpus.tokenizers import find_tokenizer, make_encoder
from golfzoo.engine.model import hash_state
from golfzoo.engine.shards import BOS
from golfzoo.errors import UsageError
from golfzoo.speaking.sampling import TextStream, draw
from golfzoo.speaking.texts import score_texts, tokens_of

ROOT = Path(__file__).parent.parent
TEXT = "import os\n\n\ndef tiny(x: int) -> str:\n    return f'<b>{x} & naïve €</b>'  # 🙂\n"


@pytest.fixture
def speaker(tiny_run, data):
    return public.load(tiny_run)


# ---- golfzoo.load ----------------------------------------------------------------------------------------------------


def test_it_is_the_model_of_the_artifact_and_not_the_trained_one(speaker, tiny_run):
    result = json.loads((tiny_run / "result.json").read_text())
    assert hash_state(speaker.model.state_dict()) == result["model_sha256"]
    assert result["receipts"]["quantizer_changed"] > 0, "the trained weights are others"
    assert not speaker.model.training
    assert speaker.record["architecture"]["model_dim"] == 32


def test_the_documented_example_is_true(tiny_run, data, tmp_path, monkeypatch):
    shutil.copytree(tiny_run, tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestFinder().find(public.load, "load", globs={"golfzoo": public})[0]
    assert doctest.DocTestRunner().run(example).failed == 0
    lines = [line.removeprefix("    ").strip() for line in public.load.__doc__.splitlines()]
    (quoted,) = re.findall(r"```pycon\n(.*?)```", (ROOT / "docs" / "sampling.md").read_text(), flags=re.S)
    shown = [line for line in quoted.splitlines() if line != ">>> import golfzoo"]
    assert len(shown) > 8
    assert shown == [line for line in lines if line in shown]


def test_golfzoo_itself_does_not_import_torch():
    code = "import sys, golfzoo; golfzoo.load; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_it_draws_from_generators_of_its_own(tiny_run, data):
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    "".join(public.load(tiny_run).generate("x", tokens=4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_logits_are_those_of_windows(speaker):
    ids = [BOS, *speaker.encode([TEXT * 4])[0]]
    logits = speaker.logits(ids[:64])
    assert logits.shape == (64, 384)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits[:10], speaker.logits(torch.tensor(ids[:10])), atol=1e-5), "no later token matters"
    for wrong in ([], ids[:65], [384], [-1], [[1, 2]]):
        with pytest.raises(UsageError, match="ids must be"):
            speaker.logits(wrong)


def test_nats_are_those_of_the_model_s_logits(speaker):
    tokens = speaker.nats(TEXT)
    assert b"".join(token.data for token in tokens) == TEXT.encode()
    ids = [BOS, *(token.id for token in tokens)]
    assert ids[1:] == speaker.encode([TEXT])[0]
    told = torch.tensor([token.nats for token in tokens])[:64]
    assert len(ids) > 64, "more than a window"
    logits = speaker.logits(ids[:64]).log_softmax(-1)
    assert torch.allclose(-logits[range(64), ids[1:65]], told, atol=1e-4)
    assert tokens[3].bits == pytest.approx(tokens[3].nats / math.log(2))
    assert any(token.text.startswith("\\x") for token in tokens), "a part of a character is shown as an escape"


def test_text_follows_from_its_seed_and_slides_on_when_the_window_is_full(speaker, monkeypatch):
    windows = []
    plain = speaker.logits
    monkeypatch.setattr(speaker, "logits", lambda ids: windows.append(list(ids)) or plain(ids))
    pieces = list(speaker.generate("import", tokens=100, temperature=0.5, seed=3))
    assert len(windows) == 100
    assert windows[0] == [BOS, *speaker.encode(["import"])[0]]
    assert max(map(len, windows)) == 64
    assert windows[99][:-1] == windows[98][1:]
    again = list(speaker.generate("import", tokens=100, temperature=0.5, seed=3))
    assert again == pieces
    assert list(speaker.generate("import", tokens=100, temperature=0.5, seed=4)) != pieces
    likeliest = list(speaker.generate("import", tokens=9, temperature=0))
    assert likeliest == list(speaker.generate("import", tokens=9, top_k=1, seed=8))
    assert list(speaker.generate("import", tokens=0)) == []


def test_it_ends_where_the_model_ends_the_document(speaker, monkeypatch):
    a, b = speaker.encode(["ab"])[0][:2] if len(speaker.encode(["ab"])[0]) > 1 else speaker.encode(["xq"])[0][:2]
    script = iter([a, b, BOS, a])

    def logits(ids):
        row = torch.zeros(1, 384)
        row[0, next(script)] = 50.0
        return row

    monkeypatch.setattr(speaker, "logits", logits)
    assert "".join(speaker.generate(tokens=9, temperature=0)).encode() == speaker.tokenizer.decode([a, b])
    assert next(script) == a, "nothing was asked after the end"


def test_arguments_that_are_none(speaker):
    for wrong in ({"temperature": -1}, {"temperature": math.nan}, {"top_k": -1}, {"tokens": -1}):
        with pytest.raises(UsageError, match="must be 0 or more"):
            speaker.generate(**wrong)
    with pytest.raises(UsageError, match="surrogate"):
        speaker.generate("\ud800")


def test_drawing():
    generator = torch.Generator().manual_seed(1)
    logits = torch.tensor([0.0, 3.0, 2.0, -9.0])
    assert draw(logits, 0, 0, generator) == 1
    drawn = [draw(logits, 1.0, 2, generator) for _ in range(2000)]
    assert set(drawn) == {1, 2}
    assert drawn.count(1) / 2000 == pytest.approx(1 / (1 + math.exp(-1)), abs=0.04)
    hot = [draw(logits, math.inf, 0, generator) for _ in range(2000)]
    assert [hot.count(token) / 2000 for token in range(4)] == pytest.approx([0.25] * 4, abs=0.05)
    assert {draw(logits, 1e-300, 99, generator) for _ in range(50)} == {1}
    for broken in (math.nan, math.inf):
        with pytest.raises(Exception, match="not finite"):
            draw(torch.tensor([0.0, broken]), 1.0, 0, generator)


# ---- tokens as text --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """use -> the tokenizer and its encoder, of some text with capitals and letters of several bytes."""
    root = tmp_path_factory.mktemp("speaking")
    texts = [f"{TEXT}The NASA launched McDonald number {number} in Élan.\n" for number in range(40)]
    made = {}
    for use in ("sentencepiece", "byte260", "caseops"):
        told = build_dataset(use, lambda: iter(texts), 400, root, lambda line: None, "a test", 8, use=use)
        path = root / "tokenizers" / told["tokenizer"]["file"]
        encoder = make_encoder(find_tokenizer(use))
        encoder.open(path)
        made[use] = open_tokenizer(path, use, root / "nowhere"), encoder
    return SimpleNamespace(made=made, root=root)


USES = ["sentencepiece", "byte260", "caseops"]


@pytest.mark.parametrize("use", USES)
def test_pieces_are_whole_characters_and_stand(tokenizers, use):
    tokenizer, encoder = tokenizers.made[use]
    text = "The NASA McDonald 🙂 € naïve Élan\nx"
    (ids,) = encoder.encode([text])
    stream = TextStream(tokenizer.decode, [BOS])
    pieces, so_far = [], ""
    for token in ids:
        pieces.append(stream.add(token))
        so_far += pieces[-1]
        assert text.startswith(so_far), (so_far, text)
    assert so_far + stream.rest() == text
    assert sum(map(bool, pieces)) > 5, "it comes bit by bit"


@pytest.mark.parametrize("use", USES)
def test_what_is_no_text_comes_out_as_it_would_at_once(tokenizers, use):
    tokenizer, encoder = tokenizers.made[use]
    draws = random.Random(7)
    prompt = [BOS, *encoder.encode(["The X"])[0]]
    for _ in range(60):
        ids = [draws.randrange(2, tokenizer.vocab_size) for _ in range(24)]
        stream = TextStream(tokenizer.decode, prompt)
        streamed = "".join(map(stream.add, ids)) + stream.rest()
        whole = tokenizer.decode([*prompt, *ids]).decode("utf-8", "replace")
        assert "The X" + streamed == whole
        streamed.encode()


# ---- every tokenizer, and architectures of every make ----------------------------------------------------------------

MAKES = {
    "byte260": ["architecture.use=patches", "architecture.patch_size=4"],
    "caseops": ["loader.use=documents", "parts.segmented={}", "architecture.rope_train_len=64"],
}


@pytest.fixture(scope="module", params=MAKES)
def other(request, tokenizers):
    """A run of another make, and its data."""
    from click.testing import CliRunner

    from golfzoo.cli import main
    from golfzoo.zoo import discover

    use = request.param
    file = "byte260" if use == "byte260" else f"{use}_400_bpe.model"
    out = tokenizers.root / f"run-{use}"
    small = discover().find("architecture", "patches").component.small
    changes = [f"data.dataset={use}", f"data.tokenizer={file}", f"tokenizer.use={use}", "train.iterations=2"]
    changes += ["adaptor.use=none", *MAKES[use]]
    changes += [f"architecture.{key}={value}" for key, value in small.items() if use == "byte260"]
    (tokenizers.root / "tiny.toml").write_text(TINY_RECORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(tokenizers.root))
        result = CliRunner().invoke(main, ["run", str(tokenizers.root / "tiny.toml"), *changes, "--out", str(out)])
        assert result.exit_code == 0, result.output
        yield SimpleNamespace(run=out, use=use)


def test_other_makes_write_and_score(other):
    speaker = public.load(other.run)
    text = "".join(speaker.generate("The NASA", tokens=80))
    assert text
    text.encode()
    tokens = speaker.nats(TEXT)
    assert b"".join(token.data for token in tokens) == TEXT.encode()
    ids = [BOS, *(token.id for token in tokens)][:31]
    told = torch.tensor([token.nats for token in tokens])[:30]
    logits = speaker.logits(ids[:30]).log_softmax(-1)
    assert torch.allclose(-logits[range(30), ids[1:]], told, atol=1e-3)
    assert speaker.model.whole_windows if other.use == "caseops" else "patch_in.weight" in speaker.model.state_dict()


# ---- score -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validation(data_root, tiny_run, tmp_path_factory):
    """The documents of the validation text as files, in its order."""
    from golfzoo.engine.data import open_validation

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        tokenizer = public.load(tiny_run).tokenizer
    text = open_validation(data_root / "datasets" / "tiny", tokenizer)
    folder, files = tmp_path_factory.mktemp("validation"), []
    for start, end in itertools.pairwise(text.starts.tolist()):
        files.append(folder / f"{len(files):03}.txt")
        files[-1].write_bytes(tokenizer.decode(text.tokens[start : end + 1].tolist()))
    assert len(files) > 2
    return [argument for file in files for argument in ("--text", file)]


def test_the_validation_text_has_the_score_of_the_run(golfzoo, tiny_run, validation):
    result = json.loads((tiny_run / "result.json").read_text())
    status, output = golfzoo("score", tiny_run, *validation, "--json")
    assert status == 0, output
    flat = json.loads(output)
    assert {name: flat[name] for name in ("val_loss", "val_bpb")} == result["stages"]["roundtrip"]
    assert (flat["tokens_scored"], flat["bytes_scored"]) == (result["tokens_scored"], result["bytes_scored"])
    assert flat["baseline_bpb"] == pytest.approx(result["dataset"]["baseline_bpb"])
    assert flat["updates"] == 0
    assert flat["changed"] == []


def test_adapted_it_is_what_eval_says(golfzoo, tiny_run, validation):
    status, output = golfzoo("score", tiny_run / "artifact.golf", *validation, "--adapt", "--json")
    assert status == 0, output
    adapted = json.loads(output)
    status, output = golfzoo("eval", tiny_run / "record.toml", "--artifact", tiny_run / "artifact.golf", "--json")
    told = json.loads(output)
    assert {name: adapted[name] for name in ("val_loss", "val_bpb")} == {
        name: told[name] for name in ("val_loss", "val_bpb")
    }
    assert adapted["updates"] > 0
    documents = np.load(tiny_run / "documents.npz")
    assert [text["bytes"] for text in adapted["texts"]] == documents["bytes"].tolist()


def test_a_text_that_the_tokenizer_changes_is_said(speaker, monkeypatch):
    assert score_texts(speaker, [("whole", TEXT)]).changed == []
    plain = speaker._encoder

    class Normalizing:
        def encode(self, texts):
            return plain.encode([text.replace("  ", " ") for text in texts])

    speaker._encoder = Normalizing()
    scored = score_texts(speaker, [("a", "one two"), ("b", "one  two")])
    assert scored.changed == ["b"]
    assert scored.score.bytes == 2 * len("one two")
    assert [token.data for token in tokens_of(scored)].count(b"") == 1, "the start of the second"


def test_a_miscount_is_an_error(speaker, monkeypatch):
    plain = speaker.tokenizer.target_bytes
    monkeypatch.setattr(speaker.tokenizer, "target_bytes", lambda tokens: plain(tokens) + 1)
    with pytest.raises(Exception, match=r"\[tokenizer\] sentencepiece: document 0 counts"):
        score_texts(speaker, [("a", TEXT)])


class Page(html.parser.HTMLParser):
    """The tokens of a heat map: their shown texts and titles; and every tag that there is."""

    def __init__(self, page):
        super().__init__()
        self.tokens, self.tags, self.inside, self.muted = [], [], False, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "i" and "title" in dict(attributes):
            self.tokens.append(["", dict(attributes)["title"]])
            self.inside = True
        self.muted = self.muted or tag == "u"

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "i"
        self.muted = self.muted and tag != "u"

    def handle_data(self, data):
        if self.inside and not self.muted:
            self.tokens[-1][0] += data


def test_the_page_has_every_token_and_runs_nothing(golfzoo, tiny_run, tmp_path):
    path = tmp_path / "evil<script>.txt"
    path.write_text('<script>alert(1)</script> & "quoted" \x1b[31m\tnaïve\n' * 9)
    status, output = golfzoo("score", tiny_run, "--text", path, "--html", tmp_path / "page.html")
    assert status == 0, output
    assert "General compressors take, for the same text: zlib" in output
    source = (tmp_path / "page.html").read_text()
    assert "\x1b" not in source
    assert "prefers-color-scheme: dark" in source
    page = Page(source)
    assert "script" not in page.tags
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert "://" not in source
    shown = "".join(text for text, _ in page.tokens)
    assert shown.replace("\\x1b", "\x1b").replace("\\xc3\\xaf", "ï") == path.read_text()
    speaker = public.load(tiny_run)
    for (_, title), token in zip(page.tokens, speaker.nats(path.read_text()), strict=True):
        assert title.endswith(f"id {token.id}: {token.nats:.3f} nats, {token.bits:.3f} bits")
    status, output = golfzoo("score", tiny_run, "--text", path, "--html", path)
    assert (status, "was not made by golfzoo score" in output) == (2, True)
    assert golfzoo("score", tiny_run, "--text", path, "--html", tmp_path / "page.html")[0] == 0, "its own is replaced"
    status, output = golfzoo("score", tiny_run, "--text", path, "--html", tmp_path / "no" / "page.html")
    assert (status, "is no folder" in output) == (2, True)


# ---- the commands, and mistakes --------------------------------------------------------------------------------------


def test_sample_prints_the_prompt_and_goes_on(golfzoo, tiny_run):
    status, output = golfzoo("sample", tiny_run, "--prompt", "import ", "--tokens", 20, "--seed", 3)
    assert status == 0, output
    assert output.startswith("import ")
    assert output.endswith("\n")
    assert (
        golfzoo("sample", tiny_run / "artifact.golf", "--prompt", "import ", "--tokens", 20, "--seed", 3)[1] == output
    )


def test_mistakes_are_lines(golfzoo, tiny_run, tmp_path, monkeypatch):
    alone, empty, none = tmp_path / "artifact.golf", tmp_path / "empty.txt", tmp_path / "none"
    shutil.copy(tiny_run / "artifact.golf", alone)
    empty.touch()
    none.mkdir()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_run, damaged)
    data = bytearray((damaged / "artifact.golf").read_bytes())
    data[-5] ^= 1
    (damaged / "artifact.golf").write_bytes(data)
    for status, words, arguments in (
        (2, "no such run, submission or artifact", ("sample", tmp_path / "nothing")),
        (2, "is a record; give the folder of a run", ("sample", "records/baseline.toml")),
        (2, "has no artifact.golf", ("sample", none)),
        (2, "there is no record.toml beside it", ("sample", alone)),
        (2, "temperature nan: must be 0 or more", ("sample", tiny_run, "--temperature", "nan")),
        (2, "--prompt: must be UTF-8 text", ("sample", tiny_run, "--prompt", "\udcff")),
        (1, "its checksum does not match", ("sample", damaged)),
        (2, "empty.txt: is empty", ("score", tiny_run, "--text", empty)),
        (2, "byte 3: not UTF-8 text", ("score", tiny_run, "--text", tmp_path / "latin.txt")),
        (2, "no such file", ("score", tiny_run, "--text", tmp_path / "nothing")),
        (2, "Missing option '--text'", ("score", tiny_run)),
    ):
        got, output = golfzoo(*arguments)
        assert got == status, (output, arguments)
        assert words in output
        assert words.startswith("Missing") or len(output.splitlines()) == 1, output
    monkeypatch.setenv("RANK", "0"), monkeypatch.setenv("WORLD_SIZE", "2"), monkeypatch.setenv("MASTER_ADDR", "x")
    assert golfzoo("sample", tiny_run) == (2, "golfzoo: sample is one process; start it without torchrun or srun\n")


def test_the_tokenizer_must_be_the_run_s_own(golfzoo, tiny_run, tokenizers, data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path))
    status, output = golfzoo("sample", tiny_run)
    assert status == 2
    assert "no such tokenizer; `golfzoo data list` shows what is there" in output
    (tmp_path / "tokenizers").mkdir()
    other = tokenizers.root / "tokenizers" / "sentencepiece_400_bpe.model"
    shutil.copy(other, tmp_path / "tokenizers" / "tiny_384_bpe.model")
    status, output = golfzoo("sample", tiny_run)
    assert (status, "is not the tokenizer that the model was trained with" in output) == (2, True)


@pytest.fixture(scope="module")
def submission(tiny_run, data_root, tmp_path_factory):
    from golfzoo.shipping.submission import write_submission
    from golfzoo.zoo import discover

    out = tmp_path_factory.mktemp("packed") / "submission"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        about = {"author": "", "github_id": "", "blurb": ""}
        write_submission([tiny_run], out, discover(), about, force=False)
    return out


def test_a_submission_speaks_if_its_code_is_what_is_installed(golfzoo, tiny_run, submission, monkeypatch):
    expected = golfzoo("sample", tiny_run, "--tokens", 9)
    assert expected[0] == 0
    assert golfzoo("sample", submission, "--tokens", 9) == expected
    assert golfzoo("sample", submission / "artifact.golf", "--tokens", 9) == expected
    from golfzoo.verify import subject

    plain = subject.strip
    monkeypatch.setattr(subject, "strip", lambda source: plain(source) + "#" * ("class GPT" in source))
    status, output = golfzoo("sample", submission, "--tokens", 9)
    assert status == 2
    assert "golfzoo_gpt.model in it is not what is installed here; only its own code could run it" in output
    assert len(output.splitlines()) == 1


def test_a_stranger_s_targets_are_not_followed(golfzoo, submission, monkeypatch):
    """A target may name anything that can be imported and called."""
    from golfzoo.verify import subject

    plain = subject.unpack_code

    def elsewhere(code):
        record, sources = plain(code)
        return {**record, "targets": record["targets"] | {"compressor": "os:system"}}, sources

    monkeypatch.setattr(subject, "unpack_code", elsewhere)
    status, output = golfzoo("sample", submission)
    assert status == 2
    assert "its components are not those that have their names here" in output


# ---- what a run shows ------------------------------------------------------------------------------------------------


def test_a_run_ends_with_some_words_or_a_warning(tiny_run, data, tmp_path, capsys):
    from golfzoo.commands.run import _speak

    said = []
    _speak(SimpleNamespace(say=said.append), tiny_run, 7)
    assert said[0] == f"What the model writes (more: golfzoo sample {tiny_run}):"
    assert "".join(line[2:] for line in said[1:])
    assert all(line.startswith("  ") for line in said[1:])
    assert capsys.readouterr().err == ""
    _speak(SimpleNamespace(say=said.append), tmp_path / "nothing", 7)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no sample of its text: ")


@pytest.mark.slow
def test_only_a_terminal_is_shown_them(data, tiny_record, tmp_path):
    from test_cli import on_a_terminal

    shown = on_a_terminal(100, "run", tiny_record, "--out", tmp_path / "shown", cwd=tmp_path)
    assert "What the model writes" in shown
    command = [sys.executable, "-m", "golfzoo", "run", tiny_record, "--out", tmp_path / "piped", "--fresh"]
    piped = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert piped.returncode == 0
    assert "What the model writes" not in piped.stdout + piped.stderr
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("shown", "piped")]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


def test_the_norm_of_the_gradients_is_logged_before_it_is_clipped(golfzoo, tiny_record, tmp_path, zoo, monkeypatch):
    """Of the first ten steps and every log_every-th, and of those alone."""
    asked = []
    plain = torch.nn.utils.get_total_norm
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda gradients: asked.append(plain(gradients)) or asked[-1])
    changes = ["train.iterations=13", "train.log_every=12", "train.warmup_steps=0", "train.grad_clip_norm=0.01"]
    status, output = golfzoo("run", tiny_record, *changes, "adaptor.use=none", "--fresh", "--out", tmp_path / "run")
    assert status == 0, output
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {event["step"]: event for event in events if event["event"] == "train"}
    assert list(logged) == [*range(1, 11), 12]
    assert [event["grad_norm"] for event in logged.values()] == [norm.item() for norm in asked]
    assert min(event["grad_norm"] for event in logged.values()) > 0.05, "before it is clipped to 0.01"
    assert logged[1]["grad_norm"] == pytest.approx(first_gradient_norm(tiny_record, zoo, changes), rel=1e-5)


def first_gradient_norm(path, zoo, changes):
    """Of the first batch of a record, over its four micro-batches."""
    from golfzoo.engine.components import namespace
    from golfzoo.engine.distributed import World
    from golfzoo.engine.setup import set_up, set_up_training
    from golfzoo.record import load_record

    record = load_record(str(path), zoo, tuple(changes))
    world = World(0, 1, torch.device("cpu"), bf16=False)
    setup = set_up(namespace(record.tables), record.bind(), world)
    batches, model = set_up_training(setup).batches, setup.model.module
    losses = []
    for index in range(4):
        inputs, targets = batches.batch(index)
        logits = model(inputs).flatten(0, 1)
        losses.append(torch.nn.functional.cross_entropy(logits.float(), targets.flatten()))
    gradients = torch.autograd.grad(sum(losses) / 4, list(model.parameters()))
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


@pytest.mark.slow
def test_bench_writes_a_trace(golfzoo, tiny_record, tmp_path):
    out = tmp_path / "trace.json"
    few = ("train.batch_tokens=128", "--repeats", 1, "--tokens", 256)
    status, output = golfzoo("bench", tiny_record, *few, "--trace", out)
    assert status == 0, output
    assert f"{out}: a trace of training" in output
    names = {event.get("name") for event in json.loads(out.read_text())["traceEvents"]}
    assert {"step 0", "step 1", "step 2"} <= names
    assert any(str(name).startswith("aten::") for name in names)
    status, output = golfzoo("bench", tiny_record, "--trace", out)
    assert (status, "exists already" in output) == (2, True)
    status, output = golfzoo("bench", tiny_record, "--trace", Path(tmp_path, "no", "trace.json"))
    assert (status, "its folder is not there" in output) == (2, True)
