"""The query modes of `MilvusStore`, `mode` of `Qwen3Retriever`, and the contract of the collection."""

from __future__ import annotations

import pytest
from llama_index.core import StorageContext, SummaryIndex, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from qwen3_rag.errors import CollectionError, ConfigurationError, FilterError, InputError
from qwen3_rag.llama_index import MilvusStore, Qwen3Embedding, Qwen3Retriever
from qwen3_rag.milvus import MilvusCollection
from tests.fakes import OverlapReranker, WordEmbedder

TEXTS = {
    "store": "milvus stores data in segments",
    "code": "MilvusException code=1100 illegal argument",
    "zh": "向量数据库保存数据段",
    "bread": "bread needs yeast",
}
WORDS = [VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH]
HYBRID = VectorStoreQueryMode.HYBRID


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def model(embedder):
    return Qwen3Embedding(embedder)


@pytest.fixture
def filled(store, model):
    nodes = [TextNode(id_=id_, text=text, metadata={"n": i}) for i, (id_, text) in enumerate(TEXTS.items())]
    context = StorageContext.from_defaults(vector_store=store.with_model(model))
    VectorStoreIndex(nodes, storage_context=context, embed_model=model)
    return store


def ask(text, mode, k=4, vector_of=None, **fields):
    vector = WordEmbedder().embed_queries([vector_of or text]).vectors[0].tolist()
    embedding = None if mode in WORDS else vector
    return VectorStoreQuery(query_embedding=embedding, query_str=text, similarity_top_k=k, mode=mode, **fields)


def where(key, operator, value):
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*WORDS, HYBRID])
async def test_words_are_found_in_every_language(filled, mode):
    for question, best in {"error 1100": "code", "数据库": "zh", "yeast": "bread"}.items():
        for result in (filled.query(ask(question, mode)), await filled.aquery(ask(question, mode))):
            assert result.ids[0] == best
            assert result.nodes[0].text == TEXTS[best]
            assert result.nodes[0].metadata == {"n": list(TEXTS).index(best)}
            assert result.similarities == sorted(result.similarities, reverse=True)


def test_alpha_weighs_the_legs(filled):
    def best(**fields):
        return filled.query(ask("1100", HYBRID, 1, vector_of=TEXTS["bread"], **fields)).ids

    assert best(alpha=1.0) == ["bread"]
    assert best(alpha=0.0) == ["code"]
    assert best() in (["bread"], ["code"])
    assert filled.query(ask("1100", HYBRID, vector_of=TEXTS["bread"])).similarities[0] <= 1


def test_how_many_each_leg_finds_and_how_many_come_back(filled):
    question = "milvus stores data in segments code yeast 数据"
    assert len(filled.query(ask(question, HYBRID, 2)).ids) == 2
    assert len(filled.query(ask(question, HYBRID, 4, hybrid_top_k=1)).ids) == 1
    assert len(filled.query(ask(question, HYBRID, 1, hybrid_top_k=3)).ids) == 3
    assert len(filled.query(ask(question, WORDS[0], 1, sparse_top_k=3)).ids) == 3
    assert len(filled.query(ask(question, HYBRID, 1, sparse_top_k=4)).ids) == 1


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.DEFAULT, *WORDS, HYBRID])
def test_filters_act_in_every_mode(filled, mode):
    question = " ".join(TEXTS.values())
    below = where("n", FilterOperator.LT, 2)
    assert set(filled.query(ask(question, mode, filters=below)).ids) == {"store", "code"}
    assert filled.query(ask(question, mode, node_ids=["zh"])).ids == ["zh"]
    assert filled.query(ask(question, mode, doc_ids=[])).ids == []
    with pytest.raises(FilterError):
        filled.query(ask(question, mode, filters=where("n", FilterOperator.IS_EMPTY, None)))


def test_what_would_be_ignored_is_refused(filled):
    for query, error in [
        (ask("q", WORDS[0], alpha=0.5), ConfigurationError),
        (ask("q", VectorStoreQueryMode.DEFAULT, alpha=0.5), ConfigurationError),
        (ask("q", VectorStoreQueryMode.DEFAULT, hybrid_top_k=3), ConfigurationError),
        (ask("q", VectorStoreQueryMode.MMR, sparse_top_k=3), ConfigurationError),
        (ask("q", HYBRID, alpha=1.5), ConfigurationError),
        (VectorStoreQuery(query_str="q", mode=HYBRID), InputError),
        (VectorStoreQuery(query_embedding=[1.0] * 64, mode=HYBRID), InputError),
        (VectorStoreQuery(query_str="", mode=WORDS[1]), InputError),
    ]:
        with pytest.raises(error):
            filled.query(query)
    with pytest.raises(ConfigurationError, match="unknown argument"):
        filled.query(ask("q", HYBRID), fetch_k=3)


