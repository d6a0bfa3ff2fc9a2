"""`mode="dense" | "sparse" | "hybrid"` in `MilvusStore` and `Qwen3Retriever`, and the contract of the collection."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import ConfigurableField
from langchain_core.vectorstores import InMemoryVectorStore

from qwen3_rag.errors import CollectionError, ConfigurationError, FilterError
from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings, Qwen3Retriever
from qwen3_rag.milvus import Compare, FusedHit, MilvusCollection
from tests.fakes import OverlapReranker, WordEmbedder

TEXTS = {
    "store": "milvus stores data in segments",
    "code": "MilvusException code=1100 illegal argument",
    "zh": "向量数据库保存数据段",
    "bread": "bread needs yeast",
}
MODES = ["dense", "sparse", "hybrid"]


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def store(where, embedder):
    with MilvusStore(Qwen3Embeddings(embedder), **where) as store:
        metadatas = [{"n": i} for i in range(len(TEXTS))]
        store.add_texts(list(TEXTS.values()), metadatas, ids=list(TEXTS))
        yield store
        store.collection.drop()


def ids(documents):
    return [d.id for d in documents]


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sparse", "hybrid"])
def test_words_are_found_in_every_language(store, mode):
    assert ids(store.similarity_search("error 1100", 1, mode=mode)) == ["code"]
    assert ids(store.similarity_search("数据库", 1, mode=mode)) == ["zh"]
    assert store.as_retriever(search_kwargs={"mode": mode, "k": 1}).invoke("数据库") == [
        Document(id="zh", page_content=TEXTS["zh"], metadata={"n": 2})
    ]


async def test_sparse_embeds_nothing_and_the_others_once(store, embedder):
    del embedder.calls[:]
    assert ids(store.similarity_search("yeast", mode="sparse")) == ["bread"]
    assert ids(await store.asimilarity_search("yeast", mode="sparse")) == ["bread"]
    assert embedder.calls == []
    store.similarity_search("yeast", mode="hybrid", instruction="i")
    await store.asimilarity_search("yeast", mode="hybrid", instruction="i")
    assert embedder.calls == [("query", ("yeast",), "i")] * 2


def test_hits_tell_of_both_legs(store):
    dense = [h.passage.id for h in store.hits("yeast data", 4)]
    sparse = [h.passage.id for h in store.hits("yeast data", 4, mode="sparse")]
    for hit in store.hits("yeast data", 4, mode="hybrid"):
        assert isinstance(hit, FusedHit)
        assert hit.dense.rank == dense.index(hit.passage.id) + 1
        assert (hit.sparse.rank if hit.sparse else None) == (
            sparse.index(hit.passage.id) + 1 if hit.passage.id in sparse else None
        )
    embedded = store.embed_question("yeast data")
    assert [h.passage.id for h in store.hits("", 4, embedded=embedded)] == dense
    with pytest.raises(ConfigurationError, match="instruction='i' would be ignored"):
        store.hits("", embedded=embedded, instruction="i")


def test_weights(store):
    query = {"query": "milvus stores data in segments yeast", "k": 1, "mode": "hybrid"}
    assert ids(store.similarity_search(**query, weights=(1, 0))) == ["store"]
    question = store.similarity_search_with_score("1100", 4, mode="hybrid", weights=(0.0, 1.0))
    assert (question[0][0].id, question[0][1]) == ("code", 1.0)


# Peer bug: langchain-milvus drops `filter=` in hybrid search.
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("condition", "expected"),
    [({"n": {"$lt": 2}}, {"store", "code"}), (Compare("n", "in", [2]), {"zh"}), ({"n": 9}, set())],
)
async def test_filters_act_in_every_mode(store, mode, condition, expected):
    question = " ".join(TEXTS.values())
    arguments = {"k": 4, "mode": mode, "filter": condition}
    for found in (
        store.similarity_search(question, **arguments),
        await store.asimilarity_search(question, **arguments),
        store.as_retriever(search_kwargs=arguments).invoke(question),
        Qwen3Retriever(store, OverlapReranker(), mode=mode, search_kwargs={"filter": condition}).invoke(question),
    ):
        assert set(ids(found)) == expected
    with pytest.raises(FilterError):
        store.similarity_search(question, mode=mode, filter={"n": {"$gt": None}})


def test_relevance(store):
    found = store.similarity_search_with_relevance_scores("milvus stores data in segments", 4, mode="hybrid")
    assert found[0][0].id == "store"
    assert found[0][1] == 1.0
    assert all(0 <= score <= 1 for _, score in found)
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99, "mode": "hybrid"}
    )
    assert ids(retriever.invoke("milvus stores data in segments")) == ["store"]
    with pytest.raises(ConfigurationError, match="no upper end"):
        store.similarity_search_with_relevance_scores("yeast", mode="sparse")


async def test_what_would_be_ignored_is_refused(store):
    vector = store.query_vector("yeast")
    for call in (
        lambda: store.similarity_search("yeast", mode="bm25"),
        lambda: store.similarity_search("yeast", weights=(1, 1)),
        lambda: store.similarity_search("yeast", mode="sparse", instruction="i"),
        lambda: store.similarity_search("yeast", mode="hybrid", weights=(0, 0)),
        lambda: store.similarity_search("yeast", mode="hybrid", fetch=3),
        lambda: store.similarity_search_by_vector(vector, mode="hybrid"),
        lambda: store.max_marginal_relevance_search("yeast", mode="hybrid"),
        lambda: store.similarity_search_with_relevance_scores("yeast", mode="bm25"),
    ):
        with pytest.raises(ConfigurationError):
            call()
    with pytest.raises(ConfigurationError, match="mode is 'bm25'"):
        await store.asimilarity_search("yeast", mode="bm25")


@pytest.mark.parametrize("mode", MODES)
async def test_async_is_the_same(store, mode, same):
    arguments = {"k": 3, "mode": mode}
    assert same(
        await store.asimilarity_search_with_score("milvus data", **arguments),
        store.similarity_search_with_score("milvus data", **arguments),
    )


def test_a_store_without_full_text(where, embedder):
    with MilvusStore(Qwen3Embeddings(embedder), sparse=None, **where) as store:
        store.add_texts(["data"])
        assert len(store.similarity_search("data")) == 1
        for mode in ("sparse", "hybrid"):
            with pytest.raises(CollectionError, match="no full text"):
                store.similarity_search("data", mode=mode)
        store.collection.drop()


# --- the retriever ---------------------------------------------------------------------------------------------------


@pytest.fixture
def inner():
    return OverlapReranker()


@pytest.mark.parametrize("mode", MODES)
async def test_the_retriever_reranks_what_the_mode_found(store, inner, mode, same):
    retriever = Qwen3Retriever(store, inner, k=3, top_n=2, mode=mode)
    first = store.similarity_search_with_score("milvus code 1100 data", 3, mode=mode)
    found = retriever.invoke("milvus code 1100 data")
    assert list(inner.calls[-1][1]) == [d.page_content for d, _ in first]
    assert same(await retriever.ainvoke("milvus code 1100 data"), found)
    assert same(Qwen3Retriever(store, inner, k=3, top_n=2).invoke("milvus code 1100 data", mode=mode), found)
    for document in found:
        rank = document.metadata["retrieval_rank"]
        assert document.metadata["retrieval_score"] == pytest.approx(first[rank - 1][1], abs=1e-5)
        assert ("dense_rank" in document.metadata) is (mode == "hybrid")
    if mode == "hybrid":
        assert {"dense_rank", "dense_score", "sparse_rank", "sparse_score"} <= found[0].metadata.keys()
    assert store.get_by_ids(ids(found))[0].metadata.keys() == {"n"}


def test_the_instruction_goes_where_it_can(store, inner, embedder):
    del embedder.calls[:]
    for mode in MODES:
        Qwen3Retriever(store, inner, mode=mode, instruction="invert").invoke("milvus data")
    assert embedder.calls == [("query", ("milvus data",), "invert")] * 2
    assert [instruction for _, _, instruction in inner.calls] == ["invert"] * 3


def test_a_mode_is_configurable_and_reaches_a_store_behind_as_retriever(store, inner):
    configurable = Qwen3Retriever(store, inner).configurable_fields(mode=ConfigurableField(id="mode"))
    found = configurable.invoke("数据库", {"configurable": {"mode": "sparse"}})
    assert ids(found) == ["zh"]
    behind = Qwen3Retriever(store.as_retriever(), inner, mode="sparse")
    assert ids(behind.invoke("数据库")) == ["zh"]
    assert ids(Qwen3Retriever(behind, inner).invoke("bread", mode="sparse")) == ["bread"]


def test_a_mode_that_a_source_would_ignore_is_refused(store, inner):
    memory = InMemoryVectorStore(Qwen3Embeddings(WordEmbedder()))
    for source in (memory, memory.as_retriever()):
        Qwen3Retriever(source, inner, mode="dense")
        with pytest.raises(ConfigurationError, match="does not reach a InMemoryVectorStore"):
            Qwen3Retriever(source, inner, mode="hybrid")
    for wrong in ({"mode": "bm25"}, {"search_kwargs": {"mode": "sparse"}}, {"search_kwargs": {"collections": []}}):
        with pytest.raises(ValueError, match=r"mode|collections"):
            Qwen3Retriever(store, inner, **wrong)
    with pytest.raises(ConfigurationError, match="mode is 'bm25'"):
        Qwen3Retriever(store, inner).invoke("q", mode="bm25")


# --- the contract ----------------------------------------------------------------------------------------------------


async def test_the_model_is_remembered_and_another_one_refused_before_it_works(where):
    writer = MilvusStore(Qwen3Embeddings(WordEmbedder(), instruction="find it"), **where)
    await writer.aadd_texts(["data"])
    contract = writer.collection.contract
    assert (contract.model, contract.dimensions, contract.instruction) == ("fake/words", 64, "find it")
    other = WordEmbedder(64, "fake/others")
    reader = MilvusStore(Qwen3Embeddings(other), **where)
    for call in (
        lambda: reader.add_texts(["more"]),
        lambda: reader.similarity_search("data"),
        lambda: reader.similarity_search("data", mode="hybrid"),
        lambda: reader.max_marginal_relevance_search("data"),
        lambda: Qwen3Retriever(reader, OverlapReranker()).invoke("data"),
    ):
        with pytest.raises(CollectionError, match=r"'fake/words' \(64 dimensions\), not with 'fake/others'"):
            call()
    with pytest.raises(CollectionError, match="fake/others"):
        await reader.aadd_texts(["more"])
    with pytest.raises(CollectionError, match="fake/others"):
        await reader.asimilarity_search("data")
    assert other.calls == []
    assert ids(reader.similarity_search("data", mode="sparse")) == ids(writer.similarity_search("data"))
    unchecked = MilvusStore(Qwen3Embeddings(other), check_model=False, **where)
    assert len(unchecked.similarity_search("data")) == 1
    narrow = MilvusStore(Qwen3Embeddings(WordEmbedder(), dimensions=32), **where)
    with pytest.raises(CollectionError, match="64 dimensions, got 32"):
        narrow.similarity_search("data")
    writer.collection.drop()
    for store in (writer, reader, unchecked, narrow):
        store.close()


def test_embeddings_that_do_not_say_their_name_leave_no_contract(where):
    with MilvusStore(DeterministicFakeEmbedding(size=16), **where) as store:
        store.add_texts(["data"])
        assert store.collection.contract is None
        with MilvusStore(Qwen3Embeddings(WordEmbedder(16)), **where) as reader:
            assert len(reader.similarity_search("data")) == 1
        store.collection.drop()


def test_a_ready_made_collection_is_bound_to_no_model(tmp_path):
    with MilvusCollection(tmp_path / "m.db") as collection:
        MilvusStore(WordEmbedder(), collection).add_texts(["data"])
        assert collection.contract.model == "fake/words"
        with pytest.raises(CollectionError, match="fake/others"):
            MilvusStore(WordEmbedder(64, "fake/others"), collection).similarity_search("data")
