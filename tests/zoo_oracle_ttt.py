"""A plain second writing of the leaderboard's later batches, quantizers and test-time training, from waveBC_spec.md.

Continues zoo_oracle_later.py, in its style: slow and literal, nothing here comes from the project. A state is a dict
name -> tensor under zoo_oracle_later's names. Everything follows the state's dtype: with a float64 state the whole of
a test-time training runs in float64, which is what to compare an implementation with (see "Precision" below).

Models. Test-time training is written over plain functions, not modules:
    forward_nats(state, inputs (batch, T), targets (batch, T)) -> nats (batch, T)          score_first_sgd
    packed_nats(state, inputs (n,), targets (n,), starts)      -> nats (n,)                sgd on packed rows
    lora_nats(state, lora, inputs (T,), targets (T,))          -> nats (T,)                phased_lora
`lora` is {} or layer name -> (A (rank, in), B (out, rank)); the layers' names are "head", "q.0", "q.1", ..., "v.0",
"k.0", "mlp.0", "o.0": the number is the position in the unrolled order, not the layer. `zoo_model(settings)` gives
these three functions and the layers' shapes for any settings of zoo_oracle_later. No hooks are used: a layer's
addition is written into the forward at its place.

Draws. phased_lora takes draw(call, name, shape (documents, rank, in)) -> tensor. A call is one drawing of a whole set
of A's, counted from 0: the reusable set before the first batch is call 0; then, in the order in which they happen, one
call per batch of another size, one per batch of the usual size if A is not kept, and one after each phase's SGD.
Within a call the order is `lora_shapes`': head, all q, all v, all k, all mlp, all o.

Precision. AdamW's eps of 1e-10 makes the first step of B nearly lr * sign(gradient): gradients that cancel to
rounding noise take the full step in either direction. So two float32 writings part company; two float64 ones do not.
"""

import math

import numpy as np
import torch

import oracle
import zoo_oracle
import zoo_oracle_later

# 1. Batches


def shuffled_batches(shards, rank, world, seq_len, sequences_per_batch):
    """Endless (inputs, targets), each (sequences_per_batch, seq_len) int64; shards: 1-D arrays in name order."""
    mine = shards[rank::world]
    if not mine:
        raise ValueError(f"rank {rank} of {world} has no shard")
    generator = np.random.Generator(np.random.PCG64(rank))

    def draw_starts(shard):
        max_phase = min(seq_len - 1, max(0, len(shard) - seq_len - 1))
        phase = int(generator.integers(max_phase + 1)) if max_phase > 0 else 0
        order = generator.permutation((len(shard) - 1 - phase) // seq_len)
        return [phase + int(number) * seq_len for number in order]

    starts = [draw_starts(shard) for shard in mine]
    while True:
        rows = []
        for _ in range(sequences_per_batch):
            if all(not left for left in starts):
                starts = [draw_starts(shard) for shard in mine]
                if all(not left for left in starts):
                    raise ValueError("no shard holds a sequence")
            remaining = np.array([len(left) for left in starts], dtype=np.float64)
            which = int(generator.choice(len(mine), p=remaining / remaining.sum()))
            start = starts[which].pop()
            rows.append(oracle.as_ids(mine[which][start : start + seq_len + 1]))
        windows = torch.stack(rows)
        yield windows[:, :-1], windows[:, 1:]


def segment_starts(inputs, bos, longest):
    """inputs (n,) -> the first position of every segment: 0, each BOS, and a cut every `longest` from these."""
    ids = [int(token) for token in inputs]
    first = [t for t, token in enumerate(ids) if t == 0 or token == bos]
    starts = []
    for begin, end in zip(first, [*first[1:], len(ids)], strict=True):
        starts.extend(range(begin, end, longest) if longest else [begin])
    return starts


def padded_boundaries(starts, n, multiple=64):
    """The segments' boundaries as the original passes them: starts, then n, and n again up to a multiple of 64."""
    boundaries = [*starts, n]
    while len(boundaries) % multiple:
        boundaries.append(n)
    return boundaries


def packed_documents(shards, rank, world, tokens_per_row, bos, longest):
    """Endless (inputs (n,), targets (n,), segment starts); n = tokens_per_row. Every rank walks through all shards."""
    span = tokens_per_row + 1
    shard = 0

    def first_bos(number):
        return int(np.nonzero(np.asarray(shards[number]) == bos)[0][0])

    if all(first_bos(number) + span * world > len(shards[number]) for number in range(len(shards))):
        raise ValueError("a row of every rank fits into no shard")
    cursor = first_bos(shard)
    while True:
        while cursor + span * world > len(shards[shard]):
            shard = (shard + 1) % len(shards)
            cursor = first_bos(shard)
        begin = cursor + rank * span
        row = oracle.as_ids(shards[shard][begin : begin + span])
        cursor += span * world
        yield row[:-1], row[1:], segment_starts(row[:-1], bos, longest)


# 6. Quantization


def sdclip_scales(weight, sigmas, range_, factors=None):
    """(rows, cols) -> float16 (rows,): max(sigmas * unbiased std * factor / range, 1e-10), the row as it is.

    1e-10 is zero in float16: a row whose scale is below 3e-8 has scale 0 (see `rounded`).
    """
    w = weight.float()
    spread = sigmas * w.std(dim=1, correction=1)
    if factors is not None:
        spread = spread * factors
    return (spread / range_).clamp_min(1e-10).to(torch.float16)


def rounded(column, scales, range_):
    """clamp(round(column / scales)). Where the scale is 0 the original has inf or NaN: here 0; it dequantizes to 0."""
    codes = torch.round(column / scales).clamp(-range_, range_)
    return torch.where(scales == 0, torch.zeros_like(codes), codes)


def prepared(weight, hessian, dtype):
    """(permuted weight with dead inputs 0, upper factor U of H^-1, the permutation, the damped unpermuted Hessian)."""
    w, h = weight.to(dtype), hessian.to(dtype).clone()
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    damping = 0.01 * h.diagonal().mean()  # after the dead inputs' ones
    for i in range(len(h)):
        h[i, i] += damping
    order = torch.argsort(h.diagonal(), descending=True, stable=True)
    w = torch.where(dead[None, :], torch.zeros_like(w), w)[:, order]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h[order][:, order]))
    return w, torch.linalg.cholesky(inverse, upper=True), order, h


