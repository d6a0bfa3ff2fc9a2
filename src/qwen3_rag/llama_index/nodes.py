"""LlamaIndex nodes as passages, and back, without loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)

from qwen3_rag.errors import InputError
from qwen3_rag.types import Passage

NODE = "_llama_index"
"""Metadata key of a stored passage for the rest of its node, as JSON: class, relationships, excluded keys and so on."""

_CLASSES: dict[str, type[BaseNode]] = {
    kind.class_name(): kind for kind in (TextNode, Node, IndexNode, ImageNode, Document, ImageDocument)
}
_KEPT_APART = {"id_", "text", "text_resource", "metadata", "embedding"}


def to_passage(node: BaseNode) -> Passage:
    """Converts a node; the node stays as it is.

    Raises:
        InputError: If it holds what JSON can't, or its metadata use the key that the rest of the node is stored under.
    """
    if NODE in node.metadata:
        raise InputError(f"node {node.node_id!r}: the metadata key {NODE!r} is taken, rename yours")
    try:
        rest = node.model_dump(mode="json", exclude=_KEPT_APART, exclude_defaults=True)
    except ValueError as error:
        raise InputError(f"node {node.node_id!r} can't be written as JSON: {error}") from error
    metadata = {**node.metadata, NODE: json.dumps(rest, ensure_ascii=False)}
    return Passage(node.node_id, node.get_content(MetadataMode.NONE), metadata, node.ref_doc_id)


def to_node(passage: Passage) -> BaseNode:
    """Converts a passage, whoever wrote it: what no node wrote becomes a `TextNode`."""
    metadata = dict(passage.metadata)
    rest = _rest(metadata.get(NODE))
    if rest is None:
        source = {} if passage.doc_id is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=passage.doc_id)}
        return TextNode(id_=passage.id, text=passage.text, metadata=metadata, relationships=source)
    del metadata[NODE]
    kind = _CLASSES.get(rest.get("class_name", ""), TextNode)
    node = kind.from_dict({**rest, "id_": passage.id, "metadata": metadata})
    if passage.text:  # an image node of the newer kind has no text at all, and an empty one would be something else
        node.set_content(passage.text)
    return node


def vectors(nodes: Sequence[BaseNode]) -> list[list[float]]:
    """Returns the nodes' embeddings.

    Raises:
        InputError: If a node has none; the message says which.
    """
    for node in nodes:
        if node.embedding is None:
            raise InputError(f"node {node.node_id!r} has no embedding: add it through an index, or embed it before")
    return [node.get_embedding() for node in nodes]


def _rest(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, str):
        return None
    try:
        rest = json.loads(value)
    except ValueError:  # somebody's own metadata under this name
        return None
    return rest if isinstance(rest, dict) else None
