"""Collections whose sparse leg holds the sparse vectors of a model, on a file and on a server."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.cache import CachedEmbedder
from qwen3_rag.errors import (
    CollectionError,
    ConfigurationError,
    FilterError,
    InputError,
    ModelError,
    UnsupportedError,
)
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import (
    EmbeddedQuery,
    FusedHit,
    MilvusCollection,
    aembed_passages,
    aembed_query,
    as_sparse_embedder,
    embed_passages,
    embed_query,
    list_collections,
)
from qwen3_rag.milvus.checks import MAX_INDEX, checked_weights
from qwen3_rag.milvus.contract import PROPERTY
from qwen3_rag.milvus.schema import build_schema, sparse_index
from qwen3_rag.remote import RemoteEmbedder
from qwen3_rag.types import Passage, SparseEmbedder, SparseVector
from tests.fakes import SparseWordEmbedder, WordEmbedder
from tests.integration.milvus_support import vectors

WEIGHTS = {
    "a": {1: 0.5, 7: 2.0},
    "b": {1: 1.5},
    "c": {7: 1.0, MAX_INDEX: 3.0},
    "none": {},
}
IDS = list(WEIGHTS)
PASSAGES = [Passage(id_, f"text {id_}", {"n": i}) for i, id_ in enumerate(IDS)]


def ids(hits):
    return [hit.passage.id for hit in hits]


def found(hits):
    return [(hit.passage.id, pytest.approx(hit.score)) for hit in hits]


def as_vector(weights):
    indices = sorted(weights)
    return SparseVector(np.array(indices, np.int64), np.array([weights[i] for i in indices], np.float32))


@pytest.fixture
def filled(open_collection):
    c = open_collection(sparse="model")
    assert c.sparse_leg == "model"
    assert not c.exists()
    c.upsert(PASSAGES, vectors(4), sparse=[as_vector(WEIGHTS["a"]), *[WEIGHTS[id_] for id_ in IDS[1:]]])
    return c


# --- searching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [False, True])
async def test_the_score_is_the_inner_product(filled, flushed):
    if flushed:
        filled.flush()
    assert found(filled.search_sparse({1: 1.0, 7: 2.0})) == [("a", 4.5), ("c", 2.0), ("b", 1.5)]
    assert found(filled.search_sparse(as_vector({MAX_INDEX: 2.0}))) == [("c", 6.0)]
    assert ids(filled.search_sparse({1: 1.0, 7: 2.0}, 1)) == ["a"]
    assert filled.search_sparse({1: 1.0}, filter={"n": 1}) == [
        hit for hit in filled.search_sparse({1: 1.0}) if hit.passage.id == "b"
    ]
    assert await filled.asearch_sparse({1: 1.0}) == filled.search_sparse({1: 1.0})
    assert filled.get(["none", "a"]) == [PASSAGES[3], PASSAGES[0]]


@pytest.mark.parametrize("query", [{}, {5: 1.0}, {7: 0.0}, {7: 1e-60}])
def test_what_shares_no_entry_is_not_found(filled, query):
    assert filled.search_sparse(query) == []
    assert ids(filled.hybrid_search(vectors(4)[0], query, 2)) == ids(filled.search(vectors(4)[0], 2))


async def test_both_legs_are_joined_with_their_ranks_and_scores(filled):
    query, sparse = vectors(4)[3], {1: 1.0, 7: 2.0}
    dense = ids(filled.search(query, 4))
    fused = filled.hybrid_search(query, sparse, 4)
    assert set(ids(fused)) == set(IDS)
    for hit in fused:
        assert type(hit) is FusedHit
        assert hit.dense.rank == dense.index(hit.passage.id) + 1
        rank = {"a": 1, "c": 2, "b": 3}.get(hit.passage.id)
        assert (hit.sparse and hit.sparse.rank) == rank
    assert ids(await filled.ahybrid_search(query, sparse, 4)) == ids(fused)
    # An inner product has no upper end, so each leg is stretched to 0 … 1 before it is weighed.
    assert found(filled.hybrid_search(query, sparse, 3, weights=(0, 1))) == [("a", 1.0), ("c", 0.5 / 3), ("none", 0.0)]
    assert ids(filled.hybrid_search(query, {i: 1e6 * w for i, w in sparse.items()}, 1, weights=(0.9, 0.1))) == ["none"]
    assert all(hit.passage.metadata["n"] > 0 for hit in filled.hybrid_search(query, sparse, filter={"n": {"$gt": 0}}))


def test_it_is_there_after_reopening_and_what_was_replaced_is_not(filled):
    filled.flush()
    filled.close()
    assert filled.sparse_leg == "model"
    assert found(filled.search_sparse({7: 1.0})) == [("a", 2.0), ("c", 1.0)]
    filled.upsert([PASSAGES[0]], vectors(1), sparse=[{9: 1.0}])
    filled.delete(ids=["c"])
    assert filled.search_sparse({7: 1.0}) == []
    assert ids(filled.search_sparse({9: 1.0})) == ["a"]


def test_many_passages_go_in_several_requests(open_collection):
    c = open_collection(sparse="model")
    many = [Passage(f"p{i:04}", "t") for i in range(1200)]
    c.upsert(many, np.eye(1200, 2) + 1, sparse=[{i: 1.0} for i in range(1200)])
    assert c.count() == 1200
    assert ids(c.search_sparse({0: 1.0, 1199: 2.0})) == ["p1199", "p0000"]


# --- which leg there is ----------------------------------------------------------------------------------------------


def test_every_handle_sees_which_leg_there_is(filled, open_collection, uri):
    again = open_collection(filled.name)
    assert (again.sparse, again.sparse_leg) == ("auto", "model")
    assert ids(again.search_sparse({1: 1.0})) == ["b", "a"]
    for sparse in ("bm25", None):
        with pytest.raises(CollectionError, match=f"it has the sparse leg 'model', asked was {sparse!r}.*another"):
            open_collection(filled.name, sparse=sparse).count()
    words = open_collection()
    words.upsert([Passage("w", "words")], [[1.0, 0.0]])
    with pytest.raises(CollectionError, match="it has the sparse leg 'bm25', asked was 'model'"):
        open_collection(words.name, sparse="model").count()
    listed = {info.name: info for info in list_collections(uri)}
    assert (listed[filled.name].sparse, listed[words.name].sparse) == ("model", "bm25")


def test_each_leg_is_asked_in_its_own_way(filled, open_collection):
    for call in (lambda: filled.search_text("text"), lambda: filled.hybrid_search(vectors(1)[0], "text")):
        with pytest.raises(CollectionError, match=r"sparse vectors of a model and no full text.*embed_query"):
            call()
    words, plain = open_collection(), open_collection(sparse=None)
    for c in (words, plain):
        c.upsert([Passage("w", "words")], [[1.0, 0.0]])
    for call in (lambda c: c.search_sparse({1: 1.0}), lambda c: c.hybrid_search([1.0, 0.0], {1: 1.0})):
        with pytest.raises(CollectionError, match=r"no sparse vectors of a model.*by words, with the text"):
            call(words)
        with pytest.raises(CollectionError, match=r"no sparse vectors of a model.*mode='dense'"):
            call(plain)


def test_sparse_vectors_are_needed_where_they_belong_and_refused_elsewhere(filled, open_collection):
    with pytest.raises(CollectionError, match=r"each passage needs one: pass sparse=….*embed_passages"):
        filled.upsert(PASSAGES, vectors(4))
    new = open_collection(sparse="model")
    with pytest.raises(CollectionError, match="each passage needs one"):
        new.upsert(PASSAGES, vectors(4))
    for c in (open_collection(), open_collection(sparse=None)):
        with pytest.raises(CollectionError, match=r"no place for sparse vectors.*sparse='model'"):
            c.upsert(PASSAGES[:1], vectors(1), sparse=[{1: 1.0}])
        assert not c.exists()
        c.upsert(PASSAGES[:1], vectors(1))
        with pytest.raises(CollectionError, match="no place for sparse vectors"):
            c.upsert(PASSAGES[:1], vectors(1), sparse=[{1: 1.0}])
    assert not new.exists()
    assert filled.count() == 4


def test_another_handle_replaced_the_collection_by_one_with_the_other_leg(open_collection):
    c = open_collection()
    c.upsert([Passage("w", "words")], [[1.0, 0.0]])
    other = open_collection(c.name)
    other.drop()
    new = open_collection(c.name, sparse="model")
    new.upsert([Passage("s", "sparse")], [[1.0, 0.0]], sparse=[{1: 1.0}])
    assert ids(c.search_sparse({1: 1.0})) == ["s"]
    new.drop()
    other.upsert([Passage("w", "words")], [[1.0, 0.0]])
    c.upsert([Passage("v", "more words")], [[1.0, 0.0]])
    assert set(ids(c.search_text("words"))) == {"w", "v"}


def test_an_option_that_is_none_is_refused():
    for sparse in ("splade", True, ""):
        with pytest.raises(ConfigurationError, match=r"sparse is .*expected one of auto, bm25, model"):
            MilvusCollection("x.db", sparse=sparse)


@pytest.mark.parametrize("uri", ["server"], indirect=True)
def test_servers_that_are_too_old_say_so(open_collection, monkeypatch):
    from pymilvus import MilvusClient

    monkeypatch.setattr(MilvusClient, "get_server_version", lambda *_args, **_options: "v2.3.5")
    with pytest.raises(
        UnsupportedError, match=r"Milvus 2\.3, which has no sparse vectors: use Milvus 2\.4.*sparse=None"
    ):
        open_collection(sparse="model").upsert(PASSAGES, vectors(4), sparse=[{1: 1.0}] * 4)
    monkeypatch.setattr(MilvusClient, "get_server_version", lambda *_args, **_options: "v2.4.1")
    c = open_collection(sparse="model")
    c.upsert(PASSAGES, vectors(4), sparse=[{1: 1.0}] * 4)
    assert len(c.search_sparse({1: 1.0})) == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"metric": "COSINE", "field": "FLOAT_VECTOR"}, "'sparse_embedding' is FLOAT_VECTOR, expected SPARSE_FLOAT"),
        ({"metric": None}, "sparse vectors are compared by no index at all, expected IP"),
        ({"contract": "bm25"}, "it has the sparse leg 'model', and its contract says 'bm25'"),
    ],
)
def test_another_kind_of_sparse_column_is_refused(collection, uri, change, problem):
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(uri)
    schema = build_schema(2, sparse=None if "field" in change else "model")
    if "field" in change:
        schema.add_field("sparse_embedding", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    if "field" in change:
        index.add_index("sparse_embedding", index_type="FLAT", metric_type="COSINE")
    elif "contract" in change:
        index.add_index("sparse_embedding", **sparse_index("model"))
    contract = {"model": "m", "revision": None, "dimensions": 2, "instruction": "i", "normalized": True, "version": "1"}
    properties = {PROPERTY: json.dumps({**contract, **({"sparse": "bm25"} if "contract" in change else {})})}
    client.create_collection(collection.name, schema=schema, properties=properties)
    client.create_index(collection.name, index, sync=False)
    with pytest.raises(CollectionError, match=problem):
        collection.count()
    client.drop_collection(collection.name)
    client.close()


def test_contracts_that_are_older_than_the_question_are_read(collection, uri):
    from pymilvus import MilvusClient

    collection.upsert([Passage("a", "data")], [[1.0, 0.0]], embedder=WordEmbedder(2))
    assert collection.contract.sparse == "bm25"
    client = MilvusClient(uri)
    old = json.loads(client.describe_collection(collection.name)["properties"][PROPERTY])
    del old["sparse"]
    client.drop_collection(collection.name)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    index.add_index("sparse_embedding", **sparse_index("bm25"))
    schema = build_schema(2, sparse="bm25")
    client.create_collection(collection.name, schema=schema, properties={PROPERTY: json.dumps(old)})
    client.create_index(collection.name, index, sync=False)
    client.close()
    collection.close()
    assert collection.contract.sparse is None
    assert collection.sparse_leg == "bm25"
    collection.verify(WordEmbedder(2))


# --- wrong inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sparse", "problem"),
    [
        ([{1: 1.0}], "sparse has 1 vectors for 4 passages"),
        ({1: 1.0}, "sparse is dict, expected a list"),
        ("abcd", "sparse is str, expected a list"),
        ([{}, {}, {}, None], "sparse vector 3 is None, expected a SparseVector or a mapping"),
        ([{}, [1.0], {}, {}], r"sparse vector 1 is \[1.0\]"),
        ([{}, {}, {1.5: 1.0}, {}], "sparse vector 2 is .*'float' object cannot be interpreted"),
        ([{}, {"1": 1.0}, {}, {}], "sparse vector 1 is"),
        ([{-1: 1.0}, {}, {}, {}], "sparse vector 0 has the index -1, Milvus takes 0 to 4294967293"),
        ([{2**32 - 2: 1.0}, {}, {}, {}], "has the index 4294967294"),
        ([{1: -0.5}, {}, {}, {}], "has the weight -0.5 at 1, Milvus takes finite ones from 0 upwards"),
        ([{1: float("nan")}, {}, {}, {}], "has the weight nan"),
        ([{1: float("inf")}, {}, {}, {}], "has the weight inf"),
        ([{1: 1e39}, {}, {}, {}], "has the weight 1e\\+39"),
        ([SparseVector(np.array([1, 1]), np.ones(2, np.float32)), {}, {}, {}], "sparse vector 0 has an entry twice"),
        ([SparseVector(np.array([1, 2]), np.ones(1, np.float32)), {}, {}, {}], "sparse vector 0 is SparseVector"),
    ],
)
@pytest.mark.parametrize("uri", ["file"], indirect=True)
def test_what_milvus_does_not_take_is_refused_before_anything_is_written(open_collection, sparse, problem):
    c = open_collection(sparse="model")
    with pytest.raises(InputError, match=problem):
        c.upsert(PASSAGES, vectors(4), sparse=sparse)
    assert not c.exists()


@pytest.mark.parametrize("uri", ["file"], indirect=True)
def test_wrong_questions(filled):
    for call, error in (
        (lambda: filled.search_sparse({-1: 1.0}), InputError),
        (lambda: filled.search_sparse({1: -1.0}), InputError),
        (lambda: filled.search_sparse([1.0]), InputError),
        (lambda: filled.search_sparse({1: 1.0}, 0), InputError),
        (lambda: filled.search_sparse({1: 1.0}, filter="n > 1"), FilterError),
        (lambda: filled.hybrid_search(vectors(1)[0], None), InputError),
        (lambda: filled.hybrid_search(vectors(1)[0], {1: 1.0}, weights=(0, 0)), ConfigurationError),
        (lambda: filled.hybrid_search(vectors(1, 16)[0], {1: 1.0}), CollectionError),
    ):
        with pytest.raises(error):
            call()


@given(st.dictionaries(st.integers(0, MAX_INDEX), st.floats(0, 2.0**99, width=32), max_size=9))
def test_weights_are_kept_but_for_zeros(weights):
    assert checked_weights(weights) == {index: weight for index, weight in weights.items() if weight > 0}
    assert checked_weights(as_vector(weights)) == checked_weights(weights)


# --- embedding for a collection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["file"], indirect=True)
async def test_a_model_is_asked_for_what_the_collection_holds(open_collection):
    texts = ["milvus stores data", "bread"]
    legs = {"model": "dense&sparse document", "bm25": "document", None: "document"}
    for leg, asked in legs.items():
        model, c = SparseWordEmbedder(), open_collection(sparse=leg)
        one, two = embed_passages(c, model, texts), await aembed_passages(c, model, texts, dimensions=32)
        assert [call for call, *_ in model.calls] == [asked] * 2
        assert (one.vectors.shape, two.vectors.shape) == ((2, 64), (2, 32))
        assert (one.sparse is None) == (leg != "model")
        assert one.tokens == len("".join(texts))
        passages = [Passage(str(i), text) for i, text in enumerate(texts)]
        c.upsert(passages, one.vectors, sparse=one.sparse, embedder=model)
        assert c.contract.sparse == (leg or "none")
        question = embed_query(c, model, "bread", instruction="find")
        assert model.calls[-1] == ("dense&sparse query" if leg == "model" else "query", ("bread",), "find")
        if leg is not None:
            assert ids(c.hybrid_search(question.dense, question.sparse_query, 1)) == ["1"]
        alone = await aembed_query(c, model, "bread", dense=False)
        assert alone.dense is None
        assert model.calls[-1][0] == ("sparse query" if leg == "model" else "query")
        dense = await aembed_query(c, model, "bread", sparse=False)
        assert (dense.sparse, model.calls[-1][0]) == (None, "query")
        assert embed_query(c, model, "bread", dense=False, sparse=False) == EmbeddedQuery("bread")


@pytest.mark.parametrize("uri", ["file"], indirect=True)
async def test_a_model_without_sparse_vectors_is_refused_before_it_works(filled):
    options = {"api_key": "k", "base_url": "http://127.0.0.1:1"}
    v4 = RemoteEmbedder("dashscope:text-embedding-v4", **options)
    assert as_sparse_embedder(v4) is v4
    assert isinstance(SparseWordEmbedder(), SparseEmbedder)
    without = [
        WordEmbedder(),
        CachedEmbedder(v4, _Storage()),
        RemoteEmbedder("dashscope:text-embedding-v2", **options),
        RemoteEmbedder("dashscope:text-embedding-v4", api="compatible", **options),
        RemoteEmbedder("vllm:Qwen/Qwen3-Embedding-0.6B", base_url="http://127.0.0.1:1"),
    ]
    for model in without:
        with pytest.raises(ConfigurationError, match=rf"{type(model).__name__}.* makes none: use.*sparse='bm25'"):
            embed_passages(filled, model, ["a"])
        with pytest.raises(ConfigurationError, match="makes none"):
            await aembed_query(filled, model, "a")
    assert without[0].calls == []


class _Storage:
    def mget(self, keys):
        return [None] * len(keys)

    def mset(self, pairs):
        pass


def test_an_embedder_that_leaves_the_dense_vectors_out_is_said(open_collection):
    class Half(SparseWordEmbedder):
        def hybrid_documents(self, texts, **options):
            return super().hybrid_documents(texts, output="sparse")

    with pytest.raises(ModelError, match="sparse vectors alone"):
        embed_passages(open_collection(sparse="model"), Half(), ["a"])


def test_an_ingest_brings_the_models_sparse_vectors(open_collection, tmp_path):
    (tmp_path / "a.md").write_text("# Apples\n\nred fruit\n\n# Bread\n\nneeds yeast\n", encoding="utf-8")
    model, c = SparseWordEmbedder(), open_collection(sparse="model")
    assert ingest(tmp_path / "a.md", model, c).added == 2
    assert [call for call, *_ in model.calls] == ["dense&sparse document"]
    (hit,) = c.search_sparse(embed_query(c, model, "yeast", dense=False).sparse_query)
    assert hit.passage.metadata["headings"] == ["Bread"]
    assert ingest(tmp_path / "a.md", model, c).unchanged == 2
    with pytest.raises(ConfigurationError, match="makes none"):
        ingest(tmp_path / "a.md", WordEmbedder(), open_collection(sparse="model"))
