"""Collections that `langchain_milvus.Milvus` wrote under its own names: read, searched, filtered and deleted from.

Here the layouts are made by hand, as its source (0.4) makes them; `langchain/test_official_store.py` has the store itself.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, Function, FunctionType, MilvusClient

from qwen3_rag.backends import load_embedder
from qwen3_rag.cli import main
from qwen3_rag.errors import CollectionError, ConfigurationError, FilterError
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import And, Compare, MilvusCollection, Not, Or, list_collections
from qwen3_rag.milvus.metadata import find_ids, replace_metadata
from qwen3_rag.types import Passage
from tests.fakes import OverlapReranker, WordEmbedder
from tests.integration.milvus_support import lite_server, vectors
from tests.integration.test_milvus_filters import HOSTILE, ORDER, filter_trees, matches, text_values
from tests.integration.test_milvus_interop import release

NAME = "LangChainCollection"
N = 48
INTS = [-3, 0, 1, 2, 10, 2**53 + 2, 2**63 - 1]
FLOATS = [-1.5, 0.0, 1.0, 2.5, 1e16, 5e-324, 0.1]
NULLABLE = {"ns": DataType.VARCHAR, "nn": DataType.INT64}
"""Only a `metadata_schema` makes such columns, and those of lists and 32-bit floats."""


def metadata(i: int) -> dict[str, Any]:
    return {
        "i": INTS[i % len(INTS)],
        "d": FLOATS[i % len(FLOATS)],
        "f": float(np.float32(FLOATS[i % len(FLOATS)])),
        "s": HOSTILE[i % len(HOSTILE)],
        "doc_id": f"d{i % 3}",  # a key like any other there
        "flag": i % 3 == 0,
        "tags": [["a"], ["a", HOSTILE[i % len(HOSTILE)]], [], ["b"]][i % 4],
        "nums": [[1, -3], [], [2]][i % 3],
        "ns": None if i % 3 else HOSTILE[i % len(HOSTILE)],
        "nn": None if i % 4 else INTS[i % len(INTS)],
    }


TEXTS = [f"text number {i} " + ["segments of data", "bread and yeast", "Daten"][i % 3] for i in range(N)]
VECTORS = vectors(N)


@dataclass(frozen=True)
class Made:
    """A collection of another tool.

    Attributes:
        collection: Ours, opened on it.
        client: Another client.
        passages: What is in it.
        kind: Where its metadata are.
    """

    collection: MilvusCollection
    client: MilvusClient
    passages: list[Passage]
    kind: str


def make(
    client: MilvusClient, kind: str, *, auto_id: bool = False, bm25: bool = True, plain: bool = False
) -> list[Passage]:
    """Creates, fills and indexes a collection as `langchain_milvus.Milvus` does.

    Args:
        client: The client.
        kind: Where the metadata are: `columns` (the default of that store), `dynamic` (`enable_dynamic_field=True` with
            `partition_key_field="part"`) or `json` (`metadata_field="metadata"`).
        auto_id: Whether Milvus makes the ids, which are integers then.
        bm25: Whether there is a `BM25BuiltInFunction`.
        plain: Whether to leave out the kinds of columns that Milvus 2.3 lacks.
    """
    schema = client.create_schema(auto_id=auto_id, enable_dynamic_field=kind == "dynamic")
    schema.add_field("text", DataType.VARCHAR, max_length=65_535, **({"enable_analyzer": True} if bm25 else {}))
    if auto_id:
        schema.add_field("pk", DataType.INT64, is_primary=True, auto_id=True)
    else:
        schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=65_535)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    if bm25:
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR, is_function_output=True)
        schema.add_function(Function("bm25_function", FunctionType.BM25, ["text"], ["sparse"]))
    rows = [metadata(i) for i in range(N)]
    if plain:
        rows = [{key: value for key, value in row.items() if key not in NULLABLE} for row in rows]
    add_metadata_fields(schema, kind, rows[0])
    client.create_collection(NAME, schema=schema, consistency_level="Session")
    index = client.prepare_index_params()
    index.add_index("vector", metric_type="L2", index_type="AUTOINDEX", params={})
    client.create_index(NAME, index)
    if bm25:
        index = client.prepare_index_params()
        index.add_index("sparse", metric_type="BM25", index_type="SPARSE_INVERTED_INDEX", params={})
        client.create_index(NAME, index)
    client.load_collection(NAME)
    if kind == "dynamic":
        rows = [
            {"part": f"p{i % 2}", "it's": i, "语言": HOSTILE[i % len(HOSTILE)], **row} for i, row in enumerate(rows)
        ]
    ids: list[Any] = []
    for start in (0, N // 2):  # one half from disk, one from memory: Milvus Lite evaluates them separately
        chosen = range(start, start + N // 2)
        sent = [
            {"text": TEXTS[i], "vector": VECTORS[i].tolist()}
            | ({} if auto_id else {"pk": f"{HOSTILE[i % len(HOSTILE)]}#{i:02}"})
            | ({"metadata": rows[i]} if kind == "json" else rows[i])
            for i in chosen
        ]
        ids += client.insert(NAME, sent)["ids"]
        if not start:
            client.flush(NAME)
    return [Passage(str(id_), text, row) for id_, text, row in zip(ids, TEXTS, rows, strict=True)]


def add_metadata_fields(schema: Any, kind: str, first: dict[str, Any]) -> None:
    if kind == "dynamic":
        schema.add_field("part", DataType.VARCHAR, max_length=65_535, is_partition_key=True)
    elif kind == "json":
        schema.add_field("metadata", DataType.JSON)
    else:
        types = {str: DataType.VARCHAR, int: DataType.INT64, float: DataType.DOUBLE, bool: DataType.BOOL}
        for key, value in first.items():
            more = {"max_length": 65_535} if isinstance(value, str) else {}
            if key in NULLABLE:
                more = {"max_length": 65_535} if NULLABLE[key] == DataType.VARCHAR else {}
                schema.add_field(key, NULLABLE[key], nullable=True, **more)
            elif isinstance(value, list):
                element = types[str if key == "tags" else int]
                schema.add_field(key, DataType.ARRAY, element_type=element, max_capacity=10, max_length=100)
            else:
                schema.add_field(key, DataType.FLOAT if key == "f" else types[type(value)], **more)


KINDS = ["columns", "columns, integers", "dynamic", "json"]


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Made]:
    layout, _, integers = kind.partition(", ")
    uri = str(folder / "m.db")
    client = MilvusClient(uri)
    passages = make(client, layout, auto_id=bool(integers))
    with MilvusCollection(uri, NAME, metric="L2") as collection:
        yield Made(collection, client, passages, kind)
        client.close()
    release(uri)


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("foreign")) as found:
        yield found


@pytest.fixture
def fresh(request, tmp_path):
    """One that a test may change; `request.param` is where its metadata are."""
    with opened(request.param, tmp_path) as found:
        yield found


def by_id(passages: list[Passage]) -> list[Passage]:
    """In the order of the ids: integers by size."""
    return sorted(passages, key=lambda p: int(p.id) if p.id.isdecimal() else p.id)


# ---------------------------------------------------------------- reading


def test_passages_come_back_with_their_metadata(made):
    c, passages = made.collection, made.passages
    assert c.count() == N
    assert (c.dimensions, c.sparse_leg, c.contract) == (8, "bm25", None)
    some = [passages[i] for i in (3, 0, 40)]
    assert c.get([p.id for p in some]) == some
    assert c.get(["never", "12.0", "007", "9" * 30, some[0].id]) == some[:1]
    assert c.existing_ids([some[0].id, "never"]) == {some[0].id}
    assert c.find({}) == by_id(passages)
    assert c.find({}, limit=5) == by_id(passages)[:5]
    assert c.find({"$id": {"$in": [p.id for p in some]}}) == by_id(some)
    assert list(find_ids(c, And())) == [[p.id for p in by_id(passages)]]
    c.verify(WordEmbedder(8), dimensions=8)  # nothing says which model wrote it


def test_the_nearest_have_their_cosine_as_score(made):
    c = made.collection
    hits, found = c.search_with_vectors(VECTORS[5], N)
    cosines = VECTORS @ VECTORS[5]
    assert [h.passage for h in hits] == [made.passages[i] for i in np.argsort(-cosines)]
    np.testing.assert_allclose([h.score for h in hits], np.sort(cosines)[::-1], atol=1e-5)
    np.testing.assert_allclose(found, VECTORS[np.argsort(-cosines)], atol=1e-6)
    with pytest.raises(CollectionError, match="vectors of 8 dimensions, got 4"):
        c.search(VECTORS[5, :4])


def test_searching_by_words_and_by_both(made):
    c = made.collection
    found = c.search_text("yeast", N)
    assert {h.passage.text for h in found} == {text for text in TEXTS if "yeast" in text}
    assert all(h.score > 0 for h in found)
    assert c.search_text("Hefe") == []
    best = c.hybrid_search(VECTORS[4], "text number 4", 3)[0]
    assert (best.passage, best.dense.rank, best.sparse.rank) == (made.passages[4], 1, 1)
    assert asyncio.run(c.ahybrid_search(VECTORS[4], "text number 4", 1)) == [best]
    for hits in (c.search_text("yeast", N, filter={"i": 1}), c.hybrid_search(VECTORS[4], "data", filter={"i": 1})):
        assert {h.passage.metadata["i"] for h in hits} == {1}
    with pytest.raises(CollectionError, match="holds no sparse vectors of a model"):
        c.search_sparse({1: 0.5})


def test_a_page_of_ids_follows_another(made, monkeypatch):
    monkeypatch.setattr("qwen3_rag.milvus.session.IDS_PER_REQUEST", 10)
    monkeypatch.setattr("qwen3_rag.milvus.session.ROWS_PER_REQUEST", 7)
    assert made.collection.find({}) == by_id(made.passages)
    monkeypatch.setattr("qwen3_rag.milvus.metadata.IDS_PER_REQUEST", 10)
    assert [
        id_ for ids in find_ids(made.collection, Or(Compare("i", ">", 0), Compare("i", "<=", 0))) for id_ in ids
    ] == [p.id for p in by_id(made.passages)]


# ---------------------------------------------------------------- filters

NUMBERS = st.sampled_from([*INTS, *FLOATS, 1.1, -0.5, 1e300, -1e300, 2**53 + 1, -(2**63) + 1])
STRINGS = st.sampled_from(HOSTILE)
VALUES = STRINGS | NUMBERS
KEYS = st.sampled_from(
    ["i", "d", "f", "s", "doc_id", "ns", "nn", "tags", "absent", "it's", "语言", 'x"] or i == 1 or ["']
)
LISTS = st.sampled_from(["tags", "nums", "s", "nn", "absent"])
OWN = st.sampled_from(["$id", "$text", "$doc_id"])
compares = st.one_of(
    st.builds(Compare, KEYS, st.sampled_from(["==", "!="]), VALUES | st.none()),
    st.builds(Compare, KEYS, st.sampled_from(["in", "not in"]), st.lists(VALUES | st.none(), max_size=4)),
    st.builds(Compare, KEYS, st.sampled_from(list(ORDER)), VALUES),
    st.builds(Compare, KEYS | OWN, st.sampled_from(["exists", "missing"])),
    st.builds(Compare, OWN, st.sampled_from(["==", "!=", *ORDER]), STRINGS),
    st.builds(Compare, OWN, st.sampled_from(["in", "not in"]), st.lists(STRINGS | st.none(), max_size=4)),
    *(st.builds(Compare, OWN | KEYS, st.just(op), text_values(op)) for op in ("like", "prefix", "substring")),
    st.builds(Compare, LISTS, st.just("contains"), VALUES),
    st.builds(Compare, LISTS, st.just("contains_any"), st.lists(VALUES, max_size=3)),
    st.builds(Compare, LISTS, st.just("contains_all"), st.lists(VALUES, min_size=1, max_size=3)),
    st.builds(Compare, st.just("flag"), st.sampled_from(["==", "!="]), st.booleans() | STRINGS | st.none()),
    st.builds(
        Compare, st.just("flag"), st.sampled_from(["in", "not in"]), st.lists(st.booleans() | st.none(), max_size=2)
    ),
)
filters = filter_trees(compares, max_leaves=5)


def needs_order_of_ids(node: Any) -> bool:
    """Integers are no strings, so their order and their parts as such can't be asked for."""
    if isinstance(node, Not):
        return needs_order_of_ids(node.operand)
    if isinstance(node, And | Or):
        return any(map(needs_order_of_ids, node.operands))
    patterns = node.op == "prefix" or (node.op in ("like", "substring") and bool(set(f"{node.value}") & set("%_")))
    return node.key == "$id" and (node.op in ORDER or patterns or node.op == "substring")


