"""`Qwen3Retriever` around LangChain's own sources: every argument acts, nothing is changed, nothing is ignored."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain import Qwen3Embeddings, Qwen3Reranker, Qwen3Retriever
from qwen3_rag.langchain._tracing import SEARCH_RUN
from qwen3_rag.langchain.rerankers import RUN_NAME
from tests.fakes import OverlapReranker, WordEmbedder

local = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `local`")

QUERY = "how is data stored"
TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored here"] + [
    f"filler number {i} data" for i in range(20)
]


class ListRetriever(BaseRetriever):
    """Takes no arguments, as most retrievers."""

    documents: list[Document]

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


class KwargsRetriever(ListRetriever):
    seen: list[dict[str, Any]] = []  # noqa: RUF012 - pydantic copies it

    def _get_relevant_documents(self, query, *, run_manager, **kwargs):
        self.seen.append(kwargs)
        return self.documents


class BareStore(VectorStore):
    """Implements the two abstract methods only, so it has no scores."""

    def __init__(self, documents):
        self.documents = documents

    @classmethod
    def from_texts(cls, texts, embedding, metadatas=None, **kwargs):
        raise NotImplementedError

    def similarity_search(self, query, k=4, **kwargs):
        return self.documents[:k]


@pytest.fixture
def documents():
    return [Document(id=str(i), page_content=t, metadata={"n": i}) for i, t in enumerate(TEXTS)]


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def inner():
    return OverlapReranker()


@pytest.fixture
def store(embedder, documents):
    store = InMemoryVectorStore(Qwen3Embeddings(embedder))
    store.add_documents(documents)
    return store


@pytest.fixture
def retriever(store, inner):
    return Qwen3Retriever(store, inner)


def test_dense_then_rerank_with_both_scores_and_the_rank(retriever, store, inner):
    found = retriever.invoke(QUERY)
    dense = store.similarity_search_with_score(QUERY, k=10)
    (query, candidates, _) = inner.calls[0]
    assert query == QUERY
    assert list(candidates) == [d.page_content for d, _ in dense]
    assert len(found) == 3
    assert found[0].page_content == "how is data stored here"
    for document in found:
        rank = document.metadata["retrieval_rank"]
        assert document.metadata["retrieval_score"] == dense[rank - 1][1]
        assert document.id == dense[rank - 1][0].id
        assert document.metadata["relevance_score"] == pytest.approx(
            OverlapReranker().rerank(QUERY, [document.page_content]).scores[0]
        )


def test_what_the_store_holds_stays_as_it_was(retriever, store, documents):
    retriever.invoke(QUERY)
    assert store.get_by_ids([d.id for d in documents]) == documents


def test_documents_of_a_retriever_are_not_mutated(inner, documents):
    before = [d.model_copy(deep=True) for d in documents]
    found = Qwen3Retriever(ListRetriever(documents=documents), inner).invoke(QUERY)
    assert documents == before
    assert "relevance_score" in found[0].metadata
    assert "retrieval_score" not in found[0].metadata


@pytest.mark.parametrize(("arguments", "expected"), [({"k": 5}, 5), ({"k": 1}, 1), ({}, 10)])
def test_k_is_the_number_of_candidates(store, inner, arguments, expected):
    Qwen3Retriever(store, inner, **arguments).invoke(QUERY)
    Qwen3Retriever(store, inner).invoke(QUERY, **arguments)
    assert [len(c) for _, c, _ in inner.calls] == [expected, expected]


def test_top_n_and_threshold_per_instance_and_per_call(store, inner, retriever):
    assert len(Qwen3Retriever(store, inner, top_n=5).invoke(QUERY)) == 5
    assert len(retriever.invoke(QUERY, top_n=5)) == 5
    assert len(retriever.invoke(QUERY, top_n=None)) == 10
    for strict in (
        retriever.invoke(QUERY, score_threshold=0.9),
        Qwen3Retriever(store, inner, score_threshold=0.9).invoke(QUERY),
    ):
        assert [d.page_content for d in strict] == ["how is data stored here"]


def test_the_rerankers_own_settings_hold_unless_overridden(store, inner):
    reranker = Qwen3Reranker(inner, top_n=4, score_threshold=0.1)
    assert len(Qwen3Retriever(store, reranker, k=20).invoke(QUERY)) == 4
    assert len(Qwen3Retriever(store, reranker, top_n=2).invoke(QUERY)) == 2
    assert all(d.metadata["relevance_score"] >= 0.1 for d in Qwen3Retriever(store, reranker).invoke(QUERY, top_n=None))


def test_instruction_reaches_both_stages(retriever, embedder, inner):
    retriever.invoke(QUERY)
    retriever.invoke(QUERY, instruction="invert")
    assert [c[2] for c in embedder.calls if c[0] == "query"] == [None, "invert"]
    assert [c[2] for c in inner.calls] == [None, "invert"]


def test_instruction_changes_candidates_and_scores(store, inner, embedder):
    plain, other = Qwen3Retriever(store, inner), Qwen3Retriever(store, inner, instruction="invert")
    assert plain.invoke(QUERY, instruction="invert") == other.invoke(QUERY)
    assert plain.invoke(QUERY) != other.invoke(QUERY)
    assert other.invoke(QUERY, instruction=None) == plain.invoke(QUERY)


def test_instruction_reaches_the_reranker_where_the_embeddings_take_none(inner, documents):
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents(documents)
    Qwen3Retriever(store, inner, instruction="invert").invoke(QUERY)
    assert inner.calls[0][2] == "invert"


async def test_async_is_the_same(retriever):
    for arguments in ({}, {"k": 4, "top_n": 2}, {"instruction": "invert"}, {"score_threshold": 0.5, "top_n": None}):
        assert await retriever.ainvoke(QUERY, **arguments) == retriever.invoke(QUERY, **arguments)


async def test_async_is_the_same_for_a_retriever_and_a_bare_store(inner, documents):
    for source in (ListRetriever(documents=documents), BareStore(documents), RunnableLambda(lambda _: documents)):
        retriever = Qwen3Retriever(source, inner, k=6)
        assert await retriever.ainvoke(QUERY) == retriever.invoke(QUERY)
        assert {len(c) for _, c, _ in inner.calls} == {6}


def test_a_store_without_scores_works(inner, documents):
    found = Qwen3Retriever(BareStore(documents), inner).invoke(QUERY)
    assert "retrieval_score" not in found[0].metadata
    assert [len(c) for _, c, _ in inner.calls] == [10]


def test_a_retriever_gives_all_it_has_unless_k_cuts(inner, documents):
    source = ListRetriever(documents=documents)
    Qwen3Retriever(source, inner).invoke(QUERY)
    Qwen3Retriever(source, inner).invoke(QUERY, k=2)
    assert [len(c) for _, c, _ in inner.calls] == [len(documents), 2]


def test_k_reaches_a_store_behind_as_retriever(store, inner):
    source = store.as_retriever(search_kwargs={"k": 2})
    for candidates, arguments in ((2, {}), (7, {"k": 7})):
        Qwen3Retriever(source, inner).invoke(QUERY, **arguments)
        assert len(inner.calls[-1][1]) == candidates
    Qwen3Retriever(source.with_config(tags=["x"]), inner).invoke(QUERY, k=7)
    assert len(inner.calls[-1][1]) == 7


def test_an_empty_source(inner):
    store = InMemoryVectorStore(Qwen3Embeddings(WordEmbedder()))
    assert Qwen3Retriever(store, inner).invoke(QUERY) == []
    assert inner.calls == []


# Peer bug: BaseRetriever.invoke drops every argument that `_get_relevant_documents` does not take.
def test_arguments_are_never_ignored(inner, documents, retriever):
    with pytest.raises(ConfigurationError, match="'flter' would be ignored"):
        Qwen3Retriever(ListRetriever(documents=documents), inner).invoke(QUERY, flter=1)
    with pytest.raises(ConfigurationError, match="'flter' would be ignored"):
        Qwen3Retriever(ListRetriever(documents=documents).with_config(tags=["x"]), inner).invoke(QUERY, flter=1)
    with pytest.raises(ConfigurationError, match="'flter' would be ignored"):
        Qwen3Retriever(ListRetriever(documents=documents), inner, search_kwargs={"flter": 1})
    source = KwargsRetriever(documents=documents)
    Qwen3Retriever(source, inner, search_kwargs={"a": 1, "b": 1}).invoke(QUERY, b=2)
    assert source.seen == [{"a": 1, "b": 2}]


def test_filters_reach_the_store(retriever):
    found = retriever.invoke(QUERY, filter=lambda d: d.metadata["n"] % 2 == 0, top_n=None)
    assert found
    assert all(d.metadata["n"] % 2 == 0 for d in found)


@pytest.mark.parametrize("name", ["k", "top_n", "instruction", "score_threshold"])
def test_search_kwargs_can_not_hide_an_argument(store, inner, name):
    with pytest.raises(ConfigurationError, match=f"search_kwargs can't have {name}"):
        Qwen3Retriever(store, inner, search_kwargs={name: 1})


@pytest.mark.parametrize("options", [{"k": 0}, {"k": -3}, {"top_n": 0}, {"score_threshold": 2.0}, {"instruction": " "}])
def test_wrong_settings_are_refused_before_any_work(store, inner, embedder, options):
    with pytest.raises(ConfigurationError):
        Qwen3Retriever(store, inner, **options)
    embedder.calls.clear()
    with pytest.raises(ConfigurationError):
        Qwen3Retriever(store, inner).invoke(QUERY, **options)
    assert (embedder.calls, inner.calls) == ([], [])


def test_a_threshold_of_one_call_is_a_number(retriever, inner):
    with pytest.raises(ConfigurationError, match="score_threshold"):
        retriever.invoke(QUERY, score_threshold="0.5")
    assert inner.calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topn": 3}, "topn: "),
        ({"mode": "fuzzy"}, "mode: .*'sparse'.* got 'fuzzy'"),
        ({"k": "many"}, "k: .*'many'"),
        ({"score_threshold": "high", "tags": 3}, "tags: .*3; score_threshold: .*'high'"),
    ],
)
def test_values_of_another_type_are_a_typed_error(store, inner, options, message):
    with pytest.raises(ConfigurationError, match=message):
        Qwen3Retriever(store, inner, **options)


def test_unknown_fields_and_sources_are_refused(store, inner):
    with pytest.raises(ValueError, match="topn"):
        Qwen3Retriever(store, inner, topn=3)
    with pytest.raises(ConfigurationError, match="search_kwargs must be a mapping, got 'filter'"):
        Qwen3Retriever(store, inner, search_kwargs="filter")
    with pytest.raises(ConfigurationError, match="names of sources must be strings, got 1"):
        Qwen3Retriever({1: store}, inner)
    with pytest.raises(ConfigurationError, match="vector store or retriever, got list"):
        Qwen3Retriever(["text"], inner)


def test_settings_can_be_made_configurable(retriever, inner):
    configurable = retriever.configurable_fields(
        instruction=ConfigurableField(id="instruction"), k=ConfigurableField(id="k"), top_n=ConfigurableField(id="n")
    )
    found = configurable.invoke(QUERY, {"configurable": {"instruction": "invert", "k": 7, "n": 2}})
    assert len(found) == 2
    assert (len(inner.calls[-1][1]), inner.calls[-1][2]) == (7, "invert")
    assert configurable.invoke(QUERY) == retriever.invoke(QUERY)
    assert retriever.instruction is None


def test_batch_and_concurrency(retriever):
    queries = [QUERY, "bread", "filler number 3"] * 4
    assert retriever.batch(queries) == [retriever.invoke(q) for q in queries]

    async def together():
        return await asyncio.gather(*(retriever.ainvoke(q) for q in queries))

    assert asyncio.run(together()) == [retriever.invoke(q) for q in queries]


async def test_runs_have_child_runs(retriever, inner, documents):
    runs = RunCollectorCallbackHandler()
    nested = Qwen3Retriever(ListRetriever(documents=documents), inner)
    for r in (retriever, nested):
        r.invoke(QUERY, {"callbacks": [runs]})
        await r.ainvoke(QUERY, {"callbacks": [runs]})
    trees = [(run.run_type, [(c.run_type, c.name) for c in run.child_runs]) for run in runs.traced_runs]
    rerank, search, source = ("chain", RUN_NAME), ("retriever", SEARCH_RUN), ("retriever", "ListRetriever")
    assert trees == [("retriever", [search, rerank])] * 2 + [("retriever", [source, rerank])] * 2
    assert all(run.child_runs[-1].outputs["output"] == run.outputs["documents"] for run in runs.traced_runs)


def test_failures_end_the_run_and_reach_the_caller(retriever, inner, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError("too long")

    monkeypatch.setattr(inner, "rerank", fail)
    runs = RunCollectorCallbackHandler()
    with pytest.raises(MemoryError, match="too long"):
        retriever.invoke(QUERY, {"callbacks": [runs]})
    assert "too long" in runs.traced_runs[0].error


@local
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: s.as_retriever()])
def test_traces_say_which_store_and_model(store, inner, wrap):
    store.embedding = Qwen3Embeddings("tiny")
    runs = RunCollectorCallbackHandler()
    retriever = Qwen3Retriever(wrap(store), inner)
    assert retriever._get_ls_params() == {
        "ls_retriever_name": "qwen3",
        "ls_vector_store_provider": "InMemoryVectorStore",
        "ls_embedding_provider": "Qwen3Embeddings",
        "ls_embedding_model": "tiny",
    }
    store.embedding = Qwen3Embeddings(WordEmbedder())
    retriever.invoke(QUERY, {"callbacks": [runs]})
    assert runs.traced_runs[0].metadata["ls_embedding_model"] == "fake/words"


def test_repr_is_short(inner):
    store = InMemoryVectorStore(Qwen3Embeddings(WordEmbedder()))
    assert len(repr(Qwen3Retriever(store, inner))) < 500


def test_nothing_is_declared_serialisable(retriever):
    assert not retriever.is_lc_serializable()
