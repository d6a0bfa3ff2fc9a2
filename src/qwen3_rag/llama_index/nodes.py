"""LlamaIndex nodes as passages, and back, without loss."""

from __future__ import annotations

from collections.abc import Sequence

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

_CLASSES: dict[str, type[BaseNode]] = {
    kind.class_name(): kind for kind in (TextNode, Node, IndexNode, ImageNode, Document, ImageDocument)
}
_KEPT_APART = {"id_", "text", "text_resource", "metadata", "embedding"}


def to_passage(node: BaseNode) -> Passage:
    """Converts a node; the node stays as it is.

    Raises:
        InputError: If it holds what JSON can't.
    """
    try:
        rest = node.model_dump(mode="json", exclude=_KEPT_APART, exclude_defaults=True)
    except ValueError as error:
        raise InputError(f"node {node.node_id!r} can't be written as JSON: {error}") from error
    return Passage(node.node_id, node.get_content(MetadataMode.NONE), node.metadata, node.ref_doc_id, rest)


def to_node(passage: Passage) -> BaseNode:
    """Converts a passage, whoever wrote it: what no node wrote becomes a `TextNode`."""
    rest = dict(passage.node)
    if passage.doc_id is not None:
        rest.setdefault("relationships", {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=passage.doc_id)})
    kind = _CLASSES.get(rest.get("class_name", ""), TextNode)
    node = kind.from_dict({**rest, "id_": passage.id, "metadata": dict(passage.metadata)})
    if passage.text:  # an image node of the newer kind has no text at all, and an empty one would be something else
        node.set_content(passage.text)
    return node


def embedded_texts(nodes: Sequence[BaseNode]) -> list[str]:
    """Returns what LlamaIndex embeds of the nodes: their texts with the metadata that are not excluded from that."""
    return [node.get_content(MetadataMode.EMBED) for node in nodes]


def vectors(nodes: Sequence[BaseNode]) -> list[list[float]]:
    """Returns the nodes' embeddings.

    Raises:
        InputError: If a node has none; the message says which.
    """
    for node in nodes:
        if node.embedding is None:
            raise InputError(f"node {node.node_id!r} has no embedding: add it through an index, or embed it before")
    return [node.get_embedding() for node in nodes]