def by_blocks(w, u, scales, range_, block=128):
    """w (rows, cols), permuted, in float32 -> codes, permuted; within a block column by column, then the rest."""
    w, s = w.clone(), scales.to(w.dtype)
    codes = torch.zeros_like(w)
    cols = w.shape[1]
    for begin in range(0, cols, block):
        end = min(begin + block, cols)
        errors = torch.zeros(w.shape[0], end - begin, dtype=w.dtype)
        part = w[:, begin:end].clone()
        for j in range(begin, end):
            codes[:, j] = rounded(part[:, j - begin], s, range_)
            e = (part[:, j - begin] - codes[:, j] * s) / u[j, j]
            errors[:, j - begin] = e
            part[:, j - begin :] -= e[:, None] * u[j, j:end][None, :]
        if end < cols:
            w[:, end:] -= errors @ u[begin:end, end:]
    return codes


def unpermuted(codes, order):
    result = torch.zeros_like(codes)
    result[:, order] = codes
    return result


def gptq(weight, hessian, scales, range_, block=128):
    """(rows, cols), (cols, cols), float16 (rows,) -> codes int8 (rows, cols), in float32 and the original's order."""
    w, u, order, _ = prepared(weight, hessian, torch.float32)
    return unpermuted(by_blocks(w, u, scales, range_, block), order).to(torch.int8)


def gptq_float64(weight, hessian, scales, range_):
    """The same straight from the definition: float64, one column after another, each error spread to all the rest."""
    w, u, order, _ = prepared(weight, hessian, torch.float64)
    s = scales.double()
    codes = torch.zeros_like(w)
    for j in range(w.shape[1]):
        codes[:, j] = rounded(w[:, j], s, range_)
        e = (w[:, j] - codes[:, j] * s) / u[j, j]
        w[:, j + 1 :] -= e[:, None] * u[j, j + 1 :][None, :]
    return unpermuted(codes, order).to(torch.int8)


QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)


