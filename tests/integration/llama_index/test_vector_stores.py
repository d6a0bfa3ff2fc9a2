"""`MilvusStore` on a real Milvus Lite."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from qwen3_rag.errors import CollectionError, ConfigurationError, FilterError, InputError, UnsupportedError
from qwen3_rag.llama_index import MilvusStore, Qwen3Embedding
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage
from tests.fakes import WordEmbedder

UNIT = np.eye(8).tolist()


def node(i, document="d", **fields):
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)} if document else {}
    fields = {"text": f"text {i}", "metadata": {"i": i}, **fields}
    return TextNode(id_=f"n{i}", embedding=UNIT[i], relationships=source, **fields)


def nearest(i, k=8, **fields):
    return VectorStoreQuery(query_embedding=UNIT[i], similarity_top_k=k, **fields)


def where(*filters, condition=FilterCondition.AND):
    return MetadataFilters(
        filters=[
            f if isinstance(f, MetadataFilters) else MetadataFilter(key=f[0], operator=f[1], value=f[2])
            for f in filters
        ],
        condition=condition,
    )


def ids(result):
    return sorted(result.ids)


# --- the shape -------------------------------------------------------------------------------------------------------


def test_is_what_llama_index_takes(store):
    assert isinstance(store, BasePydanticVectorStore)
    assert store.stores_text
    assert store.is_embedding_query
    assert not store.flat_metadata
    assert isinstance(store.client, MilvusCollection)


def test_construction_opens_nothing(tmp_path):
    MilvusStore(tmp_path / "no such folder" / "x.db")
    assert list(tmp_path.iterdir()) == []


def test_dict_round_trip_without_the_token():
    store = MilvusStore("http://localhost:19530", "c", token="user:secret", metric="IP", timeout=3)
    assert "secret" not in store.to_json() + repr(store) + str(store)
    again = MilvusStore.from_dict(json.loads(store.to_json()))
    assert again.to_dict() == store.to_dict()
    assert (again.client.uri, again.client.name) == ("http://localhost:19530", "c")
    assert "IP" in repr(again.client)


def test_a_ready_made_collection(tmp_path):
    collection = MilvusCollection(tmp_path / "x.db", "mine")
    store = MilvusStore(collection=collection)
    assert store.client is collection
    assert (store.uri, store.collection) == (collection.uri, "mine")
    for options in ({"uri": "y.db"}, {"metric": "IP"}):
        with pytest.raises(ConfigurationError, match="ready made"):
            MilvusStore(collection=collection, **options)


def test_unknown_arguments_are_not_swallowed(store):
    with pytest.raises(TypeError, match="overwrite"):
        MilvusStore("x.db", overwrite=True)
    for call in (
        lambda: store.add([], flush=True),
        lambda: store.delete("d", force=True),
        lambda: store.delete_nodes(["n"], force=True),
        lambda: store.query(nearest(0), mmr_threshold=0.5),
        lambda: store.query(nearest(0, mode="mmr"), lambda_mult=0.5),
    ):
        with pytest.raises(ConfigurationError, match="unknown argument"):
            call()


# --- nodes -----------------------------------------------------------------------------------------------------------


async def test_nothing_there(store):
    for result in (store.query(nearest(0)), await store.aquery(nearest(0))):
        assert (result.nodes, result.ids, result.similarities) == ([], [], [])
    assert store.get_nodes(["n0"]) == []
    assert store.get_nodes() == []
    assert store.add([]) == []
    store.delete("d")
    store.delete_nodes(["n0"])
    store.clear()


def test_nearest_first_with_similarities(store):
    nodes = [node(i) for i in range(4)]
    nodes[1].embedding = [0.6, 0.8, 0, 0, 0, 0, 0, 0]
    assert store.add(nodes) == ["n0", "n1", "n2", "n3"]
    result = store.query(nearest(0, k=2))
    assert result.ids == ["n0", "n1"]
    assert [n.node_id for n in result.nodes] == result.ids
    assert result.similarities == pytest.approx([1, 0.6], abs=1e-5)
    assert [n.text for n in result.nodes] == ["text 0", "text 1"]


def test_nodes_come_back_as_they_were(store):
    related = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", node_type="4", metadata={"file": "a.md"}, hash="h"),
        NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="before"),
        NodeRelationship.NEXT: RelatedNodeInfo(node_id="after", metadata={"x": [1, None]}),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c1"), RelatedNodeInfo(node_id="c2")],
    }
    metadata = {
        "text": "not the text",
        "id": "not the id",
        "doc_id": "not the document",
        "embedding": 3,
        "_node_content": "{}",
        "a.b": 'quotes " and \\ and 数据',
        "none": None,
        "flag": True,
        "real": 1.0,
        "whole": 1,
        "list": [1, "two", None, {"three": 3}],
        "deep": {"a": {"b": [{}]}},
        "": "empty key",
    }
    given = [
        TextNode(
            id_="rich",
            text="  line one\n\ttwo 🐟 ",
            metadata=metadata,
            relationships=related,
            excluded_embed_metadata_keys=["a.b"],
            excluded_llm_metadata_keys=["list"],
            metadata_template="{key}={value}",
            metadata_separator=";",
            text_template="{content}|{metadata_str}",
            start_char_idx=3,
            end_char_idx=9,
            mimetype="text/markdown",
        ),
        TextNode(id_="bare", text=""),
        IndexNode(id_="index", text="points", index_id="elsewhere", obj=TextNode(id_="inner", text="inner")),
        ImageNode(id_="image", text="caption", image_url="https://example.org/x.png", image_mimetype="image/png"),
        Document(id_="document", text="whole", metadata={"a": 1}),
        Node(id_="media", image_resource=MediaResource(url="https://example.org/y.png")),
        Node(id_="new kind", text_resource=MediaResource(text="text"), metadata={"a": 1}),
    ]
    for n in given:
        n.embedding = UNIT[0]
    before = [n.model_dump_json() for n in given]
    store.add(given)
    assert [n.model_dump_json() for n in given] == before, "add must not change the nodes"
    found = store.get_nodes([n.node_id for n in given])
    for was, came in zip(given, found, strict=True):
        assert type(came) is type(was)
        expected = was.model_copy(update={"embedding": None})
        assert came.model_dump(mode="json") == expected.model_dump(mode="json")
        assert came.metadata == was.metadata
        assert {k: type(v) for k, v in came.metadata.items()} == {k: type(v) for k, v in was.metadata.items()}
        assert came.ref_doc_id == was.ref_doc_id
        assert came.hash == was.hash


def test_passages_of_other_tools_are_text_nodes(store):
    passages = [Passage("p", "text", {"lang": "de"}, "doc"), Passage("q", "text", {"_node_content": "mine"})]
    store.client.upsert(passages, [UNIT[0], UNIT[1]])
    first, second = store.get_nodes(["p", "q"])
    assert (type(first), first.text, first.metadata, first.ref_doc_id) == (TextNode, "text", {"lang": "de"}, "doc")
    assert (second.metadata, second.ref_doc_id) == ({"_node_content": "mine"}, None)


def test_a_node_replaces_the_one_with_its_id(store):
    store.add([node(0), node(1)])
    store.add([node(0, text="new", metadata={})])
    assert [(n.text, n.metadata) for n in store.get_nodes(["n0"])] == [("new", {})]
    assert store.client.count() == 2


def test_what_cannot_be_stored_is_refused_whole(store):
    store.add([node(0)])
    unembedded = node(2)
    unembedded.embedding = None
    for bad, message in [
        (unembedded, "'n2' has no embedding"),
        (node(2, metadata={"when": np.float32(1)}), "n2.*when"),
        (node(2, text="x" * 70_000), "n2.*70000 bytes"),
    ]:
        with pytest.raises(InputError, match=message):
            store.add([node(1), bad])
    assert [n.node_id for n in store.get_nodes()] == ["n0"]
    short = node(1)
    short.embedding = [1.0, 0.0]
    with pytest.raises(CollectionError, match="8 dimensions"):
        store.add([short])


# --- deleting and reading --------------------------------------------------------------------------------------------


async def test_delete_a_document(store):
    store.add([node(0, "a"), node(1, "a"), node(2, "b"), node(3, "c' or 1 == 1"), node(4, None)])
    store.delete("a")
    assert ids(store.query(nearest(0))) == ["n2", "n3", "n4"]
    await store.adelete("c' or 1 == 1")
    assert ids(store.query(nearest(0))) == ["n2", "n4"]
    for wrong in (None, "", "None"):
        with pytest.raises(InputError, match="ref_doc_id"):
            store.delete(wrong)
    assert ids(store.query(nearest(0))) == ["n2", "n4"]


async def test_delete_nodes(store):
    store.add([node(i) for i in range(8)])
    store.delete_nodes(["n0", "unknown"])
    store.delete_nodes(filters=where(("i", FilterOperator.GTE, 6)))
    await store.adelete_nodes(["n1", "n2"], where(("i", FilterOperator.EQ, 2)))
    assert ids(store.query(nearest(0))) == ["n1", "n3", "n4", "n5"]
    store.delete_nodes([])
    store.delete_nodes([], where(("i", FilterOperator.GTE, 0)))
    for nothing in ((), (None, None), (None, where())):
        with pytest.raises(InputError, match="clear"):
            store.delete_nodes(*nothing)
    assert store.client.count() == 4
    await store.aclear()
    assert not store.client.exists()
    store.add([node(0)])
    assert store.client.count() == 1


async def test_get_nodes(store):
    store.add([node(i) for i in range(4)])
    assert [n.node_id for n in store.get_nodes(["n2", "unknown", "n0"])] == ["n2", "n0"]
    big = where(("i", FilterOperator.GT, 1))
    assert [n.node_id for n in store.get_nodes(filters=big)] == ["n2", "n3"]
    assert [n.node_id for n in store.get_nodes(["n1", "n2"], big)] == ["n2"]
    assert len(store.get_nodes()) == 4
    assert await store.aget_nodes(["n1", "n2"], big) == store.get_nodes(["n1", "n2"], big)
    assert await store.aget_nodes(["n1"]) == store.get_nodes(["n1"])


# --- restrictions ----------------------------------------------------------------------------------------------------

ROWS = [
    {"lang": "en", "year": 2020, "tags": ["a", "b"], "title": "Data storage"},
    {"lang": "de", "year": 2021, "tags": ["b"], "title": "storage 100"},
    {"lang": "en", "year": 2022.5, "tags": [], "title": "it's"},
    {"lang": "fr", "tags": ["c", "a"]},
    {"year": 2020, "title": 'say "x"'},
    {},
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    with MilvusStore(tmp_path_factory.mktemp("filled") / "test.db") as store:
        store.add([node(i, "even" if i % 2 == 0 else "odd", metadata=row) for i, row in enumerate(ROWS)])
        yield store


FILTERS = [
    where(("lang", FilterOperator.EQ, "en")),
    where(("lang", FilterOperator.NE, "en")),
    where(("year", FilterOperator.GT, 2020)),
    where(("year", FilterOperator.GTE, 2021)),
    where(("year", FilterOperator.LT, 2022)),
    where(("year", FilterOperator.LTE, 2022.5)),
    where(("lang", FilterOperator.IN, ["de", "fr"])),
    where(("lang", FilterOperator.NIN, ["de", "fr"])),
    where(("tags", FilterOperator.ANY, ["a", "c"])),
    where(("tags", FilterOperator.ALL, ["a", "b"])),
    where(("tags", FilterOperator.CONTAINS, "b")),
    where(("title", FilterOperator.TEXT_MATCH, "storage")),
    where(("title", FilterOperator.TEXT_MATCH, 'say "')),
    where(("lang", FilterOperator.EQ, "en"), ("year", FilterOperator.EQ, 2020)),
    where(("lang", FilterOperator.EQ, "de"), ("year", FilterOperator.EQ, 2020), condition=FilterCondition.OR),
    where(("lang", FilterOperator.EQ, "de"), ("year", FilterOperator.EQ, 2020), condition=FilterCondition.NOT),
    where(("lang", FilterOperator.EQ, "en"), condition=FilterCondition.NOT),
]


@pytest.mark.parametrize("filters", FILTERS, ids=lambda f: f"{f.condition.value}:{f.filters[0].operator.name}")
def test_filters_mean_what_they_mean_in_llama_index(filled, filters):
    """LlamaIndex's in-memory filter is the reference."""
    fits = build_metadata_filter_fn(lambda i: ROWS[int(i)], filters)
    expected = [f"n{i}" for i in range(len(ROWS)) if fits(str(i))]
    assert 0 < len(expected) < len(ROWS), "a filter that keeps all or none shows little"
    assert ids(filled.query(nearest(0, filters=filters))) == expected
    assert [n.node_id for n in filled.get_nodes(filters=filters)] == expected


