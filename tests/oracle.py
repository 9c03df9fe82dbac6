"""A plain second writing of the reference, made from its written facts alone: the yardstick of the tests.

Nothing here is imported from the project. Slow and literal on purpose: one document, one head, one chunk at a time.
"""

import math

import numpy as np
import torch

DEFAULTS = {
    "num_layers": 9,
    "model_dim": 512,
    "num_heads": 8,
    "num_kv_heads": 4,
    "mlp_mult": 2,
    "tie_embeddings": True,
    "tied_embed_init_std": 0.005,
    "logit_softcap": 30.0,
    "rope_base": 10000.0,
    "qk_gain_init": 1.5,
}

OPTIMIZER_DEFAULTS = {
    "matrix_lr": 0.04,
    "scalar_lr": 0.04,
    "tied_embed_lr": 0.05,
    "embed_lr": 0.6,
    "head_lr": 0.008,
    "momentum": 0.95,
    "momentum_warmup_start": 0.85,
    "momentum_warmup_steps": 500,
    "newton_schulz_steps": 5,
    "beta1": 0.9,
    "beta2": 0.95,
    "adam_eps": 1e-8,
}

BOS = 1
SPACE = "\u2581"


def merged(defaults, overrides):
    """The defaults with some entries replaced; an entry that is not a default is a mistake."""
    result = dict(defaults)
    for name, value in (overrides or {}).items():
        if name not in defaults:
            raise KeyError(f"unknown option {name!r}")
        result[name] = value
    return result


# Model


def draw_linear(out_features, in_features):
    """The weight of nn.Linear(in_features, out_features, bias=False): kaiming_uniform_ with a = sqrt(5)."""
    weight = torch.empty(out_features, in_features, dtype=torch.float32)
    torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return weight


def init_state(seed, vocab_size, cfg):
    """Draws: embedding, skip_weights, blocks (c_q, c_k, c_v, proj, q_gain, MLP fc, proj), head; tied embedding anew."""
    cfg = merged(DEFAULTS, cfg)
    dim = cfg["model_dim"]
    head_dim = dim // cfg["num_heads"]
    kv_dim = cfg["num_kv_heads"] * head_dim
    hidden = cfg["mlp_mult"] * dim
    first = cfg["num_layers"] // 2
    later = cfg["num_layers"] - first

    torch.manual_seed(seed)
    state = {}
    state["tok_emb.weight"] = torch.empty(vocab_size, dim, dtype=torch.float32).normal_(0.0, 1.0)
    state["skip_weights"] = torch.ones(min(first, later), dim)
    for n in range(cfg["num_layers"]):
        block = f"blocks.{n}"
        state[f"{block}.attn.c_q.weight"] = draw_linear(dim, dim)
        state[f"{block}.attn.c_k.weight"] = draw_linear(kv_dim, dim)
        state[f"{block}.attn.c_v.weight"] = draw_linear(kv_dim, dim)
        state[f"{block}.attn.proj.weight"] = draw_linear(dim, dim).zero_()
        state[f"{block}.attn.q_gain"] = torch.full((cfg["num_heads"],), float(cfg["qk_gain_init"]))
        state[f"{block}.mlp.fc.weight"] = draw_linear(hidden, dim)
        state[f"{block}.mlp.proj.weight"] = draw_linear(dim, hidden).zero_()
        state[f"{block}.attn_scale"] = torch.ones(dim)
        state[f"{block}.mlp_scale"] = torch.ones(dim)
        state[f"{block}.resid_mix"] = torch.stack([torch.ones(dim), torch.zeros(dim)])
    if cfg["tie_embeddings"]:
        state["tok_emb.weight"].normal_(0.0, cfg["tied_embed_init_std"])
    else:
        state["lm_head.weight"] = draw_linear(vocab_size, dim).zero_()
    return state


