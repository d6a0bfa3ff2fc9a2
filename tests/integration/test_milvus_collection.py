"""What a collection promises, on a file and on a server."""

import asyncio
import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3_rag.errors import (
    CollectionError,
    FilterError,
    InputError,
    StoreConnectionError,
    StoreError,
    TruncationWarning,
    UnsupportedError,
)
from qwen3_rag.milvus import MilvusCollection, Not, Or, records
from qwen3_rag.milvus.session import ROWS_PER_REQUEST as PAGE
from qwen3_rag.types import Passage
from tests.integration.milvus_support import passages, vectors

MiB = 2**20

lite_only = pytest.mark.skipif("MILVUS_TEST_URI" in os.environ, reason="about Milvus Lite")


def test_nothing_exists_before_the_first_write(collection):
    assert not collection.exists()
    assert collection.dimensions is None
    assert collection.count() == 0
    assert collection.search([1.0, 0.0]) == []
    hits, found = collection.search_with_vectors([1.0, 0.0])
    assert hits == []
    assert found.shape == (0, 2)
    assert collection.get(["a"]) == []
    assert collection.find({"n": 1}) == []
    assert collection.existing_ids(["a"]) == set()
    assert collection.delete(ids=["a"]) == 0
    collection.flush()
    collection.drop()
    assert not collection.exists()


def test_write_search_get_delete(collection):
    ps, vs = passages(20), vectors(20)
    collection.upsert(ps, vs)
    assert collection.dimensions == 8
    assert collection.count() == 20

    hits = collection.search(vs[7], 5)
    assert hits[0].passage == ps[7]
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    expected = np.sort(vs @ vs[7])[::-1][:5]
    np.testing.assert_allclose([h.score for h in hits], expected, atol=1e-5)

    hits, found = collection.search_with_vectors(vs[7], 3, filter={"n": {"$ne": 7}})
    assert 7 not in [h.passage.metadata["n"] for h in hits]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [vs[h.passage.metadata["n"]] for h in hits], atol=1e-6)

    assert collection.get(["p0003", "nope", "p0001", "p0003"]) == [ps[3], ps[1]]
    assert collection.existing_ids(["p0003", "nope"]) == {"p0003"}
    assert collection.find({"n": {"$gte": 15}}) == ps[15:]
    assert collection.find({}, limit=4) == ps[:4]

    assert collection.delete(ids=["p0003", "nope", "p0003"]) == 1
    assert collection.delete(filter={"$doc_id": "doc0"}) == 6
    assert collection.delete(ids=[]) == 0
    assert collection.count() == 13
    assert collection.get(["p0003"]) == []


def test_upsert_replaces_as_a_whole(collection):
    collection.upsert([Passage("a", "old", {"x": 1, "y": 2}, "d")], [[1.0, 0.0]])
    collection.upsert([Passage("a", "new", {"x": 3})], [[0.0, 1.0]])
    assert collection.count() == 1
    assert collection.get(["a"]) == [Passage("a", "new", {"x": 3})]
    assert collection.find({"y": 2}) == []
    assert collection.search([0.0, 1.0])[0].score == pytest.approx(1)
    collection.flush()
    collection.upsert([Passage("a", "newest")], [[1.0, 0.0]])
    assert collection.count() == 1
    assert [h.passage.text for h in collection.search([1.0, 0.0])] == ["newest"]


def test_what_was_written_is_seen_at_once_by_everybody(collection, open_collection):
    other = open_collection(collection.name)
    assert other.count() == 0
    for i in range(20):
        collection.upsert(passages(1, i), vectors(1, seed=i))
        assert other.count() == i + 1
        assert other.existing_ids([f"p{i:04}"]) == {f"p{i:04}"}
        if i % 3 == 0:
            collection.delete(ids=[f"p{i:04}"])
            assert other.get([f"p{i:04}"]) == []
            collection.upsert(passages(1, i), vectors(1, seed=i))


METADATA = [
    {},
    {"none": None, "empty": "", "list": [], "dict": {}, "zero": 0, "float": 1.0, "false": False},
    {"nested": {"a": [1, 2.5, None, {"b": [True]}], "": {"": ""}}},
    {"id": 5, "text": None, "doc_id": ["x"], "embedding": {"a": 1}, "sparse_embedding": 1, "text_bm25": "t"},
    {"_node_content": "{}", "_node_type": 3, "document_id": "d", "ref_doc_id": None, "_metadata": {"a": 1}},
    {"$meta": {"a": 1}, "$and": 1, "": "empty key", "_seq": 1, "_partition": 2, "metadata": {"x": 1}},
    {"it's": 1, 'a"b': 2, "back\\slash": 3, "语言": "中文", "a.b": 4, "a b": 5, "new\nline": 6, "in": 7, "😀": "😀"},
    {"big": 2**63 - 1, "small": -(2**63), "tiny": 5e-324, "huge": 1.7976931348623157e308, "minus": -0.0},
    {"json": '{"a": 1}', "array": "[1, 2]", "control": "\x00\x01\x1f\u2028", "quote": "'\"\\"},
]


