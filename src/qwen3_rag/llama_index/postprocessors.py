"""Qwen3-Reranker as a LlamaIndex node postprocessor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self, TypedDict, Unpack

import llama_index.core.instrumentation as instrument
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from qwen3_rag.backends import load_reranker, written_options
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.models import DEFAULT_RERANKER_MODEL
from qwen3_rag.prompts import check_instruction
from qwen3_rag.retrieval import (
    RELEVANCE_SCORE,
    RETRIEVAL_RANK,
    RETRIEVAL_SCORE,
    Ranked,
    arerank_items,
    check_selection,
    rerank_items,
)
from qwen3_rag.types import Reranker

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]

_ADDED_KEYS = (RELEVANCE_SCORE, RETRIEVAL_SCORE, RETRIEVAL_RANK)

Nodes = list[NodeWithScore]


class RerankOptions(TypedDict, total=False):
    """What `Qwen3Rerank.with_options` can change."""

    top_n: int | None
    score_threshold: float | None
    instruction: str | None


class Qwen3Rerank(BaseNodePostprocessor):
    """Scores nodes against the query with Qwen3-Reranker and keeps the best.

    What comes back are copies: `score` is the reranker's P(yes), and the metadata gain `relevance_score` (the same),
    `retrieval_score` (the score that the node came with, if any) and `retrieval_rank` (its position before, from 1).
    The three keys are excluded from the texts for embedding and for the LLM, so reranking changes neither, and
    rerankers can follow each other.

    Example:
        ```python
        from qwen3_rag.llama_index import Qwen3Rerank

        rerank = Qwen3Rerank("Qwen/Qwen3-Reranker-0.6B", top_n=3)
        query_engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
        ```

    Args:
        model: `"tiny"` (bundled, offline), a hub name, a folder, or any `qwen3_rag.types.Reranker`. Nothing is loaded
            before the first nodes are scored.
        top_n: How many nodes to keep at most; `None` keeps all.
        score_threshold: Lowest P(yes) to keep; `None` keeps all.
        instruction: What counts as relevant; `None` takes the model's own, which is the official web-search one.
        metadata_mode: Which metadata stand before a node's text when it is scored. The default is what was embedded,
            so both stages judge the same text; `MetadataMode.NONE` scores the bare text, `MetadataMode.LLM` what the
            LLM will read.
        callback_manager: LlamaIndex callbacks.
        model_kwargs: `options` as one mapping, as `to_dict` writes them.
        **options: Passed to `qwen3_rag.inference.LocalReranker`: `device`, `dtype`, `max_length`, `cache_folder`, …

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
        MissingDependencyError: If the model's back end is not installed.
    """

    model: str = Field(description="Name of the reranking model.")
    top_n: int | None = Field(default=3, description="How many nodes to keep at most.")
    score_threshold: float | None = Field(default=None, description="Lowest P(yes) to keep.")
    instruction: str | None = Field(default=None, description="What counts as relevant; None is the model's own.")
    metadata_mode: MetadataMode = Field(default=MetadataMode.EMBED, description="Metadata in the scored text.")
    model_kwargs: dict[str, Any] = Field(default_factory=dict, description="Options of the local reranker.")

    _model: Any = PrivateAttr()
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        model: Any = DEFAULT_RERANKER_MODEL,
        *,
        top_n: int | None = 3,
        score_threshold: float | None = None,
        instruction: str | None = None,
        metadata_mode: MetadataMode = MetadataMode.EMBED,
        callback_manager: CallbackManager | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _check(top_n, score_threshold, instruction)
        options.pop("class_name", None)  # stands in what LlamaIndex and pydantic write
        options = {**(model_kwargs or {}), **options}
        reranker = load_reranker(model, **options)
        super().__init__(
            model=os.fspath(model) if isinstance(model, (str, os.PathLike)) else reranker.model_id,
            top_n=top_n,
            score_threshold=score_threshold,
            instruction=instruction,
            metadata_mode=metadata_mode,
            model_kwargs=written_options(options),
            callback_manager=callback_manager or CallbackManager([]),
        )
        self._model = model
        self._reranker = reranker

    @classmethod
    def class_name(cls) -> str:
        """Returns the name that LlamaIndex serialises."""
        return "Qwen3Rerank"

    @property
    def reranker(self) -> Reranker:
        """What scores: share it with other adapters, or call its own `warm_up()` and `close()`."""
        return self._reranker

    def with_options(self, **options: Unpack[RerankOptions]) -> Self:
        """Returns a copy with other settings that shares the weights with this one.

        Args:
            **options: `top_n`, `score_threshold`, `instruction`; what is not named stays.

        Raises:
            ConfigurationError: If a value can't work or a name is unknown.
        """
        if unknown := options.keys() - RerankOptions.__annotations__.keys():
            raise ConfigurationError(f"with_options takes {', '.join(RerankOptions.__annotations__)}, got {unknown}")
        copy = self.model_copy(update=dict(options))
        _check(copy.top_n, copy.score_threshold, copy.instruction)
        return copy

    def postprocess_nodes(
        self,
        nodes: Nodes,
        query_bundle: QueryBundle | None = None,
        query_str: str | None = None,
        *,
        instruction: str | None = None,
    ) -> Nodes:
        """Reranks nodes.

        Args:
            nodes: Candidates in the order of the first stage; left as they are.
            query_bundle: The query; its `query_str` is what the nodes are scored against.
            query_str: The query as a string; give one of the two.
            instruction: Overrides the instance's own for this call.

        Returns:
            Copies of at most `top_n` nodes, best first.

        Raises:
            InputError: If there is no query.
        """
        reranker = self if instruction is None else self.with_options(instruction=instruction)
        return super(Qwen3Rerank, reranker).postprocess_nodes(list(nodes), query_bundle, query_str)

    async def apostprocess_nodes(
        self,
        nodes: Nodes,
        query_bundle: QueryBundle | None = None,
        query_str: str | None = None,
        *,
        instruction: str | None = None,
    ) -> Nodes:
        """Async twin of `postprocess_nodes`."""
        reranker = self if instruction is None else self.with_options(instruction=instruction)
        return await super(Qwen3Rerank, reranker).apostprocess_nodes(list(nodes), query_bundle, query_str)

    def _postprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        query = _query(query_bundle)
        if not nodes:
            return []
        with self._traced(query, nodes) as finish:
            return finish(rerank_items(self._reranker, query.query_str, nodes, self._text, **self._settings()))

    # The base class makes a span of the sync method only.
    @dispatcher.span
    async def _apostprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        query = _query(query_bundle)
        if not nodes:
            return []
        with self._traced(query, nodes) as finish:
            return finish(await arerank_items(self._reranker, query.query_str, nodes, self._text, **self._settings()))

    def _text(self, node: NodeWithScore) -> str:
        return node.node.get_content(metadata_mode=self.metadata_mode)

    def _settings(self) -> dict[str, Any]:
        return {"top_n": self.top_n, "score_threshold": self.score_threshold, "instruction": self.instruction}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __reduce__(self) -> tuple[Any, ...]:
        # The model as it was given, usually a name; LlamaIndex's default would turn a ready-made one into its name.
        settings = {**self._settings(), "metadata_mode": self.metadata_mode, "model_kwargs": self.model_kwargs}
        return partial(type(self), **settings), (self._model,)

    @contextmanager
    def _traced(self, query: QueryBundle, nodes: Nodes) -> Iterator[Callable[[Sequence[Ranked[NodeWithScore]]], Nodes]]:
        """Reports start and end to LlamaIndex's instrumentation and to the older callbacks."""
        top_n = len(nodes) if self.top_n is None else self.top_n
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=self.model))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query.query_str,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:

            def finish(ranked: Sequence[Ranked[NodeWithScore]]) -> Nodes:
                kept = [_annotated(item) for item in ranked]
                event.on_end(payload={EventPayload.NODES: kept})
                dispatcher.event(ReRankEndEvent(nodes=kept))
                return kept

            yield finish


def _check(top_n: int | None, score_threshold: float | None, instruction: str | None) -> None:
    check_selection(top_n, score_threshold)
    if instruction is not None:
        check_instruction(instruction)


def _query(bundle: QueryBundle | None) -> QueryBundle:
    if bundle is None:
        raise InputError("reranking needs the query: pass query_bundle=QueryBundle(...) or query_str='...'")
    return bundle


def _annotated(ranked: Ranked[NodeWithScore]) -> NodeWithScore:
    """A copy of the node with both scores, in metadata that no model gets to read."""
    node = ranked.item.node
    metadata = {**node.metadata, **ranked.annotations()}
    if ranked.item.score is not None:
        metadata[RETRIEVAL_SCORE] = ranked.item.score
    hidden = {
        field: [*keys, *(key for key in _ADDED_KEYS if key not in keys)]
        for field, keys in (
            ("excluded_embed_metadata_keys", node.excluded_embed_metadata_keys),
            ("excluded_llm_metadata_keys", node.excluded_llm_metadata_keys),
        )
    }
    copy = node.model_copy(update={"metadata": metadata, **hidden})
    return ranked.item.model_copy(update={"node": copy, "score": ranked.score})
