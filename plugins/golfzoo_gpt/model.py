"""The baseline GPT of openai/parameter-golf's train_gpt.py: its names, shapes, order of initialisation, arithmetic; and
places for parts. A part is a module with methods named after the places where it acts:

    embed(x, ctx)              on the token embedding, before its norm; x and every other is (batch, time, model_dim)
    stream(x, ctx)             on the stream behind that norm, before it is kept as x0
    values(v, ctx, layer)      on a layer's values before heads are cut, (batch, time, value_dim)
    attended(y, v, x, layer)   on what attention gives, (batch, heads, time, head_dim), before its projection; v
                               (batch, kv_heads, time, head_dim); x is what the layer read
    build(model)               once the blocks are made: what it draws, it draws after them
    start(model)               once all initial weights are drawn

These act one after the other, in the record's order. Of the following the last part that has a place takes it:

    order(num_layers, phase)   the layers in the order of the forward pass, and how many of them push skips; `phases` of
                               the part are the fractions of training at which its order changes
    enter(x)                   before a layer and its skip; may make a tuple of streams, of which skips join the first
    join(x, skip, number, model)   how a skip comes back into the stream, the innermost being number 0
    attend(q, k, v, ctx)       causal attention, (batch, heads, time, head_dim): within ctx.segments where the loader
                               gives some, and else, as in scoring, over all of `time`
    block(x, block, ctx, parts)   a layer
    leave(x)                   makes one stream of them, behind the last layer

`layers` of a part are those that it acts in, counted from 0; without it, all. It is built with `shape`: vocab_size,
num_layers, model_dim, num_heads, head_dim, value_dim. `ctx` has `ids`, the tokens, `segments`, and `shared`, a dict for
what is computed once a forward pass. Roles go by module: what nn.Linear has is "matrix", nn.Embedding "embedding", all
else "control".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_layers.linear import CastedLinear, TiedHead
from golfzoo_layers.norms import rms_norm
from golfzoo_layers.rotary import Rotary, rotate

if TYPE_CHECKING:
    from golfzoo_gpt import GPTConfig

Places = Mapping[str, list[Any]]
"""The parts that act at a place, for one layer."""


class Context:
    """What all places of a forward pass have in common: `ids`, `segments`, `x0`, `rope`, and `shared`."""

    segments: Tensor | None
    x0: Tensor
    rope: tuple[Tensor, Tensor]

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids
        self.shared: dict[Any, Tensor] = {}


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        dim, head_dim = config.model_dim, config.model_dim // config.num_heads
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, head_dim
        self.c_q = CastedLinear(dim, dim, bias=False)
        self.c_k = CastedLinear(dim, config.num_kv_heads * head_dim, bias=False)
        self.c_v = CastedLinear(dim, config.num_kv_heads * head_dim, bias=False)
        self.proj = CastedLinear(dim, dim, bias=False)
        self.proj.start_at_zero()  # every block starts as the identity
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))

    def forward(self, x: Tensor, ctx: Context, layer: int, parts: Places) -> Tensor:
        batch, time, dim = x.shape
        q = self.c_q(x).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.c_k(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        v = self.c_v(x)
        for part in parts["values"]:
            v = part.values(v, ctx, layer)
        v = v.view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        q = rotate(rms_norm(q), *ctx.rope)  # under CUDA's autocast the norm gives float32
        q = q * self.q_gain.to(q.dtype)[:, None, None]
        k = rotate(rms_norm(k), *ctx.rope)
        grouped = self.num_kv_heads != self.num_heads
        if parts["attend"]:
            y = parts["attend"][-1].attend(q, k, v, ctx)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        for part in parts["attended"]:
            y = part.attended(y, v, x, layer)
        return self.proj(y.transpose(1, 2).reshape(batch, time, dim))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        hidden = config.mlp_hidden or int(config.mlp_mult * config.model_dim)
        self.slope = config.activation_slope
        self.fc = CastedLinear(config.model_dim, hidden, bias=False)
        self.proj = CastedLinear(hidden, config.model_dim, bias=False)
        self.proj.start_at_zero()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return self.proj((F.leaky_relu(x, self.slope) if self.slope else F.relu(x)).square())


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        dim = config.model_dim
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.attn_scale = nn.Parameter(torch.ones(dim))
        self.mlp_scale = nn.Parameter(torch.ones(dim))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(dim), torch.zeros(dim))))
        self.layer, self.ln_scale = layer, (layer + 1) ** -0.5 if config.ln_scale else 1.0

    def forward(self, x: Tensor, ctx: Context, parts: Places) -> Tensor:
        x = self.mixed(x, ctx)
        x = x + self.attended(x, ctx, parts)
        return x + self.fed(x)

    def mixed(self, x: Tensor, ctx: Context) -> Tensor:
        mix = self.resid_mix.to(x.dtype)
        return mix[0] * x + mix[1] * ctx.x0

    def attended(self, x: Tensor, ctx: Context, parts: Places) -> Tensor:
        return self.attn_scale.to(x.dtype) * self.attn(self.normed(x), ctx, self.layer, parts)

    def fed(self, x: Tensor) -> Tensor:
        return self.mlp_scale.to(x.dtype) * self.mlp(self.normed(x))

    def normed(self, x: Tensor) -> Tensor:
        return rms_norm(x) if self.ln_scale == 1 else rms_norm(x) * self.ln_scale


class GPT(nn.Module):
    def __init__(self, config: GPTConfig, vocab_size: int, parts: Mapping[str, Callable[..., nn.Module]]) -> None:
        super().__init__()
        head_dim = config.model_dim // config.num_heads
        self.softcap, self.tied = config.logit_softcap, config.tie_embeddings
        self.rotary = Rotary(config.rope_dims or head_dim, config.rope_base, config.rope_train_len)
        self.whole_windows = config.rope_train_len > 0  # a shorter window would turn otherwise
        self.tok_emb = nn.Embedding(vocab_size, config.model_dim)
        shape = SimpleNamespace(
            vocab_size=vocab_size, num_layers=config.num_layers, model_dim=config.model_dim, num_heads=config.num_heads,
            head_dim=head_dim, value_dim=config.num_kv_heads * head_dim,
        )  # fmt: skip
        self.parts = nn.ModuleDict({name: make(shape=shape) for name, make in parts.items()})
        order = next(iter(self._acting("order")[::-1]), None)
        self.phases = order.phases if order else ()
        self.orders = [
            order.order(config.num_layers, phase) if order else (range(config.num_layers), config.num_layers // 2)
            for phase in range(len(self.phases) + 1)
        ]
        layers, pushed = self.orders[-1]
        num_skips = min(pushed, len(layers) - pushed)
        self.skip_weights = nn.Parameter(torch.ones(num_skips, config.model_dim))
        self.enter_phase(len(self.phases))  # as built: the last, in which it is scored
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self._at("build")
        self.lm_head: nn.Module
        if config.tie_embeddings:
            self.lm_head = TiedHead(config.model_dim, vocab_size)
            nn.init.normal_(self.tok_emb.weight, std=config.tied_embed_init_std)
        else:
            self.lm_head = CastedLinear(config.model_dim, vocab_size, bias=False)
            self.lm_head.start_at_zero()
        if config.init != "reference":
            self._draw_orthogonal(plain=config.init == "orthogonal_plain")
        self._at("start")
        self.outside = {place: self._acting(place) for place in ("embed", "stream", "join", "leave")}
        self.places = [
            {place: self._acting(place, layer) for place in ("values", "attend", "attended", "enter", "block")}
            for layer in range(config.num_layers)
        ]
        self.takes_segments = bool(self.places[0]["attend"])

    def enter_phase(self, number: int) -> None:
        """From here on in the order that it has in that phase, from 0."""
        self.phase = number

    def parameter_roles(self) -> dict[str, str]:
        def role(name: str) -> str:
            owner, _, last = name.rpartition(".")
            module = self.get_submodule(owner)
            if name == "lm_head.weight":
                return "head"
            if isinstance(module, nn.Embedding):
                return "embedding"
            return "matrix" if isinstance(module, nn.Linear) and last == "weight" else "control"

        return {name: role(name) for name, _ in self.named_parameters()}

    def forward(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """(batch, time) -> (batch, time, vocab_size)"""
        x = self.tok_emb(input_ids)  # (batch, time, model_dim)
        ctx = Context(input_ids)
        for part in self.outside["embed"]:
            x = part.embed(x, ctx)
        x = rms_norm(x)
        for part in self.outside["stream"]:
            x = part.stream(x, ctx)
        ctx.x0, ctx.rope, ctx.segments = x, self.rotary(input_ids.shape[1], x.dtype), segments
        order, pushed = self.orders[self.phase]
        skips: list[Tensor] = []
        for number, layer in enumerate(order):
            block, parts = self.blocks[layer], self.places[layer]
            if parts["enter"]:
                x = parts["enter"][-1].enter(x)
            if number >= pushed and skips:
                x = self._joined(x, skips.pop(), number - pushed)
            x = parts["block"][-1].block(x, block, ctx, parts) if parts["block"] else block(x, ctx, parts)
            if number < pushed:
                skips.append(x)
        if self.outside["leave"]:
            x = self.outside["leave"][-1].leave(x)
        x = rms_norm(x)
        logits = self.lm_head(x, self.tok_emb.weight) if self.tied else self.lm_head(x)
        return self.softcap * torch.tanh(logits / self.softcap)

    def _joined(self, x: Any, skip: Tensor, number: int) -> Any:
        if isinstance(x, tuple):
            return (self._joined(x[0], skip, number), *x[1:])
        if self.outside["join"]:
            return self.outside["join"][-1].join(x, skip, number, self)
        return x + self.skip_weights[number].to(x.dtype) * skip

    def _acting(self, place: str, layer: int | None = None) -> list[Any]:
        return [
            part
            for part in self.parts.values()
            if hasattr(part, place) and (layer is None or layer in getattr(part, "layers", (layer,)))
        ]

    def _at(self, place: str) -> None:
        for part in self._acting(place):
            getattr(part, place)(self)

    def _draw_orthogonal(self, plain: bool) -> None:
        """Linear layers that do not start at zero are drawn anew, in the order of their first draw. Unless `plain`,
        only those of at least 64 rows and columns, and a projection is scaled by 1 / sqrt(2 * layers)."""
        late = self._acting("build")
        early = [part for part in self.parts.values() if part not in late]
        for module in [*early, *self.blocks, *late]:
            for name, layer in module.named_modules():
                if not isinstance(layer, nn.Linear) or getattr(layer, "starts_at_zero", False):
                    continue
                if plain or min(layer.weight.shape) >= 64:
                    nn.init.orthogonal_(layer.weight)
                    if not plain and name.endswith("proj"):
                        with torch.no_grad():
                            layer.weight.mul_((2 * len(self.blocks)) ** -0.5)
