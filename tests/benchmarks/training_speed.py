"""Training speed of two commits, run alternately in pairs, each from its own checkout, with this Python's packages.

    python tests/benchmarks/training_speed.py OLD [NEW] [--pairs 8] [--steps 16] [--record records/baseline.toml]

Prints tokens per second of training, by the median step on the run's own clock, which a machine that is busy with
something else for a while moves less than the mean; and the median of the pairs' ratios, NEW over OLD.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tomli

ROOT = Path(__file__).parents[2]


def train(checkout, commit, out, arguments):
    """Tokens per second of one training, which takes nothing over from another."""
    environment = os.environ | {"PYTHONPATH": f"{checkout}:{checkout / 'plugins'}", "GOLFZOO_CACHE": str(out / "cache")}
    command = [sys.executable, "-m", "golfzoo", "run", str(checkout / arguments.record), "--out", str(out / "run")]
    command += [f"train.iterations={arguments.steps}", "train.val_every=0", "train.log_every=1", "adaptor.use=none"]
    subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True)
    ran = json.loads((out / "run" / "env.json").read_text())["git"]["commit"]
    if ran != commit:
        sys.exit(f"{checkout}: ran {ran} instead of {commit}")
    events = map(json.loads, (out / "run" / "metrics.jsonl").read_text().splitlines())
    seconds = np.diff([0.0] + [event["seconds"] for event in events if event["event"] == "train"])
    tokens = tomli.loads((out / "run" / "record.toml").read_text())["train"]["batch_tokens"]
    return tokens / float(np.median(seconds))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default="HEAD")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--record", default="records/baseline.toml")
    arguments = parser.parse_args()
    os.environ.setdefault("GOLFZOO_DATA", str(ROOT / "data"))
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {}
        for name in ("old", "new"):
            checkout = Path(folder) / name
            subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(checkout)], check=True)
            subprocess.run(["git", "checkout", "--quiet", getattr(arguments, name)], cwd=checkout, check=True)
            head = subprocess.run(
                ["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True
            )
            checkouts[name] = (checkout, head.stdout.strip())
        ratios = []
        for pair in range(arguments.pairs):
            speed = {}
            for name in ("old", "new") if pair % 2 else ("new", "old"):  # neither always goes first
                out = Path(folder) / f"{name}-{pair}"
                out.mkdir()
                speed[name] = train(*checkouts[name], out, arguments)
            ratios.append(speed["new"] / speed["old"])
            print(f"old {speed['old']:8,.0f}   new {speed['new']:8,.0f} tokens/s   ratio {ratios[-1]:.3f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f} over {len(ratios)} pairs")


if __name__ == "__main__":
    main()
