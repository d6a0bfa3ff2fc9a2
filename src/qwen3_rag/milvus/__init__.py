"""A store for passages straight on `pymilvus.MilvusClient`: no framework, Milvus Lite and servers alike."""

from qwen3_rag.milvus.collection import MilvusCollection
from qwen3_rag.milvus.expressions import compile_filter
from qwen3_rag.milvus.filters import And, Compare, Filter, Not, Or, parse_filter

__all__ = ["And", "Compare", "Filter", "MilvusCollection", "Not", "Or", "compile_filter", "parse_filter"]
