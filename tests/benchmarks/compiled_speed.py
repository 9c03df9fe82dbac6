"""Compiled training and scoring: golfzoo's engine against the reference's arithmetic, written plainly and compiled too.

    python tests/benchmarks/compiled_speed.py [--rounds 12] [--steps 4] [--record records/baseline.toml]

One process on the CPU, the record under the profile `cpu` with compile=on. Both train the same model from the same
weights on the same batches, and score the whole validation text in windows as in training.

golfzoo's side is what a run calls: a step is engine.step's `accumulate` and `update` and the exchange of the loss, as
`golfzoo bench` takes it; scoring is engine.evaluate's `evaluate_flat`, ledger included. The plain side is written here,
as openai/parameter-golf's train_gpt.py does it, but for bfloat16, which CPUs emulate: one module, forward(input_ids,
target_ids) -> mean loss, under torch.compile(dynamic=False, fullgraph=True); Muon, one matrix after the other, its
Newton-Schulz iteration compiled; Adam; the bytes counted beside the loss; what fills no whole window left out.

Everything is compiled and warm before anything is timed. Then the two take turns, and neither always goes first. Speeds
are tokens per second of this process's CPU time, all threads together, which other processes move less than wall time;
the ratio is the median of the rounds' ratios, golfzoo over plain: above 1, golfzoo is faster.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that wait for each other take CPU time as well

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from golfzoo.engine.components import namespace
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate_flat
from golfzoo.engine.setup import Setup, Training, set_up, set_up_training
from golfzoo.engine.step import micro_steps_of, parallel
from golfzoo.machine.bench import training_step
from golfzoo.record import load_record
from golfzoo.running.launch import prepare_data
from golfzoo.zoo import discover

ROOT = Path(__file__).parents[2]


class Rotary(nn.Module):
    """Tables for the length that was asked for last; every attention has its own."""

    frequencies: Tensor

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.register_buffer("frequencies", base**-exponents, persistent=False)
        self.cos: Tensor | None = None
        self.sin: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[-2]
        if self.cos is None or self.sin is None or len(self.cos) != time:
            angles = torch.outer(torch.arange(time, dtype=torch.float32), self.frequencies)
            self.cos, self.sin = angles.cos(), angles.sin()
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * self.cos + right * self.sin, right * self.cos - left * self.sin), dim=-1)


class PlainAttention(nn.Module):
    def __init__(self, options: Any) -> None:
        super().__init__()
        dim, self.heads, self.kv_heads = options.model_dim, options.num_heads, options.num_kv_heads
        self.head_dim = dim // self.heads
        self.c_q = nn.Linear(dim, dim, bias=False)
        self.c_k = nn.Linear(dim, self.kv_heads * self.head_dim, bias=False)
        self.c_v = nn.Linear(dim, self.kv_heads * self.head_dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.q_gain = nn.Parameter(torch.ones(self.heads))
        self.rotary = Rotary(self.head_dim, options.rope_base)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, dim = x.shape
        q = self.c_q(x).view(batch, time, self.heads, self.head_dim).transpose(1, 2)
        k = self.c_k(x).view(batch, time, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.c_v(x).view(batch, time, self.kv_heads, self.head_dim).transpose(1, 2)
        q = self.rotary(F.rms_norm(q, (self.head_dim,))) * self.q_gain[:, None, None]
        k = self.rotary(F.rms_norm(k, (self.head_dim,)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return self.proj(y.transpose(1, 2).reshape(batch, time, dim))


class PlainMLP(nn.Module):
    def __init__(self, options: Any) -> None:
        super().__init__()
        self.fc = nn.Linear(options.model_dim, int(options.mlp_mult * options.model_dim), bias=False)
        self.proj = nn.Linear(int(options.mlp_mult * options.model_dim), options.model_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.relu(self.fc(x)).square())


class PlainBlock(nn.Module):
    def __init__(self, options: Any) -> None:
        super().__init__()
        self.attn, self.mlp = PlainAttention(options), PlainMLP(options)
        self.attn_scale = nn.Parameter(torch.ones(options.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(options.model_dim))
        self.resid_mix = nn.Parameter(torch.ones(2, options.model_dim))

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        x = self.resid_mix[0] * x + self.resid_mix[1] * x0
        x = x + self.attn_scale * self.attn(F.rms_norm(x, (x.size(-1),)))
        return x + self.mlp_scale * self.mlp(F.rms_norm(x, (x.size(-1),)))


class PlainGPT(nn.Module):
    """The reference's model and loss; its parameters have the names that golfzoo's have. The head is the embedding."""

    def __init__(self, options: Any, vocab_size: int) -> None:
        super().__init__()
        self.first, self.softcap = options.num_layers // 2, options.logit_softcap
        self.tok_emb = nn.Embedding(vocab_size, options.model_dim)
        self.skip_weights = nn.Parameter(torch.ones(self.first, options.model_dim))
        self.blocks = nn.ModuleList(PlainBlock(options) for _ in range(options.num_layers))

    def forward(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Ids, both (batch, time) -> the mean loss in nats."""
        x = F.rms_norm(self.tok_emb(input_ids), (self.tok_emb.embedding_dim,))
        x0, skips = x, []
        for block in self.blocks[: self.first]:
            x = block(x, x0)
            skips.append(x)
        for number, block in enumerate(self.blocks[self.first :]):
            if skips:
                x = x + self.skip_weights[number] * skips.pop()
            x = block(x, x0)
        x = F.rms_norm(x, (x.size(-1),)).reshape(-1, x.size(-1))
        logits = self.softcap * torch.tanh(F.linear(x, self.tok_emb.weight) / self.softcap)
        return F.cross_entropy(logits.float(), target_ids.reshape(-1))


