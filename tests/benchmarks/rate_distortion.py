"""Bits per weight against damage: every quantizer and setting, on models that golfzoo trained, as one table.

    python tests/benchmarks/rate_distortion.py RUN... --out FOLDER [--levels 0.006 0.003 0.0015] [--only WORD...]

RUN are folders of completed runs, one for each seed. Rates are real bytes: of everything that `rans` writes for the
coded matrices, with all that belongs to them, over the number of those weights. Damage is the KL divergence, in nats
per token on the whole validation text, of the quantized model from the trained one. Every method is brought to every
level of damage from both sides, by a secant on logarithms: what the table says lies between two measured points that
are a few percent apart, or is one. Nothing is extrapolated. What quantizers know comes from training text alone, by the
engine's own calibration and measurement.

Writes a file for every run, table.json and, where matplotlib is, rate_distortion.svg and .png.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from golfzoo.engine.calibrate import calibrate_by
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.damage import measure_by
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate, flat_windowing
from golfzoo.engine.model import load_weights
from golfzoo.engine.setup import set_up, set_up_training
from golfzoo.record import load_record
from golfzoo.zoo import discover

NEEDS = {"hessian": 98304, "fisher": 163840}
DAMAGE_TOKENS = 8192
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
    "int6 by search": ("gptq_rows", {"clip": "search", "levels": 31}),
    "clips by deviation": ("gptq_rows", {}),
    "LQER": ("gptq_lqer", {}),
    "mixed bits by trace": ("gptq_mixed", {"fine": 9}),
    "gptq_fisher, per tensor": ("gptq_fisher", {"per": "tensor"}),
    "gptq_fisher, per row": ("gptq_fisher", {"per": "row"}),
    "gptq_fisher": ("gptq_fisher", {}),
    "gptq_trellis": ("gptq_trellis", {}),
}
CLIPS = {"clip_sigmas": 12.85, "embedding_clip_sigmas": 20.0}
"""What stands in for the knob of a quantizer without one: these options, times it."""
LEVELS = (0.006, 0.003, 0.0015)
"""Nats per token of KL at which methods are compared."""


class Bench:
    """A trained model with its statistics, and what can be asked of a quantization of it."""

    def __init__(self, folder: Path) -> None:
        self.zoo = discover()
        record = load_record(str(folder / "record.toml"), self.zoo)
        world = World(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"), False)
        self.setup = set_up(namespace(record.tables), record.bind(), world)
        plan, text = self.setup.plan, self.setup.validation
        self.model, self.roles = self.setup.model.module, self.setup.model.roles
        self.weights = load_file(folder / "weights.safetensors")
        load_weights(self.model, self.weights, str(folder))
        self.training = set_up_training(self.setup)
        self.statistics = calibrate_by(self.setup, self.training, NEEDS)
        self.measured: dict[str, torch.Tensor] = {}
        length = plan.train.seq_len
        count = text.num_targets // length * length
        ids = torch.from_numpy(text.tokens[: count + 1].astype(np.int64)).to(world.device)
        self.inputs, self.targets = ids[:-1].view(-1, length), ids[1:].view(-1, length)
        self.num_bytes = int(text.target_bytes[:count].sum())
        self.plan, self.text, self.world = plan, text, world
        self.plain = list(self.log_probabilities())
        self.coder = self.make("compressor", "rans", {})

    def make(self, kind: str, name: str, options: dict):
        component = self.zoo.find(kind, name).component
        config, problems = component.config.read(options, name)
        assert not problems, problems
        return load_target(component.target)(namespace(config.model_dump(mode="json")))

    def log_probabilities(self):
        """(tokens, vocab_size), of 16 windows at a time."""
        self.model.eval()
        with torch.no_grad():
            for part in self.inputs.split(16):
                yield self.model(part).float().log_softmax(-1).flatten(0, 1)

    def quantizer(self, method: str, knob: float):
        """It, what it is told, and the knob that it is called with."""
        name, options = METHODS[method]
        options = {"keep_numel": 4096, **options}
        if name in ("gptq", "gptq_fisher", "gptq_trellis"):
            quantizer = self.make("quantizer", name, options)
        elif options.get("clip") == "search":
            levels = max(1, round(31 / knob))
            options |= {"levels": min(levels, 127), "embedding_levels": min(4 * levels, 127)}
            return self.make("quantizer", name, options), self.statistics, None
        else:
            options |= {option: value * knob for option, value in CLIPS.items()}
            return self.make("quantizer", name, options), self.statistics, None
        if "damage" not in quantizer.needs:
            return quantizer, self.statistics, knob
        if not self.measured:  # the trellis measures without one, so that it is the same for both
            started = time.perf_counter()
            load_weights(self.model, self.weights, "trained")
            self.setup.components.quantizer = quantizer
            self.measured = measure_by(self.setup, self.training, self.statistics, DAMAGE_TOKENS)
            print(f"{'':8} measured damage in {time.perf_counter() - started:.0f} s", flush=True)
        return quantizer, {**self.statistics, **self.measured}, knob

    def quantize(self, method: str, knob: float):
        """Bytes and number of the coded weights, and the state."""
        quantizer, known, given = self.quantizer(method, knob)
        tensors, metadata = quantizer.quantize(dict(self.weights), self.roles, known, given)
        # What is kept as it was costs every method the same.
        coded = {name: tensor for name, tensor in tensors.items()
                 if not (name in self.weights and tensor.is_floating_point())}  # fmt: skip
        count = sum(self.weights[name].numel() for name in coded if name in self.weights)
        return len(self.coder.encode(coded, metadata)), count, quantizer.dequantize(tensors, metadata)

    def measure(self, method: str, knob: float) -> dict:
        """Bits per weight, KL and the rise in bits per byte, at a knob."""
        size, count, state = self.quantize(method, knob)
        kl, rise = self.compare(state)
        return {"knob": knob, "bits": 8 * size / count, "kl": kl, "bpb": rise / np.log(2) / self.num_bytes,
                "bytes": size}  # fmt: skip

    def compare(self, state: dict) -> tuple[float, float]:
        """KL of other weights from the trained ones, nats per token; and by how much the targets' nats rise in all."""
        load_weights(self.model, state, "changed")
        kl = rise = 0.0
        targets = self.targets.reshape(-1, 1).split(16 * self.targets.shape[1])
        for plain, now, ids in zip(self.plain, self.log_probabilities(), targets, strict=True):
            kl += (plain.exp() * (plain - now)).sum(-1).double().sum().item()
            rise += (plain - now).gather(1, ids).double().sum().item()
        load_weights(self.model, self.weights, "trained")
        return kl / self.targets.numel(), rise

    def curve(self, method: str, levels: list[float], start: float) -> list[dict]:
        """Points on both sides of every level, or on it. The search begins at a knob."""
        points: list[dict] = []
        for level in levels:
            knob = start
            if points:
                near = min(points, key=lambda point: abs(np.log(point["kl"] / level)))
                knob = near["knob"] * (level / near["kl"]) ** 0.5  # KL goes with the square of steps
            for _ in range(9):
                points.append(self.measure(method, knob))
                if surrounded(points, level):
                    break
                knob = next_knob(points, level)
        return points

    def adapted(self, method: str, bits: float, knob: float) -> dict:
        """Bits per byte after test-time training with the record's own windows and LoRA, at a rate."""
        for _ in range(4):
            size, count, state = self.quantize(method, knob)
            rate = 8 * size / count
            if abs(rate - bits) < 0.01:
                break
            knob *= 2 ** (1.1 * (rate - bits))
        load_weights(self.model, state, "quantized")
        return {"bits": rate, "flat": self.score(None), "adapted": self.score(self.make("adaptor", "lora", {}))}

    def score(self, adaptor) -> float:
        windowing = self.plan.eval if adaptor else flat_windowing(self.plan.train)
        return evaluate(self.model, self.text, windowing, self.world, adaptor, self.plan.train.seed).val_bpb


