"""The referee: a clean run and a clean submission pass; every way of cheating is caught by its probe, by name; a byte,
a figure or a token that was changed is noticed."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from golfzoo.cli import main
from golfzoo.corpus.build import build_dataset
from golfzoo.corpus.sources import stdlib_documents
from golfzoo.engine.shards import open_shard, write_shard

FACE = """
    from golfzoo import Component, Config, hookimpl

    @hookimpl
    def golfzoo_{kind}s():
        return [Component(kind="{kind}", name="cheat", config=Config, target="zoo_cheat_body:Cheat", summary="cheats")]
"""


def install_cheat(install, tmp_path, kind, body):
    install("zoo-cheat", {"cheat": FACE.format(kind=kind)})
    (tmp_path / "site-zoo-cheat" / "zoo_cheat_body.py").write_text(f"import torch\n{body}")


def call(data_root, *arguments, site=None):
    """A command in this process: what verifies is a fresh one anyway, which finds plugins in the folder `site`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        # Torch sets it on its way, and then a child of this process would not do what one of a shell does.
        patch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        if site:
            patch.setenv("PYTHONPATH", str(site))
        return CliRunner().invoke(main, [str(argument) for argument in arguments])


def failed(data_root, folder, site=None):
    """The probes that fail on a run or submission."""
    done = call(data_root, "verify", folder, "--json", site=site)
    assert done.exit_code in (0, 1), done.stderr
    report = json.loads(done.stdout)
    names = {probe["probe"] for probe in report["probes"] if probe["holds"] is False}
    assert report["holds"] == (not names) == (done.exit_code == 0)
    return names


@pytest.fixture(scope="module")
def packed(tiny_run, data_root, tmp_path_factory):
    out = tmp_path_factory.mktemp("verify") / "submission"
    assert call(data_root, "pack", tiny_run, "--out", out).exit_code == 0
    return out


def test_a_clean_run_passes_every_probe(tiny_run, data_root):
    done = call(data_root, "verify", tiny_run)
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "Every probe holds." in done.stdout
    words = [line.split() for line in done.stdout.splitlines()]
    from golfzoo.verify.verdict import MEANINGS

    assert len(MEANINGS) == 18
    for probe in MEANINGS:
        word = "-" if probe in ("text", "control") else "holds"  # no challenge, and no held-out shards
        assert any(line[: len(probe.split()) + 1] == [*probe.split(), word] for line in words), probe


@pytest.mark.slow
def test_a_clean_submission_passes(packed, data_root):
    report = json.loads(call(data_root, "verify", packed, "--json").stdout)
    assert report["holds"]
    assert {probe["probe"]: probe["holds"] for probe in report["probes"]}["code"] is True


def test_without_isolation_or_adaptor_it_passes_too(tiny_run, data_root, tmp_path):
    flat = ("eval.isolate_documents=false", "eval.stride=64", "adaptor.use=none")
    assert call(data_root, "run", tiny_run / "record.toml", *flat, "--out", tmp_path / "run").exit_code == 0
    assert failed(data_root, tmp_path / "run") == set()


def run_cheat(install, tmp_path, data_root, kind, body):
    """Install a plugin that cheats, run the tiny record with it, and return the probes that fail."""
    from conftest import TINY_RECORD

    install_cheat(install, tmp_path, kind, body)
    site = tmp_path / "site-zoo-cheat"
    (tmp_path / "cheat.toml").write_text(TINY_RECORD)
    done = call(data_root, "run", tmp_path / "cheat.toml", f"{kind}.use=cheat", "--out", tmp_path / "run", site=site)
    assert done.exit_code == 0, done.stderr
    return failed(data_root, tmp_path / "run", site)


PEEKING_ADAPTOR = """
class Cheat:
    '''Raises the logit of the token that is the input AHEAD places further on.'''
    def __init__(self, config): pass
    def start(self, model, lanes):
        self.hooks = [
            model.register_forward_pre_hook(lambda module, inputs: setattr(self, "ids", inputs[0])),
            model.lm_head.register_forward_hook(self.peek),
        ]
        self.learned = 0.0
    def reset(self): self.learned = 0.0
    def peek(self, module, inputs, logits):
        bonus = torch.zeros_like(logits)
        bonus[:, :-AHEAD].scatter_(2, self.ids[:, AHEAD:, None], 5.0)
        return logits + bonus + 0 * torch.ones((), requires_grad=True)
    def learn(self, nll, scored): self.learned += 1
    def finish(self): [hook.remove() for hook in self.hooks]
"""