@torch.compile
def newton_schulz(gradient: Tensor, steps: int) -> Tensor:
    x = gradient / (gradient.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class PlainMuon(torch.optim.Optimizer):
    def __init__(self, matrices: list[nn.Parameter], options: Any) -> None:
        super().__init__(matrices, {"lr": options.matrix_lr, "momentum": options.momentum})
        self.num_iterations = options.newton_schulz_steps

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                buffer = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                buffer.mul_(group["momentum"]).add_(matrix.grad)
                update = newton_schulz(matrix.grad.add(buffer, alpha=group["momentum"]), self.num_iterations)
                matrix.add_(update, alpha=-group["lr"] * max(1, matrix.size(0) / matrix.size(1)) ** 0.5)


class Plain:
    """The plain side: the same weights to begin with, the same batches, the same text."""

    def __init__(self, setup: Setup, training: Training, options: SimpleNamespace) -> None:
        self.settings, self.text, self.stream = setup.plan.train, setup.validation, training.batches.stream
        self.micro_steps = micro_steps_of(self.settings, setup.world)
        self.bytes = torch.from_numpy(self.text.target_bytes)
        self.options = options.optimizer
        model = PlainGPT(options.architecture, setup.tokenizer.vocab_size)
        model.load_state_dict(setup.model.module.state_dict())
        roles = setup.model.roles
        of_role: dict[str, list[nn.Parameter]] = {"embedding": [], "matrix": [], "control": []}
        for name, parameter in model.named_parameters():
            of_role[roles[name]].append(parameter)
        self.muon = PlainMuon(of_role["matrix"], self.options)
        betas, eps = (self.options.beta1, self.options.beta2), self.options.adam_eps
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(of_role["embedding"], lr=self.options.tied_embed_lr, betas=betas, eps=eps, fused=True),
            self.muon,
            torch.optim.Adam(of_role["control"], lr=self.options.scalar_lr, betas=betas, eps=eps, fused=True),
        ]
        self.model: Any = torch.compile(model, dynamic=False, fullgraph=True)
        self.num_steps = 0

    def step(self) -> None:
        span = self.settings.micro_batch_tokens + 1
        total = torch.zeros(())
        for micro_step in range(self.micro_steps):
            start = (self.num_steps * self.micro_steps + micro_step) * span
            tokens = torch.from_numpy(self.stream.read(start, span).astype("int64"))
            inputs, targets = (ids.view(-1, self.settings.seq_len) for ids in (tokens[:-1], tokens[1:]))
            loss = self.model(inputs, targets)
            total += loss.detach()
            (loss / self.micro_steps).backward()
        risen = min(self.num_steps / self.options.momentum_warmup_steps, 1.0)
        begin, end = self.options.momentum_warmup_start, self.options.momentum
        self.muon.param_groups[0]["momentum"] = (1 - risen) * begin + risen * end
        for optimizer in self.optimizers:
            optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.item()
        self.num_steps += 1

    def score(self) -> tuple[float, int]:
        length = self.settings.seq_len
        batch = self.settings.micro_batch_tokens
        usable = self.text.num_targets // length * length
        losses, num_bytes = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, usable, batch):
                end = min(start + batch, usable)
                tokens = torch.from_numpy(self.text.tokens[start : end + 1].astype("int64"))
                loss = self.model(tokens[:-1].view(-1, length), tokens[1:].view(-1, length))
                losses += loss.double() * (end - start)
                num_bytes += self.bytes[start:end].double().sum()
        self.model.train()
        return (losses / math.log(2) / num_bytes).item(), usable


