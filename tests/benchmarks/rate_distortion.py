"""Bits per weight against damage: every quantizer and setting, on models that golfzoo trained, as one table.

    python tests/benchmarks/rate_distortion.py RUN... --out FOLDER [--tokens 24576]

RUN are folders of completed runs, one for each seed. Rates are real bytes: of everything that `rans` writes for the
coded matrices, their steps and row exponents included, over the number of those weights. Damage is the KL divergence,
in nats per token on validation text, of the quantized model from the trained one, and the rise of its bits per byte.
Statistics for the quantizers come from training batches alone, by the engine's own calibration.

Writes table.json and, where matplotlib is, rate_distortion.svg and .png.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from golfzoo.engine.artifact import compress_tensors
from golfzoo.engine.calibrate import calibrate
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate, flat_windowing
from golfzoo.engine.model import load_weights
from golfzoo.engine.setup import set_up, set_up_training
from golfzoo.record import load_record
from golfzoo.zoo import discover

NEEDS = {"hessian": 98304, "fisher": 163840}
# What records tune by hand: how much finer than the matrices' are the steps of the embedding, and of the attention.
HAND_TUNED = [
    {"tok_emb": 0.5},
    {"tok_emb": 0.25},
    {"tok_emb": 0.18},
    {"tok_emb": 0.1},
    {"tok_emb": 0.25, "attn": 0.8},
    {"tok_emb": 0.18, "attn": 0.8},
    {"tok_emb": 0.25, "attn.c_v": 0.6, "attn.proj": 0.7},
    {"tok_emb": 0.18, "blocks.2": 1.5, "blocks.3": 2.5},  # by layer, which no record does
]
METHODS = {
    "round to nearest": ("gptq", {"feedback": False, "multipliers": {"tok_emb": 0.5}}),
    "gptq, absmax": ("gptq", {"clip": "absmax", "multipliers": {"tok_emb": 0.5}}),
    "gptq": ("gptq", {}),
    **{
        "gptq, by hand " + " ".join(f"{part} x{factor}" for part, factor in setting.items()): (
            "gptq",
            {"multipliers": setting},
        )
        for setting in HAND_TUNED
    },
    "gptq_fisher, per tensor": ("gptq_fisher", {"per": "tensor"}),
    "gptq_fisher": ("gptq_fisher", {}),
    "gptq_trellis, 8 states": ("gptq_trellis", {"states": 8}),
    "gptq_trellis, 64 states": ("gptq_trellis", {"states": 64}),
}
LEVELS = (0.006, 0.003, 0.0015)
"""Nats per token of KL at which methods are compared."""


class Bench:
    """A trained model with its statistics, and what can be asked of a quantization of it."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self.zoo = discover()
        record = load_record(str(folder / "record.toml"), self.zoo)
        world = World(0, 1, torch.device("cpu"), False)
        setup = set_up(namespace(record.tables), record.bind(), world)
        plan, text, self.model, self.roles = setup.plan, setup.validation, setup.model.module, setup.model.roles
        self.weights = load_file(folder / "weights.safetensors")
        load_weights(self.model, self.weights, str(folder))
        batches = set_up_training(setup).batches
        self.statistics = calibrate(self.model, NEEDS, batches, plan.train.seed, world)
        length = plan.train.seq_len
        count = min(tokens, text.num_targets) // length * length
        ids = torch.from_numpy(text.tokens[: count + 1].astype(np.int64))
        self.inputs, self.targets = ids[:-1].view(-1, length), ids[1:].view(-1, length)
        self.num_bytes = int(text.target_bytes[:count].sum())
        self.plan, self.text, self.world = plan, text, world
        self.plain = self.log_probabilities()
        self.loss = self.nats(self.plain)
        self.coder = self.make("compressor", "rans", {})

    def make(self, kind: str, name: str, options: dict):
        component = self.zoo.find(kind, name).component
        config, problems = component.config.read(options, name)
        assert not problems, problems
        return load_target(component.target)(namespace(config.model_dump(mode="json")))

    def log_probabilities(self) -> torch.Tensor:
        """(tokens, vocab_size)"""
        self.model.eval()
        with torch.no_grad():
            return torch.cat([self.model(part).float().log_softmax(-1).flatten(0, 1)
                              for part in self.inputs.split(16)])  # fmt: skip

    def nats(self, log_probabilities: torch.Tensor) -> float:
        return -log_probabilities.gather(1, self.targets.reshape(-1, 1)).double().mean().item()

    def measure(self, quantizer, knob: float) -> dict:
        """Bits per weight, KL and the rise in bits per byte, at a knob."""
        tensors, metadata = quantizer.quantize(self.weights, self.roles, self.statistics, knob)
        coded = {name: tensor for name, tensor in tensors.items() if f"{name.removesuffix('.rows')}.step" in tensors
                 or name.endswith(".step")}  # fmt: skip
        weights = sum(tensor.numel() for tensor in coded.values() if tensor.ndim == 2)
        size = len(compress_tensors(coded, metadata, self.coder))
        load_weights(self.model, quantizer.dequantize(tensors, metadata), "quantized")
        now = self.log_probabilities()
        load_weights(self.model, self.weights, "trained")
        kl = (self.plain.exp() * (self.plain - now)).sum(-1).double().mean().item()
        rise = (self.nats(now) - self.loss) / np.log(2) * self.targets.numel() / self.num_bytes
        return {"knob": knob, "bits": 8 * size / weights, "kl": kl, "bpb": rise, "bytes": size}

    def curve(self, name: str, start: list[dict]) -> list[dict]:
        """Points near the levels. `start` has points of a like method, whose knobs are tried first."""
        kind, options = METHODS[name]
        quantizer = self.make("quantizer", kind, {"keep_numel": 4096, **options})
        points = []
        for level, like in zip(LEVELS, start or [None] * len(LEVELS), strict=True):
            if like:
                near = self.measure(quantizer, like["knob"])
            else:
                near = points[-1] if points else self.measure(quantizer, quantizer.knob)
            for _ in range(1 if like else 3):
                if abs(np.log(near["kl"] / level)) < 0.15:
                    break
                near = self.measure(quantizer, near["knob"] * (level / near["kl"]) ** 0.5)  # KL goes with step^2
            points.append(near)
        return points

    def adapted(self, name: str, bits: float, knob: float) -> dict:
        """Bits per byte after test-time training with the record's own windows and LoRA, at a rate."""
        kind, options = METHODS[name]
        quantizer = self.make("quantizer", kind, {"keep_numel": 4096, **options})
        for _ in range(3):
            point = self.measure(quantizer, knob)
            if abs(point["bits"] - bits) < 0.02:
                break
            knob *= 2 ** (1.2 * (point["bits"] - bits))
        tensors, metadata = quantizer.quantize(self.weights, self.roles, self.statistics, point["knob"])
        load_weights(self.model, quantizer.dequantize(tensors, metadata), "quantized")
        return {**point, "flat": self.score(None), "adapted": self.score(self.make("adaptor", "lora", {}))}

    def score(self, adaptor) -> float:
        windowing = self.plan.eval if adaptor else flat_windowing(self.plan.train)
        return evaluate(self.model, self.text, windowing, self.world, adaptor, self.plan.train.seed).val_bpb


