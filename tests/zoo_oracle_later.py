"""A plain second writing of the later techniques of the leaderboard, 1.1194 to 1.0611, from their specification alone.

Continues zoo_oracle.py, in its style: slow and literal, nothing here comes from the project. Forward, initial weights,
optimizer and schedule; no quantization, no evaluation, no test-time training, no packed documents. Shapes: D model
width, H query heads, L layers, T window length, V vocabulary; weights are (out, in).

Names in a state: zoo_oracle's, and, where the settings ask for them,
    skip_weights         (rows, D)     ones; rows = the lesser half of the last phase's order
    skip_gates           (rows, D)     zeros
    lanes.r              (L, 2)        1.1; lanes.r[layer][lane]
    lanes.p              (L, 2, 2)     ones; lanes.p[layer][0 = attention, 1 = MLP][lane]
    lane_merge           ()            a half
    smear.weight         (1, window)   zeros
    smear.lambda         (1,)          zero
    gates.attn.<layer>   (H, window), dense: (H, D)
All of the new ones are control parameters.
"""

import math

import torch

import oracle
import zoo_oracle

SETTINGS = {
    **zoo_oracle.SETTINGS,  # "smear" may also be "input"; "init" may also be "b1" (3Layer) or "c1" (9Hp)
    "smear_mask_bos": False,  # for smear "input": none where ids_t is BOS
    "gated_skips": False,
    "loop": None,  # (first layer, last layer, repeats beyond the first pass)
    "loop_at": (0.5,),  # fractions; the last phase has all the repeats, the one before it one fewer, ..., phase 0 none
    "parallel_from": None,  # one stream: from this layer on attention and MLP read the same x
    "lanes_from": None,  # two lanes from this layer on
    "split_lanes_from": None,  # SP4096, ParTTT: two lanes that never meet before the end
    "split_skips": True,  # ParTTT: skips join lane 0; SP4096: they are dropped once the lanes have parted
    "gate": None,  # on attention's output per head: "output" (AOG), "dense" (CaseG, Clip12), "sparse" (Polar on)
    "gate_scale": 1.0,  # of the sparse gate; 9Hp 0.5
    "gate_window": 12,  # what the output, the sparse and the smear gate read: the first so many dims
    "gate_init_std": 0.01,  # of the dense gate; CaseG's run 0.005
}

TRAINING = {
    **oracle.OPTIMIZER_DEFAULTS,
    "row_normalize": False,  # MuonEq-R
    "polar_express": False,
    "muon_weight_decay": 0.0,  # matrices
    "embed_weight_decay": 0.0,  # embeddings
    "adam_weight_decay": 0.0,  # control
    "grad_clip_norm": 0.0,  # 0 = none
    "warmdown_frac": 0.0,
    "min_lr": 0.0,
    "decay_taper_start": 0.7,
    "decay_taper_final": 1.0,  # Muon's decay is multiplied by 1 -> this from the start above to 1; CaseT 0.5
    "ema_decay": None,
}

BASELINE_COEFFICIENTS = (3.4445, -4.7750, 2.0315)

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


# Order of the layers


def last_phase(settings):
    """The number of the last phase: 0 without a loop."""
    return len(settings["loop_at"]) if settings["loop"] else 0


def phase_at(settings, fraction):
    """The number of thresholds that `fraction` has reached."""
    settings = oracle.merged(SETTINGS, settings)
    return sum(fraction >= at for at in settings["loop_at"]) if settings["loop"] else 0


def layer_order(settings, phase=None):
    """(the layers' numbers in the order they run, how many of them push); phase None is the last."""
    settings = oracle.merged(SETTINGS, settings)
    layers = settings["num_layers"]
    phase = last_phase(settings) if phase is None else phase
    if not 0 <= phase <= last_phase(settings):
        raise ValueError(f"no phase {phase}")
    if phase == 0:
        return list(range(layers)), layers // 2
    first, last, repeats = settings["loop"]
    if not 0 <= first <= last < layers:
        raise ValueError("the loop's layers are not in the model")
    repeats = max(0, repeats - (last_phase(settings) - phase))
    order = list(range(first)) + list(range(first, last + 1)) * (repeats + 1) + list(range(last + 1, layers))
    return order, len(order) // 2


def skip_rows(settings):
    """Rows of skip_weights and skip_gates: sized for the last phase."""
    order, pushes = layer_order(settings)
    return min(pushes, len(order) - pushes)


# Initial weights


