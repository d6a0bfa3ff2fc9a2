"""`Qwen3Retriever` over real stores and other people's retrievers, and in LlamaIndex's query engines."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from llama_index.core import Document, SummaryIndex, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQueryMode

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.llama_index import MilvusStore, Qwen3Embedding, Qwen3Rerank, Qwen3Retriever
from qwen3_rag.retrieval import content_id
from tests.fakes import OverlapReranker, WordEmbedder

TEXTS = [
    "Milvus stores data in object storage such as MinIO.",
    "Bread dough needs yeast and time.",
    "Metadata of Milvus lies in etcd.",
    "A vector index makes search fast.",
    "The pump in the cellar is loud.",
]
QUERY = "where does milvus store data"


def build(tmp_path, **options):
    return Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), OverlapReranker(), uri=tmp_path / "test.db", **options)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_one_in_use_can_be_copied_and_pickled(tmp_path, duplicate):
    retriever = build(tmp_path)
    found = retriever.retrieve(QUERY)
    assert [hit.node.node_id for hit in duplicate(retriever).retrieve(QUERY)] == [hit.node.node_id for hit in found]


class Fixed(BaseRetriever):
    """Somebody else's retriever, without scores."""

    def __init__(self):
        self.queries = []
        super().__init__()

    def _retrieve(self, query_bundle):
        self.queries.append(query_bundle)
        return [NodeWithScore(node=TextNode(id_=str(i), text=text)) for i, text in enumerate(TEXTS)]


# --- retrieving ------------------------------------------------------------------------------------------------------


async def test_over_fetches_and_reranks(tmp_path):
    core = OverlapReranker()
    retriever = Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), core, uri=tmp_path / "test.db", k=4, top_n=2)
    found = retriever.retrieve(QUERY)
    assert [n.text for n in found] == [TEXTS[0], TEXTS[2]]
    assert len(core.calls[0][1]) == 4
    first = found[0].metadata
    assert set(first) == {"relevance_score", "retrieval_score", "retrieval_rank"}
    assert first["relevance_score"] == found[0].score
    assert -1 <= first["retrieval_score"] <= 1
    again = await retriever.aretrieve(QUERY)
    assert [(n.node_id, n.score, n.metadata) for n in again] == [(n.node_id, n.score, n.metadata) for n in found]


def test_defaults(tmp_path):
    core = OverlapReranker()
    texts = [f"text {i}" for i in range(20)]
    retriever = Qwen3Retriever.from_texts(texts, WordEmbedder(), core, uri=tmp_path / "test.db")
    assert len(retriever.retrieve("text 3")) == 3
    assert len(core.calls[0][1]) == 10
    retriever.with_options(k=15).retrieve("text 3")
    assert len(core.calls[1][1]) == 15


def test_storing_the_same_texts_again_changes_nothing(tmp_path):
    metadatas = [{"n": i} for i in range(5)]
    for _ in range(2):
        with MilvusStore(tmp_path / "test.db") as store:
            Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), OverlapReranker(), metadatas=metadatas, store=store)
            assert {n.node_id for n in store.get_nodes()} == {
                content_id(*p) for p in zip(TEXTS, metadatas, strict=True)
            }


def test_own_ids_and_metadata(tmp_path):
    with MilvusStore(tmp_path / "test.db") as store:
        Qwen3Retriever.from_texts(
            ["a", "b"], WordEmbedder(), OverlapReranker(), metadatas=[{"x": 1}, {"x": 2}], ids=["i", "j"], store=store
        )
        assert [(n.node_id, n.text, n.metadata) for n in store.get_nodes()] == [
            ("i", "a", {"x": 1}),
            ("j", "b", {"x": 2}),
        ]


def test_repeated_texts_are_stored_once(tmp_path):
    assert len(build(tmp_path, top_n=None).retrieve(QUERY)) == 5
    retriever = Qwen3Retriever.from_texts(["a", "a"], WordEmbedder(), OverlapReranker(), uri=tmp_path / "two.db")
    assert len(retriever.retrieve("a")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadatas": [{}]},
        {"ids": ["a"]},
        {"ids": ["same"] * 5},
        {"ids": [1, 2, 3, 4, 5]},
        {"metadatas": [None] * 5},
        {"metadatas": [None] * 5, "ids": ["a", "b", "c", "d", "e"]},
        {"metadatas": [{1: "x"}] * 5},
    ],
)
def test_texts_metadata_and_ids_must_fit(tmp_path, wrong):
    with pytest.raises(InputError):
        build(tmp_path, **wrong)
    with pytest.raises(InputError, match="put it into a list"):
        Qwen3Retriever.from_texts("one text", WordEmbedder(), OverlapReranker(), uri=tmp_path / "test.db")
    with pytest.raises(InputError, match=r"texts\[1\]"):
        Qwen3Retriever.from_texts(["a", 2], WordEmbedder(), OverlapReranker(), uri=tmp_path / "test.db")
    assert not (tmp_path / "test.db").exists()