@pytest.mark.parametrize("metadata", METADATA, ids=lambda m: ",".join(m)[:40])
def test_metadata_comes_back_as_it_was(collection, metadata):
    before = copy.deepcopy(metadata)
    collection.upsert([Passage("a", "t", metadata)], [[1.0, 2.0]])
    assert metadata == before
    collection.flush()
    for back in (collection.get(["a"])[0], collection.search([1.0, 2.0])[0].passage, collection.find({})[0]):
        assert back.metadata == metadata
        assert repr(back.metadata) == repr(metadata)  # 1 == 1.0 == True, but not here


keys = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["text", "id", "doc_id", "_node_content", "$meta"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metadata=st.dictionaries(keys, values, max_size=4),
    text=st.text(st.characters(codec="utf-8"), max_size=50),
    id_=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    doc_id=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda t: t != "None"),
)
def test_any_passage_survives(collection, metadata, text, id_, doc_id):
    passage = Passage(id_, text, metadata, doc_id, {})
    collection.upsert([passage], [[1.0, 2.0]])
    assert collection.existing_ids([id_]) == {id_}
    (back,) = collection.get([id_])
    assert repr(back) == repr(passage)
    assert passage in collection.find({"$id": id_})
    assert collection.delete(ids=[id_]) == 1
    assert collection.count() == 0


BAD_METADATA = [
    ({"k": (1, 2)}, "tuple"),
    ({"k": {1: "a"}}, "key 1"),
    ({1: "a"}, "key 1"),
    ({"k": float("nan")}, "nan"),
    ({"k": [float("inf")]}, r"\['k'\]\[0\]"),
    ({"k": 2**63}, "64 bits"),
    ({"k": {"deep": object()}}, r"\['k'\]\['deep'\]"),
    ({"k": np.float32(1)}, "float32"),
    ({"k": b"x"}, "bytes"),
    ({"k": "\ud800"}, "Unicode"),
    ({"k": "x" * 70_000}, "bytes"),
    ({"k": "x" * 40_000}, "bytes"),
    ("text", "mapping"),
]


@pytest.mark.parametrize(("metadata", "reason"), BAD_METADATA, ids=lambda v: str(v)[:30])
def test_metadata_that_would_not_come_back_is_refused(collection, metadata, reason):
    with pytest.raises(InputError, match=reason) as error:
        collection.upsert([Passage("good", "t"), Passage("bad one", "t", metadata)], vectors(2))
    assert "bad one" in str(error.value)
    assert not collection.exists()


def test_endless_metadata_is_refused(collection):
    endless: dict = {}
    endless["k"] = endless
    with pytest.raises(InputError, match="nested deeper"):
        collection.upsert([Passage("a", "t", endless)], vectors(1))


def test_texts_and_ids_are_counted_in_utf8_bytes(collection):
    fits = "中" * 21_845  # 65,535 bytes
    with pytest.warns(TruncationWarning, match="BM25"):  # its words take more room than the text
        collection.upsert([Passage("a", fits)], vectors(1))
    assert collection.get(["a"])[0].text == fits
    for passage, reason in [
        (Passage("b", fits + "a"), "65536 bytes.*65535"),
        (Passage("中" * 171, "t"), "513 bytes.*512"),
        (Passage("b", "t", doc_id="中" * 171), "513 bytes.*512"),
        (Passage("b", "\ud800"), "Unicode"),
        (Passage("", "t"), "empty id"),
        (Passage("b", "t", doc_id="None"), "no document"),
        (Passage("b", "t", doc_id=""), "no document"),
        (Passage(5, "t"), "int, expected str"),
        (Passage("b", None), "NoneType, expected str"),
        (Passage("b", b"t"), "bytes, expected str"),
        (Passage("b", "t", doc_id=5), "int, expected str"),
    ]:
        with pytest.raises(InputError, match=reason):
            collection.upsert([Passage("good", "t"), passage], vectors(2))
    assert collection.count() == 1


def test_the_same_id_twice_in_one_upsert_is_refused(collection):
    with pytest.raises(InputError, match="'x'"):
        collection.upsert([Passage("x", "1"), Passage("y", "2"), Passage("x", "3")], vectors(3))
    assert not collection.exists()