@settings(max_examples=250, deadline=None)
@given(node=filters)
@example(node=Compare("i", ">", 0.5))
@example(node=Not(Compare("i", ">=", -0.5)))
@example(node=Compare("i", "<", 1e300))
@example(node=Compare("f", "==", 0.1))
@example(node=Not(Compare("f", ">", 1e300)))
@example(node=Compare("d", ">", 2**53 + 1))
@example(node=Not(Compare("ns", "like", "a%")))
@example(node=Not(Compare("nn", "in", [1, None])))
@example(node=Not(Compare("tags", "contains_any", ["a", 1])))
@example(node=Not(Compare("flag", "in", [True])))
def test_filters_mean_there_what_the_documentation_says(made, node):
    if "integers" in made.kind and needs_order_of_ids(node):
        with pytest.raises(FilterError, match="integers, which have no order as strings"):
            made.collection.find(node)
        return
    expected = [p for p in made.passages if matches(node, p)]
    assert made.collection.find(node) == by_id(expected)
    hits = made.collection.search(VECTORS[0], 100, filter=node)
    assert sorted(h.passage.id for h in hits) == sorted(p.id for p in expected)


@settings(max_examples=60, deadline=None)
@given(
    value=st.text(st.characters(codec="utf-8"), max_size=12),
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
)
def test_no_string_gets_out_of_its_quotes(made, value, key):
    value = "never stored " + value
    for name in ("s", "ns", "$id", "$doc_id", "other " + key):
        assert made.collection.find(Compare(name, "==", value)) == []
        assert made.collection.find(Compare(name, "in", [value, "x" + value])) == []
        assert len(made.collection.search(VECTORS[0], 100, filter=Compare(name, "!=", value))) == N


