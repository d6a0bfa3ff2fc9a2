"""`langchain_milvus.Milvus` inside `Qwen3Retriever`, and collections that both stores use.

Runs where langchain-milvus is installed, which needs pymilvus 3: `make test-pymilvus3`.
"""

from __future__ import annotations

import pytest
from langchain_core.documents import Document

from qwen3_rag.errors import CollectionError, ConfigurationError
from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings, Qwen3Retriever
from qwen3_rag.milvus import Compare, compile_filter
from tests.fakes import OverlapReranker, WordEmbedder

langchain_milvus = pytest.importorskip("langchain_milvus", reason="needs langchain-milvus, see make test-pymilvus3")

TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored here"] + [
    f"filler number {i} data" for i in range(60)
]
DOCUMENTS = [Document(page_content=text, metadata={"n": i}) for i, text in enumerate(TEXTS)]
IDS = [f"d{i:02}" for i in range(len(TEXTS))]
QUERY = "how is data stored"
DENSE_INDEX = {"index_type": "FLAT", "metric_type": "COSINE", "params": {}}
DENSE_SEARCH = {"metric_type": "COSINE", "params": {}}
# Milvus Lite takes neither the index nor the search parameters that langchain-milvus chooses for BM25 by itself.
BM25_INDEX = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25", "params": {}}
BM25_SEARCH = {"metric_type": "BM25", "params": {}}


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "milvus.db")


@pytest.fixture
def dense(uri):
    store = langchain_milvus.Milvus(
        Qwen3Embeddings(WordEmbedder()),
        collection_name="dense",
        connection_args={"uri": uri},
        index_params=DENSE_INDEX,
        search_params=DENSE_SEARCH,
    )
    store.add_documents(DOCUMENTS, ids=IDS)
    return store


@pytest.fixture
def hybrid(uri):
    store = langchain_milvus.Milvus(
        Qwen3Embeddings(WordEmbedder()),
        collection_name="hybrid",
        builtin_function=langchain_milvus.BM25BuiltInFunction(output_field_names="sparse"),
        vector_field=["vector", "sparse"],
        connection_args={"uri": uri},
        index_params=[DENSE_INDEX, BM25_INDEX],
        search_params=[DENSE_SEARCH, BM25_SEARCH],
    )
    store.add_documents(DOCUMENTS, ids=IDS)
    return store


@pytest.mark.parametrize("kind", ["dense", "hybrid"])
def test_the_official_store_is_reranked(kind, request):
    inner = OverlapReranker()
    retriever = Qwen3Retriever(request.getfixturevalue(kind), inner, k=10)
    for _ in range(2):  # the store's default ranker worked only once
        found = retriever.invoke(QUERY)
        assert [d.page_content for d in found][:2] == ["how is data stored here", "data is stored in segments"]
    assert {"retrieval_score", "relevance_score", "retrieval_rank"} <= found[0].metadata.keys()
    assert [len(candidates) for _, candidates, _ in inner.calls] == [10, 10], "its own default gives at most 8"


@pytest.mark.parametrize("kind", ["dense", "hybrid"])
def test_filters_act_or_raise(kind, request):
    retriever = Qwen3Retriever(request.getfixturevalue(kind), OverlapReranker(), top_n=20)
    expression = compile_filter(Compare("n", ">", 50))
    assert {d.metadata["n"] for d in retriever.invoke(QUERY, expr=expression)} <= set(range(51, 64))
    with pytest.raises(ConfigurationError, match=r"ignores filter.*expr=qwen3_rag\.milvus\.compile_filter"):
        retriever.invoke(QUERY, filter={"n": {"$gt": 50}})


