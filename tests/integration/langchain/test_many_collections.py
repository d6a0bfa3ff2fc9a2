"""`Qwen3Retriever` over several collections at once."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore

from qwen3_rag.errors import CollectionError, ConfigurationError
from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings, Qwen3Retriever
from qwen3_rag.langchain._tracing import EMBED_RUN, SEARCH_RUN
from qwen3_rag.langchain.rerankers import RUN_NAME
from tests.fakes import OverlapReranker, WordEmbedder

QUERY = "how is data stored"
COLLECTIONS = {
    "faq": ["how is data stored here", "bread needs yeast", "shared passage of data"],
    "docs": ["data is stored in segments", "shared passage of data", "数据库"],
    "wiki": ["how data flows", "yeast is alive"],
}


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def inner():
    return OverlapReranker()


@pytest.fixture
def uri(where, embedder):
    stores = {name: MilvusStore(Qwen3Embeddings(embedder), name, uri=where["uri"]) for name in COLLECTIONS}
    for name, store in stores.items():
        store.add_texts(COLLECTIONS[name])
    del embedder.calls[:]
    yield where["uri"]
    for store in stores.values():
        store.collection.drop()
        store.close()


def where_from(documents):
    return {d.page_content: d.metadata["retrieval_collection"] for d in documents}


@pytest.fixture
def retriever(uri, embedder, inner):
    return Qwen3Retriever.from_collections(list(COLLECTIONS), embedder, inner, uri=uri, top_n=20)


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
async def test_all_are_searched_and_reranked_once(retriever, embedder, inner, mode, same):
    found = retriever.invoke(QUERY, mode=mode)
    assert len(inner.calls) == 1
    assert len(embedder.calls) == (mode != "sparse")
    assert [d.page_content for d in found][:2] == ["how is data stored here", "data is stored in segments"]
    expected = {text: name for name, texts in COLLECTIONS.items() for text in texts}
    assert {text: name for text, name in where_from(found).items() if text != "shared passage of data"}.items() <= (
        expected.items()
    )
    assert [d.page_content for d in found].count("shared passage of data") == 1
    scores = [d.metadata["relevance_score"] for d in found]
    assert scores == sorted(scores, reverse=True)
    assert same(await retriever.ainvoke(QUERY, mode=mode), found)
    assert len(embedder.calls) == 2 * (mode != "sparse")


def test_k_is_for_each_and_candidates_alternate(retriever, inner):
    retriever.invoke(QUERY, k=1)
    (_, candidates, _) = inner.calls[0]
    assert list(candidates) == ["how is data stored here", "data is stored in segments", "how data flows"]


def test_filters_instruction_and_weights_reach_all(retriever, embedder, inner):
    assert retriever.invoke(QUERY, filter={"n": 1}) == []
    retriever.invoke(QUERY, instruction="invert", mode="hybrid", weights=(1, 3))
    assert embedder.calls[-1] == ("query", (QUERY,), "invert")
    assert inner.calls[-1][2] == "invert"


@pytest.mark.parametrize("names", [["docs"], ["wiki", "docs"], [], ("faq",), {"faq"}])
def test_the_allow_list_of_a_call(retriever, names):
    assert set(where_from(retriever.invoke(QUERY, collections=names)).values()) == set(names)


def test_the_allow_list_of_the_retriever_holds_for_every_call(uri, embedder, inner):
    retriever = Qwen3Retriever.from_collections(list(COLLECTIONS), embedder, inner, uri=uri)
    narrow = Qwen3Retriever(retriever.source, inner, collections=["faq", "docs"], top_n=20)
    assert set(where_from(narrow.invoke(QUERY)).values()) == {"faq", "docs"}
    assert set(where_from(narrow.invoke(QUERY, collections=["docs"])).values()) == {"docs"}
    for names in (["wiki"], ["docs", "wiki"], ["nowhere"], "docs"):
        with pytest.raises(
            ConfigurationError, match=r"can't be searched here: allowed are 'faq', 'docs'|expected a list"
        ):
            narrow.invoke(QUERY, collections=names)
    with pytest.raises(ConfigurationError, match="'nowhere'"):
        Qwen3Retriever(retriever.source, inner, collections=["nowhere"])


def test_one_source_has_nothing_to_choose_from(retriever, inner):
    store = retriever.source["faq"]
    with pytest.raises(ConfigurationError, match="there is one"):
        Qwen3Retriever(store, inner, collections=["faq"])
    with pytest.raises(ConfigurationError, match="there is one"):
        Qwen3Retriever(store, inner).invoke(QUERY, collections=["faq"])


def test_every_collection_is_compared_with_the_model(uri, inner):
    with MilvusStore(Qwen3Embeddings(WordEmbedder(64, "fake/others")), "others", uri=uri) as store:
        store.add_texts(["data"])
        several = Qwen3Retriever.from_collections(["faq", "others"], WordEmbedder(), inner, uri=uri)
        with pytest.raises(CollectionError, match=r"'others'.*'fake/others'"):
            several.invoke(QUERY)
        assert len(several.invoke(QUERY, collections=["faq"])) == 3
        store.collection.drop()


class Fixed(BaseRetriever):
    """Somebody else's retriever."""

    documents: list[Document]

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


async def test_any_sources_can_be_mixed(uri, embedder, inner):
    memory = InMemoryVectorStore(Qwen3Embeddings(WordEmbedder()))
    memory.add_documents([Document(id="m", page_content="how is memory stored")])
    sources = {
        "milvus": MilvusStore(Qwen3Embeddings(embedder), "faq", uri=uri),
        "memory": memory,
        "list": Fixed(documents=[Document("listed data"), Document("listed data")]),
    }
    retriever = Qwen3Retriever(sources, inner, k=2, top_n=20)
    runs = RunCollectorCallbackHandler()
    for found in (
        retriever.invoke(QUERY, {"callbacks": [runs]}),
        await retriever.ainvoke(QUERY, {"callbacks": [runs]}),
    ):
        assert set(where_from(found).values()) == set(sources)
        assert [d.page_content for d in found].count("listed data") == 1
    for run in runs.traced_runs:
        first, *searches, last = [child.name for child in run.child_runs]
        assert (first, sorted(searches), last) == (EMBED_RUN, ["Fixed", SEARCH_RUN, SEARCH_RUN], RUN_NAME)
    assert "retrieval_collection" not in sources["list"].documents[0].metadata
    with pytest.raises(ConfigurationError, match="InMemoryVectorStore"):
        retriever.invoke(QUERY, mode="hybrid")
    with pytest.raises(ConfigurationError, match="got str"):
        Qwen3Retriever({"a": "no source"}, inner)
    sources["milvus"].close()


def test_one_name_is_no_list(embedder, inner):
    with pytest.raises(ConfigurationError, match="'faq', expected a list of names"):
        Qwen3Retriever.from_collections("faq", embedder, inner)


def test_no_sources_find_nothing(inner):
    assert Qwen3Retriever({}, inner).invoke(QUERY) == []
    assert inner.calls == []


def test_traces_name_the_first_store(retriever):
    assert retriever._get_ls_params()["ls_vector_store_provider"] == "MilvusStore"
