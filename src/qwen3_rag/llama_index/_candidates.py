"""Retrieval without reranking, as a retriever of its own that traces know."""

from __future__ import annotations

import llama_index.core.instrumentation as instrument
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle

from qwen3_rag.llama_index.first_stage import FirstStage

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class CandidateRetriever(BaseRetriever):
    """The first stage of a `Qwen3Retriever` alone: its candidates, not reranked.

    Args:
        stage: The first stage.
        callback_manager: LlamaIndex callbacks.
    """

    def __init__(self, stage: FirstStage, callback_manager: CallbackManager | None = None) -> None:
        super().__init__(callback_manager=callback_manager)
        self._stage = stage

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._stage.fetch(query_bundle)

    # The base class makes a span of the sync method only.
    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._stage.afetch(query_bundle)