def test_what_a_generator_gives_is_all_stored(tmp_path):
    models = WordEmbedder(), OverlapReranker()
    ids = [str(i) for i in range(len(TEXTS))]
    with MilvusStore(tmp_path / "test.db", "texts") as store:
        given = {"metadatas": ({"n": i} for i in ids), "ids": iter(ids)}
        Qwen3Retriever.from_texts((text for text in TEXTS), *models, store=store, **given)
        assert {(n.node_id, n.text, n.metadata["n"]) for n in store.get_nodes()} == {*zip(ids, TEXTS, ids, strict=True)}
    with MilvusStore(tmp_path / "test.db", "nodes") as store:
        Qwen3Retriever.from_nodes((TextNode(text=text) for text in TEXTS), *models, store=store)
        assert {node.text for node in store.get_nodes()} == set(TEXTS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"top_n": 0},
        {"score_threshold": 2},
        {"instruction": " "},
        {"topn": 3},
        {"mode": "hybrid", "alpha": 1.5},
        {"mode": "hybrid", "alpha": "0.5"},
        {"filters": {"source": "faq"}},
    ],
)
def test_a_bad_option_costs_no_embedding(tmp_path, wrong):
    core = WordEmbedder()
    with pytest.raises(ConfigurationError):
        Qwen3Retriever.from_texts(TEXTS, core, OverlapReranker(), uri=tmp_path / "test.db", **wrong)
    assert core.calls == []


def test_empty_texts(tmp_path):
    assert Qwen3Retriever.from_texts([], WordEmbedder(), OverlapReranker(), uri=tmp_path / "x.db").retrieve("q") == []


def test_documents_are_cut_and_keep_their_source(tmp_path):
    documents = [Document(id_="d1", text="\n\n".join(TEXTS), metadata={"file": "a.md"})]
    before = documents[0].model_dump_json()
    for _ in range(2):
        with MilvusStore(tmp_path / "test.db") as store:
            splitter = SentenceSplitter(chunk_size=24, chunk_overlap=0, include_metadata=False)
            Qwen3Retriever.from_documents(
                documents, WordEmbedder(), OverlapReranker(), transformations=[splitter], store=store
            )
            store.clear()
    for _ in range(2):  # the default splitter names its chunks after the document, so a second time adds nothing
        with MilvusStore(tmp_path / "test.db") as store:
            retriever = Qwen3Retriever.from_documents(documents, WordEmbedder(), OverlapReranker(), store=store)
            found = retriever.retrieve(QUERY)
            assert [n.node.ref_doc_id for n in found] == ["d1"]
            assert found[0].metadata["file"] == "a.md"
            assert store.client.count() == 1
    assert documents[0].model_dump_json() == before


def test_nodes_are_stored_as_they_are_and_not_changed(tmp_path):
    nodes = [TextNode(id_=str(i), text=text) for i, text in enumerate(TEXTS)] + [TextNode(id_="empty", text="")]
    before = [n.model_dump_json() for n in nodes]
    with MilvusStore(tmp_path / "test.db") as store:
        Qwen3Retriever.from_nodes(nodes, WordEmbedder(), OverlapReranker(), store=store)
        assert store.client.count() == 6, "LlamaIndex's constructors drop nodes without content"
    assert [n.model_dump_json() for n in nodes] == before


async def test_an_empty_question_is_an_error(tmp_path):
    retriever = build(tmp_path)
    with pytest.raises(InputError, match="empty"):
        retriever.retrieve("")
    with pytest.raises(InputError, match="empty"):
        await retriever.aretrieve("")


def test_in_an_ingestion_pipeline(tmp_path):
    with MilvusStore(tmp_path / "test.db") as store:
        embed_model = Qwen3Embedding(WordEmbedder())
        pipeline = IngestionPipeline(
            transformations=[SentenceSplitter(), embed_model], vector_store=store, docstore=SimpleDocumentStore()
        )
        documents = [Document(id_=str(i), text=text) for i, text in enumerate(TEXTS)]
        pipeline.run(documents=documents)
        pipeline.run(documents=[*documents[1:], Document(id_="0", text="changed")])
        assert store.client.count() == 5
        found = Qwen3Retriever.from_store(store, embed_model, OverlapReranker(), top_n=1).retrieve("changed")
        assert [(n.text, n.node.ref_doc_id) for n in found] == [("changed", "0")]


