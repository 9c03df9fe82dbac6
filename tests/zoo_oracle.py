"""A plain second writing of the leaderboard's techniques, 1.2197 to 1.1194, from their written specification alone.

Continues oracle.py, in its style: slow and literal, nothing here comes from the project. A model is a dict
name -> float32 tensor under the record scripts' own names; what it is made of stands in `settings` (see SETTINGS), how
it is trained in `training` (see TRAINING), and "record" below is a short name such as "XSA4". Names of the v5 form's
tensors (bigram_hash.embed, bigram_hash.proj, smear.gate) and of the value embedding's layer scales are assumed.
"""

import itertools
import math

import torch

import oracle

SETTINGS = {
    "vocab_size": 1024,
    "num_layers": 9,
    "model_dim": 512,
    "num_heads": 8,
    "num_kv_heads": 4,
    "mlp_mult": 2.0,  # hidden = int(mlp_mult * model_dim)
    "mlp_hidden": None,  # the hidden width itself, in place of mlp_mult
    "activation_slope": 0.0,  # leaky_relu(x, slope)^2; 0 is relu^2
    "tied_embed_init_std": 0.005,
    "logit_softcap": 30.0,
    "qk_gain_init": 1.5,
    "rope_base": 10000.0,
    "rope_dims": None,  # the first so many of each head's dims turn; None = all
    "rope_train_len": None,  # NTK's reference length (1024 in the records); None = no NTK
    "ln_scale": False,
    "xsa_last_n": 0,
    "bigram": None,  # "first" (v5) or "scaled" (Int6S and after)
    "bigram_buckets": 4096,
    "bigram_dim": 128,
    "smear": None,  # "first" (v5) or "mean" (Int6S and after)
    "ve_dim": 128,
    "ve_layers": (),  # the layers with a value embedding; none = no table
    "overtone": False,
    "phased_mix": False,
    "init": "baseline",  # "orthogonal" (Int6S and after), "v5"
}

TRAINING = {
    **oracle.OPTIMIZER_DEFAULTS,
    "muon_weight_decay": 0.0,
    "muon_decay_after": False,  # Overt, QAT3x: decay after the update
    "adam_weight_decay": 0.0,
    "grad_clip_norm": 0.0,  # 0 = none
    "warmdown_iters": 0,
    "ema_decay": None,
    "swa_every": None,
    "swa_start_frac": 0.5,
    "qat": None,  # a record of QAT below
    "qat_below": None,  # from the first step whose multiplier is less, for good; None = always
}

QUANTILE = 99.99984 / 100


# Initial weights