def test_an_instruction_acts_or_raises(dense, hybrid):
    assert Qwen3Retriever(dense, OverlapReranker()).invoke(QUERY, instruction="invert") != []
    with pytest.raises(ConfigurationError, match="can't reach the embedding of a hybrid search"):
        Qwen3Retriever(hybrid, OverlapReranker(), instruction="invert")
    with pytest.raises(ConfigurationError, match="does not reach a Milvus"):
        Qwen3Retriever(hybrid, OverlapReranker(), mode="hybrid")


@pytest.mark.parametrize("sparse", [None, "bm25"])
def test_it_reads_what_we_write(uri, sparse):
    ours = MilvusStore(Qwen3Embeddings(WordEmbedder()), "ours", uri=uri, sparse=sparse)
    ours.add_documents(DOCUMENTS, ids=IDS)
    both = {
        "builtin_function": langchain_milvus.BM25BuiltInFunction(
            input_field_names="text_bm25", output_field_names="sparse_embedding"
        ),
        "vector_field": ["embedding", "sparse_embedding"],
        "index_params": [DENSE_INDEX, BM25_INDEX],
        "search_params": [DENSE_SEARCH, BM25_SEARCH],
    }
    alone = {"vector_field": "embedding", "index_params": DENSE_INDEX, "search_params": DENSE_SEARCH}
    theirs = langchain_milvus.Milvus(
        Qwen3Embeddings(WordEmbedder()),
        collection_name="ours",
        connection_args={"uri": uri},
        primary_field="id",
        text_field="text",
        enable_dynamic_field=True,
        **(both if sparse else alone),
    )
    found = Qwen3Retriever(theirs, OverlapReranker()).invoke(QUERY)
    assert found[0].page_content == "how is data stored here"
    assert found[0].metadata["n"] == 3
    ours.close()


def test_it_is_one_of_several_sources(dense, hybrid, uri):
    ours = MilvusStore(Qwen3Embeddings(WordEmbedder()), "ours", uri=uri)
    ours.add_texts(["how is data stored elsewhere"])
    retriever = Qwen3Retriever({"dense": dense, "hybrid": hybrid, "ours": ours}, OverlapReranker(), k=5, top_n=20)
    assert {d.metadata["retrieval_collection"] for d in retriever.invoke(QUERY)} >= {"dense", "ours"}
    ours.close()


def test_we_open_what_it_wrote_with_our_names(uri):
    """`partition_key_field` is its only way to a column that is no metadata key of the first document."""
    theirs = langchain_milvus.Milvus(
        Qwen3Embeddings(WordEmbedder()),
        collection_name="theirs",
        connection_args={"uri": uri},
        index_params=DENSE_INDEX,
        search_params=DENSE_SEARCH,
        primary_field="id",
        text_field="text",
        vector_field="embedding",
        partition_key_field="doc_id",
        enable_dynamic_field=True,
    )
    about = [Document(page_content=d.page_content, metadata={**d.metadata, "doc_id": "a file"}) for d in DOCUMENTS]
    theirs.add_documents(about, ids=IDS)
    with MilvusStore(Qwen3Embeddings(WordEmbedder()), "theirs", uri=uri) as ours:
        found = Qwen3Retriever(ours, OverlapReranker(), k=10).invoke(QUERY, filter={"n": {"$lt": 50}})
        assert (found[0].id, found[0].page_content, found[0].metadata["n"]) == ("d03", TEXTS[3], 3)
        assert ours.get_by_ids(["d03"]) == [Document(id="d03", page_content=TEXTS[3], metadata={"n": 3})]
        ours.add_texts(["new"], ids=["d03"])
        assert ours.get_by_ids(["d03"])[0].page_content == "new"


def test_what_it_wrote_with_its_own_names_is_refused_and_can_be_used_through_it(dense, uri):
    ours = MilvusStore(Qwen3Embeddings(WordEmbedder()), "dense", uri=uri)
    with ours, pytest.raises(CollectionError, match="does not fit"):
        ours.similarity_search(QUERY)
    assert Qwen3Retriever(dense, OverlapReranker()).invoke(QUERY)[0].page_content == TEXTS[3]