BAD_VECTORS = [
    ([[1.0, 2.0], [np.nan, 1.0]], "vector 1 has"),
    ([[np.inf, 2.0], [-np.inf, 1.0]], r"vector 0 \(and 1 more\)"),
    ([[1e300, 0.0], [1.0, 1.0]], "not finite in float32"),
    ([[1e30, 1e30], [1.0, 1.0]], "overflows"),
    ([[1.0, 2.0], [0.0, 0.0]], "no direction"),
    ([[1.0, 2.0], [1e-30, 0.0]], "no direction"),
    ([[1.0, 2.0]], r"shape \(1, 2\)"),
    ([1.0, 2.0], "shape"),
    ([[], []], "shape"),
    ([[1.0, 2.0], [1.0]], "rectangular"),
    ([["a", "b"], ["c", "d"]], "rectangular"),
    (None, "shape"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_VECTORS, ids=lambda v: str(v)[:30])
def test_bad_vectors_are_refused_before_anything_is_written(collection, bad, reason):
    with pytest.raises(InputError, match=reason):
        collection.upsert(passages(2), bad)
    assert not collection.exists()


@pytest.mark.parametrize("query", [[np.nan, 1], [0, 0], [np.inf, 1], [], "ab", [[1, 2]], None, 3])
def test_bad_queries_are_refused(collection, query):
    collection.upsert(passages(2), vectors(2, 2))
    with pytest.raises(InputError):
        collection.search(query)


@pytest.mark.parametrize("k", [0, -1, 16_385])
def test_bad_k_is_refused(collection, k):
    with pytest.raises(InputError, match=str(k)):
        collection.search([1.0], k)


def test_another_dimension_is_refused_with_both_named(collection):
    collection.upsert(passages(2), vectors(2, 8))
    for call in (
        lambda: collection.upsert(passages(2, 5), vectors(2, 16)),
        lambda: collection.search(vectors(1, 16)[0]),
        lambda: collection.search_with_vectors(vectors(1, 16)[0], filter={"n": {"$in": []}}),
    ):
        with pytest.raises(CollectionError, match=r"8 dimensions, got 16.*drop"):
            call()
    assert collection.count() == 2


def test_inner_product_takes_vectors_of_any_length(open_collection):
    c = open_collection(metric="IP")
    c.upsert(passages(3), [[1.0, 0.0], [10.0, 0.0], [0.0, 0.0]])
    hits = c.search([2.0, 0.0], 3)
    assert [h.score for h in hits] == [20, 2, 0]
    with pytest.raises(CollectionError, match="IP, asked was COSINE"):
        open_collection(c.name).count()


def test_empty_input_does_nothing(collection):
    collection.upsert([], [])
    collection.upsert([], np.zeros((0, 8)))
    assert not collection.exists()
    with pytest.raises(InputError):
        collection.upsert([], vectors(1))


def test_large_input_goes_in_several_requests(collection, monkeypatch):
    monkeypatch.setattr(records, "BATCH_ROWS", 7)
    collection.upsert(passages(40), vectors(40))
    assert collection.find({}) == passages(40)
    monkeypatch.setattr(records, "BATCH_BYTES", 100_000)
    long = [Passage(f"long{i}", "x" * 60_000, {"m": "y" * 20_000}) for i in range(5)]
    collection.upsert(long, vectors(5))
    assert collection.get([p.id for p in long]) == long


def test_batches_stay_under_the_limit_of_a_message():
    from qwen3_rag.milvus.schema import Layout

    many = [Passage(f"{i}", "中" * 21_000, {"m": "语" * 9_000}) for i in range(600)]
    rows = records.to_rows(many, vectors(600, 4096), Layout(4096))
    split = list(records.batches(rows))
    assert [r["id"] for b in split for r in b] == [p.id for p in many]
    for batch in split:
        size = sum(len(str(v).encode()) for row in batch for k, v in row.items() if k != "embedding")
        assert size + 4 * 4096 * len(batch) < 64 * MiB


def test_more_rows_than_a_page_and_hostile_ids_are_all_found(collection):
    n = 2 * PAGE + 17
    ps = [Passage(f'"{i:05}\\', "t", {"n": i}) for i in range(n)]
    collection.upsert(ps, vectors(n))
    assert collection.find({}) == ps
    assert collection.find({"n": {"$gte": 3}}, limit=PAGE + 1) == ps[3 : PAGE + 4]
    assert collection.get([p.id for p in reversed(ps)]) == ps[::-1]
    assert collection.existing_ids([p.id for p in ps] + ["x"]) == {p.id for p in ps}
    assert collection.delete(filter={"n": {"$lt": n - 1}}) == n - 1
    assert collection.find({}) == ps[-1:]


def test_delete_needs_one_condition_that_is_one(collection):
    collection.upsert(passages(3), vectors(3))
    for call in (
        collection.delete,
        lambda: collection.delete(ids=["a"], filter={"n": 1}),
        lambda: collection.delete(ids="p0001"),
        lambda: collection.delete(ids=[1]),
    ):
        with pytest.raises(InputError):
            call()
    for everything in ({}, {"$and": []}, Not(Or()), {"n": {"$nin": []}}):
        with pytest.raises(FilterError, match="everything"):
            collection.delete(filter=everything)
    assert collection.delete(filter=Or()) == 0
    assert collection.delete(filter={"n": {"$in": []}}) == 0
    assert collection.count() == 3
    for call in (collection.get, collection.existing_ids):
        with pytest.raises(InputError):
            call("p0001")
    with pytest.raises(InputError):
        collection.find({}, limit=0)


def test_a_bad_filter_is_an_error_in_every_method(collection):
    collection.upsert(passages(3), vectors(3))
    bad = {"n": {"$gt": None}}
    for call in (
        lambda: collection.search(vectors(1)[0], filter=bad),
        lambda: collection.search_with_vectors(vectors(1)[0], filter=bad),
        lambda: collection.find(bad),
        lambda: collection.delete(filter=bad),
        lambda: collection.search(vectors(1)[0], filter="n > 1"),
    ):
        with pytest.raises(FilterError):
            call()
    assert collection.count() == 3


def test_close_twice_and_go_on(collection):
    collection.upsert(passages(3), vectors(3))
    collection.close()
    collection.close()
    assert collection.count() == 3
    assert collection.search(vectors(3)[1])[0].passage == passages(3)[1]
    with collection as same:
        assert same is collection
    assert collection.exists()


def test_dropped_behind_our_back(collection, open_collection):
    other = open_collection(collection.name)
    collection.upsert(passages(3), vectors(3))
    assert other.count() == 3
    other.drop()
    assert collection.search(vectors(1)[0]) == []
    assert collection.count() == 0

    collection.upsert(passages(3), vectors(3))
    assert other.count() == 3
    other.drop()
    collection.upsert(passages(2), vectors(2, 16))
    assert collection.dimensions == 16
    assert other.count() == 2


def test_recreated_with_another_dimension_behind_our_back(collection, open_collection):
    collection.upsert(passages(3), vectors(3, 8))
    other = open_collection(collection.name)
    other.drop()
    other.upsert(passages(3), vectors(3, 4))
    assert collection.count() == 3
    with pytest.raises(StoreError):
        collection.search(vectors(1, 8)[0])


def test_another_layout_is_refused_with_the_way_out(collection, uri):
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=True)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=8)
    for name in ("title", "body"):
        schema.add_field(name, DataType.VARCHAR, max_length=100)
    client.create_collection(collection.name, schema=schema)
    for call in (collection.count, lambda: collection.upsert(passages(1), vectors(1))):
        with pytest.raises(CollectionError) as error:
            call()
        for part in ("it has 'title' and 'body' where", "column of texts", "drop this one", collection.name):
            assert part in str(error.value)
    client.drop_collection(collection.name)
    client.close()


