"""Deep search without a framework and without a server: decompose, search, rerank, reflect on gaps, repeat, within limits."""

from qwen3_rag.deep_search.driving import asearch, in_time, search, within_timeout
from qwen3_rag.deep_search.objects import Decomposition, Reflection, read_object
from qwen3_rag.deep_search.options import DeepOptions, DeepSearchOptions, Limits
from qwen3_rag.deep_search.steps import Ask, Rerank, Said, Search, Step
from qwen3_rag.deep_search.trace import (
    DeepAnswer,
    DeepPiece,
    Limit,
    Round,
    SearchPiece,
    SearchTrace,
    SubQuestion,
)
from qwen3_rag.deep_search.turn import DeepTurn

__all__ = [
    "Ask",
    "Decomposition",
    "DeepAnswer",
    "DeepOptions",
    "DeepPiece",
    "DeepSearchOptions",
    "DeepTurn",
    "Limit",
    "Limits",
    "Reflection",
    "Rerank",
    "Round",
    "Said",
    "Search",
    "SearchPiece",
    "SearchTrace",
    "Step",
    "SubQuestion",
    "asearch",
    "in_time",
    "read_object",
    "search",
    "within_timeout",
]