def test_each_kind_of_filter_can_tell_rows_apart(made):
    """The comparison above would be worth nothing if they all matched nothing."""
    for node in (
        Compare("i", ">", 0.5),
        Compare("d", "<=", 1),
        Compare("f", ">", 0.1),
        Compare("s", "prefix", "a"),
        Compare("ns", "like", "a%"),
        Compare("ns", "missing"),
        Compare("nn", "in", [1, 2, 10]),
        Compare("flag", "==", True),
        Compare("tags", "contains", "b"),
        Compare("nums", "contains", -3),
        Compare("doc_id", "==", "d1"),
        Compare("$text", "like", "%yeast"),
    ):
        assert 0 < len(made.collection.find(node)) < N, node


def test_what_can_not_be_asked_is_refused(made):
    refused = {"dynamic": Compare("it's", "contains", 1)}
    if "columns" in made.kind:
        refused = {made.kind: Compare("flag", ">", False)}
    for node in refused.values() if made.kind != "json" else ():
        with pytest.raises(FilterError):
            made.collection.search(VECTORS[0], filter=node)
        with pytest.raises(FilterError):
            made.collection.delete(filter=Or(node, Compare("i", "==", 1)))
    with pytest.raises(FilterError, match="would delete everything"):
        made.collection.delete(filter={"$not": {"$doc_id": "x"}})
    assert made.collection.count() == N