def bits_at(points: list[dict], kl: float) -> float:
    """Bits per weight at a KL, on the line through the two nearest points: log KL against bits is nearly one."""
    first, second = sorted(points, key=lambda point: abs(np.log(point["kl"] / kl)))[:2]
    slope = (first["bits"] - second["bits"]) / np.log(first["kl"] / second["kl"])
    return first["bits"] + slope * np.log(kl / first["kl"])


def tabulate(curves: dict[str, dict[str, list[dict]]], levels: tuple[float, ...]) -> list[dict]:
    """A row for each method: bits per weight at each KL, mean and deviation over seeds, and what it saves."""
    rows = []
    for name in METHODS:
        seeds = [points[name] for points in curves.values() if name in points]
        if seeds:
            at = {kl: [bits_at(points, kl) for points in seeds] for kl in levels}
            rows.append({"method": name, "bits": {kl: [np.mean(v), np.std(v)] for kl, v in at.items()}})
    by_hand = [row for row in rows if row["method"] == "gptq" or "by hand" in row["method"]]
    for kl in levels:
        best = np.nanmin([row["bits"][kl][0] for row in by_hand])
        for row in rows:
            row.setdefault("saves", {})[kl] = 1 - row["bits"][kl][0] / best
    return rows


def measure_run(run: Path, out: Path, tokens: int) -> dict:
    """The curves of all methods on a run's model. Kept in `out`, and read from there the next time."""
    kept = out / f"{run.name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    bench, curves = Bench(run, tokens), {}
    for name in METHODS:
        started = time.perf_counter()
        curves[name] = points = bench.curve(name, curves["gptq_fisher"] if "trellis" in name else [])
        shown = "  ".join(f"{p['bits']:.3f} b {p['kl']:.5f} {p['bpb']:+.4f}" for p in points)
        print(f"{run.name:8} {name:58} {shown}  ({time.perf_counter() - started:.0f} s)", flush=True)
    found = {"curves": curves, "adapted": compare_adapted(bench, curves)}
    kept.write_text(json.dumps(found, indent=1))
    return found