def rms_norm(x):
    """x / sqrt(mean(x^2) + eps) over the last axis; eps is the type's machine epsilon, torch's default."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + torch.finfo(x.dtype).eps)


def rotary(x, base):
    """cat(x1*cos + x2*sin, -x1*sin + x2*cos) for x (batch, time, head_dim); angle = t * base^(-2j / head_dim)."""
    time, head_dim = x.shape[-2], x.shape[-1]
    half = head_dim // 2
    frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=x.dtype) / head_dim)
    angles = torch.arange(time, dtype=x.dtype)[:, None] * frequencies[None, :]
    cos, sin = torch.cos(angles), torch.sin(angles)
    x1, x2 = x[..., :half], x[..., half:]
    return torch.cat([x1 * cos + x2 * sin, -x1 * sin + x2 * cos], dim=-1)


def linear(state, layer, x, lora):
    """x @ W.T, plus x @ A.T @ B.T where the layer has an adaptor."""
    if layer == "lm_head" and "lm_head.weight" not in state:
        weight = state["tok_emb.weight"]
    else:
        weight = state[f"{layer}.weight"]
    out = x @ weight.T
    if lora is not None and layer in lora:
        a, b = lora[layer]
        out = out + x @ a.T @ b.T
    return out


def attention(state, cfg, name, x, lora):
    """softmax(q k.T / sqrt(head_dim), causal) v per query head, then the output projection."""
    heads, kv_heads = cfg["num_heads"], cfg["num_kv_heads"]
    head_dim = cfg["model_dim"] // heads
    time = x.shape[1]
    q_all = linear(state, f"{name}.c_q", x, lora)
    k_all = linear(state, f"{name}.c_k", x, lora)
    v_all = linear(state, f"{name}.c_v", x, lora)
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    outputs = []
    for head in range(heads):
        kv = head // (heads // kv_heads)
        q = q_all[:, :, head * head_dim : (head + 1) * head_dim]
        k = k_all[:, :, kv * head_dim : (kv + 1) * head_dim]
        v = v_all[:, :, kv * head_dim : (kv + 1) * head_dim]
        q = rotary(rms_norm(q), cfg["rope_base"]) * state[f"{name}.q_gain"][head]
        k = rotary(rms_norm(k), cfg["rope_base"])
        scores = q @ k.transpose(1, 2) / math.sqrt(head_dim)
        scores = scores.masked_fill(future, float("-inf"))
        outputs.append(torch.softmax(scores, dim=-1) @ v)
    return linear(state, f"{name}.proj", torch.cat(outputs, dim=-1), lora)


def mlp(state, name, x, lora):
    """proj(relu(fc(x))^2)."""
    return linear(state, f"{name}.proj", torch.relu(linear(state, f"{name}.fc", x, lora)) ** 2, lora)


def run_block(state, cfg, n, x, x0, lora):
    """x = mix[0]*x + mix[1]*x0; x += attn_scale * attention(rms_norm(x)); x += mlp_scale * mlp(rms_norm(x))."""
    block = f"blocks.{n}"
    mix = state[f"{block}.resid_mix"]
    x = mix[0] * x + mix[1] * x0
    x = x + state[f"{block}.attn_scale"] * attention(state, cfg, f"{block}.attn", rms_norm(x), lora)
    return x + state[f"{block}.mlp_scale"] * mlp(state, f"{block}.mlp", rms_norm(x), lora)


def forward(state, cfg, inputs, targets, lora=None):
    """Per-token nll (batch, time): -log_softmax(softcap * tanh(logits / softcap))[target]; lora: layer -> (A, B)."""
    cfg = merged(DEFAULTS, cfg)
    x = rms_norm(state["tok_emb.weight"][inputs])
    x0 = x
    first = cfg["num_layers"] // 2
    stack = []
    for n in range(first):
        x = run_block(state, cfg, n, x, x0, lora)
        stack.append(x)
    for i in range(cfg["num_layers"] - first):
        if stack:
            x = x + state["skip_weights"][i] * stack.pop()
        x = run_block(state, cfg, first + i, x, x0, lora)
    logits = linear(state, "lm_head", rms_norm(x), lora)
    softcap = cfg["logit_softcap"]
    logits = softcap * torch.tanh(logits / softcap)
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return -log_probabilities.gather(-1, targets[:, :, None])[:, :, 0]


# Training


def newton_schulz(g, steps=5):
    """X = g / (|g| + 1e-7), wide; `steps` times: A = X X.T, X = 3.4445 X + (-4.7750 A + 2.0315 A A) X."""
    x = g / (g.norm() + 1e-7)
    tall = g.shape[0] > g.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    if tall:
        x = x.T
    return x


def muon_step(weight, grad, buffers, name, lr, momentum, steps):
    """buf = momentum*buf + g; u = newton_schulz(g + momentum*buf) * sqrt(max(1, rows/cols)); w -= lr * u."""
    old = buffers.get(name, torch.zeros_like(grad))
    buffers[name] = momentum * old + grad
    update = newton_schulz(grad + momentum * buffers[name], steps)
    rows, cols = weight.shape
    weight -= lr * math.sqrt(max(1.0, rows / cols)) * update


def adam_step(weight, grad, moments, name, lr, beta1, beta2, eps):
    """m, v moving means of g, g^2; w -= lr * (m / (1-beta1^t)) / (sqrt(v / (1-beta2^t)) + eps)."""
    t, m, v = moments.get(name, (0, torch.zeros_like(grad), torch.zeros_like(grad)))
    t = t + 1
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad * grad
    moments[name] = (t, m, v)
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    weight -= lr * m_hat / (torch.sqrt(v_hat) + eps)


def is_matrix(name):
    """The 2-D block weights; resid_mix and skip_weights are 2-D too, but are control parameters."""
    return name.startswith("blocks.") and name.endswith(".weight")


def learning_rate_multiplier(step, iterations, warmdown_iters):
    """1 until iterations - warmdown_iters, then (iterations - step) / warmdown_iters."""
    if warmdown_iters <= 0 or step < iterations - warmdown_iters:
        return 1.0
    return (iterations - step) / warmdown_iters


def momentum_at(step, opt):
    """From momentum_warmup_start to momentum, linear in min(1, step / momentum_warmup_steps)."""
    fraction = 1.0
    if opt["momentum_warmup_steps"] > 0:
        fraction = min(1.0, step / opt["momentum_warmup_steps"])
    return (1 - fraction) * opt["momentum_warmup_start"] + fraction * opt["momentum"]


def train(
    state,
    cfg,
    tokens,
    *,
    iterations,
    seq_len,
    micro_batch_tokens,
    micro_steps,
    processes=1,
    warmdown_iters=0,
    opt=None,
):
    """Train `state` in place; the loss of each step, taken before its update.

    Each micro-step takes (S+1) * processes tokens; process r has the r-th S+1 of them: inputs the first S, targets the
    last S, both as (-1, seq_len). The loss is the mean over micro-steps and processes.
    """
    cfg = merged(DEFAULTS, cfg)
    opt = merged(OPTIMIZER_DEFAULTS, opt)
    span = micro_batch_tokens + 1
    position = 0
    buffers, moments = {}, {}
    losses = []
    for step in range(iterations):
        leaves = {}
        for name, tensor in state.items():
            leaves[name] = tensor.detach().clone().requires_grad_()
        step_loss = 0.0
        for _ in range(micro_steps):
            for _ in range(processes):
                where = torch.arange(position, position + span) % len(tokens)
                position += span
                taken = tokens[where]
                inputs = taken[:-1].reshape(-1, seq_len)
                targets = taken[1:].reshape(-1, seq_len)
                loss = forward(leaves, cfg, inputs, targets).mean() / (micro_steps * processes)
                loss.backward()
                step_loss += loss.item()
        losses.append(step_loss)

        multiplier = learning_rate_multiplier(step, iterations, warmdown_iters)
        momentum = momentum_at(step, opt)
        for name, weight in state.items():
            grad = leaves[name].grad
            if grad is None:  # skip_weights of a model with one layer: empty, and never used
                continue
            with torch.no_grad():
                if is_matrix(name):
                    lr = opt["matrix_lr"] * multiplier
                    muon_step(weight, grad, buffers, name, lr, momentum, opt["newton_schulz_steps"])
                    continue
                if name == "tok_emb.weight":
                    lr = opt["tied_embed_lr"] if cfg["tie_embeddings"] else opt["embed_lr"]
                elif name == "lm_head.weight":
                    lr = opt["head_lr"]
                else:
                    lr = opt["scalar_lr"]
                lr = lr * multiplier
                adam_step(weight, grad, moments, name, lr, opt["beta1"], opt["beta2"], opt["adam_eps"])
    return losses


# Data


def shard_tokens(path):
    """256 little-endian int32 ([0] = 20240520, [1] = 1, [2] = token count, rest 0), then little-endian uint16s."""
    with open(path, "rb") as file:
        content = file.read()
    header = np.frombuffer(content[:1024], dtype="<i4")
    if len(header) != 256 or header[0] != 20240520 or header[1] != 1 or header[3:].any():
        raise ValueError(f"{path}: not a shard header")
    tokens = np.frombuffer(content[1024:], dtype="<u2")
    if len(tokens) != header[2]:
        raise ValueError(f"{path}: {header[2]} tokens announced, {len(tokens)} found")
    return tokens.astype(np.uint16)


def is_boundary(processor, token):
    """Control, unknown and unused pieces."""
    return processor.is_control(token) or processor.is_unknown(token) or processor.is_unused(token)


def count_bytes(processor, previous, target):
    """0 for boundaries, 1 for byte pieces, else UTF-8 length less a leading U+2581, which is 1 after a non-boundary."""
    if is_boundary(processor, target):
        return 0
    if processor.is_byte(target):
        return 1
    piece = processor.id_to_piece(target)
    if not piece.startswith(SPACE):
        return len(piece.encode("utf-8"))
    length = len(piece[1:].encode("utf-8"))
    if not is_boundary(processor, previous):
        length += 1
    return length


def documents(tokens):
    """(start, end) of each document: targets tokens[start+1 : end+1], the last one being the next document's BOS."""
    starts = []
    for position in range(len(tokens)):
        if position == 0 or int(tokens[position]) == BOS:
            starts.append(position)
    found = []
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else len(tokens) - 1
        if end > start:
            found.append((start, end))
    return found


