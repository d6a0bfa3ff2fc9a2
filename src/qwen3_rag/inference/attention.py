"""Attention over a pack: one function per kind of device, the same result.

`segment_attention` calls PyTorch's SDPA once per segment: no padding, no mask but the small one of a leaf that follows a
prefix. `flex_attention` computes the whole row at once under a block mask, for CUDA, where many small calls would leave the
device idle. `allowed` is the rule that both follow, and what the tests compare them with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor

from qwen3_rag.inference.packing import Pack, Segment

Attention = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Query `(heads, T, d)`, keys and values `(kv_heads, carried + T, d)`, scale -> `(T, heads * d)`."""


def _keys_of(segment: Segment, states: Tensor) -> Tensor:
    """Keys or values that a segment sees, prefix first: `(1, kv_heads, n, d)`, a view where the two are adjacent."""
    span, prefix = segment.span, segment.prefix
    if not len(prefix) or prefix.end == span.start:
        start = prefix.start if len(prefix) else span.start
        return states[None, :, start : span.end]
    return torch.cat((states[:, prefix.start : prefix.end], states[:, span.start : span.end]), dim=1)[None]


def segment_attention(pack: Pack) -> Attention:
    """Attention by one SDPA call per segment; the path of the CPU and of every device without one of its own."""
    masks: dict[tuple[int, int], Tensor] = {}

    def mask(segment: Segment, like: Tensor) -> Tensor | None:
        if not len(segment.prefix):
            return None  # plain causal
        shape = (len(segment.span), len(segment.prefix))
        if shape not in masks:  # every layer asks again, and equal lengths share one
            # Added, not boolean: SDPA would turn a boolean mask into this in every call.
            masks[shape] = like.new_full((shape[0], sum(shape)), float("-inf")).triu(shape[1] + 1)
        return masks[shape]

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        heads, length, width = query.shape
        out = query.new_empty(length, heads, width)
        for segment in pack.segments:
            rows = slice(segment.span.start - pack.carried, segment.span.end - pack.carried)
            bias = mask(segment, query)
            seen = F.scaled_dot_product_attention(
                query[None, :, rows],
                _keys_of(segment, key),
                _keys_of(segment, value),
                attn_mask=bias,
                is_causal=bias is None,
                scale=scale,
                enable_gqa=True,
            )
            out[rows] = seen[0].transpose(0, 1)
        return out.view(length, heads * width)

    return attend


def last_row_attention(pack: Pack) -> Attention:
    """Attention of each leaf's last token alone, which sees its whole segment and prefix: no mask at all."""
    leaves = [pack.segments[i] for i in pack.leaf_segments]

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        heads, _, width = query.shape
        rows = [
            F.scaled_dot_product_attention(
                query[None, :, i : i + 1],
                _keys_of(segment, key),
                _keys_of(segment, value),
                scale=scale,
                enable_gqa=True,
            )
            for i, segment in enumerate(leaves)
        ]
        return torch.cat(rows, dim=2)[0].transpose(0, 1).reshape(len(leaves), heads * width)

    return attend


def allowed(pack: Pack, device: torch.device | str) -> Callable[..., Tensor]:
    """The rule as a `mask_mod` of flex attention: may the token in row `q` see the key `k`?

    A key is seen if it is in the same segment and not later, or if it belongs to the segment's prefix.
    """
    total = pack.carried + len(pack.tokens)
    owner = torch.full((total,), -1, dtype=torch.int32)  # the carried prefix belongs to no segment of this row
    prefix_start = torch.zeros(total, dtype=torch.int32)
    prefix_end = torch.zeros(total, dtype=torch.int32)
    for number, segment in enumerate(pack.segments):
        span = slice(segment.span.start, segment.span.end)
        owner[span] = number
        prefix_start[span] = segment.prefix.start
        prefix_end[span] = segment.prefix.end
    owner, prefix_start, prefix_end = (t.to(device) for t in (owner, prefix_start, prefix_end))
    carried = pack.carried

    def mask_mod(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        row = q + carried
        same = (owner[row] == owner[k]) & (k <= row)
        before = (k >= prefix_start[row]) & (k < prefix_end[row])
        return same | before

    return mask_mod


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention as flex

    return torch.compile(flex, dynamic=True)


def flex_attention(pack: Pack, device: torch.device | str, *, compiled: bool = True) -> Attention:
    """Attention over the whole row under a block mask; the path of CUDA.

    Args:
        pack: The row.
        device: Where the mask is built.
        compiled: Whether to compile the kernel; only tests switch it off, to run the same rule on a CPU.
    """
    from torch.nn.attention.flex_attention import create_block_mask
    from torch.nn.attention.flex_attention import flex_attention as eager

    length = len(pack.tokens)
    block_mask = create_block_mask(allowed(pack, device), None, None, length, pack.carried + length, device=device)
    kernel: Any = _compiled_flex() if compiled else eager

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        out = kernel(query[None], key[None], value[None], block_mask=block_mask, scale=scale, enable_gqa=True)
        heads, rows, width = query.shape
        return out[0].transpose(0, 1).reshape(rows, heads * width)  # type: ignore[no-any-return]

    return attend


def attention_for(pack: Pack, device: torch.device) -> Attention:
    """Chooses the path for a device."""
    return flex_attention(pack, device) if device.type == "cuda" else segment_attention(pack)
