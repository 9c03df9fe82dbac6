"""The gated delta rule (Yang et al., arXiv 2412.06464), exact and without a loop over time.

A head has a state S (key_dim, value_dim). A token lets it fade, and then moves what S holds at its key, k of length 1,
by beta towards its value:

    S_t = exp(g_t) S_(t-1) + beta_t k_t (v_t - exp(g_t) S_(t-1)^T k_t)^T        o_t = S_t^T q_t

What the tokens of a chunk write is the solution of a triangular system (the extended WY form of section 3.3 there).
From chunk to chunk the state goes by a linear map, S -> A S + B; the states before all chunks come of composing such
maps in pairs, in as many steps as the number of chunks has bits. Composed maps cannot grow where beta is at most 2:
each is a product of decays and of I - beta k k^T, of which none lengthens a vector.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
"""Tokens of a chunk: the work on one grows with it, the number of maps falls."""


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """q and k (batch, heads, time, key_dim), v (batch, heads, time, value_dim), g, the logarithm of the decay, at most
    0, and beta, both (batch, heads, time) -> o, as v. The state before the first token is zero. All have one type,
    float32 or float64."""
    time = q.shape[2]
    # From here on (batch, heads, chunks, CHUNK, *).
    q, k, v, g, beta = (chunked(x) for x in (q, k, v, g[..., None], beta[..., None]))
    faded = g.cumsum(dim=-2)  # the logarithm of what is left, at a token, of the state before its chunk
    all_faded = faded[..., -1:, :]
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).triu(1)
    left = (faded - faded.mT).masked_fill(later, float("-inf")).exp()  # [i, j]: at i, of what j has written
    keys = k * beta
    hindering = (keys @ k.mT * left).tril(-1)
    right = torch.cat((v * beta, keys * faded.exp()), dim=-1)
    solved = torch.linalg.solve_triangular(hindering, right, upper=False, unitriangular=True)
    # What tokens write were the state zero, and what they take off that for a state.
    written, taken = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    kept = (k * (all_faded - faded).exp()).mT
    carried = all_faded.exp() * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) - kept @ taken
    before = states_before(torch.cat((carried, kept @ written), dim=-1)[:, :, :-1])
    written = written - taken @ before
    o = (q * faded.exp()) @ before + (q @ k.mT * left) @ written
    return o.flatten(2, 3)[:, :, :time]


def chunked(x: Tensor) -> Tensor:
    """(batch, heads, time, *) in chunks; zeros behind the last token change nothing before them."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % CHUNK)).unflatten(2, (-1, CHUNK))


def states_before(maps: Tensor) -> Tensor:
    """S_0 = 0, and S_(i+1) = A_i S_i + B_i, with A_i and B_i side by side in maps: (batch, heads, count, key_dim,
    key_dim + value_dim) -> (batch, heads, count + 1, key_dim, value_dim)."""
    count, key_dim = maps.shape[2:4]
    if not count:
        return F.pad(maps[..., key_dim:], (0, 0, 0, 0, 0, 1))
    first, second = maps[:, :, ::2], maps[:, :, 1::2]
    # (A_1 A_0, A_1 B_0 + B_1) for every two of them.
    pairs = second[..., :key_dim] @ first[:, :, : count // 2] + F.pad(second[..., key_dim:], (key_dim, 0))
    even = states_before(pairs)
    odd = first[..., :key_dim] @ even[:, :, : first.shape[2]] + first[..., key_dim:]
    odd = F.pad(odd, (0, 0, 0, 0, 0, even.shape[2] - odd.shape[2]))
    return torch.stack((even, odd), dim=3).flatten(2, 3)[:, :, : count + 1]