# Scoring


def chunks(length, stride, context):
    """(window start, chunk start, chunk end) of each chunk [c*stride, (c+1)*stride) of a document of `length` targets.

    The window ends with the chunk and has at most `context` tokens.
    """
    if not 0 < stride <= context:
        raise ValueError("a chunk must fit into its window")
    found = []
    for chunk_start in range(0, length, stride):
        chunk_end = min(chunk_start + stride, length)
        found.append((max(0, chunk_end - context), chunk_start, chunk_end))
    return found


def as_ids(tokens):
    """Token ids of any integer sequence as a 1-D int64 tensor."""
    return torch.from_numpy(np.asarray(tokens).astype(np.int64))


def chunk_nll(state, cfg, ids, start, window_start, chunk_start, chunk_end, lora=None):
    """One forward over the window of the document that begins at `start`; the nll of the chunk's targets only."""
    inputs = ids[start + window_start : start + chunk_end]
    targets = ids[start + window_start + 1 : start + chunk_end + 1]
    nll = forward(state, cfg, inputs[None], targets[None], lora)[0]
    return nll[chunk_start - window_start :]


def note(nats, first, values):
    """Enter the values at first, first + 1, ...; no place may be written twice."""
    for offset, value in enumerate(values.tolist()):
        if nats[first + offset] is not None:
            raise AssertionError(f"target {first + offset + 1} scored twice")
        nats[first + offset] = value