def overtone(weight):
    """weight (V, D) -> (V, D) with the singular values S[0] * k^-0.5, k = 1, 2, ..."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    target = s[0] * torch.arange(1, len(s) + 1, dtype=weight.dtype) ** -0.5
    return (u * target[None, :]) @ vh


def phased_mix(layer, num_layers, dim):
    """(2, D): p = sigmoid(3 (layer / (L-1) - 0.5)) and 1 - p."""
    p = torch.sigmoid(torch.tensor(3.0 * (layer / max(num_layers - 1, 1) - 0.5)))
    return torch.stack([torch.full((dim,), p.item()), torch.full((dim,), 1 - p.item())])


def init(settings, seed):
    """The initial state: name -> float32 tensor. To the bit only with one thread (QR)."""
    settings = oracle.merged(SETTINGS, settings)
    vocab, dim, layers = settings["vocab_size"], settings["model_dim"], settings["num_layers"]
    head_dim = dim // settings["num_heads"]
    kv_dim = settings["num_kv_heads"] * head_dim
    hidden = settings["mlp_hidden"] or int(settings["mlp_mult"] * dim)
    bigram = "bigram_hash" if settings["bigram"] == "first" else "bigram"
    linears, zeros = [], set()  # the linear layers in their order; those marked zero

    torch.manual_seed(seed)
    state = {"skip_weights": torch.ones(min(layers // 2, layers - layers // 2), dim)}
    # 1. the token embedding
    state["tok_emb.weight"] = torch.empty(vocab, dim).normal_()
    # 2. bigram and smear
    if settings["bigram"]:
        width = settings["bigram_dim"]
        table = torch.empty(settings["bigram_buckets"], width).normal_()
        if settings["bigram"] == "first":
            state[f"{bigram}.embed.weight"] = table
        else:
            state[f"{bigram}.embed.weight"] = table.zero_()
            state["bigram.scale"] = torch.tensor(0.05)
        if width != dim:
            state[f"{bigram}.proj.weight"] = oracle.draw_linear(dim, width).zero_()
            linears.append(f"{bigram}.proj.weight")
            if settings["bigram"] == "first":
                zeros.add(f"{bigram}.proj.weight")
        if settings["bigram"] == "first":  # behind the projection's draw, as in the record's own script
            table.normal_(0.0, 0.01)
    if settings["smear"]:
        state["smear.gate"] = torch.full((dim,), 3.0 if settings["smear"] == "first" else 0.0)
    # 3. the blocks
    for n in range(layers):
        block = f"blocks.{n}"
        state[f"{block}.attn_scale"] = torch.ones(dim)
        state[f"{block}.mlp_scale"] = torch.ones(dim)
        state[f"{block}.resid_mix"] = torch.stack([torch.ones(dim), torch.zeros(dim)])
        if settings["phased_mix"]:
            state[f"{block}.resid_mix"] = phased_mix(n, layers, dim)
        state[f"{block}.attn.q_gain"] = torch.full((settings["num_heads"],), float(settings["qk_gain_init"]))
        shapes = {"attn.c_q": (dim, dim), "attn.c_k": (kv_dim, dim), "attn.c_v": (kv_dim, dim), "attn.proj": (dim, dim)}
        shapes |= {"mlp.fc": (hidden, dim), "mlp.proj": (dim, hidden)}
        for layer, (rows, cols) in shapes.items():
            name = f"{block}.{layer}.weight"
            state[name] = oracle.draw_linear(rows, cols)
            linears.append(name)
            if layer.endswith("proj"):
                zeros.add(name)
    # 4. the value embedding
    if settings["ve_layers"]:
        state["ve_shared.embed.weight"] = torch.empty(vocab, settings["ve_dim"]).normal_().normal_(0.0, 0.01)
        if settings["ve_dim"] != kv_dim:
            state["ve_shared.proj.weight"] = oracle.draw_linear(kv_dim, settings["ve_dim"]).zero_()
            linears.append("ve_shared.proj.weight")
        state["ve_shared.scale"] = torch.tensor(0.1)
        for i in range(len(settings["ve_layers"])):
            state[f"ve_layer_scales.{i}"] = torch.ones(1)
    # 5. the tied embedding again
    state["tok_emb.weight"].normal_(0.0, settings["tied_embed_init_std"])
    if settings["overtone"]:
        state["tok_emb.weight"] = overtone(state["tok_emb.weight"])
    # 6. over the linear layers
    for name in linears:
        if name in zeros:
            state[name].zero_()
        elif settings["init"] == "v5":
            torch.nn.init.orthogonal_(state[name])
        elif settings["init"] == "orthogonal" and min(state[name].shape) >= 64:
            torch.nn.init.orthogonal_(state[name])
            if ".proj." in name:
                state[name] *= 1.0 / math.sqrt(2 * layers)
    return state


# Model


def rotate(x, settings):
    """x (batch, T, head_dim): the first rope_dims turn by oracle.rotary, with NTK's base if T > rope_train_len."""
    time, head_dim = x.shape[1], x.shape[2]
    dims = settings["rope_dims"] or head_dim
    base = settings["rope_base"]
    reference = settings["rope_train_len"]
    if reference is not None and time > reference:
        base = base * (time / reference) ** (dims / (dims - 2))
    return torch.cat([oracle.rotary(x[..., :dims], base), x[..., dims:]], dim=-1)