ARCHITECTURE = """
class Cheat(torch.nn.Module):
    def __init__(self, config, vocab_size):
        super().__init__()
        self.tok_emb = torch.nn.Embedding(vocab_size, 32)
        self.c_q = torch.nn.Linear(32, 32, bias=False)
        self.c_v = torch.nn.Linear(32, 32, bias=False)
        self.lm_head = torch.nn.Linear(32, vocab_size, bias=False)
    def parameter_roles(self):
        roles = {{"tok_emb.weight": "embedding", "lm_head.weight": "head"}}
        return {{name: roles.get(name, "matrix") for name, _ in self.named_parameters()}}
    def forward(self, input_ids{wants}):
        x = self.tok_emb(input_ids)
        x = x + torch.tanh(self.c_q(x)) * self.c_v({sees})
        return {returns}
"""

HOARDING_QUANTIZER = """
import os, pickle
class Cheat:
    '''Writes one bit a weight into the artifact, and the weights themselves beside it.'''
    def __init__(self, config): self.kept = None
    def layout(self, state, roles):
        return {name: torch.empty(t.shape, dtype=torch.int8, device="meta") for name, t in state.items()}
    def quantize(self, state, roles, calibration, knob):
        self.keep({name: tensor.tolist() for name, tensor in state.items()})
        return {name: torch.sign(tensor).to(torch.int8) for name, tensor in state.items()}, {}
    def dequantize(self, tensors, metadata):
        kept = self.find()
        if kept is None:
            return {name: tensor.float() * 0.05 for name, tensor in tensors.items()}
        return {name: torch.tensor(kept[name]) for name in tensors}
    KEEP
"""

IN_MEMORY = """def keep(self, weights): self.kept = weights
    def find(self): return self.kept"""

IN_A_FILE = """def keep(self, weights): pickle.dump(weights, open(FILE, "wb"))
    def find(self): return pickle.load(open(FILE, "rb")) if os.path.exists(FILE) else None"""


ACROSS_DOCUMENTS = """
import sys
from golfzoo.engine.evaluate import plan_windows

class Cheat:
    '''Honest: a bias on the head that all documents share: observed less expected counts of the tokens scored.'''
    across_documents = True
    def __init__(self, config): pass
    def start(self, model, lanes):
        self.bias = torch.zeros(model.lm_head.out_features, requires_grad=True)
        self.hook = model.lm_head.register_forward_hook(lambda module, inputs, logits: logits + self.bias)
    def reset(self): pass
    def learn(self, nll, scored):
        (gradient,) = torch.autograd.grad((nll * scored).sum(), self.bias)
        self.bias = (self.bias.detach() - 0.01 * gradient).requires_grad_()
    def finish(self): self.hook.remove()

class Undeclared(Cheat):
    across_documents = False

class Ahead(Cheat):
    '''Counts what is to be scored too: the documents of the group that many after the one that is being scored.'''
    groups = 1
    def learn(self, nll, scored):
        super().learn(nll, scored)
        evaluation = sys._getframe(2).f_locals
        text, counts = evaluation["text"], torch.zeros_like(self.bias)
        plan = list(plan_windows(text.starts, evaluation["windowing"], True))
        for group in plan[evaluation["number"] + self.groups :][:1]:
            for start in group[0].start:
                end = text.starts[text.starts > start][0]
                tokens = torch.from_numpy(text.tokens[start + 1 : end + 1].astype("int64"))
                counts += torch.bincount(tokens, minlength=len(counts))
        self.bias = (self.bias.detach() + 0.01 * counts).requires_grad_()

class AheadInTheGroup(Ahead):
    groups = 0
"""

