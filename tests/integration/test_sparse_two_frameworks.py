"""DashScope's sparse vectors in place of BM25, in both frameworks: written by one, read by the other, request by request."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.documents import Document
from langchain_core.embeddings import FakeEmbeddings
from langchain_core.stores import InMemoryByteStore
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from qwen3_rag import RemoteEmbedder
from qwen3_rag import langchain as lc
from qwen3_rag import llama_index as li
from qwen3_rag.errors import CollectionError, ConfigurationError, InputError
from qwen3_rag.milvus import FusedHit, MilvusCollection
from tests.fakes import OverlapReranker, WordEmbedder
from tests.integration.milvus_support import lite_server
from tests.remote_server import vendors
from tests.remote_server.loopback import Loopback

TEXTS = {
    "storage": "Milvus stores inserted data in object storage such as MinIO",
    "etcd": "Metadata is kept in etcd",
    "bread": "Bread needs flour, water, salt and yeast",
    "code": "Fault qx7731 means that the coordinator is not ready",
    "none": "???",
}
IDS = list(TEXTS)
QUESTION = "Which objects are stored by MinIO? qx7731"
"""Its vector is nearest to `storage`, and its rarest word is in `code`, far from it."""
HYBRID, SPARSE = VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SPARSE
MODES = ["dense", "sparse", "hybrid"]


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Loopback(vendors.dashscope()) as running:
        yield running


@pytest.fixture
def model(server):
    with RemoteEmbedder(
        "dashscope:text-embedding-v4", base_url=server.url, api_key=vendors.KEY, dimensions=128
    ) as embedder:
        yield embedder


@pytest.fixture
def where(tmp_path):
    return {"uri": str(tmp_path / "milvus.db"), "collection": "c", "sparse": "model"}


@pytest.fixture
def asked(server):
    """What the server was asked for since the last time: role, output type and texts of each request."""

    def read():
        bodies, server.received = server.bodies, []
        kinds = [(body["parameters"]["text_type"], body["parameters"].get("output_type", "dense")) for body in bodies]
        return [(*kind, len(body["input"]["texts"])) for kind, body in zip(kinds, bodies, strict=True)]

    return read


BOTH_OF_5 = [("document", "dense&sparse", 5)]
BOTH, ALONE, DENSE = [("query", kind, 1) for kind in ("dense&sparse", "sparse", "dense")]


@pytest.fixture
def store(model, where):
    with lc.MilvusStore(lc.Qwen3Embeddings(model), **where) as store:
        store.add_texts(list(TEXTS.values()), [{"n": i} for i in range(5)], ids=IDS)
        yield store


@pytest.fixture
def embedding(model):
    return li.Qwen3Embedding(model)


@pytest.fixture
def nodes(where, embedding):
    """A LlamaIndex store, filled by an index."""
    uri, name = where["uri"], where["collection"]
    with li.MilvusStore(uri, name, embed_model=embedding, sparse="model") as store:
        filled = [TextNode(id_=id_, text=text, metadata={"n": i}) for i, (id_, text) in enumerate(TEXTS.items())]
        for node in filled:
            node.excluded_embed_metadata_keys = ["n"]
        context = StorageContext.from_defaults(vector_store=store)
        VectorStoreIndex(filled, storage_context=context, embed_model=embedding)
        yield store


def ids(documents):
    return [document.id for document in documents]


# --- LangChain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_dense_and_sparse_vectors_come_from_one_request(store, asked, way):
    assert asked() == BOTH_OF_5
    assert store.collection.contract.sparse == "model"

    async def search(mode, k):
        if way == "sync":
            return ids(store.similarity_search(QUESTION, k, mode=mode))
        return ids(await store.asimilarity_search(QUESTION, k, mode=mode))

    assert await search("dense", 1) == ["storage"]
    assert asked() == [DENSE]
    assert await search("sparse", 1) == ["code"]
    assert asked() == [ALONE]
    assert set(await search("hybrid", 2)) == {"storage", "code"}
    assert asked() == [BOTH]
    if way == "sync":
        store.add_texts(["a", "b", "c"], batch_size=2)
    else:
        await store.aadd_documents([Document("a"), Document("b"), Document("c")], batch_size=2)
    assert asked() == [("document", "dense&sparse", 2), ("document", "dense&sparse", 1)]


def test_hits_tell_of_both_legs_and_a_question_is_embedded_once_for_many_searches(store, asked):
    asked()
    question = store.embed_question(QUESTION, mode="hybrid")
    hits = store.hits(QUESTION, 5, mode="hybrid", embedded=question)
    sparse = store.hits(QUESTION, 5, mode="sparse", embedded=question)
    weighed = store.hits(QUESTION, 5, mode="hybrid", weights=(0, 1), embedded=question)
    assert asked() == [BOTH]
    assert all(type(hit) is FusedHit for hit in hits)
    order = [hit.passage.id for hit in sparse]
    assert {hit.passage.id: hit.sparse.rank for hit in hits if hit.sparse} == {id_: i for i, id_ in enumerate(order, 1)}
    assert weighed[0].passage.id == order[0]
    assert "none" not in order  # it has no word, and so no entry
    assert "none" in [hit.passage.id for hit in hits]
    with pytest.raises(ConfigurationError, match="embedded has no dense vector, which mode='hybrid'"):
        store.hits(QUESTION, mode="hybrid", embedded=store.embed_question(QUESTION, mode="sparse"))


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_callbacks_are_told_of_both_vectors(store, way):
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector]}
    retriever = lc.Qwen3Retriever(store, OverlapReranker(), mode="hybrid")
    if way == "sync":
        retriever.invoke(QUESTION, config)
    else:
        await retriever.ainvoke(QUESTION, config)
    (run,) = collector.traced_runs
    stages = [(child.name, child.outputs) for child in run.child_runs]
    assert stages[0] == ("embed_query", {"dimensions": 128, "sparse_entries": 7})
    assert [name for name, _ in stages] == ["embed_query", "search", "Qwen3Rerank"]


async def test_filters_weights_instruction_and_relevance(store, server):
    for mode in MODES:
        found = store.similarity_search(QUESTION, 5, mode=mode, filter={"n": {"$lt": 3}})
        assert found
        assert all(document.metadata["n"] < 3 for document in found)
        store.similarity_search(QUESTION, mode=mode, instruction="find the fault")
        assert server.bodies[-1]["parameters"]["instruct"] == "find the fault"
        await store.asimilarity_search(QUESTION, mode=mode, instruction="find it")
        assert server.bodies[-1]["parameters"]["instruct"] == "find it"
    scores = [score for _, score in store.similarity_search_with_relevance_scores(QUESTION, mode="hybrid")]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(ConfigurationError, match="no upper end"):
        store.similarity_search_with_relevance_scores(QUESTION, mode="sparse")


@pytest.mark.parametrize("mode", ["sparse", "hybrid"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_the_retriever_and_from_texts(model, where, asked, mode, way):
    options = {"ids": IDS, "k": 3, "top_n": 3, "mode": mode, **where}
    if way == "sync":
        retriever = lc.Qwen3Retriever.from_texts(TEXTS.values(), model, OverlapReranker(), **options)
        found = retriever.invoke(QUESTION, instruction="find")
    else:
        retriever = await lc.Qwen3Retriever.afrom_texts(TEXTS.values(), model, OverlapReranker(), **options)
        found = await retriever.ainvoke(QUESTION, instruction="find")
    assert asked() == [*BOTH_OF_5, ALONE if mode == "sparse" else BOTH]
    code = next(document for document in found if document.id == "code")
    assert ("sparse_rank" in code.metadata) == (mode == "hybrid")
    retriever.source.close()
    again = lc.MilvusStore.from_texts(["more"], lc.Qwen3Embeddings(model), uri=where["uri"], collection="c")
    assert again.collection.sparse_leg == "model"
    assert "code" in ids(again.as_retriever(search_kwargs={"mode": mode, "k": 2}).invoke(QUESTION))
    again.close()


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_several_collections_share_one_request_whatever_their_legs(model, where, asked, way):
    uri, embeddings = where["uri"], lc.Qwen3Embeddings(model)
    for name, sparse in (("words", "bm25"), ("first", "model"), ("second", "model")):
        with lc.MilvusStore(embeddings, name, uri=uri, sparse=sparse) as store:
            store.add_texts(list(TEXTS.values()))
    for mode, request in (("hybrid", BOTH), ("sparse", ALONE), ("dense", DENSE)):
        asked()
        several = lc.Qwen3Retriever.from_collections(
            ["words", "first", "second"], embeddings, OverlapReranker(), uri=uri, mode=mode, top_n=9
        )
        found = several.invoke(QUESTION) if way == "sync" else await several.ainvoke(QUESTION)
        assert asked() == [request]
        assert {document.metadata["retrieval_collection"] for document in found} >= {"words"}
        for source in several.source.values():
            source.close()


async def test_what_makes_no_sparse_vectors_is_refused_at_construction(store, model, where, asked):
    embedders = [
        lc.Qwen3Embeddings(model, cache=InMemoryByteStore()),
        lc.Qwen3Embeddings(WordEmbedder(128)),
        lc.Qwen3Embeddings("dashscope:text-embedding-v2", api_key="k"),
        lc.Qwen3Embeddings("dashscope:text-embedding-v4", api_key="k", api="compatible"),
        FakeEmbeddings(size=128),
    ]
    for embeddings in embedders:
        with pytest.raises(ConfigurationError, match="text-embedding-v4"):
            lc.MilvusStore(embeddings, **where)
    asked()
    # An existing collection is known when it is opened: before anything is sent. What needs no sparse vectors works.
    cached = lc.MilvusStore(embedders[0], "c", uri=where["uri"])
    assert cached.similarity_search(QUESTION, 1)
    assert asked() == [DENSE]
    for call in (
        lambda: cached.similarity_search(QUESTION, mode="hybrid"),
        lambda: cached.similarity_search(QUESTION, mode="sparse"),
        lambda: cached.add_texts(["a"]),
        lambda: lc.MilvusStore(embedders[-1], "c", uri=where["uri"]).add_texts(["a"]),
    ):
        with pytest.raises(ConfigurationError, match="text-embedding-v4"):
            call()
    with pytest.raises(ConfigurationError, match="makes none"):
        await cached.asimilarity_search(QUESTION, mode="hybrid")
    with pytest.raises(ConfigurationError, match="makes none"):
        await cached.aadd_texts(["a"])
    assert asked() == []
    assert store.collection.count() == 5


def test_another_model_is_refused_before_it_works(store, server, where, asked):
    other = RemoteEmbedder("dashscope:text-embedding-v3", base_url=server.url, api_key=vendors.KEY, dimensions=128)
    asked()
    for call in (
        lambda: lc.MilvusStore(other, **where).similarity_search(QUESTION, mode="sparse"),
        lambda: lc.MilvusStore(other, **where).add_texts(["a"]),
        lambda: li.Qwen3Retriever.from_store(
            li.MilvusStore(where["uri"], "c"), other, OverlapReranker(), mode="sparse"
        ).retrieve(QUESTION),
        lambda: li.MilvusStore(where["uri"], "c", embed_model=li.Qwen3Embedding(other)).query(
            VectorStoreQuery(query_str=QUESTION, mode=SPARSE)
        ),
    ):
        with pytest.raises(CollectionError, match="text-embedding-v4"):
            call()
    assert asked() == []


# --- LlamaIndex ------------------------------------------------------------------------------------------------------


def query(mode, model, **fields):
    vector = None if mode is SPARSE else model.get_query_embedding(QUESTION)
    return VectorStoreQuery(query_embedding=vector, query_str=QUESTION, similarity_top_k=2, mode=mode, **fields)


async def test_the_store_asks_the_model_for_sparse_vectors(nodes, embedding, asked):
    assert asked() == [("document", "dense", 5), ("document", "sparse", 5)]
    assert nodes.client.contract.sparse == "model"
    assert nodes.query(query(SPARSE, embedding)).ids[0] == "code"
    assert asked() == [ALONE]
    assert set((await nodes.aquery(query(HYBRID, embedding))).ids) == {"storage", "code"}
    assert asked() == [DENSE, ALONE]
    assert nodes.query(query(VectorStoreQueryMode.DEFAULT, embedding)).ids[0] == "storage"
    assert nodes.query(query(HYBRID, embedding, alpha=0)).ids == nodes.query(query(SPARSE, embedding)).ids
    few = MetadataFilters(filters=[MetadataFilter(key="n", operator=FilterOperator.LT, value=3)])
    for mode in (SPARSE, HYBRID):
        assert set(nodes.query(query(mode, embedding, filters=few)).ids) <= {"storage", "etcd", "bread"}
    asked()
    known = nodes.sparse_query(QUESTION)
    assert nodes.query(query(SPARSE, embedding), sparse_vector=known).ids == nodes.query(query(SPARSE, embedding)).ids
    assert asked() == [ALONE, ALONE]
    with pytest.raises(ConfigurationError, match="sparse_vector"):
        nodes.query(query(VectorStoreQueryMode.DEFAULT, embedding), sparse_vector=known)
    late = TextNode(id_="late", text="zz9 arrived", embedding=embedding.get_text_embedding("zz9 arrived"))
    await nodes.async_add([late])
    assert nodes.query(VectorStoreQuery(query_str="zz9", mode=SPARSE, similarity_top_k=1)).ids == ["late"]


@pytest.mark.parametrize("mode", ["sparse", "hybrid"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_the_retriever_of_llama_index(request, where, model, mode, way):
    server, asked = request.getfixturevalue("server"), request.getfixturevalue("asked")
    store = li.MilvusStore(where["uri"], "c", sparse="model")
    retriever = li.Qwen3Retriever.from_texts(
        list(TEXTS.values()), model, OverlapReranker(), ids=IDS, store=store, k=3, top_n=3, mode=mode
    )
    assert asked() == [("document", "dense", 5), ("document", "sparse", 5)]
    under = retriever.with_options(instruction="find the fault")
    found = under.retrieve(QUESTION) if way == "sync" else await under.aretrieve(QUESTION)
    assert "code" in [node.node_id for node in found]
    assert {body["parameters"]["instruct"] for body in server.bodies} == {"find the fault"}
    assert sorted(asked()) == sorted([ALONE, *[DENSE] * (mode == "hybrid")])
    store.close()


async def test_several_collections_share_the_questions_vectors(where, model, asked):
    uri = where["uri"]
    for name, sparse in (("words", "bm25"), ("first", "model"), ("second", "model")):
        with li.MilvusStore(uri, name, sparse=sparse) as store:
            li.Qwen3Retriever.from_texts(list(TEXTS.values()), model, OverlapReranker(), store=store)
    several = li.Qwen3Retriever.from_collections(
        ["words", "first", "second"], model, OverlapReranker(), uri=uri, mode="hybrid", top_n=9
    )
    asked()
    found = several.retrieve(QUESTION)
    assert asked() == [DENSE, ALONE]
    again = await several.with_options(mode="sparse").aretrieve(QUESTION)
    assert asked() == [ALONE]
    assert found
    assert again


def test_a_store_without_a_model_that_fits_says_so(nodes, where, embedding, model, asked):
    cached = li.Qwen3Embedding(model, embeddings_cache=SimpleKVStore())
    for other in (cached, li.Qwen3Embedding(WordEmbedder(128))):
        with pytest.raises(ConfigurationError, match="text-embedding-v4"):
            li.MilvusStore(where["uri"], "new", embed_model=other, sparse="model")
    empty = li.MilvusStore(where["uri"], "new", sparse="model")
    for other in (cached, MockEmbedding(embed_dim=8)):
        with pytest.raises(ConfigurationError, match="text-embedding-v4"):
            li.Qwen3Retriever.from_store(empty, other, OverlapReranker())
    asked()
    nameless = li.MilvusStore(where["uri"], "c")
    node = TextNode(text="a", embedding=[1.0] * 128)
    for call in (
        lambda: nameless.add([node]),
        lambda: empty.add([node]),
        lambda: nameless.query(VectorStoreQuery(query_str=QUESTION, mode=SPARSE)),
        lambda: nameless.query(VectorStoreQuery(query_str=QUESTION, mode=HYBRID, query_embedding=[1.0] * 128)),
    ):
        with pytest.raises(ConfigurationError, match=r"knows no model.*embed_model="):
            call()
    with pytest.raises(InputError, match="no embedding"):
        nodes.add([TextNode(text="a")])
    assert asked() == []
    assert nameless.query(VectorStoreQuery(query_embedding=[1.0] * 128, similarity_top_k=1)).ids


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("writer", ["store", "nodes"])
def test_each_reads_what_the_other_wrote_with_the_same_scores(request, where, model, writer, mode):
    request.getfixturevalue(writer)
    uri = where["uri"]
    left = lc.Qwen3Retriever.from_collection("c", model, OverlapReranker(), uri=uri, mode=mode, top_n=5)
    right = li.Qwen3Retriever.from_store(
        li.MilvusStore(uri, "c", sparse="model"), model, OverlapReranker(), mode=mode, top_n=5
    )
    documents, found = left.invoke(QUESTION), right.retrieve(QUESTION)
    assert ids(documents) == [node.node_id for node in found]
    for document, node in zip(documents, found, strict=True):
        for key in ("retrieval_score", "retrieval_rank", "relevance_score"):
            assert document.metadata[key] == pytest.approx(node.metadata[key], abs=1e-4)
    first = min(documents, key=lambda document: document.metadata["retrieval_rank"])
    assert first.id in {"dense": ["storage"], "sparse": ["code"], "hybrid": ["storage", "code"]}[mode]


def test_a_server_of_milvus(tmp_path, model):
    with lite_server(tmp_path / "data") as uri:
        options = {"uri": uri, "sparse": "model", "mode": "hybrid", "top_n": 5}
        retriever = lc.Qwen3Retriever.from_texts(TEXTS.values(), model, OverlapReranker(), ids=IDS, **options)
        documents = retriever.invoke(QUESTION)
        store = li.MilvusStore(uri, sparse="model")
        nodes = li.Qwen3Retriever.from_store(store, model, OverlapReranker(), mode="hybrid", top_n=5).retrieve(QUESTION)
        assert ids(documents) == [node.node_id for node in nodes]
        with MilvusCollection(uri) as collection:
            assert (collection.sparse_leg, collection.count()) == ("model", 5)
        store.close()
        retriever.source.close()