def quantile_scales(weight, p, range_=31):
    """float16 (rows,): max(quantile p of the row's |w| / range, 1/range); the quantile of the weight as it is."""
    w = weight.float()
    clip = zoo_oracle.row_max(w) if p == 1.0 else zoo_oracle.row_quantile(w, p)
    return (clip[:, 0] / range_).clamp_min(1 / range_).to(torch.float16)


def quantile_search_gptq(weight, hessian, range_=31, block=128):
    """ARgen, Loader (ParMini): (codes int8, float16 scales, the quantile): GPTQ five times, the least error wins.

    The error is measured against the weight with its dead inputs at 0; a tie keeps the earlier quantile.
    """
    w, u, order, _ = prepared(weight, hessian, torch.float32)
    best, least = None, math.inf
    for p in QUANTILES:
        scales = quantile_scales(weight, p, range_)
        codes = by_blocks(w, u, scales, range_, block)
        error = ((w - codes * scales.float()[:, None]) ** 2).mean().item()
        if error < least:
            best, least = (unpermuted(codes, order).to(torch.int8), scales, p), error
    return best


def hessian_clip_factors(weight, hessian, strength=0.175):
    """HSDC: (rows,) what sdclip_scales multiplies by; of the Hessian's diagonal after dead inputs and damping."""
    w = weight.float()
    diagonal = prepared(weight, hessian, torch.float32)[3].diagonal().clamp_min(1e-8)
    importance = (w.abs() * (diagonal / diagonal.mean())[None, :]).mean(dim=1)
    return 1.0 + strength * (importance / importance.mean() - 1.0)


def largest_errors(errors, count=3):
    """name -> W - dequantized: the names of the `count` largest by Frobenius norm, largest first, ties as they come."""
    return sorted(errors, key=lambda name: -float(errors[name].norm()))[:count]


def lqer_factors(error, rank=4):
    """error (rows, cols) -> A (rows, r) = U S, B (r, cols). The signs are the SVD's own; the codes depend on them."""
    u, s, vh = torch.linalg.svd(error.float(), full_matrices=False)
    rank = min(rank, len(s))
    return u[:, :rank] * s[:rank], vh[:rank]


def lqer_asymmetric(error, rank=4, group=64, factors=None):
    """error (rows, cols) -> (the correction A B (rows, cols), (A's codes, its scale, B's codes, its scales)).

    A: 2 bits, one scale; B: 4 bits, a scale per `group` values of the flat B. If B does not divide: `lqer_plain`.
    factors: (A, B) in place of the SVD's.
    """
    a, b = lqer_factors(error, rank) if factors is None else factors
    if b.numel() % group:
        return lqer_plain(error, rank, factors=(a, b))
    a_scale = (a.abs().max().clamp_min(1e-10) / 1.5).to(torch.float16)
    a_codes = torch.round(a / a_scale.float()).clamp(-2, 1)
    groups = b.reshape(-1, group)
    b_scales = (zoo_oracle.row_max(groups).clamp_min(1e-10) / 7.5).to(torch.float16)
    b_codes = torch.round(groups / b_scales.float()).clamp(-8, 7)
    correction = (a_codes * a_scale.float()) @ (b_codes * b_scales.float()).reshape(b.shape)
    codes = a_codes.to(torch.int8), a_scale, b_codes.reshape(b.shape).to(torch.int8), b_scales[:, 0]
    return correction, codes


def lqer_plain(error, rank=4, bits=4, factors=None):
    """The same with `bits` symmetric bits (+-7) per row of A (a scale per output) and of B (a scale per direction)."""
    a, b = lqer_factors(error, rank) if factors is None else factors
    levels = 2 ** (bits - 1) - 1
    packed = []
    for factor in (a, b):
        scales = (zoo_oracle.row_max(factor).clamp_min(1e-10) / levels).to(torch.float16)
        codes = rounded(factor, scales.float(), levels)
        packed.append((codes, scales))
    (a_codes, a_scales), (b_codes, b_scales) = packed
    correction = (a_codes * a_scales.float()) @ (b_codes * b_scales.float())
    return correction, (a_codes.to(torch.int8), a_scales[:, 0], b_codes.to(torch.int8), b_scales[:, 0])