def wave_a(settings):
    """The settings that zoo_oracle.init understands, without what is new here."""
    kept = {name: settings[name] for name in zoo_oracle.SETTINGS}
    if kept["smear"] == "input":
        kept["smear"] = None
    if kept["init"] == "b1":
        kept["init"] = "orthogonal"
    return kept


def init_c1(settings, seed):
    """9Hp's draws (banks: every matrix that is not zero is orthogonal, whatever its size)."""
    vocab, dim, layers = settings["vocab_size"], settings["model_dim"], settings["num_layers"]
    kv_dim = settings["num_kv_heads"] * (dim // settings["num_heads"])
    hidden = settings["mlp_hidden"] or int(settings["mlp_mult"] * dim)

    torch.manual_seed(seed)
    state = {"skip_weights": None, "tok_emb.weight": torch.empty(vocab, dim).normal_()}
    if settings["smear"] == "input":
        oracle.draw_linear(1, settings["gate_window"])  # the smear gate's: drawn, and later zero
    state["tok_emb.weight"].normal_(0.0, settings["tied_embed_init_std"])
    for n in range(layers):
        block = f"blocks.{n}"
        state[f"{block}.attn_scale"] = torch.ones(dim)
        state[f"{block}.mlp_scale"] = torch.ones(dim)
        state[f"{block}.resid_mix"] = torch.stack([torch.ones(dim), torch.zeros(dim)])
        state[f"{block}.attn.q_gain"] = torch.full((settings["num_heads"],), float(settings["qk_gain_init"]))
        state[f"{block}.attn.c_q.weight"] = torch.nn.init.orthogonal_(torch.empty(dim, dim))
        state[f"{block}.attn.proj.weight"] = torch.zeros(dim, dim)
        state[f"{block}.attn.c_k.weight"] = torch.nn.init.orthogonal_(torch.empty(kv_dim, dim))
        state[f"{block}.attn.c_v.weight"] = torch.nn.init.orthogonal_(torch.empty(kv_dim, dim))
    for n in range(layers):
        state[f"blocks.{n}.mlp.fc.weight"] = torch.nn.init.orthogonal_(torch.empty(hidden, dim))
        state[f"blocks.{n}.mlp.proj.weight"] = torch.zeros(dim, hidden)
    return state


def init(settings, seed):
    """The initial state: name -> float32 tensor. To the bit only with one thread (QR).

    The dense gate's place among the draws is not specified: here it is drawn last, so that all others stay as they are.
    """
    settings = oracle.merged(SETTINGS, settings)
    dim, layers, window = settings["model_dim"], settings["num_layers"], settings["gate_window"]
    if settings["init"] in ("b1", "c1") and (settings["bigram"] or settings["ve_layers"]):
        raise ValueError("b1 and c1 know neither bigram nor value embedding")
    if settings["init"] == "c1":
        if settings["smear"] not in (None, "input") or settings["overtone"] or settings["phased_mix"]:
            raise ValueError("c1 knows none of wave A's smears, overtone, phased mix")
        state = init_c1(settings, seed)
    else:
        state = zoo_oracle.init(wave_a(settings), seed)
    state["skip_weights"] = torch.ones(skip_rows(settings), dim)
    if settings["gated_skips"]:
        state["skip_gates"] = torch.zeros(skip_rows(settings), dim)
    if settings["lanes_from"] is not None:
        state["lanes.r"] = torch.full((layers, 2), 1.1)
        state["lanes.p"] = torch.ones(layers, 2, 2)
    if settings["split_lanes_from"] is not None:
        state["lane_merge"] = torch.tensor(0.5)
    if settings["smear"] == "input":
        state["smear.weight"] = torch.zeros(1, window)
        state["smear.lambda"] = torch.zeros(1)
    if settings["gate"]:
        for layer in range(layers):
            if settings["gate"] == "dense":
                gate = torch.empty(settings["num_heads"], dim).normal_(0.0, settings["gate_init_std"])
            else:
                gate = torch.zeros(settings["num_heads"], window)
            state[f"gates.attn.{layer}"] = gate
    return state


# Model


def embed(state, settings, ids):
    """ids (batch, T) -> x0 (batch, T, D): token embedding, bigram, smear "input", norm; other smears: zoo_oracle."""
    if settings["smear"] != "input":
        return zoo_oracle.embed(state, settings, ids)
    x = state["tok_emb.weight"][ids]
    if settings["bigram"]:
        name = "bigram_hash" if settings["bigram"] == "first" else "bigram"
        looked_up = state[f"{name}.embed.weight"][zoo_oracle.bigram_hash(ids, settings)]
        if f"{name}.proj.weight" in state:
            looked_up = looked_up @ state[f"{name}.proj.weight"].T
        x = x + (state["bigram.scale"] * looked_up if settings["bigram"] == "scaled" else looked_up)
    amount = torch.sigmoid(x[..., : settings["gate_window"]] @ state["smear.weight"].T)  # (batch, T, 1)
    added = state["smear.lambda"] * amount * zoo_oracle.previous_position(x)
    if settings["smear_mask_bos"]:
        added = torch.where((ids == oracle.BOS)[:, :, None], torch.zeros_like(added), added)
    return oracle.rms_norm(x + added)


def head_gates(state, settings, layer, n):
    """n (batch, T, D), the block's normed and scaled input -> what each head is multiplied by (batch, T, H)."""
    weight = state[f"gates.attn.{layer}"]
    if settings["gate"] == "dense":
        return torch.sigmoid(n @ weight.T)
    logits = n[..., : settings["gate_window"]] @ weight.T
    if settings["gate"] == "output":
        return 2.0 * torch.sigmoid(logits)
    if settings["gate"] == "sparse":
        return torch.sigmoid(settings["gate_scale"] * logits)
    raise ValueError(f"unknown gate {settings['gate']!r}")


def attention(state, settings, layer, n, ids):
    """n (batch, T, D), normed and scaled; ids (batch, T) -> (batch, T, D)."""
    added_to_v = zoo_oracle.value_embedding(state, settings, ids, layer)
    if settings["gate"] is None:
        return zoo_oracle.attention(state, settings, layer, n, added_to_v)
    # zoo_oracle's attention with the identity for its projection: the heads' outputs after XSA, side by side.
    name = f"blocks.{layer}.attn.proj.weight"
    heads = zoo_oracle.attention({**state, name: torch.eye(n.shape[-1], dtype=n.dtype)}, settings, layer, n, added_to_v)
    gates = head_gates(state, settings, layer, n)
    head_dim = settings["model_dim"] // settings["num_heads"]
    outputs = []
    for head in range(settings["num_heads"]):
        outputs.append(gates[..., head : head + 1] * heads[..., head * head_dim : (head + 1) * head_dim])
    return torch.cat(outputs, dim=-1) @ state[name].T


def normed(settings, layer, x):
    """x (batch, T, D) -> norm(x), by 1/sqrt(layer+1) with ln_scale; `layer` is the physical one, also in repeats."""
    factor = 1.0 / math.sqrt(layer + 1) if settings["ln_scale"] else 1.0
    return oracle.rms_norm(x) * factor


def run_block(state, settings, layer, x, x0, ids):
    """One stream: x, x0 (batch, T, D) -> (batch, T, D); from layer parallel_from on, MLP reads what attention reads."""
    block = f"blocks.{layer}"
    mix = state[f"{block}.resid_mix"]
    x = mix[0] * x + mix[1] * x0
    attended = state[f"{block}.attn_scale"] * attention(state, settings, layer, normed(settings, layer, x), ids)
    if settings["parallel_from"] is not None and layer >= settings["parallel_from"]:
        return (
            x
            + attended
            + state[f"{block}.mlp_scale"] * zoo_oracle.mlp(state, settings, layer, normed(settings, layer, x))
        )
    x = x + attended
    return x + state[f"{block}.mlp_scale"] * zoo_oracle.mlp(state, settings, layer, normed(settings, layer, x))


def run_lanes(state, settings, layer, lane0, lane1, x0, ids):
    """lane0, lane1, x0 (batch, T, D) -> the new lanes. Attention reads lane 0 mixed with x0, MLP lane 1 as it is."""
    block = f"blocks.{layer}"
    mix = state[f"{block}.resid_mix"]
    r, p = state["lanes.r"][layer], state["lanes.p"][layer]
    mixed = mix[0] * lane0 + mix[1] * x0
    a = state[f"{block}.attn_scale"] * attention(state, settings, layer, normed(settings, layer, mixed), ids)
    m = state[f"{block}.mlp_scale"] * zoo_oracle.mlp(state, settings, layer, normed(settings, layer, lane1))
    new0 = r[0] * lane0 + p[0][0] * a + p[1][0] * m
    new1 = r[1] * lane1 + p[0][1] * a + p[1][1] * m
    return new0, new1


def run_split_lanes(state, settings, layer, lane0, lane1, x0, ids):
    """lane0, lane1, x0 (batch, T, D) -> the new lanes. Attention reads and writes lane 0, the MLP lane 1."""
    block = f"blocks.{layer}"
    mix = state[f"{block}.resid_mix"]
    mixed = mix[0] * lane0 + mix[1] * x0
    a = state[f"{block}.attn_scale"] * attention(state, settings, layer, normed(settings, layer, mixed), ids)
    m = state[f"{block}.mlp_scale"] * zoo_oracle.mlp(state, settings, layer, normed(settings, layer, lane1))
    return mixed + a, lane1 + m


def join(state, settings, row, x, popped):
    """x, popped (batch, T, D) -> x with the skip; row: of skip_weights (and skip_gates), from the hinge outwards."""
    s = state["skip_weights"][row] * popped
    if settings["gated_skips"]:
        return s + torch.sigmoid(state["skip_gates"][row]) * (x - s)
    return x + s


def forward(state, settings, ids, phase=None):
    """ids (batch, T) -> logits (batch, T, V), after the softcap. phase: 0 = loop off, None = the last phase."""
    settings = oracle.merged(SETTINGS, settings)
    if sum(settings[key] is not None for key in ("parallel_from", "lanes_from", "split_lanes_from")) > 1:
        raise ValueError("parallel residual is in one stream or in two lanes, of one kind")
    order, pushes = layer_order(settings, phase)
    start = len(order) + 1 if settings["lanes_from"] is None else settings["lanes_from"]
    x = embed(state, settings, ids)
    x0 = x
    lane1 = None  # before the lanes part; from then on x is lane 0
    parted = False  # the same of split lanes
    stack = []
    for number, layer in enumerate(order):
        if lane1 is None and layer >= start:
            if number < pushes:
                raise ValueError("the lanes part in the first half: what would be pushed is not specified")
            lane1 = x
        if lane1 is not None and not parted and layer < start:
            raise ValueError("a layer before the lanes' first follows them: not specified")
        if number >= pushes and stack:
            popped = stack.pop()
            if not parted or settings["split_skips"]:
                x = join(state, settings, number - pushes, x, popped)
        if settings["split_lanes_from"] is not None and layer >= settings["split_lanes_from"]:
            x, lane1 = run_split_lanes(state, settings, layer, x, lane1 if parted else x, x0, ids)
            parted = True
        elif lane1 is None:
            x = run_block(state, settings, layer, x, x0, ids)
        else:
            x, lane1 = run_lanes(state, settings, layer, x, lane1, x0, ids)
        if number < pushes:
            stack.append(x)
    if parted:
        x = state["lane_merge"] * x + (1 - state["lane_merge"]) * lane1
    elif lane1 is not None:
        x = (x + lane1) / 2
    cap = settings["logit_softcap"]
    return cap * torch.tanh(oracle.rms_norm(x) @ state["tok_emb.weight"].T / cap)


def token_nll(state, settings, inputs, targets, phase=None):
    """inputs, targets (batch, T) -> nll (batch, T)."""
    log_probabilities = torch.log_softmax(forward(state, settings, inputs, phase).float(), dim=-1)
    return -log_probabilities.gather(-1, targets[:, :, None])[:, :, 0]


# Schedule


def multiplier_at(fraction, training):
    """max((1 - f) / w, min_lr) once f >= 1 - w, else 1."""
    training = oracle.merged(TRAINING, training)
    w = training["warmdown_frac"]
    if w <= 0 or fraction < 1 - w:
        return 1.0
    return max((1 - fraction) / w, training["min_lr"])


def decay_taper_at(fraction, training):
    """What Muon's weight decay, and nothing else, is multiplied by: 1, then linear to decay_taper_final at f = 1."""
    training = oracle.merged(TRAINING, training)
    start, final = training["decay_taper_start"], training["decay_taper_final"]
    if fraction < start:
        return 1.0
    return 1.0 + (final - 1.0) * (fraction - start) / (1.0 - start)


# Optimizer


def role(name):
    """ "embedding", "matrix" or "control": zoo_oracle.role, and control for all that is new here."""
    if name.split(".")[0] in ("skip_gates", "lanes", "smear", "gates"):
        return "control"
    return zoo_oracle.role(name)


def orthogonalize(u, coefficients):
    """u (rows, cols) -> (rows, cols): X = u / (|u|_F + 1e-7), wide; per (a, b, c): A = X X.T, X = aX + (bA + cAA)X."""
    x = u / (u.norm() + 1e-7)
    tall = u.shape[0] > u.shape[1]
    if tall:
        x = x.T
    for a, b, c in coefficients:
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def muon_update(grad, buffers, name, training, momentum):
    """grad (rows, cols) -> what is subtracted, times the rate (rows, cols); buffers[name] is moved on."""
    buffers[name] = momentum * buffers.get(name, torch.zeros_like(grad)) + grad
    u = grad + momentum * buffers[name]
    if training["row_normalize"]:
        u = u / u.norm(dim=1, keepdim=True).clamp_min(1e-7)
    steps = training["newton_schulz_steps"]
    if training["polar_express"]:
        if steps > len(POLAR_EXPRESS):
            raise ValueError("Polar Express has five iterations")
        coefficients = POLAR_EXPRESS[:steps]
    else:
        coefficients = [BASELINE_COEFFICIENTS] * steps
    rows, cols = grad.shape
    return math.sqrt(max(1.0, rows / cols)) * orthogonalize(u, coefficients)


def optimizer_step(state, grads, buffers, moments, training, momentum, multiplier, taper=1.0):
    """One step of AdamW(embedding), Muon(matrix), AdamW(control), in place; decay before the update, by role.

    state, grads: name -> tensor; a parameter without a gradient is left alone. buffers (Muon's) and moments (Adam's)
    are dicts, empty at first. taper: of Muon's decay.
    """
    training = oracle.merged(TRAINING, training)
    for name, weight in state.items():
        if name not in grads:
            continue
        if role(name) == "matrix":
            lr = training["matrix_lr"] * multiplier
            weight *= 1 - lr * training["muon_weight_decay"] * taper
            weight -= lr * muon_update(grads[name], buffers, name, training, momentum)
            continue
        if role(name) == "embedding":
            lr, decay = training["tied_embed_lr"] * multiplier, training["embed_weight_decay"]
        else:
            lr, decay = training["scalar_lr"] * multiplier, training["adam_weight_decay"]
        weight *= 1 - lr * decay
        betas = training["beta1"], training["beta2"]
        oracle.adam_step(weight, grads[name], moments, name, lr, *betas, training["adam_eps"])


# Training


def train(state, settings, training, tokens, *, iterations, seq_len, batch_tokens, micro_steps=8, watch=None):
    """Train `state` in place on the stream `tokens` (1-D int64, wraps around), as zoo_oracle.train does.

    The fraction is step / iterations, before the step. Returns {"losses": one per step, "phases": one per step,
    "ema": state or None}. watch(step, state) is called after each step, step from 1.
    """
    settings, training = oracle.merged(SETTINGS, settings), oracle.merged(TRAINING, training)
    span = batch_tokens // micro_steps + 1
    position = 0
    buffers, moments = {}, {}
    losses, phases = [], []
    ema = {name: w.clone() for name, w in state.items()}
    for step in range(iterations):
        fraction = step / iterations
        phase = phase_at(settings, fraction)
        phases.append(phase)
        leaves = {name: w.detach().clone().requires_grad_() for name, w in state.items()}
        step_loss = 0.0
        for _ in range(micro_steps):
            taken = tokens[torch.arange(position, position + span) % len(tokens)]
            position += span
            inputs, targets = taken[:-1].reshape(-1, seq_len), taken[1:].reshape(-1, seq_len)
            loss = token_nll(leaves, settings, inputs, targets, phase).mean() / micro_steps
            loss.backward()
            step_loss += loss.item()
        losses.append(step_loss)
        grads = {name: w.grad for name, w in leaves.items() if w.grad is not None}
        if training["grad_clip_norm"] > 0:
            grads = zoo_oracle.clip_gradients(grads, training["grad_clip_norm"])
        multiplier, taper = multiplier_at(fraction, training), decay_taper_at(fraction, training)
        momentum = oracle.momentum_at(step, training)
        with torch.no_grad():
            optimizer_step(state, grads, buffers, moments, training, momentum, multiplier, taper)
        if training["ema_decay"] is not None:
            d = training["ema_decay"]
            ema = {name: d * ema[name] + (1 - d) * w for name, w in state.items()}
        if watch is not None:
            watch(step + 1, state)
    return {"losses": losses, "phases": phases, "ema": ema if training["ema_decay"] is not None else None}