def summary(nats, byte_counts):
    """loss = mean nats; bpb = (sum of nats / ln 2) / sum of bytes."""
    if any(value is None for value in nats):
        raise AssertionError("a target was not scored")
    if len(byte_counts) != len(nats):
        raise ValueError("one byte count per target")
    total = math.fsum(nats)
    total_bytes = sum(int(count) for count in byte_counts)
    return {"nats": nats, "loss": total / len(nats), "bpb": total / math.log(2) / total_bytes}


def score(state, cfg, tokens, byte_counts, *, context, stride, isolate):
    """Score every target once, chunk by chunk, without an adaptor; not isolate: the whole text is one document."""
    ids = as_ids(tokens)
    nats = [None] * (len(ids) - 1)
    spans = documents(ids) if isolate else [(0, len(ids) - 1)]
    with torch.no_grad():
        for start, end in spans:
            for window_start, chunk_start, chunk_end in chunks(end - start, stride, context):
                nll = chunk_nll(state, cfg, ids, start, window_start, chunk_start, chunk_end)
                note(nats, start + chunk_start, nll)
    return summary(nats, byte_counts)


def lora_score(
    state,
    cfg,
    tokens,
    byte_counts,
    *,
    context,
    stride,
    draw_a,
    rank=8,
    lr=0.01,
    beta1=0.9,
    beta2=0.95,
):
    """Score each document alone; after a chunk with a successor, one Adam step on that chunk's mean nll."""
    cfg = merged(DEFAULTS, cfg)
    ids = as_ids(tokens)
    frozen = {name: tensor.detach() for name, tensor in state.items()}
    layers = {}
    for n in range(cfg["num_layers"]):
        for projection in ("c_q", "c_v"):
            layer = f"blocks.{n}.attn.{projection}"
            layers[layer] = frozen[f"{layer}.weight"]
    layers["lm_head"] = frozen["tok_emb.weight" if cfg["tie_embeddings"] else "lm_head.weight"]

    nats = [None] * (len(ids) - 1)
    for index, (start, end) in enumerate(documents(ids)):
        drawn = draw_a(index)
        lora = {}
        for layer, weight in layers.items():
            out_features, in_features = weight.shape
            a = drawn[layer].detach().clone().to(weight.dtype)
            if tuple(a.shape) != (rank, in_features):
                raise ValueError(f"{layer}: A has shape {tuple(a.shape)}, not {(rank, in_features)}")
            b = torch.zeros(out_features, rank, dtype=weight.dtype)
            lora[layer] = (a.requires_grad_(), b.requires_grad_())
        moments = {}
        for window_start, chunk_start, chunk_end in chunks(end - start, stride, context):
            nll = chunk_nll(frozen, cfg, ids, start, window_start, chunk_start, chunk_end, lora)
            note(nats, start + chunk_start, nll.detach())
            if chunk_end == end - start:  # the document's last chunk
                continue
            names, parameters = [], []
            for layer, (a, b) in lora.items():
                names += [f"{layer}.A", f"{layer}.B"]
                parameters += [a, b]
            gradients = torch.autograd.grad(nll.mean(), parameters)
            with torch.no_grad():
                for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
                    adam_step(parameter, gradient, moments, name, lr, beta1, beta2, 1e-10)
    return summary(nats, byte_counts)


# Quantizer


def quantize_row_int8(weight, levels=127):
    """By row: clip = 99.99984th percentile of |w|, scale = fp16(max(clip/levels, 1/127)), code = round(w / scale)."""
    rows, cols = weight.shape
    codes = torch.zeros(rows, cols, dtype=torch.int8)
    scales = torch.zeros(rows, dtype=torch.float16)
    for r in range(rows):
        row = weight[r].float()
        clip = torch.quantile(row.abs(), 99.99984 / 100).item()
        scale = torch.tensor(max(clip / levels, 1 / 127), dtype=torch.float32).half()
        clipped = row.clamp(-clip, clip)
        codes[r] = torch.round(clipped / scale.float()).clamp(-levels, levels).to(torch.int8)
        scales[r] = scale
    return codes, scales
