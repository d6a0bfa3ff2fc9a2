"""One pack through a Qwen3 decoder: the hidden state of every leaf's last token, and nothing that isn't needed for it.

The modules (weights, norms, rotary embedding) are those of transformers' `Qwen3Model`; only the order of the calls is written
here, because three things can't be said through its `forward`: attention over segments, a prefix whose keys come from an
earlier pack, and a last layer that computes the last tokens only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import rotate_half

from qwen3_rag.inference.attention import Attention, attention_for, last_row_attention
from qwen3_rag.inference.packing import Pack

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values of a prefix, one pair per layer, each `(kv_heads, length, d)`."""


@dataclass(slots=True)
class _Layer:
    """What every layer of one pass shares."""

    cos: Tensor
    sin: Tensor
    carried: KeyValues | None
    carry: slice | None
    kept: KeyValues


def forward_pack(model: Any, pack: Pack, carried: KeyValues | None) -> tuple[Tensor, KeyValues | None]:
    """Runs one pack.

    Args:
        model: A `transformers.Qwen3Model` in evaluation mode.
        pack: The row.
        carried: Keys and values of the prefix that the pack carries, as the pack before returned them.

    Returns:
        The normed hidden states `(n_leaves, hidden_size)` in the order of `pack.leaves`, and the keys and values that the
        next pack needs, or `None`.
    """
    device = model.embed_tokens.weight.device
    hidden = model.embed_tokens(torch.tensor(pack.tokens, device=device))
    cos, sin = model.rotary_emb(hidden, torch.tensor([pack.positions], device=device))
    carry = slice(pack.carry.start, pack.carry.end) if pack.carry else None
    shared = _Layer(cos, sin, carried, carry, [])
    attend = attention_for(pack, device)
    for index, layer in enumerate(model.layers[:-1]):
        hidden = _run_layer(layer, index, hidden, shared, attend, rows=None)
    last = torch.tensor([pack.segments[i].span.end - 1 - pack.carried for i in pack.leaf_segments], device=device)
    hidden = _run_layer(model.layers[-1], len(model.layers) - 1, hidden, shared, last_row_attention(pack), rows=last)
    return model.norm(hidden), shared.kept if carry else None


def _run_layer(layer: Any, index: int, hidden: Tensor, shared: _Layer, attend: Attention, rows: Tensor | None) -> Tensor:
    """One decoder layer; with `rows`, only those rows go on after keys and values are computed."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    key = _heads(attention.k_proj(normed), attention.head_dim)
    value = _heads(attention.v_proj(normed), attention.head_dim)
    queries, cos, sin = normed, shared.cos, shared.sin
    if rows is not None:
        hidden, queries, cos, sin = hidden[rows], normed[rows], cos[:, rows], sin[:, rows]
    query = attention.q_norm(_heads(attention.q_proj(queries), attention.head_dim))
    query = _rotate(query, cos, sin)
    key = _rotate(attention.k_norm(key), shared.cos, shared.sin)
    if shared.carried is not None:
        before = shared.carried[index]
        key, value = torch.cat((before[0], key), dim=1), torch.cat((before[1], value), dim=1)
    if shared.carry is not None:
        shared.kept.append((key[:, shared.carry].clone(), value[:, shared.carry].clone()))
    hidden = hidden + attention.o_proj(attend(query, key, value, attention.scaling))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _heads(states: Tensor, width: int) -> Tensor:
    """`(T, heads * d)` to `(heads, T, d)`."""
    return states.view(len(states), -1, width).transpose(0, 1)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding; `cos` and `sin` are `(1, T, d)`."""
    return states * cos + rotate_half(states) * sin
