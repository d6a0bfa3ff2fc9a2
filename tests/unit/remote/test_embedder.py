"""The remote embedder beyond the contract: limits, equal texts, truncation, sparse vectors, resuming, many texts."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from qwen3_rag import load_embedder
from qwen3_rag.errors import (
    ConfigurationError,
    InputError,
    RemoteAnswerError,
    RemoteAuthenticationError,
    RemoteBatchError,
    RemoteServerError,
    TruncationWarning,
)
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, query_text
from qwen3_rag.remote import RetryPolicy
from tests.remote_server import vendors
from tests.remote_server.engine import words
from tests.remote_server.faults import Script, right, status, vector
from tests.remote_server.loopback import Loopback, Received, Reply
from tests.remote_server.vendors import KEY

ONCE = RetryPolicy(attempts=1)


def embedder(url: str, **options):
    return load_embedder("vllm:m", base_url=url, **{"probe": False, **options})


def dashscope(server: Loopback, model: str = "text-embedding-v4", **options):
    return load_embedder(f"dashscope:{model}", base_url=server.url, api_key=KEY, **options)


@pytest.mark.parametrize(
    ("model", "rows"), [("text-embedding-v4", 10), ("text-embedding-v3", 10), ("qwen3.7-text-embedding", 20)]
)
def test_requests_keep_to_the_model_s_rows(model, rows):
    with Loopback(vendors.dashscope(limits=vendors.DashScopeLimits(rows=rows))) as server:
        dashscope(server, model).embed_documents([f"text {n}" for n in range(45)])
        sizes = sorted(len(body["input"]["texts"]) for body in server.bodies)
        assert sizes == sorted([*[rows] * (45 // rows), *[45 % rows] * (45 % rows > 0)])


def test_what_dashscope_is_sent():
    with Loopback(vendors.dashscope()) as server:
        model = dashscope(server, dimensions=512)
        model.embed_documents(["a"])
        model.embed_queries(["b"])
        model.embed_queries(["b"], instruction="find code", dimensions=64)
        expected = [
            {"text_type": "document", "dimension": 512},
            {"text_type": "query", "dimension": 512, "instruct": DEFAULT_INSTRUCTION},
            {"text_type": "query", "dimension": 64, "instruct": "find code"},
        ]
        assert [body["parameters"] for body in server.bodies] == expected
        assert server.bodies[1]["input"] == {"texts": ["b"]}


def test_a_model_without_instructions_or_widths_is_sent_none():
    def app(received: Received) -> Reply:
        texts = received.body["input"]["texts"]
        rows = [{"text_index": i, "embedding": [1.0] * 1536} for i in range(len(texts))]
        return Reply({"output": {"embeddings": rows}, "usage": {"total_tokens": 1}})

    with Loopback(app) as server:
        assert dashscope(server, "text-embedding-v2").embed_queries(["b"]).vectors.shape == (1, 1536)
        assert server.bodies[0]["parameters"] == {"text_type": "query"}


def test_the_compatible_api_gets_the_instruction_in_the_text():
    with Loopback(vendors.dashscope()) as server:
        model = dashscope(server, api="compatible", dimensions=64)
        model.embed_queries(["b"], instruction="find code")
        model.embed_documents(["b"])
        assert [body["input"] for body in server.bodies] == [[query_text("b", "find code")], ["b"]]
        assert {received.path for received in server.received} == {"/compatible-mode/v1/embeddings"}


def test_equal_texts_are_sent_once():
    with Loopback(right) as server:
        result = embedder(server.url).embed_documents(["a", "b", "a", "a", "c", "b"])
        assert [body["input"] for body in server.bodies] == [["a", "b", "c"]]
        np.testing.assert_allclose(result.vectors, [vector(t) for t in ["a", "b", "a", "a", "c", "b"]], atol=1e-6)


def test_tokens_are_the_server_s_count():
    with Loopback(vendors.dashscope()) as server:
        texts = [f"a b {n}" for n in range(25)]
        assert dashscope(server).embed_documents(texts).tokens == 75


def test_the_server_can_be_asked_for_the_width():
    with Loopback(vendors.vllm()) as server:
        model = embedder(server.url)
        assert model.embed_documents([]).vectors.shape == (0, 0)
        assert server.received == []
        assert model.dimensions == model.dimensions == 128
        assert len(server.received) == 1


def test_another_width_than_promised_is_an_error():
    with Loopback(vendors.vllm()) as server:
        model = load_embedder("vllm:Qwen/Qwen3-Embedding-0.6B", base_url=server.url, probe=False)
        with pytest.raises(RemoteAnswerError, match="width 128 where 1024"):
            model.embed_documents(["a"])
        with pytest.raises(RemoteAnswerError, match="width 128, too short for 512"):
            model.embed_documents(["a"], dimensions=512)


def test_requests_of_one_call_with_different_widths_are_an_error():
    def app(received: Received) -> Reply:
        width = 8 if "text 0" in received.body["input"] else 9
        rows = [{"index": i, "embedding": [1.0] * width} for i in range(len(received.body["input"]))]
        return Reply({"data": rows})

    with Loopback(app) as server, pytest.raises(RemoteAnswerError, match="width 8, 9 where one"):
        embedder(server.url, rows=2).embed_documents([f"text {n}" for n in range(4)])


def test_vectors_can_keep_the_server_s_length():
    with Loopback(lambda received: Reply({"data": [{"index": 0, "embedding": [3.0, 4.0]}]})) as server:
        assert embedder(server.url, normalize=False).embed_documents(["a"]).vectors.tolist() == [[3.0, 4.0]]
        np.testing.assert_allclose(embedder(server.url).embed_documents(["a"]).vectors, [[0.6, 0.8]])


def test_an_end_token_is_written_where_asked():
    with Loopback(right) as server:
        embedder(server.url, append_eos=True).embed_documents(["a"])
        assert server.bodies[0]["input"] == ["a<|endoftext|>"]


# --- texts that are too long -----------------------------------------------------------------------------------------

LONG = " ".join(f"w{n}" for n in range(30))


def test_a_text_over_the_limit_is_an_error_that_names_it():
    with Loopback(right) as server:
        model = embedder(server.url, max_tokens=20, tokenizer=words)
        with pytest.raises(
            InputError, match=r"document 1 has 30 tokens, and the limit is 20: split it, pass too_long='truncate'$"
        ):
            model.embed_documents(["fine", LONG])
        with pytest.raises(InputError, match="query 0 has"):
            model.embed_queries([LONG])
        assert server.received == []


def test_an_estimate_says_so():
    with pytest.raises(InputError, match=r"by an estimate from above.*tokenizer= to count exactly"):
        embedder("http://localhost:1", max_tokens=20).embed_documents([LONG])


def test_a_text_over_the_limit_is_cut_with_a_report_if_asked():
    with Loopback(right) as server:
        model = embedder(server.url, max_tokens=20, tokenizer=words, too_long="truncate")
        with pytest.warns(
            TruncationWarning, match=r"2 of 3 texts were cut .* 20 tokens lost: document 1 \(-10\), document 2"
        ) as seen:
            result = model.embed_documents(["fine", LONG, LONG])
        assert seen[0].filename == __file__
        assert [(t.index, t.part, t.tokens, t.kept) for t in result.truncated] == [
            (1, "document", 30, 20),
            (2, "document", 30, 20),
        ]
        sent = server.bodies[0]["input"]
        assert sent[0] == "fine"
        assert words(sent[1]) == 20
        assert LONG.startswith(sent[1])


async def test_asynchronously_too():
    with Loopback(right) as server:
        model = embedder(server.url, max_tokens=20, tokenizer=words, too_long="truncate")
        with pytest.warns(TruncationWarning):
            result = await model.aembed_queries([LONG])
        assert len(result.truncated) == 1


# --- sparse vectors --------------------------------------------------------------------------------------------------


def test_dense_and_sparse_vectors_come_in_one_request():
    with Loopback(vendors.dashscope()) as server:
        model = dashscope(server, dimensions=128)
        texts = ["Milvus stores data", "bread", "Milvus stores data"]
        both = model.hybrid_documents(texts)
        assert len(server.received) == 1
        np.testing.assert_allclose(both.vectors, model.embed_documents(texts).vectors, atol=1e-6)
        assert [sorted(vector.tokens) for vector in both.sparse] == [
            ["data", "milvus", "stores"],
            ["bread"],
            ["data", "milvus", "stores"],
        ]
        assert all((np.diff(vector.indices) > 0).all() for vector in both.sparse)
        sparse = model.hybrid_queries(texts, output="sparse")
        assert sparse.vectors is None
        assert sparse.sparse[1].as_dict() == both.sparse[1].as_dict()
        assert server.bodies[-1]["parameters"]["text_type"] == "query"


async def test_sparse_vectors_asynchronously():
    with Loopback(vendors.dashscope()) as server:
        model = dashscope(server, dimensions=128)
        documents, queries = await asyncio.gather(
            model.ahybrid_documents(["a b"]), model.ahybrid_queries(["a b"], instruction="find code", dimensions=64)
        )
        assert documents.vectors.shape == (1, 128)
        assert queries.vectors.shape == (1, 64)
        assert len(documents.sparse) == len(queries.sparse) == 1


def test_a_model_says_whether_it_has_sparse_vectors():
    for name, has in (("v4", True), ("v3", True), ("v2", False)):
        assert load_embedder(f"dashscope:text-embedding-{name}", api_key="k").has_sparse is has
    assert load_embedder("dashscope:text-embedding-v4", api_key="k", api="compatible").has_sparse is False
    assert embedder("http://localhost:1").has_sparse is False


def test_sparse_vectors_where_there_are_none_are_refused():
    with pytest.raises(ConfigurationError, match="no sparse vectors"):
        embedder("http://localhost:1").hybrid_documents(["a"])
    model = load_embedder("dashscope:text-embedding-v4", api_key="k", api="compatible")
    with pytest.raises(ConfigurationError, match="no sparse vectors"):
        model.hybrid_documents(["a"])
    with pytest.raises(ConfigurationError, match="output must be one of dense"):
        load_embedder("dashscope:text-embedding-v4", api_key="k").hybrid_documents(["a"], output="both")


# --- what failed and what did not ------------------------------------------------------------------------------------


class Healing:
    """Fails for some texts until it is healed."""

    def __init__(self, sick: set[str], reply: Reply) -> None:
        self.sick, self.reply = sick, reply

    def __call__(self, received: Received) -> Reply:
        return self.reply if self.sick & set(received.body["input"]) else right(received)


def test_ten_of_a_thousand_to_do_is_ten_to_send():
    texts = [f"text {n}" for n in range(1000)]
    app = Healing({"text 990"}, status(500))
    with Loopback(app) as server:
        model = embedder(server.url, rows=10, retries=ONCE)
        with pytest.raises(RemoteBatchError, match="10 of 1000 texts failed, the first at position 990") as caught:
            model.embed_documents(texts)
        error = caught.value
        assert error.failed.keys() == set(range(990, 1000))
        assert isinstance(error.failed[990], RemoteServerError)
        with pytest.raises(RemoteBatchError) as again:  # still sick: what was done stays done
            error.resume()
        assert again.value.done.keys() == error.done.keys()
        app.sick = set()
        before = len(server.received)
        result = error.resume()
        assert [body["input"] for body in server.bodies[before:]] == [texts[990:]]
        np.testing.assert_allclose(result.vectors, [vector(text) for text in texts], atol=1e-6)
        assert len(error.done) == 990


async def test_resuming_asynchronously_and_hybrid():
    app = vendors.dashscope()
    broken = [True]

    def sometimes(received: Received) -> Reply:
        if broken[0] and "text 15" in received.body["input"]["texts"]:
            return status(500)
        return app(received)

    with Loopback(sometimes) as server:
        model = dashscope(server, dimensions=64, retries=ONCE)
        with pytest.raises(RemoteBatchError) as caught:
            await model.ahybrid_documents([f"text {n}" for n in range(20)])
        assert caught.value.done[0].sparse.tokens == ("0", "text") or set(caught.value.done[0].sparse.tokens) == {
            "0",
            "text",
        }
        broken[0] = False
        result = await caught.value.aresume()
        assert result.vectors.shape == (20, 64)
        assert len(result.sparse) == 20


def test_a_wrong_key_is_one_error_and_not_a_thousand_requests():
    with Loopback(vendors.dashscope()) as server:
        model = load_embedder("dashscope:text-embedding-v4", base_url=server.url, api_key="wrong", concurrency=2)
        with pytest.raises(RemoteAuthenticationError):
            model.embed_documents([f"text {n}" for n in range(2000)])
        assert len(server.received) <= 10


def test_a_server_that_is_down_is_not_asked_for_every_row():
    with Loopback(Script([status(503)])) as server:
        with pytest.raises(RemoteServerError):
            embedder(server.url, rows=1, retries=RetryPolicy(attempts=2, base=0.01), concurrency=2).embed_documents(
                [f"text {n}" for n in range(2000)]
            )
        assert len(server.received) <= 40


def test_many_threads_share_one_embedder():
    with Loopback(right) as server:
        model = embedder(server.url, rows=3)
        wrong: list[int] = []

        def work(number: int) -> None:
            texts = [f"{number} {n}" for n in range(10)]
            if not np.allclose(model.embed_documents(texts).vectors, [vector(t) for t in texts], atol=1e-6):
                wrong.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


# --- many texts ------------------------------------------------------------------------------------------------------

LATENCY = 0.1
ROWS = 10


class Flaky:
    """Answers after a fixed time; every fifth request, by its content and attempt, gets 429 or 500."""

    def __init__(self, share: float, latency: float = LATENCY) -> None:
        self.share, self.latency = share, latency
        self.attempts: Counter[bytes] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults = 0
        self._guard = threading.Lock()

    def __call__(self, received: Received) -> Reply:
        key = hashlib.sha256(received.raw).digest()
        with self._guard:
            self.attempts[key] += 1
            draw = hashlib.sha256(key + bytes([self.attempts[key]])).digest()
            fails = int.from_bytes(draw[:4], "little") / 2**32 < self.share
            self.faults += fails
        time.sleep(self.latency)
        if fails:
            return status(429 if draw[5] % 2 else 500)
        with self._guard:
            self.answered.update(received.body["input"])
        return right(received)


def embed_many(server: Loopback, texts: list[str]) -> tuple[float, np.ndarray]:
    model = embedder(server.url, rows=ROWS, concurrency=8)
    model.embed_documents(["warm"])
    start = time.perf_counter()
    vectors = model.embed_documents(texts).vectors
    return time.perf_counter() - start, vectors


@pytest.mark.slow
def test_ten_thousand_texts_with_a_fifth_of_faults_take_little_longer(capsys):
    texts = [f"text {n}" for n in range(10_000)]
    seconds: dict[float, float] = {}
    for share in (0.0, 0.2):
        app = Flaky(share)
        with Loopback(app, remember=False) as server:
            seconds[share], vectors = embed_many(server, texts)
        np.testing.assert_allclose(vectors, [vector(text) for text in texts], atol=1e-6)
        assert app.answered == Counter([*texts, "warm"])  # each answered once: nothing lost, nothing twice
        assert abs(app.faults / sum(app.attempts.values()) - share) < 0.05
    with capsys.disabled():
        print(f"\n10,000 texts: {seconds[0.0]:.2f} s without faults, {seconds[0.2]:.2f} s with a fifth of them")
    assert seconds[0.2] <= 1.5 * seconds[0.0]


@pytest.mark.slow
def test_memory_grows_with_the_result_and_not_with_the_requests():
    def peak(count: int) -> int:
        texts = [f"text {n}" for n in range(count)]
        with Loopback(Flaky(0.2, latency=0), remember=False) as server:
            model = embedder(server.url, rows=ROWS, retries=RetryPolicy(attempts=20, base=0.001))
            model.embed_documents(["warm"])
            tracemalloc.start()
            try:
                vectors = model.embed_documents(texts).vectors
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
                assert len(vectors) == count

    per_text = (peak(6000) - peak(2000)) / 4000
    # A row of 8 numbers as an array of its own, its places in the books, and the whole array at the end.
    assert per_text < 1200
