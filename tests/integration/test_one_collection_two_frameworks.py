"""One collection serves LangChain and LlamaIndex: written by one, read by the other, in every mode."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.documents import Document
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from qwen3_rag import langchain as lc
from qwen3_rag import llama_index as li
from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus import MilvusCollection
from tests.fakes import OverlapReranker, WordEmbedder

TEXTS = {"a": "milvus stores data in segments", "b": "code=1100 illegal argument", "c": "向量数据库保存数据段"}
METADATA = {"n": 1, "none": None, "nested": {"x": [1, {"y": None}]}, "text": "collides", "doc_id": 7, "语言": ["中文"]}
QUESTIONS = {"segments of milvus": "a", "error 1100": "b", "向量数据库保存数据段": "c"}
MODES = ["dense", "sparse", "hybrid"]


@pytest.fixture
def collection(uri, open_collection):
    opened = open_collection()
    yield opened
    opened.drop()


def langchain_retriever(collection, **options):
    store = lc.MilvusStore(WordEmbedder(), collection)
    return lc.Qwen3Retriever(store, OverlapReranker(), top_n=1, **options)


def llama_index_retriever(collection, **options):
    store = li.MilvusStore(collection=collection)
    return li.Qwen3Retriever.from_store(store, WordEmbedder(), OverlapReranker(), top_n=1, **options)


def without_scores(metadata):
    return {key: value for key, value in metadata.items() if not key.startswith(("re", "dense_", "sparse_"))}


@pytest.mark.parametrize("mode", MODES)
def test_written_by_langchain_read_by_llama_index(collection, mode):
    documents = [Document(id=id_, page_content=text, metadata=METADATA) for id_, text in TEXTS.items()]
    lc.MilvusStore(WordEmbedder(), collection).add_documents(documents)
    collection.flush()
    assert collection.contract.model == "fake/words"
    store = li.MilvusStore(collection=collection)
    nodes = store.get_nodes(list(TEXTS))
    assert [(type(n), n.node_id, n.text, n.metadata) for n in nodes] == [
        (TextNode, id_, text, METADATA) for id_, text in TEXTS.items()
    ]
    retriever = llama_index_retriever(collection, mode=mode)
    for question, best in QUESTIONS.items():
        (found,) = retriever.retrieve(question)
        assert (found.node_id, found.text) == (best, TEXTS[best])
        assert without_scores(found.metadata) == METADATA
    store.delete_nodes(["a"])
    assert lc.MilvusStore(WordEmbedder(), collection).get_by_ids(["a"]) == []


@pytest.mark.parametrize("mode", MODES)
def test_written_by_llama_index_read_by_langchain(collection, mode):
    nodes = [TextNode(id_=id_, text=text, metadata=METADATA) for id_, text in TEXTS.items()]
    for node in nodes:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="the document")
    store = li.MilvusStore(collection=collection)
    li.Qwen3Retriever.from_nodes(nodes, WordEmbedder(), OverlapReranker(), store=store)
    assert collection.contract.model == "fake/words"
    reader = lc.MilvusStore(WordEmbedder(), collection)
    assert reader.get_by_ids(list(TEXTS)) == [
        Document(id=id_, page_content=text, metadata=METADATA) for id_, text in TEXTS.items()
    ]
    retriever = langchain_retriever(collection, mode=mode)
    for question, best in QUESTIONS.items():
        (found,) = retriever.invoke(question)
        assert (found.id, found.page_content) == (best, TEXTS[best])
        assert without_scores(found.metadata) == METADATA
    assert len(reader.similarity_search("数据", 9, mode=mode, filter={"$doc_id": "the document", "n": 1})) >= 1
    reader.add_documents([Document(id="d", page_content="added by langchain")])
    assert store.get_nodes(["d"])[0].text == "added by langchain"


@pytest.mark.parametrize("mode", MODES)
def test_both_find_the_same_with_the_same_scores(collection, mode):
    documents = [Document(id=id_, page_content=text) for id_, text in TEXTS.items()]
    lc.MilvusStore(WordEmbedder(), collection).add_documents(documents)
    for question in QUESTIONS:
        (left,) = langchain_retriever(collection, mode=mode).invoke(question)
        (right,) = llama_index_retriever(collection, mode=mode).retrieve(question)
        assert left.id == right.node_id
        for key in ("retrieval_score", "relevance_score", "retrieval_rank"):
            assert left.metadata[key] == pytest.approx(right.metadata[key], abs=1e-5)


def test_each_refuses_the_others_collection_if_its_model_is_another(collection):
    other = WordEmbedder(64, "fake/others")
    lc.MilvusStore(other, collection).add_texts(["data"])
    with pytest.raises(CollectionError, match="'fake/others'"):
        llama_index_retriever(collection).retrieve("data")
    collection.drop()
    li.Qwen3Retriever.from_texts(["data"], other, OverlapReranker(), store=li.MilvusStore(collection=collection))
    with pytest.raises(CollectionError, match="'fake/others'"):
        langchain_retriever(collection).invoke("data")


def test_both_search_several_collections_alike(uri, open_collection):
    names = []
    for text in TEXTS.values():
        c = open_collection()
        lc.MilvusStore(WordEmbedder(), c).add_texts([text])
        names.append(c.name)
    options = {"uri": uri, "mode": "hybrid", "collections": names[1:]}
    left = lc.Qwen3Retriever.from_collections(names, WordEmbedder(), OverlapReranker(), uri=uri, mode="hybrid")
    right = li.Qwen3Retriever.from_collections(names, WordEmbedder(), OverlapReranker(), **options)
    documents, nodes = left.invoke("1100 数据", collections=names[1:]), right.retrieve("1100 数据")
    assert [(d.id, d.metadata["retrieval_collection"]) for d in documents] == [
        (n.node_id, n.metadata["retrieval_collection"]) for n in nodes
    ]
    assert len(documents) == 2
    for name in names:
        MilvusCollection(uri, name).drop()