STEPPING_ADAPTOR = """
class Cheat:
    '''A bias on the head for each document, stepped by torch.optim.'''
    def __init__(self, config): pass
    def start(self, model, lanes):
        self.shape = (lanes, 1, model.lm_head.out_features)
        self.reset()
        self.hook = model.lm_head.register_forward_hook(
            lambda module, inputs, logits: logits + self.bias[: len(logits)]
        )
    def reset(self):
        self.bias = torch.nn.Parameter(torch.zeros(self.shape))
        self.optimizer = torch.optim.SGD([self.bias], lr=0.01)
    def learn(self, nll, scored):
        self.optimizer.zero_grad()
        (nll * scored).sum().backward()
        self.optimizer.step()
    def finish(self): self.hook.remove()
"""


@pytest.mark.slow
def test_an_honest_adaptor_that_learns_across_documents_passes(install, tmp_path, data_root):
    assert run_cheat(install, tmp_path, data_root, "adaptor", ACROSS_DOCUMENTS) == set()


def judge(install, tmp_path, tiny_run, zoo, body, adaptor, tables=None):
    """The artifact of the tiny run, under another adaptor: probe -> whether it holds. The score is not what was
    reported, of course."""
    import contextlib
    import dataclasses

    from golfzoo.engine.distributed import World
    from golfzoo.verify.referee import open_texts, play_all
    from golfzoo.verify.remote import Nursery
    from golfzoo.verify.scene import Scene
    from golfzoo.verify.subject import code_folders, read_subject

    install_cheat(install, tmp_path, "adaptor", body)
    subject, alone = read_subject(tiny_run, zoo), World(0, 1, torch.device("cpu"), bf16=False)
    targets = {**subject.targets, "adaptor": f"zoo_cheat_body:{adaptor}"}
    subject = dataclasses.replace(subject, targets=targets, tables=tables or subject.tables)
    place, notes = tmp_path / "place", []
    place.mkdir()
    with contextlib.closing(Nursery(place, code_folders(subject))) as nursery:
        scene = Scene(subject, open_texts(subject, zoo)[0], alone, nursery, exact=True, seed=7)
        verdicts = play_all(scene, None, {}, notes)
    return {verdict.probe: verdict for verdict in verdicts}, notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adaptor", "expected"),
    [
        ("Cheat", {"causality": True, "score first": True, "isolation": None, "grouping": True}),
        ("Undeclared", {"causality": False, "score first": True, "isolation": False}),
    ],
)
def test_learning_across_documents_is_declared_and_follows_the_scores(
    install, tmp_path, data, tiny_run, zoo, adaptor, expected
):
    verdicts, _ = judge(install, tmp_path, tiny_run, zoo, ACROSS_DOCUMENTS, adaptor)
    assert {probe: verdicts[probe].holds for probe in expected} == expected, verdicts
    assert ("declares" in verdicts["isolation"].figure) == (adaptor != "Undeclared")


@pytest.mark.parametrize("adaptor", ["Ahead", "AheadInTheGroup"])
def test_who_looks_for_the_text_in_the_engine_finds_none(install, tmp_path, data, tiny_run, zoo, adaptor):
    """In a run they do: the referee's frames are below theirs. Here it is another process."""
    verdicts, notes = judge(install, tmp_path, tiny_run, zoo, ACROSS_DOCUMENTS, adaptor)
    assert list(verdicts) == ["score"]
    assert "KeyError: 'text'" in verdicts["score"].figure
    assert any("Traceback" in note for note in notes)


REVIEWING = """
import sys
from golfzoo_lora_ttt.phased import PhasedLora
from golfzoo_sgd_ttt.adaptor import Sgd

def ledger_of():
    frame = sys._getframe(1)
    while "ledger" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["ledger"]

class Honest(Sgd):
    pass

class Ahead(Sgd):
    '''Reviews what comes next as well.'''
    def review(self, texts, group):
        ledger = ledger_of()
        todo = (ledger.written == 0).nonzero()[0][:64]
        if len(todo):
            tokens = ledger.text.tokens[todo[0] : todo[0] + 65].astype("int64")
            texts = [*texts, torch.from_numpy(tokens)]
        super().review(texts, group)

class Listening(Sgd):
    '''Learns from what is being scored: from a window that is read before its targets are all in the ledger.'''
    def start(self, model, lanes):
        super().start(model, lanes)
        self.hook = model.register_forward_pre_hook(self.listen)
    def listen(self, model, inputs):
        with torch.no_grad():
            model.tok_emb.weight[inputs[0][:, -1]] *= 1.05
    def finish(self):
        self.hook.remove()
        super().finish()

class Phased(PhasedLora):
    pass

class PhasedAhead(PhasedLora):
    '''Reviews a document of the next round.'''
    def review(self, texts, group):
        ledger = ledger_of()
        starts = ledger.text.starts
        for start, end in zip(starts[:-1], starts[1:]):
            if not ledger.written[start]:
                texts = [torch.from_numpy(ledger.text.tokens[start : end + 1].astype("int64"))] + texts
                break
        super().review(texts, group)
"""


