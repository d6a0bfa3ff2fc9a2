"""Token-budget packs of whole sequences, without padding. Pure Python: no torch.

A *tree* is one shared prefix with any number of leaves; a text to embed is a leaf without a prefix. A *pack* is one row
of tokens for the model: segments laid end to end. A segment attends to itself causally and to its prefix wholly, and
its positions continue from the prefix, so every leaf is computed as if it stood alone after its prefix.

Keys are counted in *key coordinates*: first the carried prefix (computed by an earlier pack, keys and values kept),
then the row itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """One prefix and the sequences that continue it.

    Attributes:
        prefix: Tokens that all leaves share; may be empty.
        leaves: The continuations; each has at least one token.
    """

    prefix: TokenIds
    leaves: tuple[TokenIds, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range `[start, end)` of key coordinates."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Segment:
    """One run of tokens in the row.

    Attributes:
        span: Where its keys lie.
        prefix: Where the keys of its prefix lie; empty for a segment that stands alone.
    """

    span: Span
    prefix: Span


@dataclass(frozen=True, slots=True)
class Leaf:
    """Which leaf of which tree a segment computes, counted in the list that was packed."""

    tree: int
    leaf: int


@dataclass(slots=True)
class Pack:
    """One row for the model.

    Attributes:
        tokens: The row; its first token has the key coordinate `carried`.
        positions: Rotary position of each token.
        segments: Prefix and leaf segments in order; together they cover the row.
        leaves: What the leaf segments compute, in order of `leaf_segments`.
        leaf_segments: Indices into `segments`.
        carried: Length of the prefix whose keys an earlier pack computed; 0 for none.
        carry: The prefix whose keys the next pack needs; `None` for none.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    leaf_segments: list[int] = field(default_factory=list)
    carried: int = 0
    carry: Span | None = None

    def add(self, ids: TokenIds, prefix: Span) -> Span:
        """Appends a segment and returns where its keys lie."""
        start = self.carried + len(self.tokens)
        span = Span(start, start + len(ids))
        self.tokens.extend(ids)
        self.positions.extend(range(len(prefix), len(prefix) + len(ids)))
        self.segments.append(Segment(span, prefix))
        return span


NO_PREFIX = Span(0, 0)


def pack_trees(trees: Sequence[Tree], budget: int) -> Iterator[Pack]:
    """Lays trees into packs of at most `budget` tokens, in order.

    A prefix is computed once: when its leaves need more than one pack, the later packs carry its keys. Only a leaf that is
    longer than the budget by itself (with its prefix, if that is not computed yet) makes a longer pack, of its own.

    Args:
        trees: What to compute; trees without leaves are skipped.
        budget: Tokens per pack.

    Yields:
        Packs in which every leaf stands exactly once, in the order of the input.
    """
    pack = Pack()
    for number, tree in enumerate(trees):
        prefix = NO_PREFIX
        for index, leaf in enumerate(tree.leaves):
            new_prefix = len(tree.prefix) if index == 0 else 0
            if pack.tokens and len(pack.tokens) + new_prefix + len(leaf) > budget:
                if index and tree.prefix:
                    pack.carry = prefix
                    prefix = Span(0, len(prefix))
                yield pack
                pack = Pack(carried=len(prefix))
            if index == 0 and tree.prefix:
                prefix = pack.add(tree.prefix, NO_PREFIX)
            pack.leaves.append(Leaf(number, index))
            pack.leaf_segments.append(len(pack.segments))
            pack.add(leaf, prefix)
    if pack.tokens:
        yield pack


def count_tokens(trees: Sequence[Tree]) -> int:
    """Tokens that the model has to process: every prefix once, every leaf once."""
    return sum(len(tree.prefix) + sum(map(len, tree.leaves)) for tree in trees if tree.leaves)
