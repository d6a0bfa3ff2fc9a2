"""Retrieval without reranking, as a retriever of its own that traces know."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams

from qwen3_rag.langchain._cancelling import ended_if_cancelled
from qwen3_rag.langchain._first_stage import FirstStage


class CandidateRetriever(BaseRetriever):
    """The first stage of a `Qwen3Retriever` alone: its candidates, not reranked.

    Args:
        stage: The first stage.
        traced: What LangSmith is told of its source.
    """

    stage: Any  # a FirstStage, which pydantic can't check
    traced: dict[str, str]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        stage: FirstStage = self.stage
        return stage.fetch(query, run_manager.get_child())

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        stage: FirstStage = self.stage
        async with ended_if_cancelled(run_manager.on_retriever_error):
            return await stage.afetch(query, run_manager.get_child())

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        traced: Any = self.traced
        params.update(traced)
        return params
