"""A store for passages straight on `pymilvus.MilvusClient`: no framework, Milvus Lite and servers alike."""

from qwen3_rag.milvus.catalog import CollectionInfo, list_collections
from qwen3_rag.milvus.collection import MilvusCollection
from qwen3_rag.milvus.contract import Contract
from qwen3_rag.milvus.embedding import (
    EmbeddedPassages,
    EmbeddedQuery,
    aembed_passages,
    aembed_query,
    as_sparse_embedder,
    embed_passages,
    embed_query,
)
from qwen3_rag.milvus.expressions import compile_filter
from qwen3_rag.milvus.filters import And, Compare, Filter, Not, Or, parse_filter
from qwen3_rag.milvus.fusion import FusedHit, Leg

__all__ = [
    "And",
    "CollectionInfo",
    "Compare",
    "Contract",
    "EmbeddedPassages",
    "EmbeddedQuery",
    "Filter",
    "FusedHit",
    "Leg",
    "MilvusCollection",
    "Not",
    "Or",
    "aembed_passages",
    "aembed_query",
    "as_sparse_embedder",
    "compile_filter",
    "embed_passages",
    "embed_query",
    "list_collections",
    "parse_filter",
]
