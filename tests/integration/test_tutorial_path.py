"""The Milvus tutorials' path from end to end: 72 chunks in, ten by vector, three reranked, a cited answer.

On the tutorials' own corpus where `QWEN3_RAG_TUTORIAL_CORPUS` names its folder, and always on the package's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwen3_rag.answering import Answer
from qwen3_rag.demo import CORPUS
from qwen3_rag.thinking import LEARNED
from tests.chat_server import KEY, ChatServer

TUTORIAL = os.environ.get("QWEN3_RAG_TUTORIAL_CORPUS")
SAID = "In object storage [1], and the rest elsewhere [2]. Nobody knows [7]."


@dataclass(frozen=True)
class Case:
    """A corpus, a question, a phrase of the chunk that answers it, and one of a chunk that the tiny reranker keeps.

    On the tutorials' corpus the tiny reranker puts the best chunk fifth, so it is not among the three.
    """

    folder: Path
    chunks: int
    question: str
    answer: str
    kept: str

    def read(self) -> list[str]:
        """Cuts the files as the tutorials do."""
        files = sorted(self.folder.glob("*.md"))
        chunks = [chunk for path in files for chunk in path.read_text("utf-8").split("# ")]
        assert len(chunks) == self.chunks
        return [chunk for chunk in chunks if chunk]


CASES = [
    pytest.param(
        Case(
            Path(TUTORIAL or "."),
            72,
            "How is data stored in milvus?",
            "Where does Milvus store data?",
            "How does Milvus flush data?",
        ),
        marks=pytest.mark.skipif(TUTORIAL is None, reason="QWEN3_RAG_TUTORIAL_CORPUS names no folder"),
        id="tutorial",
    ),
    pytest.param(
        Case(CORPUS, 64, "How does Milvus Lite store its data?", *["keeps everything in one local"] * 2), id="own"
    ),
]


@pytest.fixture(params=CASES, scope="module")
def case(request) -> Case:
    return request.param


@pytest.fixture
def server() -> Iterator[ChatServer]:
    LEARNED.clear()
    with ChatServer() as server:
        server.reply(SAID, reasoning="Let me see.", times=None)
        yield server
    LEARNED.clear()


def check(answer: Answer, found: list[str], server: ChatServer) -> None:
    assert (answer.text, answer.reasoning) == (
        "In object storage [1], and the rest elsewhere [2]. Nobody knows.",
        "Let me see.",
    )
    assert answer.invalid_citations == (7,)
    assert [citation.passage.text for citation in answer.citations] == found[:2]
    assert [passage.text for passage in answer.passages] == found
    prompt = server.last.body["messages"][-1]["content"]
    assert all(" ".join(text.split())[:40] in " ".join(prompt.split()) for text in found)


def check_two_stages(case: Case, dense: list[str], found: list[str], ranks: list[int], scores: list[float]) -> None:
    assert len(dense) == len(set(dense)) == 10
    assert len(found) == 3
    assert [dense[rank - 1] for rank in ranks] == found
    assert scores == sorted(scores, reverse=True)
    assert any(case.answer in text for text in dense)
    assert any(case.kept in text for text in found)


def test_langchain(case, server, tmp_path):
    pytest.importorskip("langchain_core")
    from qwen3_rag.langchain import ChatQwen3, Qwen3Retriever, create_rag_chain

    chunks = case.read()
    retriever = Qwen3Retriever.from_texts(chunks, "tiny", "tiny", uri=tmp_path / "milvus.db", k=10, top_n=3)
    with retriever.source as store:
        assert store.collection.count() == len(chunks)
        dense = [document.page_content for document in store.similarity_search(case.question, 10)]
        documents = retriever.invoke(case.question)
        found = [document.page_content for document in documents]
        about = [document.metadata for document in documents]
        check_two_stages(
            case, dense, found, [m["retrieval_rank"] for m in about], [m["relevance_score"] for m in about]
        )
        llm = ChatQwen3("qwen-plus", base_url=server.url, dialect="dashscope", api_key=KEY, thinking=True)
        check(create_rag_chain(retriever, llm).invoke(case.question), found, server)


async def test_llama_index(case, server, tmp_path):
    pytest.importorskip("llama_index.core")
    from llama_index.core.vector_stores.types import VectorStoreQuery

    from qwen3_rag.llama_index import MilvusStore, Qwen3Embedding, Qwen3Retriever, create_query_engine
    from tests.llama_index_llm import connect

    chunks = case.read()
    with MilvusStore(tmp_path / "milvus.db") as store:
        retriever = Qwen3Retriever.from_texts(chunks, "tiny", "tiny", store=store, k=10, top_n=3)
        vector = Qwen3Embedding("tiny").get_query_embedding(case.question)
        asked = store.query(VectorStoreQuery(vector, similarity_top_k=10))
        nodes = retriever.retrieve(case.question)
        found = [node.text for node in nodes]
        ranks = [node.metadata["retrieval_rank"] for node in nodes]
        check_two_stages(case, [node.text for node in asked.nodes], found, ranks, [node.score for node in nodes])
        llm = connect(server, thinking=True)
        response = create_query_engine(retriever, llm).query(case.question)
        assert [node.text for node in response.source_nodes] == found
        check(response.metadata["answer"], found, server)
        llm.close()
        await llm.aclose()