def compare_adapted(bench: Bench, curves: dict[str, list[dict]]) -> dict[str, dict]:
    """Scores with and without test-time training, of the trained model and of methods at one rate."""
    by_hand = min((name for name in curves if "by hand" in name), key=lambda name: bits_at(curves[name], LEVELS[1]))
    bits = bits_at(curves[by_hand], LEVELS[1])
    trained = {"flat": bench.score(None), "adapted": bench.score(bench.make("adaptor", "lora", {}))}
    scores = {"trained": trained}
    for name in (by_hand, "gptq_fisher", "gptq_trellis, 8 states"):
        near = min(curves[name], key=lambda point: abs(point["bits"] - bits))
        scores[name] = bench.adapted(name, bits, near["knob"] * 2 ** (near["bits"] - bits))
    for name, score in scores.items():
        at = f"{score['bits']:.3f} b" if "bits" in score else ""
        print(f"{'adapted':8} {name:58} {at:8} flat {score['flat']:.5f}  adapted {score['adapted']:.5f}", flush=True)
    return scores


def draw(curves: dict[str, dict[str, list[dict]]], out: Path) -> None:
    try:
        import matplotlib.ticker
    except ImportError:
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    named = {"round to nearest": "#999999", "gptq, absmax": "#E69F00", "gptq": "#D55E00", "gptq_fisher": "#0072B2",
             "gptq_trellis, 8 states": "#009E73", "gptq_trellis, 64 states": "#000000"}  # fmt: skip
    for number, name in enumerate(name for name in METHODS if "by hand" in name):
        for points in curves.values():
            axes.plot([p["bits"] for p in points.get(name, [])], [p["kl"] for p in points.get(name, [])], lw=0.7,
                      color="#D55E00", alpha=0.45, label="gptq, tuned by hand" if number == 0 else None)  # fmt: skip
    for name, color in named.items():
        for number, points in enumerate(curves.values()):
            axes.plot([p["bits"] for p in points.get(name, [])], [p["kl"] for p in points.get(name, [])], "o-", ms=3,
                      color=color, lw=1.4, label=name if number == 0 else None)  # fmt: skip
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False)
    axes.set(yscale="log", xlabel="bits per weight, as stored", ylabel="KL from the trained model, nats per token")
    axes.set_yticks(LEVELS, [f"{level:g}" for level in LEVELS])
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    for kind in ("svg", "png"):
        figure.savefig(out / f"rate_distortion.{kind}", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=24576)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    measured = {run.name: measure_run(run, arguments.out, arguments.tokens) for run in arguments.runs}
    curves = {name: found["curves"] for name, found in measured.items()}
    levels = LEVELS
    rows = tabulate(curves, levels)
    (arguments.out / "table.json").write_text(json.dumps({"measured": measured, "rows": rows}, indent=1))
    print(f"\n{'':60}" + "".join(f"  bits at KL {kl:<8g} saves " for kl in levels))
    for row in rows:
        cells = [f"{row['bits'][kl][0]:8.3f} ±{row['bits'][kl][1]:.3f}  {row['saves'][kl]:7.1%}  " for kl in levels]
        print(f"{row['method']:60}" + "".join(cells))
    draw(curves, arguments.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
