"""`MilvusStore` beyond the standard suite: filters, scores, ids, MMR, instructions, and that nothing is ignored."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index

from qwen3_rag.errors import CollectionError, ConfigurationError, FilterError, InputError
from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings
from qwen3_rag.milvus import Compare, MilvusCollection
from tests.fakes import WordEmbedder

TEXTS = ["milvus stores data in segments", "segments hold data", "bread needs yeast", "yeast is alive"]
METADATAS = [{"topic": "milvus", "n": 0}, {"topic": "milvus", "n": 1}, {"topic": "bread", "n": 2}, {"n": 3}]


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def store(where, embedder):
    with MilvusStore(Qwen3Embeddings(embedder), **where) as store:
        yield store
        store.collection.drop()


@pytest.fixture
def filled(store):
    store.add_texts(TEXTS, METADATAS, ids=["a", "b", "c", "d"])
    return store


def ids(documents):
    return [d.id for d in documents]


def test_scores_are_cosines_nearest_first(filled, embedder):
    found = filled.similarity_search_with_score("data in segments", k=4)
    query = embedder.embed_queries(["data in segments"]).vectors[0]
    cosines = dict(zip("abcd", (embedder.embed_documents(TEXTS).vectors @ query).tolist(), strict=True))
    assert ids(d for d, _ in found) == sorted(cosines, key=cosines.get, reverse=True)
    assert [s for _, s in found] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)


def test_relevance_is_between_0_and_1_and_falls(filled):
    found = filled.similarity_search_with_relevance_scores(TEXTS[0], k=4)
    scores = [s for _, s in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= s <= 1 for s in scores)
    threshold = (scores[0] + scores[1]) / 2
    assert len(filled.similarity_search_with_relevance_scores(TEXTS[0], k=4, score_threshold=threshold)) == 1
    retriever = filled.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": threshold}
    )
    assert ids(retriever.invoke(TEXTS[0])) == ["a"]


def test_relevance_of_an_unbounded_inner_product_is_refused(tmp_path):
    long = DeterministicFakeEmbedding(size=16)  # of length 4, so products reach 16
    with MilvusStore(long, uri=tmp_path / "ip.db", metric="IP") as store:
        store.add_texts(["foo"])
        assert store.similarity_search_with_score("foo", k=1)[0][1] > 1
        with pytest.raises(ConfigurationError, match="no relevance between 0 and 1"):
            store.similarity_search_with_relevance_scores("foo", k=1)


# Peer bug: langchain-milvus drops `filter=` in hybrid search and raises a TypeError in dense search.
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"topic": "bread"}, {"c"}),
        ({"n": {"$gte": 2}}, {"c", "d"}),
        ({"topic": {"$exists": False}}, {"d"}),
        ({"$or": [{"n": 0}, {"topic": "bread"}]}, {"a", "c"}),
        (Compare("n", "in", [1, 3]), {"b", "d"}),
        ({"topic": "nothing"}, set()),
    ],
)
async def test_filters_act_in_every_search(filled, condition, expected):
    vector = filled.embeddings.embed_query("data")
    arguments = {"k": 4, "filter": condition}
    for found in (
        filled.similarity_search("data", **arguments),
        await filled.asimilarity_search("data", **arguments),
        filled.similarity_search_by_vector(vector, **arguments),
        await filled.asimilarity_search_by_vector(vector, **arguments),
        filled.max_marginal_relevance_search("data", **arguments),
        await filled.amax_marginal_relevance_search("data", **arguments),
        filled.max_marginal_relevance_search_by_vector(vector, **arguments),
        await filled.amax_marginal_relevance_search_by_vector(vector, **arguments),
        [d for d, _ in filled.similarity_search_with_score("data", **arguments)],
        [d for d, _ in await filled.asimilarity_search_with_score("data", **arguments)],
        [d for d, _ in filled.similarity_search_with_relevance_scores("data", **arguments)],
        filled.as_retriever(search_kwargs=arguments).invoke("data"),
        await filled.as_retriever().ainvoke("data", **arguments),
    ):
        assert set(ids(found)) == expected
        assert len(found) == len(expected)


@pytest.mark.parametrize("condition", [{"n": {"$near": 2}}, {"n": object()}, "n == 1"])
def test_a_filter_that_can_not_be_expressed_raises(filled, condition):
    with pytest.raises((FilterError, InputError)):
        filled.similarity_search("data", filter=condition)


def test_unknown_arguments_raise_in_every_method(filled):
    vector = filled.embeddings.embed_query("data")
    for method, first in {
        "similarity_search": "q",
        "similarity_search_with_score": "q",
        "similarity_search_with_relevance_scores": "q",
        "similarity_search_by_vector": vector,
        "max_marginal_relevance_search": "q",
        "max_marginal_relevance_search_by_vector": vector,
        "add_texts": ["t"],
        "add_documents": [Document("t")],
        "delete": ["a"],
    }.items():
        with pytest.raises(ConfigurationError, match="'expr'"):
            getattr(filled, method)(first, expr="n > 1")
        with pytest.raises(ConfigurationError, match="'expr'"):
            asyncio.run(getattr(filled, f"a{method}")(first, expr="n > 1"))
    with pytest.raises(TypeError, match="drop_old"):
        MilvusStore.from_texts(["t"], WordEmbedder(), drop_old=True)
    assert filled.collection.count() == 4


def test_instruction_per_call(filled, embedder):
    calls = len(embedder.calls)
    filled.similarity_search("q", instruction="i")
    filled.similarity_search_with_score("q", instruction="i")
    filled.max_marginal_relevance_search("q", instruction="i")
    asyncio.run(filled.asimilarity_search("q", instruction="i"))
    asyncio.run(filled.amax_marginal_relevance_search("q", instruction="i"))
    filled.as_retriever().invoke("q", instruction="i")
    assert embedder.calls[calls:] == [("query", ("q",), "i")] * 6


def test_an_instruction_for_embeddings_that_take_none_is_refused(tmp_path):
    store = MilvusStore(DeterministicFakeEmbedding(size=8), uri=tmp_path / "x.db")
    with pytest.raises(ConfigurationError, match="DeterministicFakeEmbedding takes no instruction"):
        store.similarity_search("q", instruction="i")


def test_storing_the_same_again_changes_nothing(store):
    first = store.add_texts(TEXTS, METADATAS)
    again = store.add_documents([Document(t, metadata=m) for t, m in zip(TEXTS, METADATAS, strict=True)])
    assert first == again
    assert len(set(first)) == store.collection.count() == 4


def test_equal_texts_with_other_metadata_are_other_passages(store):
    chosen = store.add_texts(["same", "same", "same"], [{"page": 1}, {"page": 2}, {"page": 1}])
    assert chosen[0] == chosen[2] != chosen[1]
    assert store.collection.count() == 2


def test_equal_texts_are_embedded_once_per_passage(store, embedder):
    store.add_texts(["same", "same"])
    assert embedder.calls == [("document", ("same",), None)]


async def test_ids_given_partly(store):
    chosen = await store.aadd_texts(["x", "y"], ids=["one", None])
    assert chosen[0] == "one"
    assert ids(await store.aget_by_ids(chosen)) == chosen


def test_one_id_for_two_passages_is_refused(store):
    with pytest.raises(InputError, match="'one'"):
        store.add_texts(["x", "y"], ids=["one", "one"])
    assert not store.collection.exists()


@pytest.mark.parametrize("arguments", [{"metadatas": [{}]}, {"ids": ["1", "2", "3"]}])
def test_numbers_that_differ_are_refused(store, arguments):
    with pytest.raises(InputError, match="must be as many as texts"):
        store.add_texts(["x", "y"], **arguments)


@pytest.mark.parametrize("given", [{}, {"ids": ["1", "2"]}])
def test_metadata_that_are_none_are_refused(store, given):
    with pytest.raises(InputError, match="metadata must be a mapping"):
        store.add_texts(["x", "y"], [{}, None], **given)
    endless = {}
    endless["self"] = endless
    with pytest.raises(InputError, match="metadata"):
        store.add_texts(["x"], [endless])


def test_metadata_and_ids_may_come_from_generators(store):
    given = ({"n": n} for n in range(2))
    assert store.add_texts((text for text in "xy"), given, ids=(name for name in "ab")) == ["a", "b"]
    assert [d.metadata["n"] for d in store.get_by_ids(["a", "b"])] == [0, 1]


def test_one_string_is_no_list_of_texts(store):
    with pytest.raises(InputError, match="put it into a list"):
        store.add_texts("text")


@pytest.mark.parametrize("size", [1, 2, 3, 100, None])
def test_batches(store, embedder, size):
    assert store.add_texts(TEXTS, METADATAS, ids=list("abcd"), batch_size=size) == list("abcd")
    assert [len(texts) for _, texts, _ in embedder.calls] == {1: [1] * 4, 2: [2, 2], 3: [3, 1]}.get(size, [4])
    assert [d.page_content for d in store.get_by_ids(list("abcd"))] == TEXTS
    with pytest.raises(ConfigurationError, match="batch_size"):
        store.add_texts(TEXTS, batch_size=0)


def test_no_texts_touch_nothing(store, embedder):
    assert store.add_texts([]) == []
    assert store.add_documents([]) == []
    assert embedder.calls == []
    assert not store.collection.exists()


def test_metadata_come_back_as_they_went_in(store):
    metadata = {"text": "t", "id": 5, "none": None, "deep": {"a": [1, {"b": None}]}, "yes": True, "größe": 1.5, "l": []}
    document = Document(id="x", page_content="a\n\nb  ", metadata=metadata)
    before = document.model_copy(deep=True)
    store.add_documents([document])
    assert document == before
    assert store.get_by_ids(["x"]) == [before]
    assert store.similarity_search("a", k=1) == [before]


def test_metadata_of_a_result_are_the_callers(filled):
    filled.similarity_search("data", k=1)[0].metadata["topic"] = "changed"
    assert {d.metadata.get("topic") for d in filled.similarity_search("data")} == {"milvus", "bread", None}


def test_delete_by_filter(filled):
    assert filled.delete(filter={"topic": "milvus"}) is True
    assert asyncio.run(filled.adelete(filter={"n": 3})) is True
    assert ids(filled.similarity_search("data")) == ["c"]


@pytest.mark.parametrize("arguments", [{}, {"ids": None}, {"filter": {}}, {"ids": ["a"], "filter": {"n": 1}}])
def test_delete_never_means_everything(filled, arguments):
    with pytest.raises((InputError, FilterError)):
        filled.delete(**arguments)
    with pytest.raises((InputError, FilterError)):
        asyncio.run(filled.adelete(**arguments))
    assert filled.collection.count() == 4


def test_delete_of_an_empty_list_deletes_nothing(filled):
    filled.delete([])
    assert filled.collection.count() == 4


def test_mmr_prefers_what_is_different(store):
    store.add_texts(["data a", "data a b", "data a c", "bread"], ids=["1", "2", "3", "4"])
    near = ids(store.max_marginal_relevance_search("data a", k=2, lambda_mult=1.0))
    wide = ids(store.max_marginal_relevance_search("data a", k=2, lambda_mult=0.0))
    assert near == ids(store.similarity_search("data a", k=2))
    assert wide == [near[0], "4"]
    assert len(store.max_marginal_relevance_search("data a", k=3, fetch_k=1)) == 3
    assert store.as_retriever(search_type="mmr", search_kwargs={"k": 1}).invoke("data a")[0].id == near[0]


@pytest.mark.parametrize("arguments", [{"k": 0}, {"lambda_mult": 1.5}, {"lambda_mult": -0.1}])
def test_mmr_refuses_what_can_not_work(filled, arguments):
    with pytest.raises((ConfigurationError, InputError)):
        filled.max_marginal_relevance_search("data", **arguments)


async def test_async_is_the_same(filled, same):
    vector = filled.embeddings.embed_query("data")
    for method, first in {
        "similarity_search": "data",
        "similarity_search_with_score": "data",
        "similarity_search_with_relevance_scores": "data",
        "similarity_search_by_vector": vector,
        "max_marginal_relevance_search": "data",
        "max_marginal_relevance_search_by_vector": vector,
        "get_by_ids": ["c", "nobody", "a"],
    }.items():
        assert same(await getattr(filled, f"a{method}")(first), getattr(filled, method)(first))


def test_a_reopened_collection(tmp_path, embedder, same):
    uri = tmp_path / "milvus.db"
    with MilvusStore.from_texts(TEXTS, embedder, METADATAS, ids=list("abcd"), uri=uri, collection="c") as store:
        expected = store.similarity_search_with_score("data")
    with MilvusStore(embedder, MilvusCollection(uri, "c")) as store:
        assert same(store.similarity_search_with_score("data"), expected)
    with (
        MilvusStore(WordEmbedder(32), "c", uri=uri) as store,
        pytest.raises(CollectionError, match=r"64 dimensions.* 32"),
    ):
        store.similarity_search("data")


async def test_from_texts_and_from_documents(tmp_path, embedder):
    documents = [Document(id=i, page_content=t, metadata=m) for i, t, m in zip("abcd", TEXTS, METADATAS, strict=True)]
    made = [
        MilvusStore.from_documents(documents, embedder, uri=tmp_path / "1.db"),
        await MilvusStore.afrom_documents(documents, embedder, uri=tmp_path / "1.db", collection="other"),
        MilvusStore.from_texts(TEXTS, embedder, METADATAS, ids=list("abcd"), uri=tmp_path / "2.db"),
        await MilvusStore.afrom_texts(TEXTS, embedder, METADATAS, ids=list("abcd"), uri=tmp_path / "3.db"),
    ]
    for store in made:
        assert store.get_by_ids(list("abcd")) == documents
    for store in made:
        store.close()


def test_a_ready_made_collection_has_its_own_settings(tmp_path, embedder):
    collection = MilvusCollection(tmp_path / "x.db", "c")
    assert MilvusStore(embedder, collection).collection is collection
    with pytest.raises(ConfigurationError, match="'metric'"):
        MilvusStore(embedder, collection, metric="IP")


def test_constructing_opens_nothing_and_shows_no_token(tmp_path, embedder):
    store = MilvusStore(embedder, uri=tmp_path / "x.db")
    remote = MilvusStore(embedder, uri="http://127.0.0.1:1", token="secret-token")
    assert list(tmp_path.iterdir()) == []
    assert embedder.calls == []
    assert "x.db" in repr(store)
    assert "secret-token" not in repr(remote) + repr(vars(remote))


# LangChain's own indexer, which passes `ids` and `batch_size` and deletes what is gone.
def test_langchains_indexing_keeps_the_store_in_step(filled):
    records = InMemoryRecordManager("test")
    records.create_schema()
    filled.collection.drop()

    def documents(*texts):
        return [Document(page_content=t, metadata={"source": "s"}) for t in texts]

    arguments = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(documents("x", "y"), records, filled, **arguments)["num_added"] == 2
    assert index(documents("x", "y"), records, filled, **arguments)["num_skipped"] == 2
    result = asyncio.run(aindex(documents("y", "z"), records, filled, **arguments))
    assert (result["num_added"], result["num_deleted"]) == (1, 1)
    assert {d.page_content for d in filled.similarity_search("x", k=9)} == {"y", "z"}


def test_vectors_that_are_no_vectors_are_refused(filled):
    with pytest.raises(InputError):
        filled.similarity_search_by_vector([float("nan")] * 64)
    with pytest.raises(CollectionError):
        filled.similarity_search_by_vector(np.ones(8).tolist())