def gate_int8(weight):
    """(rows, cols) -> (codes int8, float16 scales (rows,)): s = max|w| / 127; a row of zeros (scale 0) has codes 0."""
    w = weight.float()
    scales = (zoo_oracle.row_max(w).clamp_min(1e-10) / 127).to(torch.float16)
    return rounded(w, scales.float(), 127).to(torch.int8), scales[:, 0]


def ones_in_order(codes, scales):
    """name -> codes, name -> scales: every (name, flat index) of a code +-1, smallest squared scale first.

    Ties: by the tensor's place in `codes`, then by the flat index.
    """
    found = []
    for name, matrix in codes.items():
        cols = matrix.shape[1]
        for index, code in enumerate(matrix.reshape(-1).tolist()):
            if abs(code) == 1:
                found.append((float(scales[name][index // cols]) ** 2, len(found), name, index))
    return [(name, index) for _, _, name, index in sorted(found)]


def prune_ones(codes, scales, n):
    """The codes with the first n of ones_in_order at 0; one tensor and its scales, or dicts of them by name."""
    if not isinstance(codes, dict):
        return prune_ones({"": codes}, {"": scales}, n)[""]
    pruned = {name: matrix.clone() for name, matrix in codes.items()}
    for name, index in ones_in_order(codes, scales)[:n]:
        pruned[name].reshape(-1)[index] = 0
    return pruned


def fewest_pruned(size_of, count, target):
    """The least n in 0..count with size_of(n) <= target by bisection, as if sizes fell with n; count if none fits."""
    if size_of(0) <= target:
        return 0
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if size_of(middle) <= target:
            high = middle
        else:
            low = middle + 1
    return low


# The model with adapters, and on packed rows


def add(lora, scale, name, x):
    """What the adapter `name` adds for x (..., in): scale * x A^T B^T, or 0."""
    if name not in lora:
        return 0.0
    a, b = lora[name]
    return scale * (x @ a.T @ b.T)


def attention(state, settings, layer, position, n, ids, lora, scale):
    """zoo_oracle_later.attention with W + scale B A for q, k and v; "o" reads n and is added behind the projection."""
    seen = dict(state)
    for kind in ("q", "k", "v"):
        if f"{kind}.{position}" in lora:
            a, b = lora[f"{kind}.{position}"]
            name = f"blocks.{layer}.attn.c_{kind}.weight"
            seen[name] = state[name] + scale * (b @ a)
    return zoo_oracle_later.attention(seen, settings, layer, n, ids) + add(lora, scale, f"o.{position}", n)


def mlp(state, settings, layer, position, n, lora, scale):
    return zoo_oracle.mlp(state, settings, layer, n) + add(lora, scale, f"mlp.{position}", n)


def run_layers(state, settings, x0, ids, lora=None, scale=1.0):
    """x0 (1, T, D), ids (1, T) -> the final norm's output (1, T, D): zoo_oracle_later.forward's middle, last phase."""
    lora = lora or {}
    order, pushes = zoo_oracle_later.layer_order(settings)
    parallel, lanes = settings["parallel_from"], settings["lanes_from"]
    x, lane1, stack = x0, None, []
    for position, layer in enumerate(order):
        block = f"blocks.{layer}"
        mix, attn_scale, mlp_scale = (state[f"{block}.{name}"] for name in ("resid_mix", "attn_scale", "mlp_scale"))
        if lane1 is None and lanes is not None and layer >= lanes:
            lane1 = x
        if position >= pushes and stack:
            x = zoo_oracle_later.join(state, settings, position - pushes, x, stack.pop())
        mixed = mix[0] * x + mix[1] * x0
        n = zoo_oracle_later.normed(settings, layer, mixed)
        a = attn_scale * attention(state, settings, layer, position, n, ids, lora, scale)
        if lane1 is not None:
            read = lane1
        elif parallel is not None and layer >= parallel:
            read = mixed
        else:
            read = mixed + a
        m = zoo_oracle_later.normed(settings, layer, read)
        m = mlp_scale * mlp(state, settings, layer, position, m, lora, scale)
        if lane1 is None:
            x = mixed + a + m
        else:
            r, p = state["lanes.r"][layer], state["lanes.p"][layer]
            x, lane1 = r[0] * x + p[0][0] * a + p[1][0] * m, r[1] * lane1 + p[0][1] * a + p[1][1] * m
        if position < pushes:
            stack.append(x)
    return oracle.rms_norm(x if lane1 is None else (x + lane1) / 2)


def head_nats(state, settings, hidden, targets, added=0.0):
    """hidden (T, D), targets (T,) -> nats (T,); `added` to the logits before the softcap."""
    cap = settings["logit_softcap"]
    logits = cap * torch.tanh((hidden @ state["tok_emb.weight"].T + added) / cap)
    return -torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]


class zoo_model:
    """The three functions, and the adapters' shapes, for zoo_oracle_later's settings. Loop on (the last phase)."""

    def __init__(self, settings, kinds=("q", "v", "k", "mlp", "o")):
        self.settings = oracle.merged(zoo_oracle_later.SETTINGS, settings)
        self.kinds = kinds  # which adapters there are beside the head's

    def lora_shapes(self):
        """(name, in, out) of every adapter in the order of the draws."""
        dim, vocab = self.settings["model_dim"], self.settings["vocab_size"]
        kv_dim = self.settings["num_kv_heads"] * (dim // self.settings["num_heads"])
        order, _ = zoo_oracle_later.layer_order(self.settings)
        shapes = [("head", dim, vocab)]
        for kind in ("q", "v", "k", "mlp", "o"):
            if kind in self.kinds:
                for position in range(len(order)):
                    shapes.append((f"{kind}.{position}", dim, kv_dim if kind in ("k", "v") else dim))
        return shapes

    def forward_nats(self, state, inputs, targets):
        """Rows side by side, attention over the whole row."""
        return torch.stack([self.lora_nats(state, {}, row, goal) for row, goal in zip(inputs, targets, strict=True)])

    def lora_nats(self, state, lora, inputs, targets, scale=1.0):
        x0 = zoo_oracle_later.embed(state, self.settings, inputs[None])
        hidden = run_layers(state, self.settings, x0, inputs[None], lora, scale)[0]
        return head_nats(state, self.settings, hidden, targets, add(lora, scale, "head", hidden))

    def packed_nats(self, state, inputs, targets, starts):
        """One row: the embedding (with smear and bigram) runs through, the layers see one segment at a time."""
        x0 = zoo_oracle_later.embed(state, self.settings, inputs[None])
        nats = []
        for begin, end in zip(starts, [*starts[1:], len(inputs)], strict=True):
            hidden = run_layers(state, self.settings, x0[:, begin:end], inputs[None, begin:end])[0]
            nats.append(head_nats(state, self.settings, hidden, targets[begin:end]))
        return torch.cat(nats)


# 7. Score-first SGD


def sgd_step(state, gradients, buffers, lr, momentum, clip):
    """One step of SGD with momentum (no Nesterov), in place; gradients (name -> tensor) clipped over all first."""
    if clip:
        gradients = zoo_oracle.clip_gradients(gradients, clip)
    for name, g in gradients.items():
        buffers[name] = momentum * buffers[name] + g if name in buffers else g.clone()
        state[name] -= lr * buffers[name]


def mean_gradients(state, trained, losses):
    """losses: functions state -> scalar, one per rank. name -> the mean over ranks of the gradients.

    A parameter that no rank's loss reaches is left out (its momentum rests, too).
    """
    total = {}
    for loss in losses:
        leaves = {name: w.detach().clone().requires_grad_(name in trained) for name, w in state.items()}
        loss(leaves).backward()
        for name, leaf in leaves.items():
            if leaf.grad is not None:
                total[name] = total.get(name, 0) + leaf.grad / len(losses)
    return total


def rank_batches(sequences, world, batch_sequences):
    """For each step of an epoch, each rank's (first sequence, behind the last): rank r has [S r // W, S (r+1) // W)."""
    per_rank = []
    for rank in range(world):
        begin, end = sequences * rank // world, sequences * (rank + 1) // world
        per_rank.append([(i, min(i + batch_sequences, end)) for i in range(begin, end, batch_sequences)])
    if len({len(batches) for batches in per_rank}) > 1:
        raise ValueError("the ranks have unequal numbers of steps: the original would wait for ever")
    return list(zip(*per_rank, strict=True))


def train_on_chunk(loss_of, state, trained, buffers, tokens, begin, end, seq_len, options, lr):
    """`epochs` over the plain sequences of targets [begin, end), in place. loss_of(state, ids of n+1 tokens)."""
    for _ in range(options["epochs"]):
        for shares in rank_batches((end - begin) // seq_len, options["world"], options["batch_sequences"]):
            losses = []
            for first, behind in shares:
                ids = tokens[begin + first * seq_len : begin + behind * seq_len + 1]
                losses.append(lambda leaves, ids=ids: loss_of(leaves, ids))
            gradients = mean_gradients(state, trained, losses)
            with torch.no_grad():
                sgd_step(state, gradients, buffers, lr, options["momentum"], options["clip"])


def cosine(lr, chunk, chunks):
    return lr * 0.5 * (1 + math.cos(math.pi * chunk / max(chunks - 1, 1)))


def sliding_windows(total, context, stride, variant="once"):
    """(start, first scored target, end) of every window over `total` targets.

    "once": every start with start + context - stride < total (so a text of at most context - stride targets has NO
    window). "repeats" (LegalT): every start with at least `stride` targets left (and 0); each scores its last
    `stride`, so the short ones at the end score the last targets again.
    """
    windows = []
    for start in range(0, total, stride):
        end = min(start + context, total)
        if variant == "once" and start + context - stride < total:
            windows.append((start, 0 if start == 0 else start + context - stride, end))
        if variant == "repeats" and (end - start >= stride or start == 0):
            windows.append((start, 0 if start == 0 else max(end - stride, start), end))
    return windows


def score_first_sgd(
    forward_nats,
    state,
    tokens,
    *,
    context=2048,
    stride=64,
    chunk=32768,
    lr=0.005,
    momentum=0.9,
    epochs=3,
    batch_sequences=32,
    clip=1.0,
    world=1,
    trained=None,
    variant="once",
    padded=True,
):
    """Score each chunk of targets, then train on it. Sequences of training have `context` tokens too.

    trained: names, None = all floating ones. padded: a window shorter than `context` is filled with zeros (only NTK
    can tell). Returns {"nats": float64 (targets,), NaN where none was scored, "repeated": [(target, nats)] of the
    targets scored again ("repeats" only), "state": the weights at the end, "rates": chunk -> rate of those trained}.
    A chunk shorter than `context` is never trained on, nor one in which no window begins to score.
    """
    ids = oracle.as_ids(tokens)
    state = {name: w.detach().clone() for name, w in state.items()}
    trained = [name for name, w in state.items() if w.is_floating_point()] if trained is None else list(trained)
    options = {"epochs": epochs, "world": world, "batch_sequences": batch_sequences, "momentum": momentum, "clip": clip}
    total = len(ids) - 1
    chunks = -(-total // chunk)
    windows = [[] for _ in range(chunks)]
    for window in sliding_windows(total, context, stride, variant):
        windows[window[1] // chunk].append(window)

    def loss_of(leaves, run):
        return forward_nats(leaves, run[:-1].reshape(-1, context), run[1:].reshape(-1, context)).mean()

    nats = torch.full((total,), math.nan, dtype=torch.float64)
    repeated, rates, buffers = [], {}, {}
    for number in range(chunks):
        if not windows[number]:
            continue
        with torch.no_grad():
            for start, first, end in windows[number]:
                inputs, targets = torch.zeros(2, 1, context if padded else end - start, dtype=torch.int64)
                inputs[0, : end - start], targets[0, : end - start] = ids[start:end], ids[start + 1 : end + 1]
                found = forward_nats(state, inputs, targets)[0]
                for target in range(first, end):
                    if math.isnan(nats[target]):
                        nats[target] = found[target - start]
                    else:
                        repeated.append((target, float(found[target - start])))
        begin, end = number * chunk, min((number + 1) * chunk, total)
        if number < chunks - 1 and epochs and end - begin >= context:
            rates[number] = cosine(lr, number, chunks)
            train_on_chunk(loss_of, state, trained, buffers, ids, begin, end, context, options, rates[number])
    return {"nats": nats, "repeated": repeated, "state": state, "rates": rates}


def packed_sgd(
    packed_nats,
    state,
    tokens,
    *,
    bos=1,
    context=2048,
    chunk=32768,
    lr=0.001,
    momentum=0.9,
    epochs=1,
    batch_sequences=32,
    clip=1.0,
    world=1,
):
    """A phase's SGD on `tokens`: as score_first_sgd's training, but a rank's batch is one row packed by BOS. In place.

    The row's pieces are at most `context` long, from each BOS and from the row's start.
    """
    ids = oracle.as_ids(tokens)
    options = {"epochs": epochs, "world": world, "batch_sequences": batch_sequences, "momentum": momentum, "clip": clip}
    total = len(ids) - 1
    chunks = -(-total // chunk) if total > 0 else 0
    trained = [name for name, w in state.items() if w.is_floating_point()]
    buffers = {}

    def loss_of(leaves, run):
        return packed_nats(leaves, run[:-1], run[1:], segment_starts(run[:-1], bos, context)).mean()

    for number in range(chunks - 1):
        rate = cosine(lr, number, chunks)
        end = (number + 1) * chunk
        train_on_chunk(loss_of, state, trained, buffers, ids, number * chunk, end, context, options, rate)


# 7. LoRA per document, in phases


def find_documents(ids, bos=1):
    """[(start, length)]: from each BOS to the next one, which is included; the last to the end of the text."""
    marks = [i for i, token in enumerate(ids.tolist()) if token == bos]
    documents = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        end = len(ids) if following is None else following + 1
        if end - mark < 2:
            raise ValueError("the text ends with a BOS: a document without a target")
        documents.append((mark, end - mark))
    return documents


def document_batches(documents, size):
    """[(number in the ascending list, [(start, length)])], as they are served: the longest document first.

    The list is sorted by length (ties: as in the text) and cut into batches from its shortest end, so the batch that
    may be smaller is the last in number and the FIRST to be served. Ties in the longest length: the lower number.
    """
    ascending = sorted(documents, key=lambda document: document[1])
    batches = [ascending[i : i + size] for i in range(0, len(ascending), size)]
    return sorted(enumerate(batches), key=lambda item: -max(length for _, length in item[1]))


def document_chunks(targets, chunk, context):
    """(window start, first target, behind the last) of each chunk of a document, all counted from its own start."""
    return oracle.chunks(targets, chunk, context)


class Adam:
    """AdamW for the adapters of one document, name.A and name.B, from its first step."""

    def __init__(self, lr, betas, eps, decay):
        self.lr, self.betas, self.eps, self.decay = lr, betas, eps, decay
        self.steps, self.first, self.second = 0, {}, {}

    def step(self, parameters, gradients):
        """name -> tensor, in place; a document that has no loss any more has zero gradients, and still decays."""
        self.steps += 1
        b1, b2 = self.betas
        for name, p in parameters.items():
            g = gradients[name]
            self.first[name] = b1 * self.first.get(name, torch.zeros_like(g)) + (1 - b1) * g
            self.second[name] = b2 * self.second.get(name, torch.zeros_like(g)) + (1 - b2) * g * g
            p *= 1 - self.lr * self.decay
            denominator = torch.sqrt(self.second[name]) / math.sqrt(1 - b2**self.steps) + self.eps
            p -= self.lr / (1 - b1**self.steps) * self.first[name] / denominator


def train_documents(model, state, ids, batch, factors, scale, adam, chunk, context):
    """Score one batch of documents chunk by chunk, learning behind each; factors: one dict name -> [A, B] a document.

    In place (factors). Yields (target in the text, nats). As documents do not see each other inside a batch, each is
    worked alone; the number of steps is the batch's: the longest document's chunks less one, for every document.
    """
    chunks = [document_chunks(length - 1, chunk, context) for _, length in batch]
    steps = max(len(found) for found in chunks) - 1
    for (start, _), windows, lora in zip(batch, chunks, factors, strict=True):
        optimizer = Adam(**adam)
        for number in range(max(steps, len(windows))):
            parameters = {}
            for name, (a, b) in lora.items():
                parameters[f"{name}.A"], parameters[f"{name}.B"] = a, b
            gradients = {name: torch.zeros_like(p) for name, p in parameters.items()}
            if number < len(windows):
                window, first, end = windows[number]
                learns = number < len(windows) - 1
                leaves = {name: p.clone().requires_grad_(learns) for name, p in parameters.items()}
                given = {name: (leaves[f"{name}.A"], leaves[f"{name}.B"]) for name in lora}
                inputs, targets = ids[start + window : start + end], ids[start + window + 1 : start + end + 1]
                with torch.set_grad_enabled(learns):
                    nats = model.lora_nats(state, given, inputs, targets, scale)[first - window :]
                for i, value in enumerate(nats.tolist()):
                    yield start + first + i, value
                if learns:
                    nats.mean().backward()
                    gradients = {name: leaf.grad for name, leaf in leaves.items()}
            if number < steps:
                with torch.no_grad():
                    optimizer.step(parameters, gradients)


def phased_lora(
    model,
    state,
    tokens,
    draw,
    *,
    rank=96,
    alpha=144.0,
    warm_start=True,
    batch_size=64,
    chunk=48,
    context=2048,
    lr=1e-4,
    betas=(0.0, 0.99),
    eps=1e-10,
    weight_decay=0.5,
    prefix_documents=2500,
    phases=3,
    sgd=None,
    bos=1,
):
    """Every document with its own adapters, and SGD on those scored at each boundary. One process.

    model: zoo_model or anything with its lora_shapes, lora_nats and packed_nats. alpha None: no factor (1).
    sgd: packed_sgd's options (its context is the one given here unless it names another). prefix_documents 0: no phase.
    Returns {"nats": float64 (targets,), NaN before the first BOS, "state", "served": [(batch number, [documents])],
    "calls": [(call, documents in it, why)], "phases": [{"boundary", "after_batch": how many batches were served,
    "documents": those trained on, in order, "tokens": their number}]}.
    """
    ids = oracle.as_ids(tokens)
    state = {name: w.detach().clone() for name, w in state.items()}
    dtype = state["tok_emb.weight"].dtype
    scale = 1.0 if alpha is None else alpha / rank
    adam = {"lr": lr, "betas": betas, "eps": eps, "decay": weight_decay}
    documents = find_documents(ids, bos)
    batches = document_batches(documents, batch_size)
    limit = min(len(documents), prefix_documents)
    boundaries = [limit * (i + 1) // phases for i in range(phases)] if limit > 0 else []
    calls = []

    def drawn(size, why):
        """A new set: for each place in the batch, name -> [A (rank, in) as drawn, B (out, rank) zero]."""
        call, sets = len(calls), [{} for _ in range(size)]
        calls.append((call, size, why))
        for name, width, out in model.lora_shapes():
            a = draw(call, name, (size, rank, width)).to(dtype)
            for place in range(size):
                sets[place][name] = [a[place].clone(), torch.zeros(out, rank, dtype=dtype)]
        return sets

    nats = torch.full((len(ids) - 1,), math.nan, dtype=torch.float64)
    usual = drawn(batch_size, "first")
    scored, report, phase = [], [], 0
    for served, (number, batch) in enumerate(batches, 1):
        if len(batch) != batch_size:
            factors = drawn(len(batch), "another size")
        else:
            if not warm_start:
                usual = drawn(batch_size, "batch")
            for lora in usual:
                for pair in lora.values():
                    pair[1].zero_()
            factors = usual
        for target, value in train_documents(model, state, ids, batch, factors, scale, adam, chunk, context):
            nats[target] = value
        if phase == len(boundaries):
            continue
        scored += [(number, place, document) for place, document in enumerate(batch)]
        if len(scored) < boundaries[phase]:  # at most one phase behind a batch
            continue
        chosen = [document for _, _, document in sorted(scored)][: boundaries[phase]]
        text = torch.cat([ids[:0]] + [ids[start : start + length] for start, length in chosen])
        packed_sgd(model.packed_nats, state, text, **{"bos": bos, "context": context, **(sgd or {})})
        report.append({"boundary": boundaries[phase], "after_batch": served, "documents": chosen, "tokens": len(text)})
        usual = drawn(batch_size, "phase")
        phase += 1
    return {"nats": nats, "state": state, "served": batches, "calls": calls, "phases": report}