@pytest.mark.parametrize("kind", ["IVF_PQ", "HNSW_PQ", "DISKANN", "SCANN", "ivf_rabitq"])
@lite_only
def test_indexes_that_lite_could_not_load_again_are_refused(open_collection, kind):
    c = open_collection(index={"index_type": kind, "params": {}})
    with pytest.raises(UnsupportedError, match=kind.upper()):
        c.upsert(passages(1), vectors(1))
    assert not c.exists()


@pytest.mark.parametrize(
    "index",
    [
        {"index_type": "FLAT"},
        {"index_type": "AUTOINDEX"},
        {"index_type": "HNSW", "params": {"M": 4, "efConstruction": 8}},
        {"index_type": "HNSW_SQ", "params": {"sq_type": "SQ8"}},
        {"index_type": "IVF_FLAT", "params": {"nlist": 2}},
        {"index_type": "IVF_SQ8", "params": {"nlist": 2}},
    ],
    ids=lambda i: i["index_type"],
)
@lite_only
def test_every_allowed_index_survives_a_restart(open_collection, index):
    c = open_collection(index=index)
    c.upsert(passages(300), vectors(300))
    c.flush()
    c.close()
    hits = c.search(vectors(300)[5], 300 if index["index_type"].startswith("HNSW") else 10)
    assert hits[0].passage.id == "p0005"


