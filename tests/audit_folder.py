"""An honest hand-written submission, small, and the folders that differ from it by one defect each."""

import json
import math

SCRIPT = '''"""A small trainer, which the tests only read."""

import glob
import io
import lzma
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F


class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp1024")
    tokenizer_path = os.environ.get("TOKENIZER_PATH", "./data/tokenizers/fineweb_1024_bpe.model")
    seed = int(os.environ.get("SEED", "1337"))
    seq_len = int(os.environ.get("SEQ_LEN", "1024"))
    stride = int(os.environ.get("EVAL_STRIDE", "64"))
    ttt_epochs = int(os.environ.get("TTT_EPOCHS", "1"))
    size_limit = 16_000_000


class CastedLinear(torch.nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


class SmearGate(torch.nn.Module):
    def forward(self, x, not_bos):
        return torch.cat([x[:, :1], x[:, 1:] + self.gate * x[:, :-1] * not_bos], dim=1)


def flash_attention(q, k, v, cu_seqlens):
    return F.scaled_dot_product_attention(q, k, v)


def build_luts(sp, vocab_size):
    base_bytes = np.zeros(vocab_size, dtype=np.int16)
    leading_space = np.zeros(vocab_size, dtype=np.bool_)
    is_boundary = np.ones(vocab_size, dtype=np.bool_)
    for token_id in range(sp.vocab_size()):
        if sp.is_control(token_id) or sp.is_unknown(token_id):
            continue
        is_boundary[token_id] = False
        if sp.is_byte(token_id):
            base_bytes[token_id] = 1
            continue
        piece = sp.id_to_piece(token_id)
        if piece.startswith("▁"):
            leading_space[token_id] = True
            piece = piece[1:]
        base_bytes[token_id] = len(piece.encode("utf-8"))
    return base_bytes, leading_space, is_boundary


def load_data_shard(file):
    header = np.fromfile(file, dtype="<i4", count=256)
    if int(header[0]) != 20240520:
        raise ValueError(f"{file}: not a shard")
    return torch.from_numpy(np.fromfile(file, dtype="<u2", offset=1024).astype(np.int64))


def load_validation_tokens(pattern):
    files = [file for file in sorted(glob.glob(pattern)) if "val_bytes_" not in file]
    return torch.cat([load_data_shard(file) for file in files])


def eval_val_sliding(args, model, val_tokens, luts):
    base_bytes, leading_space, is_boundary = luts
    total = val_tokens.numel() - 1
    starts = [ws for ws in range(0, total, args.stride) if ws == 0 or ws + args.seq_len - args.stride < total]
    loss_sum, byte_count = 0.0, 0.0
    for ws in starts:
        end = min(ws + args.seq_len, total)
        x, y = val_tokens[ws:end], val_tokens[ws + 1 : end + 1]
        first = 0 if ws == 0 else args.seq_len - args.stride
        nll = F.cross_entropy(model(x), y, reduction="none")
        loss_sum += nll[first:].sum().item()
        byte_count += (base_bytes[y] + (leading_space[y] & ~is_boundary[x]))[first:].sum()
    bpb = loss_sum / math.log(2.0) / byte_count
    return loss_sum / total, bpb


def eval_val_ttt(args, model, val_tokens, luts):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_sum, byte_count = 0.0, 0.0
    for chunk in val_tokens.split(32768):
        x, y = chunk[:-1], chunk[1:]
        # score
        nll = F.cross_entropy(model(x), y, reduction="none")
        loss_sum += nll.sum().item()
        # learn
        for _ in range(args.ttt_epochs):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        # done
    return loss_sum


def collect_hessians(model, train_loader):
    return {name: torch.eye(weight.size(1)) for name, weight in model.named_parameters()}


def adapt(model, tokens):
    F.cross_entropy(model(tokens[:-1]), tokens[1:]).backward()


def train_model(args, model, train_loader, val_tokens):
    swa_state = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    compiled = torch.compile(model)
    for x, y in train_loader:
        F.cross_entropy(compiled(x), y).backward()
        for name, weight in model.state_dict().items():
            swa_state[name] += weight
    model.load_state_dict(swa_state)


def serialize(model):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return lzma.compress(buffer.getvalue())


def main():
    args = Hyperparameters()
    sp = spm.SentencePieceProcessor(model_file=args.tokenizer_path)
    luts = build_luts(sp, 1024)
    val_tokens = load_validation_tokens(f"{args.data_path}/fineweb_val_*.bin")
    train_loader = []
    model = CastedLinear(8, 8)
    train_model(args, model, train_loader, val_tokens)
    hessians = collect_hessians(model, train_loader)
    blob = serialize(model)
    code = Path(__file__).read_text()
    total_bytes = len(blob) + len(code.encode("utf-8"))
    print(subprocess.run(["nvidia-smi"], capture_output=True).stdout, total_bytes <= args.size_limit)
    print(eval_val_sliding(args, model, val_tokens, luts))
    print(eval_val_ttt(args, model, val_tokens, luts))


if __name__ == "__main__":
    main()
'''