def test_a_collection_without_full_text(tmp_path):
    with MilvusStore(tmp_path / "m.db", sparse=None) as store:
        node = TextNode(id_="a", text="data", embedding=WordEmbedder().embed_documents(["data"]).vectors[0].tolist())
        store.add([node])
        assert store.query(ask("data", VectorStoreQueryMode.DEFAULT)).ids == ["a"]
        for mode in (*WORDS, HYBRID):
            with pytest.raises(CollectionError, match="no full text"):
                store.query(ask("data", mode))


# --- the retriever ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
async def test_the_retriever_reranks_what_the_mode_found(filled, model, embedder, mode):
    core = OverlapReranker()
    retriever = Qwen3Retriever.from_store(filled, model, core, k=3, top_n=2, mode=mode)
    del embedder.calls[:]
    found = retriever.retrieve("milvus code 1100 data")
    again = await retriever.aretrieve("milvus code 1100 data")
    assert [(n.node_id, n.score, n.metadata.keys()) for n in again] == [
        (n.node_id, n.score, n.metadata.keys()) for n in found
    ]
    assert len(embedder.calls) == 2 * (mode != "sparse")
    query_mode = {"dense": VectorStoreQueryMode.DEFAULT, "sparse": WORDS[0], "hybrid": HYBRID}[mode]
    first = filled.query(ask("milvus code 1100 data", query_mode, 3))
    assert [text.rpartition("\n")[2] for text in core.calls[0][1]] == [n.text for n in first.nodes]
    for node in found:
        rank = node.metadata["retrieval_rank"]
        assert node.metadata["retrieval_score"] == pytest.approx(first.similarities[rank - 1], abs=1e-5)
    other = retriever.with_options(mode="sparse")
    assert [n.node_id for n in other.retrieve("数据库")] == ["zh"]


def test_alpha_filters_and_instruction(filled, model, embedder):
    core = OverlapReranker()
    retriever = Qwen3Retriever.from_store(filled, model, core, k=1, mode="hybrid", alpha=0.0)
    assert [n.node_id for n in retriever.retrieve("1100 code")] == ["code"]
    below = retriever.with_options(filters=where("n", FilterOperator.GT, 1), k=4)
    assert {n.node_id for n in below.retrieve("data bread")} == {"zh", "bread"}
    retriever.with_options(instruction="invert").retrieve("1100")
    assert (embedder.calls[-1][2], core.calls[-1][2]) == ("invert", "invert")


def test_what_a_source_would_ignore_is_refused(filled, model):
    nodes = [TextNode(text="x")]
    memory = VectorStoreIndex(nodes, embed_model=Qwen3Embedding(WordEmbedder()))
    for source, options in [
        (SummaryIndex(nodes), {"mode": "hybrid"}),
        (memory.as_retriever(), {"mode": "sparse"}),
        (memory, {"mode": "bm25"}),
        (memory, {"alpha": 0.5}),
        (memory, {"alpha": 0.5, "mode": "sparse"}),
        (memory, {"collections": ["a"]}),
    ]:
        with pytest.raises(ConfigurationError):
            Qwen3Retriever(source, OverlapReranker(), **options)
    with pytest.raises(ValueError, match="mode"):
        Qwen3Retriever(memory, OverlapReranker(), mode="hybrid").retrieve("x")
    assert isinstance(memory.vector_store, SimpleVectorStore)


# --- several collections ---------------------------------------------------------------------------------------------

COLLECTIONS = {
    "faq": ["how is data stored here", "bread needs yeast", "shared passage of data"],
    "docs": ["data is stored in segments", "shared passage of data", "数据库"],
    "wiki": ["how data flows", "yeast is alive"],
}
QUERY = "how is data stored"


@pytest.fixture
def uri(tmp_path, model, embedder):
    for name, texts in COLLECTIONS.items():
        with MilvusStore(tmp_path / "many.db", name) as store:
            Qwen3Retriever.from_texts(texts, model, OverlapReranker(), store=store)
    del embedder.calls[:]
    return tmp_path / "many.db"


def sources(nodes):
    return {n.metadata["retrieval_collection"] for n in nodes}


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
async def test_all_are_searched_and_reranked_once(uri, model, embedder, mode):
    core = OverlapReranker()
    retriever = Qwen3Retriever.from_collections(list(COLLECTIONS), model, core, uri=uri, mode=mode, top_n=None)
    found = retriever.retrieve(QUERY)
    assert len(core.calls) == 1
    assert len(embedder.calls) == (mode != "sparse")
    assert [n.text for n in found][:2] == ["how is data stored here", "data is stored in segments"]
    assert sources(found) == set(COLLECTIONS)
    assert [n.text for n in found].count("shared passage of data") == 1
    for node in found:
        assert "retrieval_collection" in node.node.excluded_llm_metadata_keys
        assert "retrieval_collection" not in node.node.get_content("embed")
    again = await retriever.aretrieve(QUERY)
    assert [(n.node_id, n.score) for n in again] == [(n.node_id, n.score) for n in found]
    assert len(embedder.calls) == 2 * (mode != "sparse")


