"""Where the damage comes from, matrix by matrix, before and after it was measured; and what was expected of each.

    python tests/benchmarks/damage_shares.py RUN... --out FOLDER [--level 0.003]

RUN are folders of completed runs, as rate_distortion.py takes them. Every model is quantized by `gptq_fisher`, once by
the estimate for every row (`per = "row"`) and once by measured groups (the default), at the knob where all of it
together costs `level`, in nats per token of KL on the whole validation text. Then every matrix, and every measured
group of rows, is quantized alone, with the rest as it was trained. What is expected is what the quantizer went by: of
training text, where what is measured here is validation text.

Writes shares.json and, where matplotlib is, damage_shares.svg and .png.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from rate_distortion import Bench, bits_at

from golfzoo_gptq.curves import CURVE, GROUP, balanced_steps, damage_at

BEFORE, AFTER = "gptq_fisher, per row", "gptq_fisher"


def damage_of(bench: Bench, change: dict) -> float:
    """KL in nats per token of the trained weights but for these."""
    return bench.compare({**bench.weights, **change})[0]


def examine(bench: Bench, method: str, level: float) -> dict:
    """Knob, bits and damage at a level; and of each matrix, and where there are any of each group, what it was expected
    to cost alone and what it does."""
    points = bench.curve(method, [level], 4e-4)
    near = min(points, key=lambda point: abs(np.log(point["kl"] / level)))
    quantizer, known, knob = bench.quantizer(method, near["knob"])
    expected: dict[str, float] = {}
    given, chosen = quantizer.steps, {}

    def steps(name, weight, role, calibration, pivot, knob):
        chosen[name] = given(name, weight, role, calibration, pivot, knob)
        costs = quantizer.costs(name, weight, calibration, pivot)
        expected[name] = float((costs * chosen[name].square()).sum() * weight.shape[1] / 24)
        return chosen[name]

    quantizer.steps = steps
    tensors, metadata = quantizer.quantize(dict(bench.weights), bench.roles, known, knob)
    state, groups = quantizer.dequantize(tensors, metadata), []
    for name in chosen if method == AFTER else ():
        rows, expected[name] = known[GROUP + name].long(), 0.0
        steps_of_groups = balanced_steps(known, name, knob)
        for number, curve in enumerate(known[CURVE + name].double().numpy()):
            step = steps_of_groups[rows == number][0].double().log2().numpy()
            nats = float(damage_at(curve, step[None])[0])
            expected[name] += nats
            alone = torch.where((rows == number)[:, None], state[name].float(), bench.weights[name].float())
            groups.append([name, number, nats, damage_of(bench, {name: alone})])
    matrices = [[name, nats, damage_of(bench, {name: state[name]})] for name, nats in expected.items()]
    bits = bits_at(points, level)
    return {"knob": near["knob"], "bits": bits, "kl": near["kl"], "matrices": matrices, "groups": groups}


def tell(run: str, found: dict[str, dict]) -> None:
    for method, one in found.items():
        whole = sum(alone for *_, alone in one["matrices"])
        print(f"{run}: {method}, {one['bits']:.3f} bits at KL {one['kl']:.5f}; matrices alone add up to {whole:.5f}")
        for name, nats, alone in sorted(one["matrices"], key=lambda matrix: -matrix[2]):
            print(f"  {name:30} expected {nats:.6f}  measured {alone:.6f}  {alone / whole:6.1%}")
        if one["groups"]:
            ratios = np.array([alone / max(nats, 1e-12) for *_, nats, alone in one["groups"]])
            within = np.mean((ratios > 0.5) & (ratios < 2))
            print(f"  of {len(ratios)} groups {within:.0%} within a factor of two of what was expected", flush=True)


def draw(found: dict[str, dict[str, dict]], out: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharex=True, sharey=True, layout="constrained")
    for axis, method, title in zip(
        axes, (BEFORE, AFTER), ("by estimate, a step for each row", "measured, groups of rows"), strict=True
    ):
        for run, color in zip(found, plt.rcParams["axes.prop_cycle"].by_key()["color"] * 3, strict=False):
            points = np.array([[nats, alone] for _, nats, alone in found[run][method]["matrices"]])
            axis.plot(*np.maximum(points, 3e-6).T, "o", ms=5, color=color, alpha=0.75, label=run, mew=0)
            worst = max(found[run][method]["matrices"], key=lambda matrix: matrix[2])
            if worst[2] > 1.5 * worst[1]:
                axis.annotate(worst[0].removesuffix(".weight"), worst[1:], fontsize=7, color=color, xytext=(4, 4),
                              textcoords="offset points")  # fmt: skip
        limits = [3e-6, 1e-2]
        axis.plot(limits, limits, color="#555555", lw=0.8)
        axis.set(xscale="log", yscale="log", xlabel="expected KL, nats per token", title=title)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("measured KL of the matrix alone")
    if len(found) > 1:
        axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    for kind in ("svg", "png"):
        figure.savefig(out / f"damage_shares.{kind}", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--level", type=float, default=0.003)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "shares.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for run in arguments.runs:
        if run.name not in found:
            bench = Bench(run)
            found[run.name] = {method: examine(bench, method, arguments.level) for method in (BEFORE, AFTER)}
            kept.write_text(json.dumps(found, indent=1))
        tell(run.name, found[run.name])
    draw(found, arguments.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
