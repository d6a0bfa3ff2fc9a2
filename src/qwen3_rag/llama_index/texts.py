"""Texts as LlamaIndex nodes, with names that follow from what they are, so that storing them again adds nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, TextNode

from qwen3_rag.errors import InputError
from qwen3_rag.retrieval import content_id


def chunk_id(position: int, document: BaseNode) -> str:
    """Names a piece of a document, for LlamaIndex's splitters."""
    return f"{document.node_id}-{position}"


def text_nodes(
    texts: Sequence[str], metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[BaseNode]:
    """Makes a node of each distinct text.

    Args:
        texts: The passages.
        metadatas: One mapping for each text.
        ids: One identifier for each text; `None` lets it follow from text and metadata.

    Raises:
        InputError: If the numbers differ, or two passages that differ have the same id.
    """
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of strings, got the string {texts!r:.80}: put it into a list")
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if values is not None and len(values) != len(texts):
            raise InputError(f"{name} must be as many as texts: got {len(values)} for {len(texts)}")
    metadatas = [{}] * len(texts) if metadatas is None else metadatas
    ids = [None] * len(texts) if ids is None else ids
    distinct: dict[str, BaseNode] = {}
    for text, metadata, given in zip(texts, metadatas, ids, strict=True):
        id_ = content_id(text, metadata) if given is None else given
        node = TextNode(id_=id_, text=text, metadata=dict(metadata))
        if distinct.setdefault(id_, node) != node:
            raise InputError(f"two passages that differ have the id {id_!r}: give each its own")
    return list(distinct.values())
