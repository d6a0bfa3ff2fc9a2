"""Searching by words and by both, on a file and on a server."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from qwen3_rag.chunking import split_markdown
from qwen3_rag.demo import CORPUS
from qwen3_rag.errors import (
    CollectionError,
    ConfigurationError,
    FilterError,
    InputError,
    StoreError,
    TruncationWarning,
    UnsupportedError,
)
from qwen3_rag.evaluation import evaluate
from qwen3_rag.milvus import FusedHit, Leg, MilvusCollection, Not, Or
from qwen3_rag.milvus.schema import build_schema
from qwen3_rag.types import Passage, Truncation
from tests.integration.milvus_support import vectors

TEXTS = {
    "en": "Milvus stores data segments in object storage such as MinIO",
    "code": "MilvusException code=1100 means an illegal argument",
    "zh": "Milvus 把数据段保存在对象存储中",
    "ja": "データはオブジェクトストレージに保存されます",
    "ko": "데이터는 객체 저장소에 저장됩니다",
    "bread": "Bread dough needs yeast and time",
}
IDS = list(TEXTS)


def ids(hits):
    return [hit.passage.id for hit in hits]


@pytest.fixture
def filled(collection):
    passages = [Passage(id_, text, {"lang": id_, "n": i}) for i, (id_, text) in enumerate(TEXTS.items())]
    assert collection.upsert(passages, vectors(len(passages))) == ()
    return collection


# --- by words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("Where are segments stored?", "en"),
        ("SEGMENTS", "en"),
        ("error 1100", "code"),
        ("code", "code"),
        ("数据保存在哪里？", "zh"),
        ("对象存储", "zh"),
        ("ストレージ", "ja"),
        ("ｽﾄﾚｰｼﾞ", "ja"),
        ("データはどこに保存されますか", "ja"),
        ("데이터 저장", "ko"),
        ("yeast", "bread"),
    ],
)
@pytest.mark.parametrize("flushed", [False, True])
def test_words_of_any_language_find_their_passage(filled, question, best, flushed):
    if flushed:
        filled.flush()
    hits = filled.search_text(question, 3)
    assert ids(hits)[0] == best
    assert hits[0].passage.text == TEXTS[best]
    assert hits[0].passage.metadata == {"lang": best, "n": IDS.index(best)}
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


@pytest.mark.parametrize("question", ["", "?!", "。", "unheard", "水"])
def test_words_that_are_nowhere_find_nothing(filled, question):
    assert filled.search_text(question) == []


def test_only_k_and_only_what_shares_a_word(filled):
    assert set(ids(filled.search_text("Milvus and", 10))) == {"en", "zh", "bread"}
    assert len(filled.search_text("Milvus and", 2)) == 2


def test_what_was_replaced_or_deleted_is_not_found(filled):
    filled.upsert([Passage("bread", "Noodles", {})], vectors(1))
    assert filled.search_text("yeast") == []
    assert ids(filled.search_text("noodles")) == ["bread"]
    filled.flush()
    filled.delete(ids=["bread"])
    assert filled.search_text("noodles") == []


def test_it_is_there_after_reopening(filled):
    filled.flush()
    filled.close()
    assert filled.sparse_leg == "bm25"
    assert ids(filled.search_text("数据段", 1)) == ["zh"]
    filled.upsert([Passage("new", "全文检索")], vectors(1))
    assert ids(filled.search_text("全文", 1)) == ["new"]


# --- both ------------------------------------------------------------------------------------------------------------


def test_both_legs_are_joined_with_their_ranks_and_scores(filled):
    query, question = vectors(6)[IDS.index("bread")], "对象存储 data"
    dense, sparse = filled.search(query, 6), filled.search_text(question, 6)
    fused = filled.hybrid_search(query, question, 6)
    assert {h.passage.id for h in fused} == {h.passage.id for h in (*dense, *sparse)}
    for hit in fused:
        assert type(hit) is FusedHit
        assert hit.dense.rank == ids(dense).index(hit.passage.id) + 1
        assert hit.dense.score == pytest.approx(dense[hit.dense.rank - 1].score, abs=1e-5)
        position = ids(sparse).index(hit.passage.id) + 1 if hit.passage.id in ids(sparse) else None
        assert (hit.sparse and hit.sparse.rank) == position
    assert [h.score for h in fused] == sorted((h.score for h in fused), reverse=True)
    assert fused[0].passage.id in ("zh", "en")
    assert filled.hybrid_search(query, question, 2) == fused[:2]


def test_weights_and_a_question_without_words(filled):
    query, question = vectors(6)[IDS.index("bread")], "MilvusException"
    assert ids(filled.hybrid_search(query, question, 1, weights=(1, 0))) == ["bread"]
    assert ids(filled.hybrid_search(query, question, 1, weights=(0, 1))) == ["code"]
    assert ids(filled.hybrid_search(query, "?", 3)) == ids(filled.search(query, 3))
    assert all(hit.sparse is None for hit in filled.hybrid_search(query, "?", 3))


def test_each_leg_fetches_more_than_is_asked_for(collection):
    """With as many as `k` alone, a passage that is second in both legs could never win."""
    n = 30
    passages = [Passage(f"p{i}", "word " * (1 + (i == 7)) if i != 3 else "word " * 9) for i in range(n)]
    collection.upsert(passages, vectors(n))
    query = vectors(n)[7]
    assert ids(collection.hybrid_search(query, "word", 1)) == ["p7"]
    narrow = collection.hybrid_search(query, "word", 1, fetch_k=1)[0]
    assert (narrow.passage.id, narrow.sparse) == ("p7", None)
    assert collection.hybrid_search(query, "word", 1, fetch_k=n)[0].sparse == Leg(2, pytest.approx(1, abs=1))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"lang": "zh"}, {"zh"}),
        ({"n": {"$lt": 2}}, {"en", "code"}),
        (Or(), set()),
        (Not(Or()), set(IDS)),
        ({}, set(IDS)),
    ],
)
def test_filters_act_in_every_leg(filled, condition, expected):
    question = " ".join(TEXTS.values())
    query = vectors(6)[0]
    assert set(ids(filled.search_text(question, 10, filter=condition))) == expected
    fused = filled.hybrid_search(query, question, 10, filter=condition)
    assert set(ids(fused)) == expected
    assert all(hit.dense and hit.sparse for hit in fused)


async def test_async_twins_do_the_same(filled):
    query = vectors(6)[2]
    assert await filled.asearch_text("数据", 2) == filled.search_text("数据", 2)
    options = {"weights": (0.3, 0.7), "fetch_k": 9, "filter": {"n": {"$lt": 5}}}
    assert await filled.ahybrid_search(query, "数据", 2, **options) == filled.hybrid_search(query, "数据", 2, **options)


# --- arguments -------------------------------------------------------------------------------------------------------


def test_what_can_not_work_is_refused(filled):
    query = vectors(6)[0]
    for call, error in [
        (lambda: filled.search_text("data", 0), InputError),
        (lambda: filled.search_text(None), InputError),
        (lambda: filled.search_text("data", filter={"n": {"$gt": None}}), FilterError),
        (lambda: filled.hybrid_search(query, 5), InputError),
        (lambda: filled.hybrid_search([0.0] * 8, "data"), InputError),
        (lambda: filled.hybrid_search(query, "data", fetch_k=0), InputError),
        (lambda: filled.hybrid_search(query, "data", weights=(0, 0)), ConfigurationError),
        (lambda: filled.hybrid_search(query, "data", filter="n > 1"), FilterError),
        (lambda: filled.hybrid_search(vectors(1, 16)[0], "data"), CollectionError),
    ]:
        with pytest.raises(error):
            call()


def test_nothing_is_found_where_nothing_is(collection):
    assert collection.sparse_leg == "bm25"
    assert not collection.exists()
    assert collection.search_text("data") == []
    assert collection.hybrid_search([1.0, 0.0], "data") == []


# --- collections with and without ------------------------------------------------------------------------------------


def test_without_full_text_all_else_works_and_words_are_an_error(open_collection):
    c = open_collection(sparse=None)
    assert c.sparse_leg is None
    c.upsert([Passage("a", "data")], [[1.0, 0.0]])
    for sparse in ("bm25", "model"):
        with pytest.raises(CollectionError, match=f"it has the sparse leg None, asked was '{sparse}'"):
            open_collection(c.name, sparse=sparse).count()
    for handle in (c, open_collection(c.name)):
        assert handle.sparse_leg is None
        assert ids(handle.search([1.0, 0.0])) == ["a"]
        for call in (lambda h=handle: h.search_text("data"), lambda h=handle: h.hybrid_search([1.0, 0.0], "data")):
            with pytest.raises(CollectionError, match=r"no full text.*mode='dense'.*new collection"):
                call()
        handle.upsert([Passage("a", "more data")], [[1.0, 0.0]])


def test_recreated_without_full_text_behind_our_back(open_collection):
    c = open_collection()
    c.upsert([Passage("a", "data")], [[1.0, 0.0]])
    other = open_collection(c.name, sparse=None)
    other.drop()
    other.upsert([Passage("b", "data")], [[1.0, 0.0]])
    with pytest.raises(StoreError):
        c.search_text("data")
    with pytest.raises(CollectionError, match="no full text"):
        c.search_text("data")
    c.upsert([Passage("c", "data", {"k": 1})], [[1.0, 0.0]])
    assert c.get(["c"]) == [Passage("c", "data", {"k": 1})]


only_server = pytest.mark.parametrize("uri", ["server"], indirect=True)


@only_server
def test_old_servers_get_collections_without_full_text(open_collection, monkeypatch):
    from pymilvus import MilvusClient

    monkeypatch.setattr(MilvusClient, "get_server_version", lambda *_args, **_options: "v2.4.17-gpu")
    with pytest.raises(UnsupportedError, match=r"Milvus 2\.4, which has no full text: use Milvus 2\.5.*sparse=None"):
        open_collection(sparse="bm25").upsert([Passage("a", "data")], [[1.0, 0.0]])
    c = open_collection()
    c.upsert([Passage("a", "data")], [[1.0, 0.0]])
    assert c.sparse_leg is None
    assert ids(c.search([1.0, 0.0])) == ["a"]


@pytest.mark.parametrize(
    "version", ["v2.5.4", "3.0.0-dev", "Zilliz Cloud Vector Database(Compatible with Milvus 2.6)", "?"]
)
@only_server
def test_servers_are_asked_for_both_legs_at_once(open_collection, monkeypatch, version):
    from pymilvus import MilvusClient

    monkeypatch.setattr(MilvusClient, "get_server_version", lambda *_args, **_options: version)
    c = open_collection()
    c.upsert([Passage("a", "data"), Passage("b", "bread")], [[1.0, 0.0], [0.0, 1.0]])
    assert ids(c.hybrid_search([0.0, 1.0], "bread data bread")) == ["b", "a"]
    with pytest.raises(CollectionError, match="2 dimensions, got 3"):
        c.hybrid_search([0.0, 1.0, 0.0], "bread")


def test_a_collection_whose_full_text_has_no_index_is_half_built(collection, uri):
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    client.create_collection(collection.name, schema=build_schema(2, sparse="bm25"))
    client.create_index(collection.name, index, sync=False)
    with pytest.raises(
        CollectionError, match=r"full text is compared by no index at all, expected BM25.*drop this one"
    ):
        collection.count()
    client.drop_collection(collection.name)
    client.close()


def test_full_text_of_another_tool_is_searched_as_it_is(collection, uri):
    """As LlamaIndex's own store makes it: BM25 straight over `text`."""
    from pymilvus import DataType, Function, FunctionType, MilvusClient

    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    for name in ("id", "doc_id", "text"):
        analyzer = {"enable_analyzer": True} if name == "text" else {}
        schema.add_field(name, DataType.VARCHAR, max_length=65_535, is_primary=name == "id", **analyzer)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("sparse_embedding", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("their_bm25", FunctionType.BM25, ["text"], ["sparse_embedding"]))
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    index.add_index("sparse_embedding", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params={})
    client.create_collection(collection.name, schema=schema)
    client.create_index(collection.name, index, sync=False)
    client.load_collection(collection.name)
    theirs = {"id": "theirs", "doc_id": "None", "text": "their data", "embedding": [1.0, 0.0]}
    client.insert(collection.name, [theirs])
    client.close()
    collection.upsert([Passage("ours", "our data", {"text_bm25": "a key"})], [[0.0, 1.0]])
    assert set(ids(collection.search_text("data"))) == {"theirs", "ours"}
    assert ids(collection.hybrid_search([0.0, 1.0], "their")) == ["theirs", "ours"]
    assert collection.get(["ours"]) == [Passage("ours", "our data", {"text_bm25": "a key"})]


