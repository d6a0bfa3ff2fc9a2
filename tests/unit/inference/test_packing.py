"""Packing is a partition of whole sequences within the budget, and its inverse restores the order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.inference.local import unique
from qwen3_rag.inference.packing import Pack, Tree, count_tokens, pack_trees

ids = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(tuple)
trees = st.lists(
    st.builds(Tree, st.lists(st.integers(0, 9), max_size=8).map(tuple), st.lists(ids, max_size=9).map(tuple)),
    max_size=6,
)
budgets = st.integers(1, 60)


def unpack(packs: list[Pack]) -> list[tuple[int, int, tuple[int, ...], tuple[int, ...]]]:
    """Reads every leaf with the prefix that it attends to, following carried prefixes as the engine does."""
    found = []
    keys: list[int] = []
    for pack in packs:
        carried = keys[:] if pack.carried else []
        assert len(carried) == pack.carried
        row = carried + pack.tokens
        for leaf, index in zip(pack.leaves, pack.leaf_segments, strict=True):
            segment = pack.segments[index]
            prefix = tuple(row[segment.prefix.start : segment.prefix.end])
            found.append((leaf.tree, leaf.leaf, prefix, tuple(row[segment.span.start : segment.span.end])))
        keys = row[pack.carry.start : pack.carry.end] if pack.carry else []
    return found


@given(trees, budgets)
def test_every_leaf_stands_once_in_order_after_its_own_prefix(forest: list[Tree], budget: int) -> None:
    expected = [(t, i, tree.prefix, leaf) for t, tree in enumerate(forest) for i, leaf in enumerate(tree.leaves)]
    assert unpack(list(pack_trees(forest, budget))) == expected


@given(trees, budgets)
def test_packs_keep_to_the_budget(forest: list[Tree], budget: int) -> None:
    for pack in pack_trees(forest, budget):
        assert len(pack.tokens) <= budget or len(pack.leaves) == 1


@given(trees, budgets)
def test_segments_cover_the_row_without_gap_or_overlap(forest: list[Tree], budget: int) -> None:
    for pack in pack_trees(forest, budget):
        edge = pack.carried
        for segment in pack.segments:
            assert segment.span.start == edge
            edge = segment.span.end
        assert edge == pack.carried + len(pack.tokens)


@given(trees, budgets)
def test_positions_continue_from_the_prefix(forest: list[Tree], budget: int) -> None:
    for pack in pack_trees(forest, budget):
        for segment in pack.segments:
            start, end = segment.span.start - pack.carried, segment.span.end - pack.carried
            first = len(segment.prefix)
            assert pack.positions[start:end] == list(range(first, first + end - start))


@given(trees, budgets)
def test_each_prefix_is_computed_once(forest: list[Tree], budget: int) -> None:
    packs = list(pack_trees(forest, budget))
    assert sum(len(pack.tokens) for pack in packs) == count_tokens(forest)


@given(st.lists(ids))
def test_unique_and_its_inverse(items: list[tuple[int, ...]]) -> None:
    distinct, inverse = unique(items)
    assert [distinct[i] for i in inverse] == items
    assert len(set(distinct)) == len(distinct) == len(set(items))
