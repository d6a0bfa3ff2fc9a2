"""A retriever as a tool of an agent: it searches, reads out numbered passages, and keeps the nodes as raw output."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore
from llama_index.core.tools import RetrieverTool, ToolMetadata, ToolOutput
from pydantic import BaseModel, Field

from qwen3_rag.answering.tool_text import (
    QUERY_DESCRIPTION,
    SEARCH_DESCRIPTION,
    SEARCH_NAME,
    checked_query,
    tool_text,
)
from qwen3_rag.llama_index._engine_parts import read_nodes


class SearchInput(BaseModel):
    """What a model gives a search tool."""

    query: str = Field(description=QUERY_DESCRIPTION)


class SearchTool(RetrieverTool):
    """Searches with any retriever; what takes LlamaIndex's `RetrieverTool` takes this one.

    LlamaIndex's own reads its arguments out to the retriever (`query is …`), and its passages have no delimiters.

    Args:
        retriever: What searches.
        name: What the model calls it.
        description: What the model is told of it.
    """

    def __init__(self, retriever: BaseRetriever, name: str | None = None, description: str | None = None) -> None:
        metadata = ToolMetadata(description or SEARCH_DESCRIPTION, name or SEARCH_NAME, fn_schema=SearchInput)
        super().__init__(retriever, metadata)

    def call(self, query: str) -> ToolOutput:
        """Searches.

        Returns:
            The passages as text; `raw_output` has the nodes.

        Raises:
            InputError: If the query is blank. Agents tell the model.
        """
        return self._output(query, self.retriever.retrieve(checked_query(query)))

    async def acall(self, query: str) -> ToolOutput:
        """Async twin of `call`."""
        return self._output(query, await self.retriever.aretrieve(checked_query(query)))

    def _output(self, query: str, nodes: list[NodeWithScore]) -> ToolOutput:
        raw_input: dict[str, Any] = {"query": query}
        return ToolOutput(self.metadata.get_name(), tool_text(read_nodes(nodes)), raw_input=raw_input, raw_output=nodes)