@pytest.mark.parametrize("step", ["create_index", "load_collection"])
@pytest.mark.parametrize("failure", ["milvus", "grpc", "interrupt"])
def test_a_failure_half_way_leaves_no_collection(collection, monkeypatch, step, failure):
    import grpc
    from pymilvus import MilvusClient, MilvusException

    class Unavailable(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE

        def details(self):
            return "injected"

    error = {
        "milvus": MilvusException(1, "injected"),
        "grpc": Unavailable(),
        "interrupt": KeyboardInterrupt("injected"),
    }

    def fail(*_args, **_options):
        raise error[failure]

    expected = {"milvus": StoreError, "grpc": StoreConnectionError, "interrupt": KeyboardInterrupt}
    with monkeypatch.context() as patch:
        patch.setattr(MilvusClient, step, fail)
        with pytest.raises(expected[failure], match="injected"):
            collection.upsert(passages(1), vectors(1))
    assert not collection.exists()
    collection.upsert(passages(1), vectors(1))
    assert collection.count() == 1


def test_an_interrupted_ingest_says_how_far_it_came(collection, monkeypatch):
    from pymilvus import MilvusClient, MilvusException

    monkeypatch.setattr(records, "BATCH_ROWS", 10)
    for name in ("insert", "upsert"):
        send = getattr(MilvusClient, name)

        def fail_on_the_third(self, collection_name, data, send=send, **options):
            if data[0]["id"] == "p0020":
                raise MilvusException(1, "disk full")
            return send(self, collection_name, data, **options)

        monkeypatch.setattr(MilvusClient, name, fail_on_the_third)
    with pytest.raises(StoreError, match=r"after 20 of 40 passages.*disk full"):
        collection.upsert(passages(40), vectors(40))
    assert collection.find({}) == passages(20)


def test_concurrent_writers_and_readers(collection, open_collection):
    others = [open_collection(collection.name) for _ in range(3)]
    done = threading.Event()

    def write(worker):
        target = [collection, *others][worker % 4]
        for i in range(15):
            start = worker * 1000 + i * 5
            target.upsert(passages(5, start), vectors(5, seed=start + 1))
            if i % 5 == 4:
                target.flush()

    def read():
        reads = 0
        while not done.is_set():
            for hit in collection.search(vectors(1)[0], 5):
                assert hit.passage.text == f"text {hit.passage.metadata['n']}"
            collection.count()
            reads += 1
        return reads

    with ThreadPoolExecutor(9) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for writer in [pool.submit(write, w) for w in range(6)]:
            writer.result()
        done.set()
        assert all(r.result() > 0 for r in readers)
    assert collection.count() == 6 * 15 * 5
    expected = {f"p{w * 1000 + i:04}" for w in range(6) for i in range(75)}
    assert {p.id for p in collection.find({})} == expected


def test_many_threads_create_it_once(open_collection):
    first = open_collection()
    handles = [first] + [open_collection(first.name) for _ in range(5)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: handles[i].upsert(passages(1, i), vectors(1, seed=i)), range(6)))
    assert first.count() == 6


async def test_async_twins_do_the_same(collection):
    ps, vs = passages(10), vectors(10)
    await collection.aupsert(ps, vs)
    assert await collection.acount() == 10
    many = await asyncio.gather(*(collection.asearch(vs[i], 2, filter={"n": {"$lt": 9}}) for i in range(9)))
    assert [hits[0].passage for hits in many] == ps[:9]
    hits, found = await collection.asearch_with_vectors(vs[3], 2)
    assert (hits, found.tolist()) == (collection.search(vs[3], 2), collection.search_with_vectors(vs[3], 2)[1].tolist())
    assert await collection.aget(["p0002"]) == [ps[2]]
    assert await collection.afind({"n": 3}) == [ps[3]]
    assert await collection.adelete(filter={"n": 3}) == 1
    assert await collection.adelete(ids=["p0002"]) == 1


def test_async_twins_work_in_one_event_loop_after_another(collection):
    collection.upsert(passages(3), vectors(3))
    for _ in range(2):
        assert asyncio.run(collection.acount()) == 3


def test_two_collections_in_one_database(open_collection):
    a, b = open_collection(), open_collection()
    a.upsert(passages(3), vectors(3, 4))
    b.upsert(passages(5), vectors(5, 6))
    assert (a.count(), b.count()) == (3, 5)
    a.close()
    assert b.count() == 5
    b.drop()
    assert a.count() == 3


def test_repr_names_the_place(collection):
    assert isinstance(collection, MilvusCollection)
    assert collection.name in repr(collection)
    assert collection.uri in repr(collection)
