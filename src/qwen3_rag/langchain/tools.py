"""A retriever as a tool of an agent: it searches, reads out numbered passages, and keeps the documents as an artifact."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import AfterValidator, BaseModel, Field, create_model

from qwen3_rag.answering.tool_text import (
    QUERY_DESCRIPTION,
    SEARCH_DESCRIPTION,
    SEARCH_NAME,
    checked_query,
    tool_text,
)
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._chain_parts import read_documents

__all__ = ["SearchInput", "read_documents", "search_tool"]

Found = tuple[str, list[Document]]


class SearchInput(BaseModel):
    """What a model gives a search tool."""

    query: Annotated[str, AfterValidator(checked_query)] = Field(description=QUERY_DESCRIPTION)


def search_tool(
    retriever: BaseRetriever,
    args_schema: type[BaseModel] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    arg_types: dict[str, type] | None = None,
) -> BaseTool:
    """Makes a tool of a retriever; `Qwen3Retriever.as_tool` says how to use it.

    Args:
        retriever: What searches.
        args_schema: What the model may give; `SearchInput` by default.
        name: What the model calls it.
        description: What the model is told of it.
        arg_types: The arguments and their types instead of `args_schema`.

    Raises:
        ConfigurationError: If the arguments have no `query`, or both ways to give them are used.
    """
    schema = _schema(args_schema, arg_types)

    # The config comes by the context: what LangChain would pass is the tool's own, under which this is no child run.

    def search(query: str, **options: Any) -> Found:
        return _found(retriever.invoke(checked_query(query), **options))

    async def asearch(query: str, **options: Any) -> Found:
        return _found(await retriever.ainvoke(checked_query(query), **options))

    return StructuredTool.from_function(
        search,
        asearch,
        name=name or retriever.name or SEARCH_NAME,
        description=description or SEARCH_DESCRIPTION,
        args_schema=schema,
        infer_schema=False,
        response_format="content_and_artifact",
    )


def _found(documents: list[Document]) -> Found:
    return tool_text(read_documents(documents)), documents


def _schema(args_schema: type[BaseModel] | None, arg_types: dict[str, type] | None) -> type[BaseModel]:
    if args_schema is None and arg_types is None:
        return SearchInput
    if args_schema is not None and arg_types is not None:
        raise ConfigurationError("args_schema and arg_types both say what the tool takes: give one of them")
    if arg_types is not None:
        fields: dict[str, Any] = {name: (kind, ...) for name, kind in arg_types.items()}
        args_schema = create_model("SearchInput", **fields)
    if not (isinstance(args_schema, type) and issubclass(args_schema, BaseModel)):
        raise ConfigurationError(f"args_schema must be a pydantic model, got {args_schema!r}")
    if "query" not in args_schema.model_fields:
        raise ConfigurationError(
            f"a search needs a query, and the tool's arguments are {', '.join(args_schema.model_fields) or 'none'}: add "
            "query to them; what else there is goes to the retriever"
        )
    return args_schema
