"""What the package logs, at any level, has no text of a user in it, and nobody's log has a key."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from qwen3_rag import load_embedder, load_reranker
from qwen3_rag.errors import ChatError, FilterError, Qwen3RagError, TruncationWarning
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.thinking import LEARNED
from tests.chat_server import ChatServer
from tests.remote_server.loopback import Loopback, Reply

PASSAGE, QUESTION, ANSWER, THOUGHT = "zanzibarine", "quixotically", "wombatlike", "ruminatingly"
KEY = "sk-logs-0987654321"
TEXTS = (PASSAGE, QUESTION, ANSWER, THOUGHT)
# What would have to be understood to be healed: the server's words, with the user's in them.
REFUSAL = f"parameter.enable_thinking must be set to false for non-streaming calls, in: {QUESTION} {PASSAGE}"


class Kept(logging.Handler):
    """Keeps everything, with tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.name, self.format(record)))

    def of_the_package(self) -> str:
        return "\n".join(line for name, line in self.lines if name.split(".")[0] == "qwen3_rag")


@pytest.fixture
def log() -> Iterator[Kept]:
    kept, loggers = Kept(), [logging.getLogger(), logging.getLogger("qwen3_rag")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(kept)
    yield kept
    loggers[0].removeHandler(kept)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    assert not [text for text in TEXTS if text in kept.of_the_package()]
    assert not [line for line in kept.lines if KEY in line[1]]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    LEARNED.clear()
    with ChatServer(key=KEY) as server:
        yield server
    LEARNED.clear()


@pytest.fixture
def collection(tmp_path) -> Iterator[MilvusCollection]:
    with MilvusCollection(tmp_path / "milvus.db") as collection:
        yield collection


@pytest.fixture
def filled(tmp_path, collection, log):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.md").write_text(f"# {PASSAGE}\n\n{PASSAGE} is stored.\n\n## Long\n\n" + f"{PASSAGE} " * 500)
    (folder / "b.md").write_bytes(b"\xff" + PASSAGE.encode())
    report = ingest([folder], load_embedder("tiny"), collection)
    assert report.added > 1
    assert len(report.failed) == 1
    return collection


@pytest.fixture
def chat(server):
    chat_models = pytest.importorskip("qwen3_rag.langchain.chat_models")
    return chat_models.ChatQwen3("qwen-plus", base_url=server.url, dialect="dashscope", api_key=KEY)


def test_ingest_and_a_search(filled):
    vector = load_embedder("tiny").embed_queries([QUESTION]).vectors[0]
    texts = [hit.passage.text for hit in filled.hybrid_search(vector, PASSAGE)]
    with pytest.warns(TruncationWarning):
        load_reranker("tiny", max_length=256).rerank(QUESTION, [*texts, f"{PASSAGE} " * 500])


def test_a_chain(filled, server, chat):
    from qwen3_rag.langchain import Qwen3Retriever, create_rag_chain

    server.reply(f"{ANSWER} [1].", reasoning=THOUGHT, times=None)
    chain = create_rag_chain(Qwen3Retriever.from_collection(filled, "tiny", "tiny", mode="hybrid"), chat, thinking=True)
    asked = {"question": f"{QUESTION} stored?", "chat_history": [("user", PASSAGE), ("ai", ANSWER)]}
    assert ANSWER in chain.invoke(asked).text
    list(chain.stream(asked))


def test_a_query_engine(filled, server):
    pytest.importorskip("llama_index.core")
    from qwen3_rag.llama_index import MilvusStore, Qwen3LLM, Qwen3Retriever, create_query_engine

    server.reply(f"{ANSWER} [1].", reasoning=THOUGHT, times=None)
    llm = Qwen3LLM("qwen-plus", api_base=server.url, dialect="dashscope", api_key=KEY)
    retriever = Qwen3Retriever.from_store(MilvusStore(collection=filled), "tiny", "tiny")
    assert ANSWER in str(create_query_engine(retriever, llm).query(f"{QUESTION} stored?"))


def test_a_refusal_that_quotes_the_request(server, chat, log):
    refusal = {"error": {"code": "invalid_parameter_error", "message": REFUSAL, "type": "invalid_request_error"}}
    server.reply(raw=json.dumps(refusal).encode(), status=400)
    server.reply(ANSWER, times=None)
    assert chat.invoke(QUESTION).text == ANSWER
    assert "learnt" in log.of_the_package()


def test_a_failure_that_quotes_the_request(server, chat, log):
    failure = {"error": {"code": "data_inspection_failed", "message": f"{QUESTION} is not welcome: {KEY}"}}
    server.reply(raw=json.dumps(failure).encode(), status=400, times=None)
    with pytest.raises(ChatError, match=QUESTION):  # the error itself may say so
        chat.invoke(QUESTION)


class Animal(BaseModel):
    name: str


def test_a_structured_answer_that_needs_repair(server, chat, log):
    server.reply(f"It is {ANSWER}.", reasoning=THOUGHT)
    server.reply(json.dumps({"name": ANSWER}))
    assert chat.with_structured_output(Animal).invoke(QUESTION) == Animal(name=ANSWER)
    assert "repairs it" in log.of_the_package()


def test_a_structured_answer_that_needs_repair_in_llama_index(server, log):
    pytest.importorskip("llama_index.core")
    from qwen3_rag.llama_index import Qwen3LLM

    server.reply(f"It is {ANSWER}.")
    server.reply(json.dumps({"name": ANSWER}))
    llm = Qwen3LLM("qwen-plus", api_base=server.url, dialect="dashscope", api_key=KEY)
    assert llm.as_structured_llm(Animal).complete(QUESTION).raw == Animal(name=ANSWER)
    assert "repairs it" in log.of_the_package()


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_remote_model_that_fails(status, log):
    def refuse(received):
        return Reply({"error": {"message": f"can't serve {received.raw.decode()}, {KEY}"}}, status=status)

    with Loopback(refuse) as server:
        options = {"base_url": server.url, "api_key": KEY, "retries": 1, "probe": False}
        with pytest.raises(Qwen3RagError):
            load_embedder("vllm:some", **options).embed_queries([QUESTION])
        with pytest.raises(Qwen3RagError):
            load_reranker("vllm:some", **options).rerank(QUESTION, [PASSAGE])


def test_a_wrong_filter(filled):
    with pytest.raises(FilterError):
        filled.find({QUESTION: {"$near": PASSAGE}})