def test_as_part_of_llama_index_fusion(tmp_path):
    fusion = QueryFusionRetriever(
        [build(tmp_path), Fixed()], llm=MockLLM(), num_queries=1, similarity_top_k=2, use_async=False
    )
    assert TEXTS[0] in [n.text for n in fusion.retrieve(QUERY)]


# --- options ---------------------------------------------------------------------------------------------------------


async def test_with_options_is_a_copy(tmp_path):
    core = OverlapReranker()
    retriever = Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), core, uri=tmp_path / "test.db", k=5, top_n=2)
    other = retriever.with_options(k=3, top_n=None, score_threshold=0.9, instruction="invert")
    assert len(retriever.retrieve(QUERY)) == 2
    assert len(other.retrieve(QUERY)) <= 3
    assert len(await other.aretrieve(QUERY)) <= 3
    assert [(len(documents), instruction) for _, documents, instruction in core.calls] == [
        (5, None),
        (3, "invert"),
        (3, "invert"),
    ]
    back = other.with_options(score_threshold=None)
    assert len(back.retrieve(QUERY)) == 3
    for wrong in ({"k": 0}, {"top_n": -1}, {"score_threshold": "x"}, {"colour": 1}):
        with pytest.raises((ConfigurationError, TypeError)):
            retriever.with_options(**wrong)


async def test_instruction_reaches_query_embedding_and_reranker(tmp_path):
    embedder, core = WordEmbedder(), OverlapReranker()
    retriever = Qwen3Retriever.from_texts(TEXTS, embedder, core, uri=tmp_path / "test.db", instruction="per instance")
    embedder.calls.clear()
    retriever.retrieve(QUERY)
    await retriever.with_options(instruction="per call").aretrieve(QUERY)
    retriever.with_options(instruction=None).retrieve(QUERY)
    expected = ["per instance", "per call", None]
    assert [(role, instruction) for role, _, instruction in embedder.calls] == [("query", i) for i in expected]
    assert [instruction for _, _, instruction in core.calls] == expected


def test_a_query_bundle_can_be_used_again(tmp_path):
    """LlamaIndex's vector retriever writes the vector into the bundle, so another instruction would get the old one."""
    embedder = WordEmbedder()
    retriever = Qwen3Retriever.from_texts(TEXTS, embedder, OverlapReranker(), uri=tmp_path / "test.db")
    bundle = QueryBundle(QUERY)
    retriever.retrieve(bundle)
    assert bundle == QueryBundle(QUERY)
    retriever.with_options(instruction="another").retrieve(bundle)
    assert [c[2] for c in embedder.calls if c[0] == "query"] == [None, "another"]


def test_a_bundle_with_its_own_embedding_or_strings(tmp_path):
    embedder, core = WordEmbedder(), OverlapReranker()
    retriever = Qwen3Retriever.from_texts(TEXTS, embedder, core, uri=tmp_path / "test.db", k=1)
    embedder.calls.clear()
    vector = embedder.embed_documents([TEXTS[1]]).vectors[0].tolist()
    assert retriever.retrieve(QueryBundle(QUERY, embedding=vector))[0].text == TEXTS[1]
    assert retriever.retrieve(QueryBundle(QUERY, custom_embedding_strs=[TEXTS[4]]))[0].text == TEXTS[4]
    assert [c[0] for c in core.calls] == [QUERY, QUERY], "the question itself is what nodes are judged by"
    assert [c[0] for c in embedder.calls] == ["document", "query"]


def test_filters(tmp_path):
    metadatas = [{"lang": "en" if i else "de"} for i in range(5)]
    german = MetadataFilters(filters=[MetadataFilter(key="lang", value="de")])
    retriever = build(tmp_path, metadatas=metadatas, top_n=None)
    assert [n.text for n in retriever.with_options(filters=german).retrieve(QUERY)] == [TEXTS[0]]
    assert len(retriever.retrieve(QUERY)) == 5


def test_a_postprocessor_as_reranker_keeps_its_own_settings(tmp_path):
    rerank = Qwen3Rerank(OverlapReranker(), top_n=4, instruction="invert")
    index = VectorStoreIndex([TextNode(text=t) for t in TEXTS], embed_model=Qwen3Embedding(WordEmbedder()))
    assert len(Qwen3Retriever(index, rerank).retrieve(QUERY)) == 4
    assert len(Qwen3Retriever(index, rerank, top_n=1).retrieve(QUERY)) == 1
    assert rerank.top_n == 4


# --- other sources ---------------------------------------------------------------------------------------------------