# --- long texts ------------------------------------------------------------------------------------------------------


def test_a_text_with_more_words_than_fit_is_stored_whole_and_reported(collection):
    long = "开头的词" + "中文" * 10_000 + "结尾"
    passages = [Passage("short", "短文"), Passage("long", long)]
    with pytest.warns(TruncationWarning, match=r"1 of 2 passages.*'long' lost \d+ of 20005 words") as caught:
        (cut,) = collection.upsert(passages, vectors(2))
    assert [w.filename for w in caught] == [__file__]
    assert (cut.index, cut.part, cut.tokens) == (1, "full text", 20_005)
    assert 9_000 < cut.kept < 10_000
    assert collection.get(["long"])[0].text == long
    assert ids(collection.search_text("开头")) == ["long"]
    assert collection.search_text("结尾") == []


async def test_nothing_is_reported_where_everything_fits(collection):
    fits = "中文" * 4_600
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collection.upsert([Passage("a", fits)], vectors(1)) == ()
        assert await collection.aupsert([Passage("b", "x " * 32_000)], vectors(1)) == ()
    with pytest.warns(TruncationWarning):
        assert await collection.aupsert([Passage("c", fits * 2)], vectors(1)) == (
            Truncation(0, "full text", 18_399, 9_362),
        )


# --- what it is for --------------------------------------------------------------------------------------------------