def sides(points: list[dict], kl: float) -> tuple[dict | None, dict | None]:
    """The nearest point of less damage than asked for, and the nearest of more, by knob."""
    under = max((point for point in points if point["kl"] <= kl), key=lambda point: point["knob"], default=None)
    over = min((point for point in points if point["kl"] > kl), key=lambda point: point["knob"], default=None)
    return under, over


def surrounded(points: list[dict], kl: float) -> bool:
    """Whether a level of damage is met within 2 %, or lies between two points that are near each other."""
    under, over = sides(points, kl)
    met = any(abs(np.log(point["kl"] / kl)) < 0.02 for point in points)
    return met or bool(under and over and over["kl"] / under["kl"] < 1.15)


def next_knob(points: list[dict], kl: float) -> float:
    """Where to look next: between the two sides by logarithms, or past the only one there is."""
    under, over = sides(points, kl)
    if not (under and over):
        near = under or over
        return near["knob"] * (kl / near["kl"]) ** 0.5 * (1.02 if under else 1 / 1.02)
    if over["knob"] < under["knob"]:  # damage that is not monotone: halfway
        return (over["knob"] * under["knob"]) ** 0.5
    share = np.log(kl / under["kl"]) / np.log(over["kl"] / under["kl"])
    return under["knob"] * (over["knob"] / under["knob"]) ** min(max(share, 0.1), 0.9)