async def test_around_any_retriever():
    base, core = Fixed(), OverlapReranker()
    retriever = Qwen3Retriever(base, core, top_n=2)
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert [n.node_id for n in found] == ["0", "2"]
        assert set(found[0].metadata) == {"relevance_score", "retrieval_rank"}
    assert [len(documents) for _, documents, _ in core.calls] == [5, 5], "all that comes is judged"
    assert len(retriever.with_options(k=2, top_n=None).retrieve(QUERY)) == 2
    german = MetadataFilters(filters=[MetadataFilter(key="lang", value="de")])
    with pytest.raises(ConfigurationError, match=r"filters can't reach.*Fixed"):
        retriever.with_options(filters=german)


def test_around_llama_index_own_indexes():
    nodes = [TextNode(text=text) for text in TEXTS]
    vector_index = VectorStoreIndex(nodes, embed_model=Qwen3Embedding(WordEmbedder()))
    for source in (vector_index, vector_index.as_retriever(similarity_top_k=4), SummaryIndex(nodes)):
        found = Qwen3Retriever(source, OverlapReranker(), top_n=1).retrieve(QUERY)
        assert [n.text for n in found] == [TEXTS[0]]


def test_around_a_retriever_with_another_mode(tmp_path):
    store = MilvusStore(tmp_path / "test.db")
    Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), OverlapReranker(), store=store)
    index = VectorStoreIndex.from_vector_store(store, embed_model=Qwen3Embedding(WordEmbedder()))
    mmr = index.as_retriever(similarity_top_k=5, vector_store_query_mode=VectorStoreQueryMode.MMR)
    assert Qwen3Retriever(mmr, OverlapReranker(), top_n=1).retrieve(QUERY)[0].text == TEXTS[0]


def test_what_is_no_source_is_said():
    for wrong in (SimpleVectorStore(), "text", None):
        with pytest.raises(ConfigurationError, match="from_store"):
            Qwen3Retriever(wrong, OverlapReranker())
    with pytest.raises(ValueError, match="does not store text"):
        Qwen3Retriever.from_store(SimpleVectorStore(), WordEmbedder(), OverlapReranker())


# --- query engines ---------------------------------------------------------------------------------------------------


class Echo(MockLLM):
    """Answers with its prompt."""


async def test_in_a_query_engine(tmp_path):
    engine = RetrieverQueryEngine.from_args(build(tmp_path, top_n=2), llm=Echo())
    for response in (engine.query(QUERY), await engine.aquery(QUERY)):
        assert [n.text for n in response.source_nodes] == [TEXTS[0], TEXTS[2]]
        assert TEXTS[0] in str(response)
        assert "relevance_score" not in str(response), "scores are for programs, not for the LLM"


async def test_as_postprocessor_of_an_index(tmp_path):
    with MilvusStore(tmp_path / "test.db") as store:
        Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), OverlapReranker(), store=store)
        index = VectorStoreIndex.from_vector_store(store, embed_model=Qwen3Embedding(WordEmbedder()))
        rerank = Qwen3Rerank(OverlapReranker(), top_n=1)
        engine = index.as_query_engine(llm=Echo(), similarity_top_k=5, node_postprocessors=[rerank])
        for response in (engine.query(QUERY), await engine.aquery(QUERY)):
            assert [n.text for n in response.source_nodes] == [TEXTS[0]]


tiny = pytest.mark.skipif(
    not all(files("qwen3_rag").joinpath("tiny", kind, "config.json").is_file() for kind in ("embedder", "reranker")),
    reason="the bundled models are not built",
)


@tiny
async def test_ingest_reopen_ask_with_the_bundled_models(tmp_path):
    documents = [Document(id_=f"d{i}", text=text, metadata={"n": i}) for i, text in enumerate(TEXTS)]
    with MilvusStore(tmp_path / "test.db") as store:
        Qwen3Retriever.from_documents(documents, "tiny", "tiny", store=store)
    with MilvusStore(tmp_path / "test.db") as store:
        retriever = Qwen3Retriever.from_store(store, "tiny", "tiny", k=5, top_n=2)
        engine = RetrieverQueryEngine.from_args(retriever, llm=Echo())
        response = engine.query("Where does Milvus store its data?")
        assert response.source_nodes[0].node.ref_doc_id == "d0"
        assert len(response.source_nodes) == 2
        again = await retriever.aretrieve("Where does Milvus store its data?")
        assert [n.node_id for n in again] == [n.node_id for n in response.source_nodes]


@tiny
def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[3] / "examples" / "llama_index_quickstart.py"
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "retrieval" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the example cleans up after itself"