def bigram_hash(ids, settings):
    """ids (batch, T) -> bucket of each position (batch, T): of the token and its predecessor in the window."""
    buckets = settings["bigram_buckets"]
    result = torch.zeros_like(ids)
    for row in range(ids.shape[0]):
        tokens = ids[row].tolist()
        for t, current in enumerate(tokens):
            if settings["bigram"] == "first":
                previous = tokens[t - 1] if t > 0 else 0
                result[row, t] = (92821 * previous + current) % buckets
            elif t == 0:
                result[row, t] = buckets - 1
            else:
                result[row, t] = ((36313 * current) ^ (27191 * tokens[t - 1])) % (buckets - 1)
    return result


def previous_position(x):
    """x (batch, T, D) moved on by one position; zeros come in."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


def embed(state, settings, ids):
    """ids (batch, T) -> x0 (batch, T, D): token embedding, bigram, norm, smear gate."""
    bigram = "bigram_hash" if settings["bigram"] == "first" else "bigram"
    x = state["tok_emb.weight"][ids]
    if settings["bigram"]:
        looked_up = state[f"{bigram}.embed.weight"][bigram_hash(ids, settings)]
        if f"{bigram}.proj.weight" in state:
            looked_up = looked_up @ state[f"{bigram}.proj.weight"].T
        x = x + (state["bigram.scale"] * looked_up if settings["bigram"] == "scaled" else looked_up)
    if settings["smear"] == "first":
        g = torch.sigmoid(state["smear.gate"])
        x = g * x + (1 - g) * previous_position(x)
    x = oracle.rms_norm(x)
    if settings["smear"] == "mean":
        g = torch.sigmoid(state["smear.gate"])
        x = (1 - g) * x + g * previous_position(x)
    return x


def value_embedding(state, settings, ids, layer):
    """ids (batch, T) -> what layer `layer` adds to v (batch, T, kv_dim), or None."""
    if layer not in settings["ve_layers"]:
        return None
    ve = state["ve_shared.embed.weight"][ids]
    if "ve_shared.proj.weight" in state:
        ve = ve @ state["ve_shared.proj.weight"].T
    which = list(settings["ve_layers"]).index(layer)
    return state[f"ve_layer_scales.{which}"] * state["ve_shared.scale"] * ve


def attention(state, settings, layer, x, added_to_v):
    """x (batch, T, D), normed -> (batch, T, D)."""
    name = f"blocks.{layer}.attn"
    heads, group = settings["num_heads"], settings["num_heads"] // settings["num_kv_heads"]
    head_dim = settings["model_dim"] // heads
    q_all = x @ state[f"{name}.c_q.weight"].T
    k_all = x @ state[f"{name}.c_k.weight"].T
    v_all = x @ state[f"{name}.c_v.weight"].T
    if added_to_v is not None:
        v_all = v_all + added_to_v
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    outputs = []
    for head in range(heads):
        kv = head // group
        q = q_all[:, :, head * head_dim : (head + 1) * head_dim]
        k = k_all[:, :, kv * head_dim : (kv + 1) * head_dim]
        v = v_all[:, :, kv * head_dim : (kv + 1) * head_dim]
        q = rotate(oracle.rms_norm(q), settings) * state[f"{name}.q_gain"][head]
        k = rotate(oracle.rms_norm(k), settings)
        scores = (q @ k.transpose(1, 2) / math.sqrt(head_dim)).masked_fill(future, float("-inf"))
        y = torch.softmax(scores, dim=-1) @ v
        if layer >= settings["num_layers"] - settings["xsa_last_n"]:
            u = v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            y = y - (y * u).sum(dim=-1, keepdim=True) * u
        outputs.append(y)
    return torch.cat(outputs, dim=-1) @ state[f"{name}.proj.weight"].T


def mlp(state, settings, layer, x):
    """x (batch, T, D), normed -> (batch, T, D)."""
    h = x @ state[f"blocks.{layer}.mlp.fc.weight"].T
    h = torch.where(h >= 0, h, settings["activation_slope"] * h)
    return (h * h) @ state[f"blocks.{layer}.mlp.proj.weight"].T


def run_block(state, settings, layer, x, x0, ids):
    """x, x0 (batch, T, D), ids (batch, T) -> (batch, T, D)."""
    block = f"blocks.{layer}"
    factor = 1.0 / math.sqrt(layer + 1) if settings["ln_scale"] else 1.0
    mix = state[f"{block}.resid_mix"]
    x = mix[0] * x + mix[1] * x0
    added_to_v = value_embedding(state, settings, ids, layer)
    x = x + state[f"{block}.attn_scale"] * attention(state, settings, layer, oracle.rms_norm(x) * factor, added_to_v)
    return x + state[f"{block}.mlp_scale"] * mlp(state, settings, layer, oracle.rms_norm(x) * factor)


def forward(state, settings, ids):
    """ids (batch, T) int64 -> logits (batch, T, V), after the soft cap."""
    settings = oracle.merged(SETTINGS, settings)
    x0 = embed(state, settings, ids)
    x = x0
    first = settings["num_layers"] // 2
    stack = []
    for layer in range(first):
        x = run_block(state, settings, layer, x, x0, ids)
        stack.append(x)
    for i in range(settings["num_layers"] - first):
        if stack:
            x = x + state["skip_weights"][i] * stack.pop()
        x = run_block(state, settings, first + i, x, x0, ids)
    cap = settings["logit_softcap"]
    return cap * torch.tanh(oracle.rms_norm(x) @ state["tok_emb.weight"].T / cap)


def token_nll(state, settings, inputs, targets):
    """inputs, targets (batch, T) -> nll (batch, T)."""
    log_probabilities = torch.log_softmax(forward(state, settings, inputs).float(), dim=-1)
    return -log_probabilities.gather(-1, targets[:, :, None])[:, :, 0]


# Training


def role(name):
    """ "embedding" (the tables), "matrix" (every linear layer's weight) or "control" (all else)."""
    if name in ("tok_emb.weight", "bigram.embed.weight", "bigram_hash.embed.weight", "ve_shared.embed.weight"):
        return "embedding"
    return "matrix" if name.endswith(".weight") else "control"


def row_quantile(w, p):
    """w (rows, cols) -> (rows, 1): torch's quantile p of each row's |w|."""
    return torch.stack([torch.quantile(row.abs(), p) for row in w])[:, None]


def row_max(w):
    """w (rows, cols) -> (rows, 1): each row's max |w|."""
    return w.abs().amax(dim=1, keepdim=True)


def qat_quantile(w):
    c = row_quantile(w, QUANTILE).clamp_min(1e-8)
    s = c / 31
    return torch.round(torch.minimum(torch.maximum(w, -c), c) / s) * s


def qat_max(w):
    s = row_max(w).clamp_min(1 / 31) / 31
    return torch.round(w / s).clamp(-31, 31) * s


def qat_step4(w):
    s = row_max(w).clamp_min(1e-12) / 127
    r = torch.round(w / s)
    return (4 * torch.round(r / 4)).clamp(-128, 124) * s


def qat_late(w):
    s = (row_max(w) / 31).clamp_min(1 / 31)
    return torch.round(w / s).clamp(-32, 31) * s


QAT = {
    "MixQ": qat_quantile,
    "Smear": qat_quantile,
    "S2048F": qat_max,
    "QAT3x": qat_step4,
    "pRoPE": qat_late,
    "GPTQl": qat_late,
    "LegalT": qat_late,
}


def straight_through(leaves, record):
    """The state the forward sees: w + (q(w) - w).detach() for every linear layer, the rest as it is."""
    seen = {}
    for name, w in leaves.items():
        seen[name] = w + (QAT[record](w.detach()) - w).detach() if role(name) == "matrix" else w
    return seen


def clip_gradients(grads, limit):
    """name -> gradient, all multiplied by min(1, limit / (global norm + 1e-6))."""
    norm = torch.sqrt(sum((g * g).sum() for g in grads.values()))
    factor = min(1.0, limit / (norm.item() + 1e-6))
    return {name: g * factor for name, g in grads.items()}


def optimizer_step(state, grads, buffers, moments, training, momentum, multiplier):
    """One step of AdamW(embedding), Muon(matrix), AdamW(control), in place."""
    for name, weight in state.items():
        if name not in grads:
            continue
        if role(name) == "matrix":
            lr = training["matrix_lr"] * multiplier
            decay = 1 - lr * training["muon_weight_decay"]
            if not training["muon_decay_after"]:
                weight *= decay
            oracle.muon_step(weight, grads[name], buffers, name, lr, momentum, training["newton_schulz_steps"])
            if training["muon_decay_after"]:
                weight *= decay
            continue
        lr = training["tied_embed_lr" if role(name) == "embedding" else "scalar_lr"] * multiplier
        weight *= 1 - lr * training["adam_weight_decay"]
        betas = training["beta1"], training["beta2"]
        oracle.adam_step(weight, grads[name], moments, name, lr, *betas, training["adam_eps"])


def train(state, settings, training, tokens, *, iterations, seq_len, batch_tokens, micro_steps=8, watch=None):
    """Train `state` in place on the stream `tokens` (1-D int64, wraps around).

    Returns {"losses": one per step, "ema": state or None, "swa": state or None (fewer than two taken), "swa_steps": the
    step numbers (from 1) after which the state was added, "qat_from": first step (from 0) with QAT, or None}.
    watch(step, state) is called after each step, step from 1.
    """
    settings, training = oracle.merged(SETTINGS, settings), oracle.merged(TRAINING, training)
    span = batch_tokens // micro_steps + 1
    position = 0
    buffers, moments = {}, {}
    losses, swa_steps, qat_from = [], [], None
    ema = {name: w.clone() for name, w in state.items()}
    total = {}
    for step in range(iterations):
        multiplier = oracle.learning_rate_multiplier(step, iterations, training["warmdown_iters"])
        below = training["qat_below"]
        if training["qat"] and qat_from is None and (below is None or multiplier < below):
            qat_from = step
        leaves = {name: w.detach().clone().requires_grad_() for name, w in state.items()}
        step_loss = 0.0
        for _ in range(micro_steps):
            taken = tokens[torch.arange(position, position + span) % len(tokens)]
            position += span
            seen = leaves if qat_from is None else straight_through(leaves, training["qat"])
            inputs, targets = taken[:-1].reshape(-1, seq_len), taken[1:].reshape(-1, seq_len)
            loss = token_nll(seen, settings, inputs, targets).mean() / micro_steps
            loss.backward()
            step_loss += loss.item()
        losses.append(step_loss)
        grads = {name: w.grad for name, w in leaves.items() if w.grad is not None}
        if training["grad_clip_norm"] > 0:
            grads = clip_gradients(grads, training["grad_clip_norm"])
        with torch.no_grad():
            optimizer_step(state, grads, buffers, moments, training, oracle.momentum_at(step, training), multiplier)
        if training["ema_decay"] is not None:
            d = training["ema_decay"]
            ema = {name: d * ema[name] + (1 - d) * w for name, w in state.items()}
        # The multiplier of the step just done, the number of steps done.
        every = training["swa_every"]
        if every and multiplier < training["swa_start_frac"] and (step + 1) % every == 0:
            swa_steps.append(step + 1)
            for name, w in state.items():
                total[name] = total[name] + w if name in total else w.clone()
        if watch is not None:
            watch(step + 1, state)
    return {
        "losses": losses,
        "ema": ema if training["ema_decay"] is not None else None,
        "swa": {name: w / len(swa_steps) for name, w in total.items()} if len(swa_steps) > 1 else None,
        "swa_steps": swa_steps,
        "qat_from": qat_from,
    }


# Quantizers: a matrix (rows, cols) -> (codes int8 (rows, cols), scales float16 (rows,), dequantized float32)


def finish(codes, scales):
    codes, scales = codes.to(torch.int8), scales[:, 0].to(torch.float16)
    return codes, scales, codes.float() * scales.float()[:, None]


def by_quantile(w, levels):
    """MixQ (31) and the baseline (127): clip at the quantile; codes by the float32 scale, at least 1/levels."""
    c = row_quantile(w, QUANTILE)
    s = (c / levels).clamp_min(1 / levels)
    clipped = torch.minimum(torch.maximum(w, -c), c)
    return finish(torch.round(clipped / s).clamp(-levels, levels), s)


def by_step4(w):
    """QAT3x: the baseline's int8 codes rounded to multiples of 4, within -128..124."""
    codes, scales, _ = by_quantile(w, 127)
    return finish((4 * torch.round(codes.float() / 4)).clamp(-128, 124), scales[:, None])


def by_max(w, levels, floor):
    """Int6S, Int5 (floor 1e-12), pXSA (floor 1/31): codes -levels-1..levels by the float16 scale."""
    tiny = torch.finfo(torch.float16).tiny
    s = (row_max(w) / levels).clamp_min(floor).half().clamp_min(tiny)
    return finish(torch.round(w / s.float()).clamp(-levels - 1, levels), s)


def by_search(w):
    """GPTQ-lite: of five quantiles the one with the least mean squared error over the whole matrix."""
    best, least = None, math.inf
    for p in (0.999, 0.9995, 0.9999, 0.99999, 1.0):
        s = (row_quantile(w, p) / 31).clamp_min(1 / 31).half()
        candidate = finish(torch.round(w / s.float()).clamp(-31, 31), s)
        error = ((w - candidate[2]) ** 2).mean().item()
        if error < least:
            best, least = candidate, error
    return best


QUANTIZERS = {
    "int8": lambda w: by_quantile(w, 127),
    "int6_quantile": lambda w: by_quantile(w, 31),
    "int8_step4": by_step4,
    "int6_max": lambda w: by_max(w, 31, 1e-12),
    "int5_max": lambda w: by_max(w, 15, 1e-12),
    "int6_max_floor": lambda w: by_max(w, 31, 1 / 31),
    "int6_search": by_search,
}

# record: (mlp, attention, embedding, bigram, other)
RULES = {
    "baseline": ("int8", "int8", "int8", "int8", "int8"),
    "MixQ": ("int6_quantile", "int6_quantile", "int8", "int8", "int8"),
    "Smear": ("int6_quantile", "int6_quantile", "float16", "float16", "int8"),
    "QAT3x": ("int8_step4", "int8_step4", "float16", "int8", "int8"),
    "S2048F": ("int6_quantile", "int6_quantile", "float16", "int8", "int8"),
    "WarmQ": ("int6_quantile", "int6_quantile", "float16", "int8", "int8"),
    "Int6S": ("int6_max", "int6_max", "float16", "int8", "int8"),
    "Int5": ("int5_max", "int6_max", "float16", "int6_max", "int8"),
    "pXSA": ("int6_max_floor", "int6_max_floor", "int8", "int8", "int8"),
    "XSA4": ("int6_max_floor", "int6_max_floor", "int8", "int8", "int8"),
    "pRoPE": ("int6_max_floor", "int6_max_floor", "int8", "int8", "int8"),
    "GPTQl": ("int6_search", "int6_search", "int8", "int8", "int8"),
    "LegalT": ("int6_search", "int6_search", "int8", "int8", "int8"),
}

BEFORE_INT6S = ("baseline", "MixQ", "Smear", "QAT3x", "S2048F", "WarmQ")  # control names stay float32


def kind(record, name, tensor, num_layers, keep_numel=None):
    """How `record` stores the tensor: "float32", "float16" or a name of QUANTIZERS. keep_numel None: the record's."""
    if keep_numel is None:
        keep_numel = 8192 if record == "Int5" else 65536
    control = role(name) == "control"
    if tensor.numel() <= keep_numel:
        return "float32" if control and record in BEFORE_INT6S else "float16"
    if control:
        return "float32"
    halves = []
    if record in ("Int6S", "Int5"):
        halves = ["blocks.8.attn.c_k"]
    if record == "WarmQ":
        halves = [f"blocks.{n}.attn.c_k" for n in range(num_layers - 2, num_layers)]
    if any(f"{half}." in name for half in halves):
        return "float16"
    mlp, attention, embedding, bigram, other = RULES[record]
    if ".mlp." in name:
        return mlp
    if name.startswith("tok_emb"):
        return embedding
    if "bigram_hash" in name and record == "Smear":
        return bigram
    # The specification says ".attn." only, but the open case has bigram.proj in six bits: ".proj." is attention too.
    if ".attn." in name or ".proj." in name:
        return attention
    return bigram if name.startswith("bigram") else other


def prune(state, fraction=0.03, more_than=65536):
    """Int5, before its quantizer: the smallest |w| of every large 2-D tensor are set to 0. A new state."""
    pruned = {}
    for name, w in state.items():
        pruned[name] = w.clone()
        if w.ndim == 2 and w.numel() > more_than:
            threshold = torch.quantile(w.abs().flatten(), fraction)
            pruned[name][w.abs() < threshold] = 0.0
    return pruned


def quantize(state, record, keep_numel=None):
    """(dequantized state, name -> (kind, codes, scales)); codes and scales None where a tensor is kept as float."""
    num_layers = len([name for name in state if name.endswith(".attn.q_gain")])
    result, report = {}, {}
    for name, w in (prune(state) if record == "Int5" else state).items():
        how = kind(record, name, w, num_layers, keep_numel)
        if how in QUANTIZERS:
            codes, scales, result[name] = QUANTIZERS[how](w.float())
            report[name] = (how, codes, scales)
        else:
            result[name] = w.half().float() if how == "float16" else w.float()
            report[name] = (how, None, None)
    return result, report


# Evaluation: tokens 1-D ids; byte_counts one per target, that is per token but the first


def token_byte_counts(processor, tokens):
    """oracle.count_bytes of every target after its predecessor."""
    ids = [int(token) for token in tokens]
    return [oracle.count_bytes(processor, before, after) for before, after in itertools.pairwise(ids)]


def score_spans(state, settings, tokens, byte_counts, spans, pad_to):
    """spans of (window start, first target scored, window end) -> {"loss", "bpb", "scored"}; repeats count again.

    Zeros after a window shorter than pad_to, as the originals have them: they change nothing but T, and so NTK's base.
    """
    ids = oracle.as_ids(tokens)
    nats, total_bytes = [], 0
    with torch.no_grad():
        for start, first, end in spans:
            inputs, targets = torch.zeros(2, 1, max(pad_to, end - start), dtype=torch.int64)
            inputs[0, : end - start] = ids[start:end]
            targets[0, : end - start] = ids[start + 1 : end + 1]
            nats += token_nll(state, settings, inputs, targets)[0, first - start : end - start].tolist()
            total_bytes += sum(byte_counts[first:end])
    total = math.fsum(nats)
    return {"loss": total / len(nats), "bpb": total / math.log(2) / total_bytes, "scored": len(nats)}


def score_flat(state, settings, tokens, byte_counts, *, seq_len):
    """Windows of seq_len side by side; a shorter tail is dropped, as in the originals."""
    count = (len(tokens) - 1) // seq_len
    spans = [(i * seq_len, i * seq_len, (i + 1) * seq_len) for i in range(count)]
    return score_spans(state, settings, tokens, byte_counts, spans, seq_len)


def score_once(state, settings, tokens, byte_counts, *, context, stride, padded=True):
    """Every target once; the window ends with its chunk. padded: the shorter windows are as long as `context` (NTK)."""
    spans = oracle.chunks(len(tokens) - 1, stride, context)
    return score_spans(state, settings, tokens, byte_counts, spans, context if padded else 0)


def score_original(state, settings, tokens, byte_counts, *, context, stride, variant="repeats", padded=True):
    """Windows start at 0, stride, ...; each scores its last `stride` targets, the first one all.

    variant "repeats" (Int6S, Slide, pXSA ... ParMini): the shorter windows at the end score the last targets again;
    "full" (Int5): a shorter window is dropped; "last" (MixQ, Smear, QAT3x): full ones, the first scores its last too.
    """
    length = len(tokens) - 1
    spans = []
    for start in range(0, length, stride):
        end = min(start + context, length)
        if variant != "repeats" and end - start < context:
            continue
        first = start if start == 0 and variant != "last" else max(start, end - stride)
        spans.append((start, first, end))
    return score_spans(state, settings, tokens, byte_counts, spans, context if padded else 0)
