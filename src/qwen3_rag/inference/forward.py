"""One pack through a Qwen3 decoder: the hidden state of every leaf's last token, and nothing that isn't needed for it.

The modules (weights, norms, rotary embedding) are those of transformers' `Qwen3Model`; only the order of the calls is written
here, because three things can't be said through its `forward`: attention over segments, a prefix whose keys come from an
earlier pack, and a last layer that computes the last tokens only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import rotate_half

from qwen3_rag.inference.attention import Attention, attention_for, last_row_attention
from qwen3_rag.inference.packing import Pack

KeyValues = list[tuple[Tensor, Tensor]]
"""Keys and values of a prefix, one pair per layer, each `(kv_heads, length, d)`."""


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
    current = _Pass(
        cos[0, :, None], sin[0, :, None], carried, slice(pack.carry.start, pack.carry.end) if pack.carry else None
    )
    attend = attention_for(pack, device)
    for layer in model.layers[:-1]:
        hidden = current.layer(layer, hidden, attend)
    last = torch.tensor([pack.segments[i].span.end - 1 - pack.carried for i in pack.leaf_segments], device=device)
    hidden = current.layer(model.layers[-1], hidden, last_row_attention(pack), rows=last)
    return model.norm(hidden), current.kept or None


@dataclass(slots=True)
class _Pass:
    """What the layers of one pass share.

    Attributes:
        cos: Of the rotary embedding, `(T, 1, d)`.
        sin: Likewise.
        carried: Keys and values of a prefix from an earlier pack.
        carry: Which keys and values the next pack needs.
        kept: Those, layer by layer.
    """

    cos: Tensor
    sin: Tensor
    carried: KeyValues | None
    carry: slice | None
    kept: KeyValues = field(default_factory=list)

    def layer(self, layer: Any, hidden: Tensor, attend: Attention, rows: Tensor | None = None) -> Tensor:
        """Runs one decoder layer; with `rows`, only those go on after keys and values are computed."""
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        key, value = self._keys_and_values(attention, normed)
        cos, sin = self.cos, self.sin
        if rows is not None:
            hidden, normed, cos, sin = hidden[rows], normed[rows], cos[rows], sin[rows]
        query = _rotate(attention.q_norm(_heads(attention.q_proj(normed), attention.head_dim)), cos, sin).transpose(
            0, 1
        )
        hidden = hidden + attention.o_proj(attend(query, key, value, attention.scaling))
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))  # type: ignore[no-any-return]

    def _keys_and_values(self, attention: Any, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `(kv_heads, carried + T, d)`; keeps those that the next pack needs."""
        key = attention.k_norm(_heads(attention.k_proj(normed), attention.head_dim))
        key = _rotate(key, self.cos, self.sin).transpose(0, 1)
        value = _heads(attention.v_proj(normed), attention.head_dim).transpose(0, 1)
        if self.carried is not None:
            before = self.carried[attention.layer_idx]
            key, value = torch.cat((before[0], key), dim=1), torch.cat((before[1], value), dim=1)
        if self.carry is not None:
            self.kept.append((key[:, self.carry].clone(), value[:, self.carry].clone()))
        return key, value


def _heads(states: Tensor, width: int) -> Tensor:
    """`(T, heads * d)` to `(T, heads, d)`: the layout in which norm and rotation read memory in order."""
    return states.view(len(states), -1, width)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of `(T, heads, d)`."""
    return states * cos + rotate_half(states) * sin  # type: ignore[no-any-return, no-untyped-call]