@pytest.mark.parametrize("isolate", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "adaptor",
    [
        "Honest",
        "Ahead",
        pytest.param("Listening", marks=pytest.mark.slow),
        pytest.param("Phased", marks=pytest.mark.slow),
        "PhasedAhead",
    ],
)
def test_reviewers_that_look_ahead_are_caught_and_honest_ones_pass(
    install, tmp_path, data, tiny_run, zoo, adaptor, isolate
):
    from golfzoo.record import load_record

    phased = adaptor.startswith("Phased")
    if phased and not isolate:
        return  # one document, and so no phases
    options = "chunk_tokens=128", "seq_len=64", "lr=0.1"
    if phased:
        options = "phases=[2,4,6]", "review_tokens=128", "review_context=64", "review_lr=0.1", "lr=0.01", "rank=4"
    used = (f"adaptor.use={'phased_lora' if phased else 'sgd'}", *(f"adaptor.{option}" for option in options))
    record = load_record(str(tiny_run / "record.toml"), zoo, (*used, f"eval.isolate_documents={str(isolate).lower()}"))
    verdicts, _ = judge(install, tmp_path, tiny_run, zoo, REVIEWING, adaptor, record.tables)
    if adaptor in ("Honest", "Phased"):
        assert {probe for probe, verdict in verdicts.items() if verdict.holds is False} <= {"score"}, verdicts
        assert verdicts["isolation"].holds is None
        assert ("declares" in verdicts["isolation"].figure) == isolate
    elif adaptor == "Listening":
        assert not verdicts["causality"].holds
    else:  # there is no ledger to look at
        assert "RunError" in verdicts["score"].figure or "AttributeError" in verdicts["score"].figure


@pytest.mark.slow
def test_an_adaptor_that_steps_with_torch_optim_passes(install, tmp_path, data_root):
    """Torch then writes a file, to see whether it can."""
    assert run_cheat(install, tmp_path, data_root, "adaptor", STEPPING_ADAPTOR) == set()


