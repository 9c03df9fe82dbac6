"""The byte model: what each position may see, to the byte; its formulas in float64; whole runs on bytes."""

import json
import math
import shutil

import pytest
import torch

from golfzoo.corpus.build import build_dataset
from golfzoo.corpus.sources import stdlib_documents
from golfzoo.engine.components import load_target, namespace
from golfzoo.record import load_record
from golfzoo.shipping.code import shipped_modules
from golfzoo.testing import check_plugin
from golfzoo.testing.adaptors import check_learning
from pin_records import RECORDS
from test_pack import bare_site, run_bare  # noqa: F401  (a fixture)

torch.set_num_threads(1)

VOCAB = 260
RECORD = next(path for path in RECORDS if path.stem == "byte_patches")
SMALL = {
    "num_layers": 2, "model_dim": 24, "num_heads": 4, "num_kv_heads": 2, "local_dim": 16, "local_heads": 2,
    "encoder_layers": 1, "decoder_layers": 1,
}  # fmt: skip
SHRINK = (
    "data.dataset=bytes", "data.tokenizer=byte260", "train.iterations=6", "train.seq_len=126",
    "train.micro_batch_tokens=1008", "train.batch_tokens=1008",
    "train.warmup_steps=0", "train.log_every=1", "schedule.warmdown_iters=5", "quantizer.keep_numel=256",
    "eval.context=126", "eval.stride=50", "eval.batch_sequences=32",
    *(f"architecture.{name}={value}" for name, value in SMALL.items()), "--profile", "cpu",
)  # fmt: skip


def build(zoo, **options):
    component = zoo.find("architecture", "patches").component
    config, problems = component.config.read({**SMALL, **options}, "[architecture]")
    assert not problems
    return load_target(component.target)(namespace(config.model_dump(mode="json")), vocab_size=VOCAB)


def stirred(model):
    """With weights none of which is zero, or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            matrix = parameter.ndim == 2 and min(parameter.shape) > 5
            parameter.copy_(noise * 0.3 if matrix else 1 + 0.3 * noise)
    return model


def changed_at(ids, position):
    other = ids.clone()
    other[:, position] = (other[:, position] + 7) % VOCAB
    return other


@pytest.fixture
def ids():
    return torch.randint(0, VOCAB, (2, 23), generator=torch.Generator().manual_seed(1))


def test_it_keeps_its_contract():
    check_plugin("bytes")


@pytest.mark.parametrize("size", [1, 3, 4, 5, 30])
@pytest.mark.parametrize("time", [1, 4, 11, 23])
@torch.no_grad()
def test_no_byte_changes_what_is_predicted_before_it(zoo, ids, size, time):
    """At every offset in a patch; in windows that patches do not divide, and in those that hold none."""
    model, ids = stirred(build(zoo, patch_size=size)), ids[:, :time]
    logits = model(ids)
    assert logits.shape == (2, time, VOCAB)
    for position in range(time):
        other = model(changed_at(ids, position))
        assert torch.equal(other[:, :position], logits[:, :position]), position
        assert ((other[:, position:] - logits[:, position:]).abs().amax((0, 2)) > 1e-6).all(), position


@pytest.mark.parametrize("size", [1, 4, 5])
@torch.no_grad()
def test_a_patch_is_seen_as_soon_as_its_bytes_are(zoo, ids, size):
    """By way of patches a byte reaches all positions from its patch's last on, and none before."""
    model = stirred(build(zoo, patch_size=size))

    def seen(ids):
        return model.foreseen(model.encoder(model.tok_emb(ids)))

    plain, time = seen(ids), ids.shape[1]
    assert not plain[:, : size - 1].any()
    for position in range(time):
        last = position // size * size + size - 1
        moved = (seen(changed_at(ids, position)) - plain).abs().amax((0, 2))
        assert not moved[:last].any(), position
        assert (moved[last:] > 1e-6).all(), position


@torch.no_grad()
def test_a_window_s_beginning_does_not_depend_on_its_end(zoo, ids):
    model = stirred(build(zoo, patch_size=4))
    for time in range(1, ids.shape[1] + 1):
        assert torch.allclose(model(ids[:, :time]), model(ids)[:, :time], atol=1e-5), time


