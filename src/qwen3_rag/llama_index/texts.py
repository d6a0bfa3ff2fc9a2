"""Texts as LlamaIndex nodes, with names that follow from what they are, so that storing them again adds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llama_index.core.bridge.pydantic import ValidationError
from llama_index.core.schema import BaseNode, TextNode

from qwen3_rag.errors import InputError
from qwen3_rag.retrieval import content_id, copied_metadata


def chunk_id(position: int, document: BaseNode) -> str:
    """Names a piece of a document, for LlamaIndex's splitters."""
    return f"{document.node_id}-{position}"


def text_nodes(
    texts: Iterable[str], metadatas: Iterable[Mapping[str, Any]] | None, ids: Iterable[str | None] | None
) -> list[BaseNode]:
    """Makes a node of each distinct text.

    Args:
        texts: The passages.
        metadatas: One mapping for each text.
        ids: One identifier for each text; `None` lets it follow from text and metadata.

    Raises:
        InputError: If the numbers differ, something can't be part of a node, or two passages that differ have the same id.
    """
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of strings, got the string {texts!r:.80}: put it into a list")
    texts = list(texts)
    metadatas = [{}] * len(texts) if metadatas is None else list(metadatas)
    ids = [None] * len(texts) if ids is None else list(ids)
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if len(values) != len(texts):
            raise InputError(f"{name} must be as many as texts: got {len(values)} for {len(texts)}")
    distinct: dict[str, BaseNode] = {}
    for index, (text, metadata, given) in enumerate(zip(texts, metadatas, ids, strict=True)):
        id_ = content_id(text, metadata) if given is None else given
        node = _node(index, id_, text, copied_metadata(metadata))
        if distinct.setdefault(id_, node) != node:
            raise InputError(f"two passages that differ have the id {id_!r}: give each its own")
    return list(distinct.values())


def _node(index: int, id_: str, text: str, metadata: dict[str, Any]) -> TextNode:
    try:
        return TextNode(id_=id_, text=text, metadata=metadata)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise InputError(
            f"texts[{index}] makes no node, {where}: {wrong['msg']}, got {wrong['input']!r:.80}"
        ) from error
