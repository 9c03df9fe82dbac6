"""Scoring with LoRA: golfzoo's evaluation against the straightforward loop, in one process, on the same text and model.

    python tests/benchmarks/lora_scoring.py [--tokens 40000]

The straightforward loop keeps its books per document in Python, gives every lane a window as long as the longest, goes
on computing documents that have ended, and leaves Adam to torch.optim.
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from golfzoo.corpus.build import build_dataset
from golfzoo.corpus.sources import stdlib_documents
from golfzoo.engine.components import namespace
from golfzoo.engine.data import open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate
from golfzoo.engine.model import nats
from golfzoo_gpt import GPTConfig
from golfzoo_gpt.model import GPT
from golfzoo_lora_ttt import LoraConfig
from golfzoo_lora_ttt.adaptor import Lora
from golfzoo_tokenizers.pieces import SentencePiece


def straightforward(model, text, windowing, config):
    """Mean nats per token, chunk by chunk, all documents of a batch until the longest has ended."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    layers = {
        name: layer for name, layer in model.named_modules()
        if name.rpartition(".")[2] in config.targets and hasattr(layer, "in_features")
    }  # fmt: skip
    tokens = torch.from_numpy(text.tokens.astype(np.int64))
    documents = list(zip(text.starts[:-1].tolist(), text.starts[1:].tolist(), strict=True))
    documents.sort(key=lambda document: -(-(document[1] - document[0]) // windowing.stride))
    total = 0.0
    for first in range(0, len(documents), windowing.batch_sequences):
        batch = documents[first : first + windowing.batch_sequences]
        lanes = len(batch)
        weights, hooks = {}, []
        for name, layer in layers.items():
            a = torch.empty(lanes, config.rank, layer.in_features).uniform_(-1, 1) * layer.in_features**-0.5
            b = torch.zeros(lanes, layer.out_features, config.rank)
            weights[name] = (a.requires_grad_(), b.requires_grad_())

            def add(layer, inputs, output, name=name, weights=weights):
                a, b = weights[name]
                return output + inputs[0] @ a.mT @ b.mT

            hooks.append(layer.register_forward_hook(add))
        flat = [tensor for pair in weights.values() for tensor in pair]
        adam = torch.optim.Adam(flat, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)
        chunks = [-(-(end - start) // windowing.stride) for start, end in batch]
        for chunk in range(max(chunks)):
            width = min((chunk + 1) * windowing.stride, windowing.context)
            x, y = torch.zeros(lanes, width, dtype=torch.long), torch.zeros(lanes, width, dtype=torch.long)
            spans = []
            for lane, (start, end) in enumerate(batch):
                if chunk >= chunks[lane]:
                    spans.append((0, 0))
                    continue
                stop = min((chunk + 1) * windowing.stride, end - start)
                begin = max(0, stop - windowing.context)
                x[lane, : stop - begin] = tokens[start + begin : start + stop]
                y[lane, : stop - begin] = tokens[start + begin + 1 : start + stop + 1]
                spans.append((chunk * windowing.stride - begin, stop - begin))
            learns = any(chunk < count - 1 for count in chunks)
            with torch.set_grad_enabled(learns):
                nll = nats(model(x), y)
            for lane, (low, high) in enumerate(spans):
                total += nll[lane, low:high].sum().item()
            if learns:
                losses = [
                    nll[lane, low:high].mean() for lane, (low, high) in enumerate(spans) if chunk < chunks[lane] - 1
                ]
                adam.zero_grad()
                torch.stack(losses).sum().backward()
                adam.step()
        for hook in hooks:
            hook.remove()
    return total / text.num_targets


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build_dataset("bench", lambda: iter(list(stdlib_documents())[:200]), 1024, root, lambda line: None, "", 2)
        text = open_validation(
            root / "datasets" / "bench", SentencePiece(None, root / "tokenizers" / "bench_1024_bpe.model", root)
        )
    keep = int(np.searchsorted(text.starts, arguments.tokens))
    text.starts = np.append(text.starts[:keep], text.starts[keep])
    text.num_targets = int(text.starts[-1])
    text.tokens, text.target_bytes = text.tokens[: text.num_targets + 1], text.target_bytes[: text.num_targets]
    text.total_bytes = int(text.target_bytes.sum(dtype=np.int64))
    options = GPTConfig(num_layers=4, model_dim=192, num_heads=4, num_kv_heads=2)
    model = GPT(namespace(options.model_dump()), 1024).eval()
    config = namespace(LoraConfig().model_dump())
    windowing = SimpleNamespace(context=256, stride=64, isolate_documents=True, batch_sequences=16)
    world = World(0, 1, torch.device("cpu"), bf16=False)
    print(f"{text.num_targets} tokens in {len(text.starts) - 1} documents, {torch.get_num_threads()} threads")
    ratios = []
    for _ in range(arguments.repeats):
        started = time.perf_counter()
        plain = straightforward(model, text, windowing, config)
        middle = time.perf_counter()
        ours = evaluate(model, text, windowing, world, Lora(config)).val_loss
        ended = time.perf_counter()
        ratios.append((middle - started) / (ended - middle))
        print(
            f"straightforward {middle - started:6.1f} s ({plain:.4f} nats)   "
            f"golfzoo {ended - middle:6.1f} s ({ours:.4f} nats)   ratio {ratios[-1]:.2f}"
        )
    print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")


if __name__ == "__main__":
    main()