def expected_logits(state, ids, size, wide, narrow):
    """The formulas in float64, one patch and one position after the other. `wide`, `narrow`: heads, kv_heads."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def norm(x):
        return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()

    def turned(x):  # (heads, time, size)
        half = x.shape[-1] // 2
        spin = torch.arange(x.shape[1])[:, None] * torch.tensor([10000.0 ** (-i / half) for i in range(half)]).double()
        complex_ = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(spin), -spin)
        return torch.cat((complex_.real, complex_.imag), -1)

    def attention(x, name, heads, kv_heads):
        q, k, v = (x @ state[f"{name}.{part}.weight"].T for part in ("c_q", "c_k", "c_v"))
        q, k, v = (
            z.unflatten(-1, (count, -1)).transpose(0, 1)
            for z, count in zip((q, k, v), (heads, kv_heads, kv_heads), strict=True)
        )
        q, k = turned(norm(q)) * state[f"{name}.q_gain"][:, None, None], turned(norm(k))
        rows = []
        for t in range(len(x)):
            mixed = []
            for head in range(heads):
                shared = head * kv_heads // heads
                share = (k[shared, : t + 1] @ q[head, t] / math.sqrt(q.shape[-1])).softmax(0)
                mixed.append(share @ v[shared, : t + 1])
            rows.append(torch.cat(mixed))
        return torch.stack(rows) @ state[f"{name}.proj.weight"].T

    def stack(x, name, heads):
        x0 = x
        for number in range(len({key.split(".")[2] for key in state if key.startswith(f"{name}.blocks")})):
            block = f"{name}.blocks.{number}"
            mix = state[f"{block}.resid_mix"]
            x = mix[0] * x + mix[1] * x0
            x = x + state[f"{block}.attn_scale"] * attention(norm(x), f"{block}.attn", *heads)
            hidden = torch.relu(norm(x) @ state[f"{block}.mlp.fc.weight"].T) ** 2
            x = x + state[f"{block}.mlp_scale"] * (hidden @ state[f"{block}.mlp.proj.weight"].T)
        return x

    logits = []
    for row in ids:
        x = stack(norm(state["tok_emb.weight"][row]), "encoder", narrow)
        whole = [norm(x[at : at + size]).flatten() for at in range(0, len(row) - size + 1, size)]
        patches = stack(norm(torch.stack(whole) @ state["patch_in.weight"].T), "whole", wide)
        pieces = (norm(patches) @ state["patch_out.weight"].T).unflatten(-1, (size, -1))
        for position in range(size - 1, len(row)):
            patch, offset = divmod(position + 1, size)  # of the byte that it predicts
            x[position] += pieces[patch - 1, offset]
        x = stack(x, "decoder", narrow)
        logits.append(30 * torch.tanh(norm(x) @ state["tok_emb.weight"].T / 30))
    return torch.stack(logits)


@pytest.mark.parametrize("size", [3, 4])
@torch.no_grad()
def test_logits_are_the_formulas(zoo, ids, size):
    model = stirred(build(zoo, patch_size=size))
    expected = expected_logits(model.state_dict(), ids, size, (4, 2), (2, 2))
    assert torch.allclose(model(ids).double(), expected, atol=2e-4)


@pytest.mark.parametrize("adaptor", ["lora", "phased_lora"])
def test_adaptors_attach_to_it_by_default(zoo, adaptor):
    component = zoo.find("adaptor", adaptor).component
    config, _ = component.config.read({"rank": 2}, "[adaptor]")
    bound = load_target(component.target)(namespace(config.model_dump(mode="json")))
    check_learning(bound, stirred(build(zoo)).eval().requires_grad_(False))


def test_it_is_one_graph(zoo, ids):
    torch.compiler.reset()
    model = stirred(build(zoo))
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    assert torch.allclose(compiled(ids), model(ids), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"local_dim": 34}, "local_dim (34) must be an even multiple of local_heads (6)"),
        ({"num_kv_heads": 3}, "num_heads (8) must be a multiple of num_kv_heads (3)"),
    ],
)
def test_bad_options_are_said(zoo, options, said):
    _, problems = zoo.find("architecture", "patches").component.config.read(options, "[architecture]")
    assert said in problems[0]


def test_it_ships_without_the_gpt(zoo):
    modules = shipped_modules(load_record(str(RECORD), zoo))
    assert {"golfzoo_bytes.model", "golfzoo_layers.blocks", "golfzoo_tokenizers.byte260"} <= set(modules)
    assert not [module for module in modules if module.startswith("golfzoo_gpt") or module.endswith("pieces")]


# ---- whole runs, on bytes -------------------------------------------------------------------------------------------


@pytest.fixture
def byte_data(data):
    """The data folder with a dataset of bytes beside the tiny one, for this test alone."""
    texts = [text[:1500] for text, _ in zip(stdlib_documents(), range(40), strict=False)]
    build_dataset("bytes", lambda: iter(texts), 0, data, lambda line: None, "a test", val_every=16, use="byte260")
    yield data
    shutil.rmtree(data / "datasets" / "bytes")


def test_the_cpu_profile_trains_it_on_bytes(zoo):
    shown = load_record(str(RECORD), zoo, profile="cpu")
    assert shown.tables["data"]["dataset"] == "stdlib_byte260"
    assert shown.tables["tokenizer"]["use"] == "byte260"


def test_a_byte_is_a_token(golfzoo, byte_data, tmp_path):
    status, output = golfzoo("run", RECORD, *SHRINK, "--out", tmp_path / "run")
    assert status == 0, output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    described = json.loads((byte_data / "datasets" / "bytes" / "dataset.json").read_text())
    assert result["bytes_scored"] == described["text_bytes"]["val"]
    bits = result["val_loss"] / math.log(2) * result["tokens_scored"] / result["bytes_scored"]
    assert result["val_bpb"] == pytest.approx(bits)


@pytest.mark.slow
def test_resumed_packed_and_verified(golfzoo, byte_data, bare_site, tmp_path, monkeypatch):  # noqa: F811
    from golfzoo.running.kept_stages import KeptStages

    command = ("run", RECORD, *SHRINK, "--fresh", "--out")
    assert golfzoo(*command, tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patch:
        asked = []
        patch.setattr(KeptStages, "stop_signal", lambda _: 15 * (asked.append(0) or len(asked) == 4))
        assert golfzoo(*command, tmp_path / "halves")[0] == 143
    status, output = golfzoo("run", "--resume", tmp_path / "halves")
    assert status == 0, output
    assert "resumed at step 4," in output
    for file in ("weights.safetensors", "artifact.golf"):
        assert (tmp_path / "halves" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert golfzoo("pack", tmp_path / "whole", "--out", tmp_path / "packed")[0] == 0
    done = run_bare(bare_site, byte_data, tmp_path, tmp_path / "packed" / "train_gpt.py", "--eval")
    assert done.returncode == 0, done.stderr
    logged = (tmp_path / "packed" / "train.log").read_text().splitlines()[-1].partition(" ")[2]
    assert done.stdout.splitlines()[-1] == logged
    status, output = golfzoo("verify", tmp_path / "packed")
    assert status == 0, output