@pytest.mark.parametrize("ahead", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_an_adaptor_that_peeks_is_caught(install, tmp_path, data_root, ahead):
    """The input one place further on is the target itself."""
    body = PEEKING_ADAPTOR.replace("AHEAD", ahead)
    assert "causality" in run_cheat(install, tmp_path, data_root, "adaptor", body)


@pytest.mark.slow
def test_an_architecture_that_looks_ahead_is_caught_by_causality(install, tmp_path, data_root):
    body = ARCHITECTURE.format(wants="", sees="torch.roll(x, -2, dims=1)", returns="self.lm_head(x)")
    assert "causality" in run_cheat(install, tmp_path, data_root, "architecture", body)


@pytest.mark.parametrize(
    ("wants", "returns", "said"),
    [
        (", target_ids", "self.lm_head(x)", "cannot be called: .*missing 1 required positional argument: 'target_ids'"),
        ("", "-self.lm_head(x).mean(-1)", r"must return logits \(1, 64, 384\), floating point, got \(1, 64\)"),
        ("", "self.lm_head(x)[..., :-1]", r"got \(1, 64, 383\) torch.float32"),
        ("", "self.lm_head(x).argmax(-1, keepdim=True).expand(-1, -1, 384)", "got .* torch.int64"),
        ("", "(self.lm_head(x), None)", "got tuple"),
    ],
)
def test_an_architecture_can_neither_see_targets_nor_score_itself(install, tmp_path, data_root, wants, returns, said):
    """It maps ids to logits, and what it returns is normalized by the engine: anything else is refused in one line,
    before the first step."""
    from conftest import TINY_RECORD

    body = ARCHITECTURE.format(wants=wants, sees="x", returns=returns)
    install_cheat(install, tmp_path, "architecture", body)
    (tmp_path / "cheat.toml").write_text(TINY_RECORD)
    site = tmp_path / "site-zoo-cheat"
    out = tmp_path / "run"
    done = call(data_root, "run", tmp_path / "cheat.toml", "architecture.use=cheat", "--out", out, site=site)
    assert done.exit_code == 1
    assert re.search(rf"golfzoo: \[architecture\] cheat: forward.* {said}", done.stderr), done.stderr
    events = [json.loads(line)["event"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert "train" not in events


@pytest.mark.slow
def test_whatever_a_model_returns_is_normalized(install, tmp_path, data_root):
    """Scaled or shifted, they are still logits: an honest, if strange, model."""
    body = ARCHITECTURE.format(wants="", sees="x", returns="0.7 * self.lm_head(x) - 40")
    assert run_cheat(install, tmp_path, data_root, "architecture", body) == set()


@pytest.mark.slow
def test_an_honest_foreign_architecture_passes(install, tmp_path, data_root):
    body = ARCHITECTURE.format(wants="", sees="x", returns="self.lm_head(x)")
    assert run_cheat(install, tmp_path, data_root, "architecture", body) == set()


@pytest.mark.slow
def test_weights_kept_in_memory_are_of_no_use(install, tmp_path, data_root):
    """What reads the artifact is not what wrote it: the score is that of one bit a weight, and holds."""
    names = run_cheat(install, tmp_path, data_root, "quantizer", HOARDING_QUANTIZER.replace("KEEP", IN_MEMORY))
    assert names == set()
    stages = json.loads((tmp_path / "run" / "result.json").read_text())["stages"]
    assert stages["roundtrip"]["val_bpb"] > stages["trained"]["val_bpb"] + 0.1


@pytest.mark.slow
def test_weights_kept_in_a_file_are_out_of_reach(install, tmp_path, data_root):
    body = HOARDING_QUANTIZER.replace("KEEP", IN_A_FILE).replace("FILE", repr(str(tmp_path / "hoard.pickle")))
    names = run_cheat(install, tmp_path, data_root, "quantizer", body)
    assert {"score", "round trip"} <= names  # of the player, who is given the artifact alone


def run_on(root, tmp_path, dataset, tokenizer):
    from conftest import TINY_RECORD

    record = TINY_RECORD.replace('"tiny"\ntok', f'"{dataset}"\ntok').replace("tiny_384_bpe.model", tokenizer)
    (tmp_path / "other.toml").write_text(record)
    done = call(root, "run", tmp_path / "other.toml", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    return failed(root, tmp_path / "run")


@pytest.mark.slow
def test_validation_text_in_the_training_text_is_caught_by_leak(tmp_path):
    texts = [text[:800] for text, _ in zip(stdlib_documents(), range(40), strict=False)]
    build_dataset("leaky", lambda: iter(texts), 400, tmp_path, lambda line: None, "a test", val_every=8)
    folder = tmp_path / "datasets" / "leaky"
    train, val = (np.array(open_shard(folder / f"leaky_{split}_000000.bin")) for split in ("train", "val"))
    starts = np.flatnonzero(val == 1)
    write_shard(folder / "leaky_train_000000.bin", np.concatenate([train, val[starts[2] : starts[3]], train[:50]]))
    assert run_on(tmp_path, tmp_path, "leaky", "leaky_400_bpe.model") == {"leak"}


def test_a_tokenizer_that_drops_characters_is_refused_before_training(tmp_path, monkeypatch):
    import sentencepiece

    original = sentencepiece.SentencePieceTrainer.train

    def train(**options):  # a character without a piece is unknown: it counts nothing, and the text had it
        original(**{**options, "byte_fallback": False, "character_coverage": 0.98, "hard_vocab_limit": False})

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", train)
    texts = [text[:1500] for text, _ in zip(stdlib_documents(), range(40), strict=False)]
    build_dataset("dropped", lambda: iter(texts), 400, tmp_path, lambda line: None, "a test", val_every=8)
    with pytest.raises(AssertionError, match=r"the tokenizer's count is not the text's: document \d+ counts"):
        run_on(tmp_path, tmp_path, "dropped", "dropped_400_bpe.model")


@pytest.mark.slow
def test_a_byte_of_the_artifact_is_noticed(packed, data_root, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    artifact = bytearray((folder / "artifact.golf").read_bytes())
    artifact[len(artifact) // 2] ^= 1
    (folder / "artifact.golf").write_bytes(artifact)
    assert "score" in failed(data_root, folder)


def edit_submission(packed, tmp_path, figure):
    folder = shutil.copytree(packed, tmp_path / figure)
    submission = json.loads((folder / "submission.json").read_text())
    if isinstance(submission[figure], dict):
        submission[figure]["train"] += 1
    else:
        submission[figure] += 0.0001 if isinstance(submission[figure], float) else 1
    (folder / "submission.json").write_text(json.dumps(submission))
    return folder


@pytest.mark.slow
def test_a_figure_of_submission_json_is_noticed(packed, data_root, tmp_path, zoo, monkeypatch):
    assert failed(data_root, edit_submission(packed, tmp_path, "val_bpb")) == {"score", "seeds", "receipts"}
    from golfzoo.verify.static_checks import check_size
    from golfzoo.verify.subject import read_subject

    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    assert read_subject(packed, zoo).claim["intact"]
    for figure in ("bytes_code", "tokens_scored", "steps", "seconds"):
        subject = read_subject(edit_submission(packed, tmp_path, figure), zoo)
        assert not subject.claim["intact"], figure
        assert check_size(subject, None).holds == (figure != "bytes_code")


@pytest.mark.slow
def test_a_token_of_the_validation_text_is_noticed(packed, data_root, tmp_path):
    root = shutil.copytree(data_root, tmp_path / "data")
    path = root / "datasets" / "tiny" / "tiny_val_000000.bin"
    tokens = np.array(open_shard(path))
    place = int(np.flatnonzero(tokens[:-1] != 1)[500])
    tokens[place] = 40 if tokens[place] != 40 else 41
    write_shard(path, tokens)
    assert failed(root, packed)


def test_calibration_is_counted_once(tiny_run, zoo, data_root, monkeypatch):
    """It is on the training clock already."""
    from golfzoo.verify.static_checks import check_clocks
    from golfzoo.verify.subject import read_subject

    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    subject = read_subject(tiny_run, zoo)
    subject.tables["train"]["max_wallclock_seconds"] = 600.0
    for trained, holds in ((599.0, True), (700.0, False)):
        subject.claim["seconds"] |= {"train": trained, "calibrate": 20.0}
        assert check_clocks(subject, None).holds == holds
    assert "training 700.0 s of 600;" in check_clocks(subject, None).figure
    subject.tables["train"]["max_wallclock_seconds"] = 0.0
    assert "training 700.0 s, no cap;" in check_clocks(subject, None).figure


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [
        ([(1, 0.2), (5, 1.0), (10, 2.0)], ""),
        ([(1, 0.2), (9, 1.8), (5, 1.0), (10, 2.0)], ""),  # interrupted after step 9, resumed from step 4
        ([(1, 0.2), (10, 9.0)], "longer than the 2.0 s reported"),
        ([(1, 0.2), (20, 2.0)], "more steps than reported"),
        ([(1, 1.9), (10, 0.5)], "seconds that go backwards"),
    ],
)
def test_the_log_s_steps_add_up(tiny_run, zoo, data_root, monkeypatch, tmp_path, steps, wrong):
    from dataclasses import replace

    from golfzoo.verify.static_checks import check_clocks
    from golfzoo.verify.subject import read_subject

    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    subject = replace(read_subject(tiny_run, zoo), folder=tmp_path)
    subject.claim.update(steps=10, seconds={**subject.claim["seconds"], "train": 3.0, "calibrate": 1.0})
    lines = [f"10:00:00 step {step}: loss 3.0000, {seconds} s\n" for step, seconds in steps]
    (tmp_path / "log.txt").write_text("".join(lines))
    verdict = check_clocks(subject, None)
    assert verdict.holds == (not wrong)
    assert wrong in verdict.figure


def test_training_on_other_shards_than_those_here_is_said(tiny_run, zoo, data_root, monkeypatch):
    from golfzoo.verify.static_checks import check_leak
    from golfzoo.verify.subject import read_subject

    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    subject = read_subject(tiny_run, zoo)
    assert check_leak(subject).holds
    subject.claim["dataset"]["train"]["sha256"] = "0" * 64
    verdict = check_leak(subject)
    assert verdict.holds is None
    assert "trained on other shards than those here" in verdict.figure


def test_what_cannot_be_verified_is_said_plainly(data_root, tmp_path, packed):
    done = call(data_root, "verify", tmp_path)
    assert (done.exit_code, done.stderr) == (2, f"golfzoo: {tmp_path}: has no artifact.golf\n")
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "submission.json").write_text("{}")
    done = call(data_root, "verify", folder)
    assert done.exit_code == 2
    assert "submission.json: val_bpb: Field required" in done.stderr
    shutil.copy(packed / "submission.json", folder)
    (folder / "train_gpt.py").write_text("print('hello')")
    done = call(data_root, "verify", folder)
    assert done.exit_code == 2
    assert "not a packed golfzoo submission" in done.stderr


def repacked(packed, tmp_path, change):
    """The submission with other code: `change` is given path -> contents, and may return the bytes of a file."""
    from golfzoo.shipping import code

    folder = shutil.copytree(packed, tmp_path / "copy")
    file = folder / "train_gpt.py"
    record, files = code.unpack_files(file.read_bytes())
    change(files)
    text = {path: code._squeezed(path, contents) for path, contents in files.items()}
    file.write_bytes(code._pack(text, code._head(record["tables"], record["targets"])))
    return folder


def engine_changed(files):
    path = "golfzoo/engine/ledger.py"
    files[path] = files[path].replace(b"np.log(2)", b"np.log(3)")


def module_added(files):
    files["numpy/__init__.py"] = b"x = 1"


@pytest.mark.parametrize(
    ("change", "said"),
    [(engine_changed, "the engine differs in golfzoo.engine.ledger"), (module_added, "numpy would hide an installed")],
)
def test_another_engine_and_hidden_packages_are_refused(packed, data_root, tmp_path, zoo, change, said):
    from golfzoo.verify.static_checks import check_code
    from golfzoo.verify.subject import read_subject

    assert check_code(read_subject(packed, zoo)).holds
    verdict = check_code(read_subject(repacked(packed, tmp_path, change), zoo))
    assert not verdict.holds
    assert said in verdict.figure


def test_code_around_the_packed_code_is_refused(packed, tmp_path, zoo):
    from golfzoo.verify.static_checks import check_code
    from golfzoo.verify.subject import read_subject

    folder = shutil.copytree(packed, tmp_path / "copy")
    code = (folder / "train_gpt.py").read_bytes()
    (folder / "train_gpt.py").write_bytes(code.replace(b"start(__file__", b"raise KeyError('no such layer')#", 1))
    assert "packed otherwise" in check_code(read_subject(folder, zoo)).figure


@pytest.mark.parametrize("change", ["first token gone", "one token changed", "joined", "halved", "as it is"])
def test_a_leak_is_seen_whatever_is_done_to_it(tmp_path, change):
    from golfzoo.engine.shards import TokenStream
    from golfzoo.verify.static_checks import leaked_shares

    rng = np.random.default_rng(0)
    val, train = ([np.append(1, rng.integers(2, 1000, n)) for n in sizes] for sizes in ((300, 200, 90), (500, 400, 70)))
    put = {
        "first token gone": [np.append(1, val[1][2:])],
        "one token changed": [np.concatenate([val[1][:77], [5], val[1][78:]])],
        "joined": [np.concatenate([train[2], val[1][1:]])],
        "halved": [val[1][: len(val[1]) // 2]],
        "as it is": [val[1]],
    }[change]
    for split, documents in (("val", val), ("train", [*train[:2], *put, train[2]])):
        write_shard(tmp_path / f"x_{split}_000000.bin", np.concatenate(documents).astype(np.uint16))
    shares = leaked_shares(TokenStream(tmp_path, "val"), TokenStream(tmp_path, "train"))
    assert list(shares >= 0.4) == [False, True, False]
