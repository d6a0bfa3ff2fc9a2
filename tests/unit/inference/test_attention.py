"""Both attention paths against the rule written out as a dense mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_rag.inference.attention import allowed, flex_attention, last_row_attention, segment_attention
from qwen3_rag.inference.packing import Pack, Tree, pack_trees

HEADS, KV_HEADS, WIDTH = 4, 2, 16


def packs(budget: int) -> list[Pack]:
    forest = [
        Tree((), ((1, 2, 3), (4,))),
        Tree((1, 2, 3, 4, 5), ((6,), (7, 8), (9, 10, 11), (12, 13))),
        Tree((1, 2), ((3, 4, 5, 6, 7, 8, 9),)),
    ]
    return list(pack_trees(forest, budget))


def states(pack: Pack) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(len(pack.tokens))
    rows, keys = len(pack.tokens), pack.carried + len(pack.tokens)
    return torch.randn(HEADS, rows, WIDTH), torch.randn(KV_HEADS, keys, WIDTH), torch.randn(KV_HEADS, keys, WIDTH)


def dense_mask(pack: Pack) -> torch.Tensor:
    """Written from the sentence, not from the code: own segment up to oneself, and the whole prefix."""
    mask = torch.zeros(len(pack.tokens), pack.carried + len(pack.tokens), dtype=torch.bool)
    for segment in pack.segments:
        for key in range(segment.span.start, segment.span.end):
            row = key - pack.carried
            mask[row, segment.prefix.start : segment.prefix.end] = True
            mask[row, segment.span.start : key + 1] = True
    return mask


def dense_attention(pack: Pack, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    out = F.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=dense_mask(pack), scale=0.25, enable_gqa=True
    )
    return out[0].transpose(0, 1).reshape(len(pack.tokens), -1)


@pytest.mark.parametrize("budget", [1, 7, 10, 14, 100])
def test_segment_attention_follows_the_rule(budget: int) -> None:
    for pack in packs(budget):
        q, k, v = states(pack)
        torch.testing.assert_close(segment_attention(pack)(q, k, v, 0.25), dense_attention(pack, q, k, v))


@pytest.mark.parametrize("budget", [1, 7, 10, 14, 100])
def test_flex_attention_follows_the_rule(budget: int) -> None:
    for pack in packs(budget):
        q, k, v = states(pack)
        flex = flex_attention(pack, "cpu", compiled=False)
        torch.testing.assert_close(flex(q, k, v, 0.25), dense_attention(pack, q, k, v), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 7, 10, 14, 100])
def test_last_rows_are_the_last_rows(budget: int) -> None:
    for pack in packs(budget):
        q, k, v = states(pack)
        rows = [pack.segments[i].span.end - 1 - pack.carried for i in pack.leaf_segments]
        last = last_row_attention(pack)(q[:, rows], k, v, 0.25)
        torch.testing.assert_close(last, dense_attention(pack, q, k, v)[rows])


leaves = st.lists(st.lists(st.just(1), min_size=1, max_size=5).map(tuple), max_size=5).map(tuple)


@settings(deadline=None)
@given(st.lists(st.builds(Tree, st.lists(st.just(1), max_size=4).map(tuple), leaves), max_size=4), st.integers(1, 25))
def test_mask_function_is_the_dense_mask(forest: list[Tree], budget: int) -> None:
    from torch.nn.attention.flex_attention import create_mask

    for pack in pack_trees(forest, budget):
        keys = pack.carried + len(pack.tokens)
        mask = create_mask(allowed(pack, "cpu"), None, None, len(pack.tokens), keys, device="cpu")
        assert torch.equal(mask[0, 0], dense_mask(pack))