PREPARE = '''"""Makes shards."""

import argparse

import numpy as np

BOS_ID = 1


def write_shard(path, sp, documents):
    header = np.zeros(256, dtype=np.int32)
    header[0] = 20240520
    tokens = [token for text in documents for token in [BOS_ID, *sp.encode(text)]]
    with open(path, "wb") as file:
        file.write(header.tobytes())
        file.write(np.array(tokens, dtype=np.uint16).tobytes())


parser = argparse.ArgumentParser()
parser.add_argument("--val-docs", type=int, default=50_000)
'''

README = """# A gate and three seeds: 1.0812 BPB

**val_bpb: 1.0812** (mean of 3 seeds), **-0.0100 BPB / -0.0169 nats** over the record before.

```bash
SEED=42 SEQ_LEN=1024 \\
  EVAL_STRIDE=64 torchrun --standalone --nproc_per_node=8 train_gpt.py
```
"""

RATIO = math.log(2) * 2.4359  # a loss over its score, with the challenge's tokenizer
SCORES = {42: 1.0802, 0: 1.0815, 1234: 1.0819}
MODEL_BYTES = 15_900_000

LOG = """Hyperparameters:
  max_wallclock_seconds: 600.0
  rope_yarn: False
  seed: {seed}
  tokenizer_path: ./data/tokenizers/fineweb_1024_bpe.model
train_shards: 80
val_tokens: 62021632
model_params:35945671
step:4900/20000 train_loss:2.3000 train_time:588000ms step_avg:120.0ms
step:4915/20000 val_loss:{flat_loss:.4f} val_bpb:{flat:.4f} train_time:590012ms step_avg:120.0ms
stopping_early: wallclock_cap train_time: 590012ms step: 4915/20000
GPTQ:collected 66 Hessians in 3.5s
Serialized model int6+lzma: {model} bytes
Code size: {code} bytes
Total submission size int6+lzma: {total} bytes
final_int6_sliding_window val_loss:{flat_loss:.8f} val_bpb:{flat:.8f} eval_time:90000ms
ttt_lora:compile warmup done (80.0s)
legal_ttt val_loss:{loss:.8f} val_bpb:{bpb:.8f} eval_time:400000ms
"""


def honest(script=SCRIPT):
    """The folder's texts by name, with logs that counted this script."""
    code = len(script.encode())
    texts = {"train_gpt.py": script, "prepare_data.py": PREPARE, "README.md": README}
    texts["README.md"] += "\n| seed | val_bpb | bytes |\n|---|---|---|\n"
    texts["requirements.txt"] = "torch\nnumpy\nsentencepiece\n"
    results = {}
    for seed, bpb in SCORES.items():
        flat, model = bpb + 0.01, MODEL_BYTES + seed
        loss = bpb * RATIO
        texts[f"train_seed{seed}.log"] = LOG.format(
            seed=seed, flat=flat, flat_loss=flat * RATIO, bpb=bpb, loss=loss, code=code, model=model, total=code + model
        )
        texts["README.md"] += f"| {seed} | **{bpb:.5f}** | {code + model:,} |\n"
        results[str(seed)] = {
            "val_bpb": round(bpb, 8),
            "val_loss": round(loss, 8),
            "artifact_bytes": code + model,
            "train_time_s": 590.0,
            "eval_time_s": 400.0,
        }
    mean = sum(SCORES.values()) / 3
    claim = {
        "name": "A gate and three seeds",
        "author": "A. Golfer",
        "track": "10min_16mb",
        "val_bpb": round(mean, 8),
        "val_loss": round(mean * RATIO, 8),
        "seeds": list(SCORES),
        "seed_results": results,
        "bytes_total": max(result["artifact_bytes"] for result in results.values()),
        "bytes_code": code,
        "comparison_baseline_bpb": 1.0912,
        "delta_vs_baseline_bpb": -0.0100,
        "delta_vs_baseline_nats": -0.0169,
    }
    texts["submission.json"] = json.dumps(claim, indent=1, ensure_ascii=False)
    return texts


def with_edits(edits):
    """The honest folder with each (file, old, new) done; an empty old makes a file, an empty new takes one away where
    there is no old either. The logs count the script as it is after its edits."""
    script = SCRIPT
    for file, old, new in edits:
        if file == "train_gpt.py" and old:
            assert old in script, old
            script = script.replace(old, new)
        elif file == "train_gpt.py":
            script = new
    texts = honest(script)
    for file, old, new in edits:
        if file == "train_gpt.py":
            continue
        if not old and not new:
            del texts[file]
        elif not old:
            texts[file] = new
        else:
            assert old in texts[file], (file, old)
            texts[file] = texts[file].replace(old, new)
    return texts


def write(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