# ---------------------------------------------------------------- changing


@pytest.mark.parametrize("fresh", KINDS, indirect=True)
def test_deleting_by_id_and_by_filter(fresh):
    c, passages = fresh.collection, fresh.passages
    assert c.delete(ids=[passages[0].id, passages[1].id, "never"]) == 2
    assert c.delete(filter={"s": {"$in": ["a", "ab"]}}) == sum(p.metadata["s"] in ("a", "ab") for p in passages[2:])
    left = [p for p in passages[2:] if p.metadata["s"] not in ("a", "ab")]
    c.flush()
    assert c.find({}) == by_id(left)
    assert c.count() == len(left)


@pytest.mark.parametrize("fresh", ["columns", "dynamic"], indirect=True)
def test_writing_is_refused_before_anything_is_embedded(fresh, tmp_path):
    c, embedder = fresh.collection, WordEmbedder(8)
    reason = "laid out by another tool in its own way .*'pk'.*'text'.*'vector'.*into a new collection"
    (tmp_path / "a.md").write_text("# new\nsome text")
    for write in (
        c.check_writable,
        lambda: c.upsert([Passage("new", "text")], vectors(1)),
        lambda: replace_metadata(c, {fresh.passages[0].id: {}}),
        lambda: ingest(tmp_path / "a.md", embedder, c),
    ):
        with pytest.raises(CollectionError, match=reason):
            write()
    assert embedder.calls == []
    assert c.find({}) == by_id(fresh.passages)


