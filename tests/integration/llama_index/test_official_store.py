"""`MilvusVectorStore` of LlamaIndex inside `Qwen3Retriever`, and collections that both stores use.

Runs where llama-index-vector-stores-milvus is installed, which needs pymilvus 2.
"""

from __future__ import annotations

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index import MilvusStore, Qwen3Embedding, Qwen3Retriever
from qwen3_rag.milvus import MilvusCollection
from tests.fakes import OverlapReranker, WordEmbedder

official = pytest.importorskip(
    "llama_index.vector_stores.milvus", reason="needs llama-index-vector-stores-milvus and pymilvus 2"
)
from llama_index.vector_stores.milvus.utils import BM25BuiltInFunction  # noqa: E402 - after the check

TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored here"] + [
    f"filler number {i} data" for i in range(40)
]
QUERY = "how is data stored"
BEST = ["how is data stored here", "data is stored in segments"]
ABOVE_30 = MetadataFilters(filters=[MetadataFilter(key="n", value=30, operator=FilterOperator.GT)])


def nodes() -> list[TextNode]:
    made = [TextNode(id_=f"n{i:02}", text=text, metadata={"n": i, "who": "it's"}) for i, text in enumerate(TEXTS)]
    for node in made:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="the document")
    return made


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "milvus.db")


@pytest.fixture(params=["dense", "hybrid"])
def kind(request):
    return request.param


async def theirs(uri: str, kind: str = "dense", name: str = "theirs", words: str = "text"):
    """Their store; it has to be made where an event loop runs."""
    sparse = {
        "enable_sparse": True,
        "sparse_embedding_function": BM25BuiltInFunction(
            input_field_names=words, output_field_names="sparse_embedding"
        ),
    }
    return official.MilvusVectorStore(
        uri=uri,
        collection_name=name,
        dim=64,
        similarity_metric="COSINE",
        consistency_level="Strong",
        use_async_client=True,
        **(sparse if kind == "hybrid" else {}),
    )


async def filled(uri: str, kind: str):
    store = await theirs(uri, kind)
    VectorStoreIndex.from_vector_store(store, embed_model=Qwen3Embedding(WordEmbedder())).insert_nodes(nodes())
    return store


def texts(found) -> list[str]:
    return [node.text for node in found]


async def test_the_official_store_is_reranked(uri, kind):
    inner = OverlapReranker()
    retriever = Qwen3Retriever.from_store(await filled(uri, kind), WordEmbedder(), inner, k=10, mode=kind)
    found = retriever.retrieve(QUERY)
    assert texts(found)[:2] == BEST
    assert texts(await retriever.aretrieve(QUERY)) == texts(found)
    assert {"retrieval_score", "relevance_score", "retrieval_rank"} <= found[0].metadata.keys()
    assert [len(candidates) for _, candidates, _ in inner.calls] == [10, 10]
    assert found[0].node.ref_doc_id == "the document"
    few = retriever.with_options(filters=ABOVE_30, top_n=20).retrieve(QUERY)
    assert {node.metadata["n"] for node in few} <= set(range(31, 44))
    assert few


async def test_an_instruction_reaches_the_embedding(uri):
    embedder = WordEmbedder()
    retriever = Qwen3Retriever.from_store(await filled(uri, "dense"), embedder, OverlapReranker(), instruction="invert")
    retriever.retrieve(QUERY)
    assert embedder.calls[-1] == ("query", (QUERY,), "invert")
    with pytest.raises(ConfigurationError, match="alpha"):
        retriever.with_options(alpha=0.5)


async def test_we_open_what_they_wrote(uri, kind):
    await filled(uri, kind)
    with MilvusStore(uri, "theirs") as ours:
        assert [(n.node_id, n.text, n.metadata) for n in ours.get_nodes(["n03"])] == [
            ("n03", TEXTS[3], {"n": 3, "who": "it's"})
        ]
        retriever = Qwen3Retriever.from_store(ours, WordEmbedder(), OverlapReranker(), k=10)
        assert texts(retriever.retrieve(QUERY))[:2] == BEST
        few = retriever.with_options(filters=ABOVE_30, top_n=20).retrieve(QUERY)
        assert {node.metadata["n"] for node in few} <= set(range(31, 44))
        ours.delete("the document")
        assert ours.get_nodes(["n03"]) == []


@pytest.mark.parametrize("sparse", [None, "bm25"])
async def test_they_read_what_we_wrote(uri, sparse):
    with MilvusCollection(uri, "ours", sparse=sparse) as collection:
        ours = MilvusStore(collection=collection)
        Qwen3Retriever.from_nodes(nodes(), WordEmbedder(), OverlapReranker(), store=ours)
        kind = "dense" if sparse is None else "hybrid"
        store = await theirs(uri, kind, "ours", words="text_bm25")
        store.client.load_collection("ours")  # which it never does by itself
        retriever = Qwen3Retriever.from_store(store, WordEmbedder(), OverlapReranker(), k=10, mode=kind)
        found = retriever.retrieve(QUERY)
        assert texts(found)[:2] == BEST
        assert (found[0].node_id, found[0].node.ref_doc_id) == ("n03", "the document")
        assert found[0].metadata.items() >= {"n": 3, "who": "it's"}.items()
        few = retriever.with_options(filters=ABOVE_30, top_n=20).retrieve(QUERY)
        assert {node.metadata["n"] for node in few} <= set(range(31, 44))
