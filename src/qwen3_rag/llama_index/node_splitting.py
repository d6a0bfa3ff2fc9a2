"""LlamaIndex's node parsers as splitters of an ingest."""

from __future__ import annotations

from llama_index.core.node_parser import NodeParser
from llama_index.core.schema import Document, MetadataMode

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.ingest import Piece, SplitFunction


def node_parser_splitter(parser: NodeParser) -> SplitFunction:
    r"""Lets a node parser cut the files of `qwen3_rag.ingest.ingest`.

    The nodes' texts and metadata become passages; their ids are made of the content, not at random as LlamaIndex's are, so
    that the same file is not embedded twice.

    Args:
        parser: Any node parser: `MarkdownNodeParser()`, `SentenceSplitter(chunk_size=512)`, …

    Raises:
        ConfigurationError: If it is none.

    Example:
        >>> from llama_index.core.node_parser import MarkdownNodeParser
        >>> split = node_parser_splitter(MarkdownNodeParser())
        >>> [piece.text for piece in split("# A\n\none\n\n# B\n\ntwo\n", "a.md")]
        ['# A\n\none', '# B\n\ntwo']
    """
    if not callable(getattr(parser, "get_nodes_from_documents", None)):
        raise ConfigurationError(f"expected a node parser of LlamaIndex, got {type(parser).__name__}")

    def split(text: str, source: str) -> list[Piece]:
        nodes = parser.get_nodes_from_documents([Document(text=text, id_=source)])
        return [Piece(node.get_content(MetadataMode.NONE), node.metadata) for node in nodes]

    return split