def bits_at(points: list[dict], kl: float) -> float:
    """Bits per weight at a KL: a point's within 2 % of it, or between the two sides. Not a number where it was not
    surrounded: nothing is extrapolated."""
    near = min(points, key=lambda point: abs(np.log(point["kl"] / kl)))
    under, over = sides(points, kl)
    if abs(np.log(near["kl"] / kl)) < 0.02 or not (under and over):
        return near["bits"] + 0.5 * np.log2(near["kl"] / kl) if abs(np.log(near["kl"] / kl)) < 0.02 else np.nan
    share = np.log(kl / under["kl"]) / np.log(over["kl"] / under["kl"])
    return under["bits"] + share * (over["bits"] - under["bits"])


def tabulate(curves: dict[str, dict[str, list[dict]]], levels: list[float]) -> list[dict]:
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


def measure_run(run: Path, out: Path, levels: list[float], methods: list[str], adapted: bool) -> dict:
    """The curves of methods on a run's model. Kept in `out`, and what is there already is not measured again."""
    kept = out / f"{run.name}.json"
    found = json.loads(kept.read_text()) if kept.exists() else {"curves": {}}
    curves, searched, bench = found["curves"], found.setdefault("searched", {}), None
    for name in methods:
        points = curves.get(name, [])
        if all(level in searched.get(name, []) or surrounded(points, level) for level in levels):
            continue
        bench, started = bench or Bench(run), time.perf_counter()
        kind = METHODS[name][0]
        like = [points for other, points in curves.items() if METHODS.get(other, ("",))[0] == kind and points]
        start = like[-1][-1]["knob"] if like else (4e-4 if kind in ("gptq_fisher", "gptq_trellis") else 0.6)
        curves[name] = points = bench.curve(name, levels, start)
        searched[name] = levels  # not every method can be brought to every level
        shown = "  ".join(f"{bits_at(points, level):.3f} b at {level:g}" for level in levels)
        seconds = time.perf_counter() - started
        print(f"{run.name:8} {name:58} {shown}  ({len(points)} points, {seconds:.0f} s)", flush=True)
        kept.write_text(json.dumps(found, indent=1))
    if adapted and "adapted" not in found:
        found["adapted"] = compare_adapted(bench or Bench(run), curves, levels[len(levels) // 2])
        kept.write_text(json.dumps(found, indent=1))
    return found


def compare_adapted(bench: Bench, curves: dict[str, list[dict]], level: float) -> dict[str, dict]:
    """Scores with and without test-time training, of the trained model and of methods at one rate."""
    by_hand = min((name for name in curves if "by hand" in name), key=lambda name: bits_at(curves[name], level))
    bits = bits_at(curves[by_hand], level)
    scores = {"trained": {"flat": bench.score(None), "adapted": bench.score(bench.make("adaptor", "lora", {}))}}
    for name in (by_hand, "gptq_fisher", "gptq_trellis"):
        if name in curves:
            near = min(curves[name], key=lambda point: abs(point["bits"] - bits))
            scores[name] = bench.adapted(name, bits, near["knob"] * 2 ** (near["bits"] - bits))
    for name, score in scores.items():
        at = f"{score['bits']:.3f} b" if "bits" in score else ""
        print(f"{'adapted':8} {name:58} {at:8} flat {score['flat']:.5f}  adapted {score['adapted']:.5f}", flush=True)
    return scores


def drawn(points: list[dict]) -> tuple[list[float], list[float]]:
    """Bits and KL of the points that are compared: a search may begin far off."""
    near = [point for point in points if LEVELS[-1] / 1.4 < point["kl"] < LEVELS[0] * 1.4]
    near.sort(key=lambda point: point["bits"])
    return [point["bits"] for point in near], [point["kl"] for point in near]


def draw(curves: dict[str, dict[str, list[dict]]], out: Path) -> None:
    try:
        import matplotlib.ticker
    except ImportError:
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    named = {"round to nearest": "#999999", "gptq, absmax": "#E69F00", "gptq": "#D55E00", "gptq_fisher": "#0072B2",
             "gptq_trellis": "#009E73", "gptq_fisher, per row": "#000000"}  # fmt: skip
    for number, name in enumerate(name for name in METHODS if "by hand" in name):
        for points in curves.values():
            axes.plot(*drawn(points.get(name, [])), lw=0.7, color="#D55E00", alpha=0.45,
                      label="gptq, tuned by hand" if number == 0 else None)  # fmt: skip
    for name, color in named.items():
        for number, points in enumerate(curves.values()):
            axes.plot(
                *drawn(points.get(name, [])), "o-", ms=3, color=color, lw=1.4, label=name if number == 0 else None
            )
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
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS))
    parser.add_argument("--only", nargs="+", default=[""], help="methods with one of these in their names")
    parser.add_argument("--adapted", action="store_true", help="scores after test-time training at one rate too")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    levels, methods = arguments.levels, [name for name in METHODS if any(word in name for word in arguments.only)]
    measured = {run.name: measure_run(run, arguments.out, levels, methods, arguments.adapted) for run in arguments.runs}
    curves = {name: found["curves"] for name, found in measured.items()}
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