CHINESE = {
    "向量数据库和普通数据库有什么区别？": "向量数据库是什么",
    "怎样不用服务器在本地运行 Milvus Lite？": "用 Milvus Lite 在本地文件中运行",
    "集合的维度以后可以更改吗？": "集合与维度",
    "文档修改之后怎么更新段落？": "更新与删除",
    "几万条数据用什么索引最简单？": "索引怎么选",
    "写完马上就要查到，应该选哪个级别？": "一致性级别",
    "查找错误代码和产品型号用什么检索？": "全文检索与混合检索",
    "知识更新时要不要重新训练模型？": "为什么需要检索",
    "怎样把长文档切分成段落？": "文档切分",
    "重排为什么只处理少量候选？": "先召回，再重排",
    "查询前面要加什么指令？": "Qwen3-Embedding 的用法",
    "可以只保留向量的前 256 维吗？": "缩短向量",
    "低于阈值的段落怎么处理？": "Qwen3-Reranker 的分数",
    "平均倒数排名奖励什么？": "怎样评估检索效果",
}
ENGLISH = {
    "When does a write become visible with Session consistency?": "Consistency: when a write becomes visible",
    "What does BM25 reward?": "Full-text search with BM25",
    "How does HNSW walk through its graph?": "HNSW: walk through a graph",
    "Why cut vectors shorter?": "Shorter vectors by cutting",
    "Does a document get an instruction?": "Questions get an instruction, documents do not",
    "How many candidates should I fetch?": "How many candidates to fetch",
    "Can thinking mode be switched off?": "Thinking mode in the chat models",
    "What is a primary key?": "Choosing a primary key",
}