@pytest.mark.skipif(find_spec("langchain_core") is None, reason="needs the extra `langchain`")
@pytest.mark.parametrize("fresh", ["columns"], indirect=True)
def test_langchain_reads_it_and_embeds_nothing_to_write(fresh):
    from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings

    embedder = WordEmbedder(8)
    with MilvusStore(Qwen3Embeddings(embedder), fresh.collection) as store:
        with pytest.raises(CollectionError, match="laid out by another tool"):
            store.add_texts(["new"])
        with pytest.raises(CollectionError, match="laid out by another tool"):
            asyncio.run(store.aadd_texts(["new"]))
        assert embedder.calls == []
        [(document, score)] = store.similarity_search_with_relevance_scores("segments", k=1, filter={"i": 10})
        assert 0 <= score <= 1
        assert document.metadata["i"] == 10
        assert len(store.max_marginal_relevance_search("segments", k=3)) == 3


@pytest.mark.skipif(find_spec("llama_index") is None, reason="needs the extra `llama-index`")
@pytest.mark.parametrize("fresh", ["columns, integers"], indirect=True)
def test_llama_index_reads_it(fresh):
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import (
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
    )

    from qwen3_rag.llama_index import MilvusStore, Qwen3Retriever

    store = MilvusStore(collection=fresh.collection)
    only = MetadataFilters(filters=[MetadataFilter(key="s", value="ab", operator=FilterOperator.EQ)])
    found = store.query(
        VectorStoreQuery(VECTORS[3].tolist(), 2, query_str="text", filters=only, mode=VectorStoreQueryMode.HYBRID)
    )
    expected = [p for p in fresh.passages if p.metadata["s"] == "ab"]
    assert {node.node_id: (type(node), node.text, node.metadata) for node in found.nodes} == {
        p.id: (TextNode, p.text, p.metadata) for p in expected
    }
    assert [node.metadata for node in store.get_nodes(filters=only)] == [p.metadata for p in by_id(expected)]
    embedder = WordEmbedder(8)
    with pytest.raises(CollectionError, match="laid out by another tool"):
        Qwen3Retriever.from_texts(["new"], embedder, OverlapReranker(), store=store)
    assert embedder.calls == []
    store.delete_nodes([expected[0].id])
    assert fresh.collection.count() == N - 1


# ---------------------------------------------------------------- opening


@pytest.mark.parametrize("fresh", KINDS, indirect=True)
def test_after_a_restart_it_is_there_again(fresh):
    c, uri = fresh.collection, fresh.collection.uri
    first = c.search(VECTORS[7], 5)
    c.close()
    fresh.client.close()
    release(uri)
    assert c.search(VECTORS[7], 5) == first
    assert c.search_text("yeast", N) != []
    assert c.find({}) == by_id(fresh.passages)


@pytest.mark.parametrize("size", [0, 20, 200])
@pytest.mark.parametrize("fresh", ["columns"], indirect=True)
def test_a_damaged_index_is_built_again_with_its_metric(fresh, size):
    c, uri = fresh.collection, fresh.collection.uri
    fresh.client.flush(NAME)
    first = c.search(VECTORS[7], 5)
    c.close()
    fresh.client.close()
    release(uri)
    (index, *_) = Path(uri).rglob("indexes/*vector*.idx")
    os.truncate(index, size)
    found = c.search(VECTORS[7], 5)
    assert [h.passage for h in found] == [h.passage for h in first]
    assert c.search_text("yeast", N) != []
    client = MilvusClient(uri)
    [name] = client.list_indexes(NAME, field_name="vector")
    assert client.describe_index(NAME, name)["metric_type"] == "L2"
    client.close()


def test_through_a_server(tmp_path):
    with lite_server(tmp_path / "data") as uri:
        client = MilvusClient(uri)
        passages = make(client, "columns", auto_id=True)
        with MilvusCollection(uri, NAME, metric="L2") as c:
            assert c.find({"i": {"$gt": 0.5}}) == by_id([p for p in passages if p.metadata["i"] > 0.5])
            assert c.hybrid_search(VECTORS[4], "text number 4", 1)[0].passage == passages[4]
        client.close()