def test_nested_filters(filled):
    either = where(("lang", FilterOperator.EQ, "de"), ("lang", FilterOperator.EQ, "fr"), condition=FilterCondition.OR)
    assert ids(filled.query(nearest(0, filters=where(either, ("tags", FilterOperator.CONTAINS, "a"))))) == ["n3"]
    neither = where(either, condition=FilterCondition.NOT)
    assert ids(filled.query(nearest(0, filters=neither))) == ["n0", "n2", "n4", "n5"]


HOSTILE = [
    "s' or year >= 0 or lang like 'z",
    's" or year >= 0 or lang like "z',
    'x" || "" == "',
    "a\nb",
    'x" or "a" like "',
]


@pytest.mark.parametrize("value", HOSTILE)
def test_text_match_is_not_injectable(filled, value):
    """LlamaIndex's Milvus store pastes the value into the expression: the first of these returned every row."""
    for operator in (FilterOperator.TEXT_MATCH, FilterOperator.EQ):
        assert filled.query(nearest(0, filters=where(("title", operator, value)))).ids == []
        assert filled.query(nearest(0, filters=where((value, operator, "en")))).ids == []


def test_text_match_takes_quotes_and_refuses_what_it_cannot_express(filled):
    assert ids(filled.query(nearest(0, filters=where(("title", FilterOperator.TEXT_MATCH, "it's"))))) == ["n2"]
    for value in ("100%", "a_b", "it\\s"):
        with pytest.raises(FilterError, match="title"):
            filled.query(nearest(0, filters=where(("title", FilterOperator.TEXT_MATCH, value))))