def test_allow_lists_only_narrow(uri, model):
    retriever = Qwen3Retriever.from_collections(list(COLLECTIONS), model, OverlapReranker(), uri=uri, top_n=None)
    assert sources(retriever.with_options(collections=["docs"]).retrieve(QUERY)) == {"docs"}
    assert retriever.with_options(collections=[]).retrieve(QUERY) == []
    narrow = Qwen3Retriever.from_collections(
        list(COLLECTIONS), model, OverlapReranker(), uri=uri, collections=["faq", "docs"], top_n=None
    )
    assert sources(narrow.retrieve(QUERY)) == {"faq", "docs"}
    assert sources(narrow.with_options(k=5).retrieve(QUERY)) == {"faq", "docs"}
    for names in (["wiki"], ["docs", "wiki"]):
        with pytest.raises(ConfigurationError, match="allowed are 'faq', 'docs'"):
            narrow.with_options(collections=names)


def test_options_of_the_stores(uri, model):
    with pytest.raises(ConfigurationError, match="'faq', expected a list of names"):
        Qwen3Retriever.from_collections("faq", model, OverlapReranker())
    options = {"metric": "IP"}
    retriever = Qwen3Retriever.from_collections(["faq"], model, OverlapReranker(), uri=uri, store_options=options)
    with pytest.raises(CollectionError, match="asked was IP"):
        retriever.retrieve(QUERY)


def test_different_models_and_sources_can_be_mixed(uri, model, embedder):
    other = WordEmbedder(32, "fake/small")
    memory = VectorStoreIndex([TextNode(text="how is memory stored")], embed_model=Qwen3Embedding(other))
    faq = VectorStoreIndex.from_vector_store(MilvusStore(uri, "faq"), embed_model=model)
    retriever = Qwen3Retriever(
        {"faq": faq, "memory": memory, "list": SummaryIndex([TextNode(text="x")])}, OverlapReranker()
    )
    assert sources(retriever.with_options(top_n=None).retrieve(QUERY)) == {"faq", "memory", "list"}
    assert [role for role, _, _ in embedder.calls] == ["query"]
    assert [role for role, _, _ in other.calls] == ["document", "query"]


def test_an_empty_question_is_an_error(uri, model):
    with pytest.raises(InputError, match="empty"):
        Qwen3Retriever.from_collections(["faq", "docs"], model, OverlapReranker(), uri=uri).retrieve("")


# --- the contract ----------------------------------------------------------------------------------------------------


def test_the_retriever_tells_the_collection_its_model(tmp_path):
    model = Qwen3Embedding(WordEmbedder(), instruction="find it")
    Qwen3Retriever.from_texts(["data"], model, OverlapReranker(), uri=tmp_path / "m.db")
    contract = MilvusCollection(tmp_path / "m.db").contract
    assert (contract.model, contract.dimensions, contract.instruction) == ("fake/words", 64, "find it")


async def test_another_model_is_refused(filled, model):
    other = Qwen3Embedding(WordEmbedder(64, "fake/others"))
    by_hand = VectorStoreIndex.from_vector_store(filled, embed_model=other)
    node = TextNode(text="x", embedding=[1.0] * 64)
    for call in (
        lambda: Qwen3Retriever.from_store(filled, other, OverlapReranker()).retrieve("q"),
        lambda: Qwen3Retriever(by_hand, OverlapReranker()).retrieve("q"),
        lambda: filled.with_model(other).add([node]),
        lambda: filled.with_model(other).query(ask("q", HYBRID)),
        lambda: filled.with_model(other).verify(),
        lambda: filled.with_model(Qwen3Embedding(WordEmbedder(), dimensions=32)).verify(),
    ):
        with pytest.raises(CollectionError, match=r"not with 'fake/others'|64 dimensions, got 32"):
            call()
    with pytest.raises(CollectionError, match="fake/others"):
        await Qwen3Retriever.from_store(filled, other, OverlapReranker()).aretrieve("q")
    with pytest.raises(CollectionError, match="fake/others"):
        await filled.with_model(other).async_add([node])
    assert filled.query(ask("yeast", WORDS[0])).ids == ["bread"]
    assert filled.client.count() == 4


def test_a_store_without_a_model_says_nothing(store):
    store.add([TextNode(id_="a", text="x", embedding=[1.0] * 64)])
    assert store.client.contract is None
    store.verify()
    assert MilvusStore("x.db", embed_model=Qwen3Embedding(WordEmbedder())).to_dict().keys() == store.to_dict().keys()