class Side(NamedTuple):
    """`score` returns bits per byte, of the targets that fill whole windows, and how many targets it scored."""

    name: str
    step: Callable[[], None]
    score: Callable[[], tuple[float, int]]


class Counted(NamedTuple):
    """What dynamo counted: graphs that were compiled, and breaks."""

    graphs: int
    breaks: int

    def __sub__(self, before: "Counted") -> "Counted":
        return Counted(self.graphs - before.graphs, self.breaks - before.breaks)


def count() -> Counted:
    return Counted(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))


def rounds_of(sides: list[Side], number: int, work: Callable[[Side], int]) -> tuple[dict[str, list[float]], Counted]:
    """Tokens per CPU second of each side in every round; and what was compiled meanwhile by the first, golfzoo's."""
    speeds: dict[str, list[float]] = {side.name: [] for side in sides}
    compiled = Counted(0, 0)
    for turn in range(number):
        for side in sides if turn % 2 else reversed(sides):
            before, started = count(), time.process_time()
            tokens = work(side)
            speeds[side.name].append(tokens / (time.process_time() - started))
            if side is sides[0]:
                during = count() - before
                compiled = Counted(compiled.graphs + during.graphs, compiled.breaks + during.breaks)
    return speeds, compiled


def show(what: str, ours: list[float], plain: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    print(
        f"{what:<14}{statistics.median(ours):>12,.0f}{statistics.median(plain):>12,.0f}"
        f"{statistics.median(ratios):>10.3f}{min(ratios):>9.3f}{max(ratios):>9.3f}"
    )


def make_sides(record: str) -> tuple[list[Side], int]:
    """golfzoo's side and the plain one, and tokens of a step; nothing is compiled before it is called."""
    resolved = load_record(record, discover(), ("train.compile=on", "adaptor.use=none"), "cpu")
    prepare_data(resolved, print)
    plan, world = namespace(resolved.tables), World(0, 1, torch.device("cpu"), bf16=False)
    setup = set_up(plan, resolved.bind(), world)
    training = set_up_training(setup)
    objective = parallel(setup.model.module, plan.train, world)

    def score() -> tuple[float, int]:
        scored = evaluate_flat(setup)
        usable = scored.tokens // plan.train.seq_len * plan.train.seq_len
        num_bytes = setup.validation.target_bytes[:usable].sum(dtype="int64")
        return float(scored.nats[:usable].sum() / math.log(2) / num_bytes), scored.tokens

    ours, plain = training_step(objective, setup, training), Plain(setup, training, plan)
    return [Side("golfzoo", ours, score), Side("plain", plain.step, plain.score)], plan.train.batch_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="training steps of each side in a round")
    parser.add_argument("--record", default=str(ROOT / "records" / "baseline.toml"))
    arguments = parser.parse_args()
    os.environ.setdefault("GOLFZOO_DATA", str(ROOT / "data"))
    sides, batch_tokens = make_sides(arguments.record)
    compiled, scores, warmed = {}, {}, {}
    counters.clear()
    for side in sides:
        before, started = count(), time.process_time()
        for _ in range(3):
            side.step()
        scores[side.name], _ = side.score()
        side.step()  # training after scoring, as after a validation: nothing may be compiled again
        side.score()
        compiled[side.name], warmed[side.name] = count() - before, time.process_time() - started
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        "bits per byte of whole windows after 3 steps:", ", ".join(f"{name} {bpb:.6f}" for name, bpb in scores.items())
    )

    def train(side: Side) -> int:
        for _ in range(arguments.steps):
            side.step()
        return arguments.steps * batch_tokens

    trained, again = rounds_of(sides, arguments.rounds, train)
    scored, once_more = rounds_of(sides, arguments.rounds, lambda side: side.score()[1])
    print(f"{'tokens/CPU s':<14}{'golfzoo':>12}{'plain':>12}{'ratio':>10}{'least':>9}{'most':>9}")
    show("training", trained["golfzoo"], trained["plain"])
    show("flat scoring", scored["golfzoo"], scored["plain"])
    for side in sides:
        graphs, breaks = compiled[side.name]
        print(f"{side.name}: {graphs} graphs, {breaks} breaks, warm after {warmed[side.name]:.0f} CPU s", end="")
        print(f"; {again.graphs + once_more.graphs} compiled after that" if side is sides[0] else "")


if __name__ == "__main__":
    main()