def test_the_metric_has_to_be_said_and_the_list_says_it(made):
    with MilvusCollection(made.collection.uri, NAME) as c, pytest.raises(CollectionError) as error:
        c.count()
    assert "compared by L2, asked was COSINE (open it with metric='L2')" in str(error.value)
    [info] = list_collections(made.collection.uri)
    assert (info.metric, info.dimensions, info.sparse, info.writable, info.problem) == ("L2", 8, "bm25", False, None)


def test_no_collection_is_created_with_l2(tmp_path):
    with MilvusCollection(tmp_path / "m.db", metric="L2") as c:
        for write in (c.check_writable, lambda: c.upsert([Passage("a", "t")], vectors(1))):
            with pytest.raises(ConfigurationError, match=r"no collection 'qwen3_rag'.*metric='COSINE'"):
                write()
        assert c.search(vectors(1)[0]) == []
        assert not c.exists()


@contextmanager
def bodies(uri: str, rows: list[dict[str, Any]], metric: str, *, sparse: bool = False) -> Iterator[list[str]]:
    """A collection without metadata, under names of nobody's default; yields the ids."""
    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=True)
    schema.add_field("body", DataType.VARCHAR, max_length=1000)
    schema.add_field("number", DataType.INT64, is_primary=True, auto_id=True)
    schema.add_field("points", DataType.FLOAT_VECTOR, dim=len(rows[0]["points"]))
    index = client.prepare_index_params()
    index.add_index("points", metric_type=metric, index_type="HNSW", params={"M": 8, "efConstruction": 50})
    if sparse:
        schema.add_field("weights", DataType.SPARSE_FLOAT_VECTOR)
        index.add_index("weights", metric_type="IP", index_type="SPARSE_INVERTED_INDEX", params={})
    client.create_collection("bodies", schema=schema, index_params=index)
    yield [str(id_) for id_ in client.insert("bodies", rows)["ids"]]
    client.close()
    release(uri)


def test_a_collection_without_metadata_and_without_full_text(tmp_path):
    uri = str(tmp_path / "m.db")
    rows = [{"body": "a text", "points": VECTORS[0].tolist()}]
    with bodies(uri, rows, "IP") as (id_,), MilvusCollection(uri, "bodies", metric="IP") as c:
        assert c.search(VECTORS[0])[0].passage == Passage(id_, "a text")
        assert c.find({"lang": None}) == [Passage(id_, "a text")]
        assert c.find({"lang": "en"}) == []
        with pytest.raises(CollectionError, match="has no full text"):
            c.search_text("text")


def test_the_sparse_vectors_of_a_model(tmp_path):
    uri = str(tmp_path / "m.db")
    rows = [{"body": f"text {i}", "points": VECTORS[i].tolist(), "weights": {i: 1.0, 9: 0.5}} for i in range(3)]
    with bodies(uri, rows, "COSINE", sparse=True) as ids, MilvusCollection(uri, "bodies") as c:
        assert c.sparse_leg == "model"
        assert [(h.passage.id, h.score) for h in c.search_sparse({1: 2.0})] == [(ids[1], 2.0)]
        assert c.hybrid_search(VECTORS[2], {2: 1.0}, 1)[0].passage == Passage(ids[2], "text 2")


def test_on_the_command_line(tmp_path, capsys):
    texts = ["Segments lie in object storage.", "Bread needs yeast."]
    found = load_embedder("tiny").embed_documents(texts).vectors
    rows = [{"body": text, "points": vector.tolist()} for text, vector in zip(texts, found, strict=True)]
    uri = str(tmp_path / "m.db")
    command = [
        "search",
        "Where are segments stored?",
        "--uri",
        uri,
        "--collection",
        "bodies",
        "--model",
        "tiny",
        "--json",
    ]
    with bodies(uri, rows, "L2") as ids:
        assert main(command) != 0
        assert "open it with metric='L2'" in capsys.readouterr().err
        assert main([*command, "--metric", "L2"]) == 0
        assert json.loads(capsys.readouterr().out)["reranked"][0]["id"] == ids[0]