def test_value_none_is_not_dropped(filled):
    assert ids(filled.query(nearest(0, filters=where(("lang", FilterOperator.EQ, None))))) == ["n4", "n5"]
    assert ids(filled.query(nearest(0, filters=where(("lang", FilterOperator.NE, None))))) == ["n0", "n1", "n2", "n3"]
    with pytest.raises(FilterError):
        filled.query(nearest(0, filters=where(("lang", FilterOperator.GT, None))))


def test_documents_and_nodes(filled):
    assert ids(filled.query(nearest(0, doc_ids=["odd"]))) == ["n1", "n3", "n5"]
    assert ids(filled.query(nearest(0, doc_ids=[]))) == []
    assert ids(filled.query(nearest(0, node_ids=["n1", "n2"]))) == ["n1", "n2"]
    assert len(filled.query(nearest(0, node_ids=[])).ids) == 6, "LlamaIndex's index always sends an empty list"
    both = nearest(0, node_ids=["n1", "n2"], doc_ids=["odd"], filters=where(("lang", FilterOperator.EQ, "de")))
    assert ids(filled.query(both)) == ["n1"]
    assert ids(filled.query(nearest(0, filters=where(("ref_doc_id", FilterOperator.EQ, "odd"))))) == ["n1", "n3", "n5"]


