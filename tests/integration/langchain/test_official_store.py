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


# ---------------------------------------------------------------- what it wrote with its own defaults

ABOUT = [
    Document(page_content=text, metadata={"n": i, "lang": "en" if i % 2 else "de", "share": i / 4, "new": i > 50})
    for i, text in enumerate(TEXTS)
]
DEFAULTS: dict[str, dict] = {
    "as it comes": {},
    "dynamic": {"enable_dynamic_field": True},
    "dynamic, partitioned": {"enable_dynamic_field": True, "partition_key_field": "lang"},
    "json": {"metadata_field": "metadata"},
    "integers": {"auto_id": True},
    "hybrid": {
        "builtin_function": langchain_milvus.BM25BuiltInFunction(),
        "vector_field": ["vector", "sparse"],
        # The index of the vectors is the default one.
        "index_params": [{"index_type": "AUTOINDEX", "metric_type": "L2", "params": {}}, BM25_INDEX],
        "search_params": [{"metric_type": "L2", "params": {}}, BM25_SEARCH],
    },
}


def write(uri, options):
    """Adds documents as its users do, and returns the store and their ids."""
    store = langchain_milvus.Milvus(Qwen3Embeddings(WordEmbedder()), connection_args={"uri": uri}, **options)
    given = {} if options.get("auto_id") else {"ids": IDS}
    return store, [str(id_) for id_ in store.add_documents(ABOUT, **given)]


def cosines(query):
    model = WordEmbedder()
    return (model.embed_documents(TEXTS).vectors @ model.embed_queries([query]).vectors[0]).tolist()


@pytest.mark.parametrize("options", DEFAULTS.values(), ids=DEFAULTS)
def test_we_open_what_it_wrote_with_its_own_names(uri, options):
    theirs, ids = write(uri, options)
    expected = [
        Document(id=id_, page_content=d.page_content, metadata=d.metadata) for id_, d in zip(ids, ABOUT, strict=True)
    ]
    embedder = WordEmbedder()
    with MilvusStore(Qwen3Embeddings(embedder), "LangChainCollection", uri=uri, metric="L2") as ours:
        assert ours.get_by_ids(ids) == expected
        found = ours.similarity_search_with_score(QUERY, k=5)
        assert [score for _, score in found] == pytest.approx(sorted(cosines(QUERY), reverse=True)[:5], abs=1e-5)
        for condition, wanted in (
            ({"n": {"$gte": 50, "$lt": 52.5}}, [50, 51, 52]),
            ({"lang": "en", "$not": {"n": {"$gt": 4}}}, [1, 3]),
            ({"share": {"$in": [0.25, 0.3, "x"]}}, [1]),
            ({"new": True, "n": {"$ne": 60}}, [*range(51, 60), 61, 62, 63]),
            ({"lang": {"$prefix": "d"}, "absent": None, "n": {"$lt": 3}}, [0, 2]),
            ({"absent": {"$exists": True}}, []),
        ):
            hits = ours.similarity_search(QUERY, k=64, filter=condition)
            assert sorted(d.metadata["n"] for d in hits) == wanted, condition
        reranked = Qwen3Retriever(ours, OverlapReranker(), k=10, top_n=3).invoke(QUERY, filter={"n": {"$lt": 50}})
        assert (reranked[0].id, reranked[0].page_content) == (ids[3], TEXTS[3])
        assert {"retrieval_score", "relevance_score"} <= reranked[0].metadata.keys()
        before = len(embedder.calls)
        with pytest.raises(CollectionError, match="laid out by another tool"):
            ours.add_texts(["new"])
        assert len(embedder.calls) == before
        ours.delete([ids[3]])
        assert ours.get_by_ids(ids[2:5]) == [expected[2], expected[4]]
    assert theirs.client.query("LangChainCollection", output_fields=["count(*)"])[0]["count(*)"] == len(TEXTS) - 1


def test_we_search_by_words_and_by_both_what_it_wrote(uri):
    _theirs, ids = write(uri, DEFAULTS["hybrid"])
    with MilvusStore(Qwen3Embeddings(WordEmbedder()), "LangChainCollection", uri=uri, metric="L2") as ours:
        assert ours.similarity_search("yeast", mode="sparse") == [
            Document(id=ids[0], page_content=TEXTS[0], metadata=ABOUT[0].metadata)
        ]
        for condition in (None, {"n": {"$gt": 2}}):
            retriever = Qwen3Retriever(ours, OverlapReranker(), mode="hybrid", k=10)
            assert retriever.invoke(QUERY, filter=condition)[0].page_content == TEXTS[3]
        assert {
            d.metadata["lang"] for d in ours.similarity_search("data", k=64, mode="hybrid", filter={"lang": "de"})
        } == {"de"}


def test_the_refusal_of_another_metric_names_the_way_out_and_it_can_be_used_through_it(dense, uri):
    index = {**DENSE_INDEX, "metric_type": "L2"}
    theirs = langchain_milvus.Milvus(
        Qwen3Embeddings(WordEmbedder()),
        collection_name="euclid",
        connection_args={"uri": uri},
        index_params=index,
        search_params={"metric_type": "L2", "params": {}},
    )
    theirs.add_documents(DOCUMENTS, ids=IDS)
    with (
        MilvusStore(Qwen3Embeddings(WordEmbedder()), "euclid", uri=uri) as ours,
        pytest.raises(CollectionError, match=r"compared by L2, asked was COSINE \(open it with metric='L2'\)"),
    ):
        ours.similarity_search(QUERY)
    with MilvusStore(Qwen3Embeddings(WordEmbedder()), "dense", uri=uri) as ours:  # written with COSINE
        assert ours.similarity_search(QUERY, k=1)[0].page_content == dense.similarity_search(QUERY, k=1)[0].page_content
    for store in (dense, theirs):
        assert Qwen3Retriever(store, OverlapReranker()).invoke(QUERY)[0].page_content == TEXTS[3]