@pytest.mark.parametrize(("questions", "least"), [(CHINESE, 0.9), (ENGLISH, 0.85)], ids=["zh", "en"])
def test_questions_find_their_sections_by_words(collection, questions, least):
    sections = [p for path in sorted(CORPUS.glob("*.md")) for p in split_markdown(path.read_text("utf-8"), path.name)]
    headings = {p.id: p.metadata["headings"][-1] for p in sections}
    assert set(questions.values()) <= set(headings.values())
    collection.upsert(sections, np.eye(len(sections)))
    collection.flush()
    found = [[headings[id_] for id_ in ids(collection.search_text(question, 10))] for question in questions]
    report = evaluate(found, [[heading] for heading in questions.values()], (1, 3))
    print(f"\nBM25 {report}")
    assert report.recall[3] >= least
    assert all(found), "no question finds nothing"


def test_words_as_milvus_cuts_them_find_little_in_chinese(tmp_path):
    """What the pairs are for: the `standard` analyzer takes a Chinese sentence for one word."""
    sections = [
        p for path in sorted(CORPUS.glob("*-zh.md")) for p in split_markdown(path.read_text("utf-8"), path.name)
    ]
    with MilvusCollection(tmp_path / "m.db") as c:
        c.upsert(sections, np.eye(len(sections)))
        from pymilvus import MilvusClient

        client = MilvusClient(c.uri)
        params = {"metric_type": "BM25", "params": {}}
        raw = [
            client.search(c.name, data=[q], anns_field="sparse_embedding", limit=3, search_params=params)[0]
            for q in CHINESE
        ]
        client.close()
        assert sum(1 for found in raw if not found) >= len(CHINESE) / 2
        assert all(c.search_text(q, 3) for q in CHINESE)