async def test_mmr(store):
    vectors = [[1, 0.1, *[0] * 6], [1, 0.101, *[0] * 6], [0.7, 0, 0.7, *[0] * 5], UNIT[5]]
    nodes = [node(i) for i in range(4)]
    for n, vector in zip(nodes, vectors, strict=True):
        n.embedding = [float(x) for x in vector]
    store.add(nodes)
    query = nearest(0, k=2, mode=VectorStoreQueryMode.MMR)
    assert store.query(nearest(0, k=2)).ids == ["n0", "n1"]
    result = store.query(query, mmr_threshold=0.3)
    assert result.ids[0] == "n0"
    assert result.ids[1] != "n1", "the near duplicate must give way"
    everything = store.query(nearest(0))
    plain = dict(zip(everything.ids, everything.similarities, strict=True))
    assert result.similarities == [plain[i] for i in result.ids], "similarities, not MMR's own scores"
    assert (await store.aquery(query, mmr_threshold=0.3)).ids == result.ids
    assert store.query(query, mmr_threshold=1.0).ids == ["n0", "n1"]
    assert store.query(query, mmr_threshold=0.0, mmr_prefetch_k=2).ids == ["n0", "n1"]
    assert store.query(query, mmr_threshold=0.3, mmr_prefetch_factor=1).ids == ["n0", "n1"]
    for wrong in ({"mmr_threshold": 1.5}, {"mmr_prefetch_k": 3, "mmr_prefetch_factor": 2}):
        with pytest.raises(ConfigurationError):
            store.query(query, **wrong)
    only_three = nearest(0, k=8, mode=VectorStoreQueryMode.MMR, filters=where(("i", FilterOperator.GT, 0)))
    assert ids(store.query(only_three)) == ["n1", "n2", "n3"]


def test_what_is_not_supported_is_said(store):
    for mode in ("semantic_hybrid", "svm", "linear_regression", "logistic_regression"):
        with pytest.raises(UnsupportedError, match=f"'{mode}'.*default, mmr, sparse"):
            store.query(nearest(0, mode=mode))
    with pytest.raises(UnsupportedError, match="output_fields"):
        store.query(nearest(0, output_fields=["text"]))
    with pytest.raises(InputError, match="no embedding"):
        store.query(VectorStoreQuery(query_str="q"))


# --- with an index ---------------------------------------------------------------------------------------------------


def test_reopened_file_answers_queries(tmp_path):
    """LlamaIndex's Milvus store never loads a collection that exists, so the first query after a restart fails."""
    embed_model = Qwen3Embedding(WordEmbedder())
    with MilvusStore(tmp_path / "test.db") as store:
        context = StorageContext.from_defaults(vector_store=store)
        VectorStoreIndex([TextNode(text="milvus data")], storage_context=context, embed_model=embed_model)
        context.persist(str(tmp_path / "storage"))
    with MilvusStore(tmp_path / "test.db") as store:
        index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
        assert [n.text for n in index.as_retriever().retrieve("data")] == ["milvus data"]


async def test_async_in_several_event_loops(store):
    await store.async_add([node(0)])
    found = await asyncio.to_thread(lambda: asyncio.run(store.aquery(nearest(0))))
    assert found.ids == ["n0"]
    assert (await store.aquery(nearest(0))).ids == ["n0"]


def test_an_index_updates_and_deletes_documents(store):
    context = StorageContext.from_defaults(vector_store=store)
    documents = [Document(id_="a", text="alpha"), Document(id_="b", text="beta")]
    index = VectorStoreIndex.from_documents(
        documents, storage_context=context, embed_model=Qwen3Embedding(WordEmbedder())
    )
    index.delete_ref_doc("a")
    assert [n.text for n in index.as_retriever(similarity_top_k=5).retrieve("alpha")] == ["beta"]
    index.update_ref_doc(Document(id_="b", text="gamma"))
    assert [n.text for n in index.as_retriever(similarity_top_k=5).retrieve("alpha")] == ["gamma"]
    filters = where(("doc_id", FilterOperator.EQ, "b"))
    assert len(index.as_retriever(filters=filters).retrieve("x")) == 1
