"""The remote reranker beyond the contract: limits, splitting and merging, windows, both of DashScope's forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from qwen3_rag import load_reranker
from qwen3_rag.errors import (
    ConfigurationError,
    InputError,
    RemoteAnswerError,
    RemoteBatchError,
    RemoteRequestError,
    TruncationWarning,
)
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from qwen3_rag.remote import RetryPolicy
from tests.remote_server import vendors
from tests.remote_server.engine import tiny_reranker, words
from tests.remote_server.faults import status
from tests.remote_server.loopback import Loopback, Received, Reply
from tests.remote_server.vendors import KEY, DashScopeLimits

QUERY = "Where does Milvus store data"
MODEL = "dashscope:qwen3-rerank"
FLAT = "/compatible-api/v1/reranks"


def dashscope(server: Loopback, model: str = MODEL, **options):
    return load_reranker(model, base_url=server.url, api_key=KEY, **options)


def by_words(query: str, documents: Sequence[str], instruction: str | None) -> list[float]:
    """Scores a document by its words, without a model: for numbers of texts that would take a model long."""
    return [words(document) / 10_000 for document in documents]


by_length = vendors.dashscope(score=by_words)


def test_what_dashscope_is_sent():
    with Loopback(vendors.dashscope()) as server:
        dashscope(server).rerank("q", ["a", "b"])
        dashscope(server, api="compatible").rerank("q", ["a", "b"], instruction="find code")
        assert server.bodies == [
            {
                "model": "qwen3-rerank",
                "input": {"query": "q", "documents": ["a", "b"]},
                "parameters": {"top_n": 2, "return_documents": False, "instruct": DEFAULT_INSTRUCTION},
            },
            {"model": "qwen3-rerank", "query": "q", "documents": ["a", "b"], "top_n": 2, "instruct": "find code"},
        ]


@pytest.mark.parametrize("model", ["qwen3-rerank", "qwen3.7-text-rerank"])
def test_a_request_over_the_limits_is_split_and_merged(model):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 3900, 700).tolist()
    documents = [" ".join(["word"] * length) for length in lengths]
    query = " ".join(["word"] * 50)
    with Loopback(by_length) as server:
        result = dashscope(server, f"dashscope:{model}", tokenizer=words).rerank(query, documents)
        np.testing.assert_allclose(result.scores, np.array(lengths) / 10_000, atol=1e-6)
        for body in server.bodies:
            sent = body["input"]["documents"]
            assert len(sent) <= 500
            assert 50 * len(sent) + sum(map(words, sent)) <= 120_000
        total = sum(50 + length for length in lengths)
        assert len(server.bodies) <= -(-total // 110_000) + 1  # and not into more than need be


def test_a_thousand_short_documents_are_two_requests():
    with Loopback(by_length) as server:
        dashscope(server, tokenizer=words).rerank("q", [f"document {n}" for n in range(1000)])
        assert [len(body["input"]["documents"]) for body in server.bodies] == [500, 500]


def test_equal_pairs_are_sent_once():
    with Loopback(by_length) as server:
        dashscope(server).rerank("q", ["a", "b", "a", "a"])
        dashscope(server).score_pairs([("q", "a"), ("p", "a"), ("q", "a"), ("q", "b")])
        sent = [(body["input"]["query"], tuple(body["input"]["documents"])) for body in server.bodies]
        assert sent[0] == ("q", ("a", "b"))
        assert sorted(sent[1:]) == [("p", ("a",)), ("q", ("a", "b"))]


def test_pairs_with_several_queries_are_one_request_where_the_server_takes_them():
    with Loopback(vendors.vllm(template=True)) as server:
        model = load_reranker("vllm:m", base_url=server.url, template="server", probe=False)
        model.score_pairs([("q", "a"), ("p", "a"), ("q", "b")])
        model.rerank("q", ["a", "b"])
        assert [received.path for received in server.received] == ["/score", "/v1/rerank"]
        assert server.bodies[0]["text_1"] == ["q", "p", "q"]


# --- documents that are too long -------------------------------------------------------------------------------------

LONG = " ".join(
    ["Bread needs yeast and time."] * 12 + ["Milvus stores its data in object storage."] + ["Then comes water."] * 12
)


def limited(server: Loopback, **options):
    return dashscope(server, tokenizer=words, max_tokens=20, **options)


def test_a_document_over_the_limit_is_an_error_that_names_it():
    with Loopback(vendors.dashscope()) as server:
        with pytest.raises(InputError, match=r"document 1 has \d+ tokens, and the limit is 20: .*too_long='truncate'"):
            limited(server).rerank(QUERY, ["fine", LONG])
        with pytest.raises(InputError, match="query 0 has"):
            limited(server).rerank(LONG, ["fine"])
        assert server.received == []


def test_a_document_over_the_limit_is_cut_with_a_report():
    with Loopback(vendors.dashscope(limits=DashScopeLimits(item=20))) as server:
        with pytest.warns(TruncationWarning, match="document 1 .*document 2"):
            result = limited(server, too_long="truncate").rerank(QUERY, ["fine", LONG, LONG])
        total = words(LONG)
        assert [(t.index, t.part, t.tokens, t.kept) for t in result.truncated] == [
            (1, "document", total, 20),
            (2, "document", total, 20),
        ]
        assert [words(text) for text in server.bodies[0]["input"]["documents"]] == [1, 20]
        with pytest.warns(TruncationWarning):
            result = limited(server, too_long="truncate").rerank(LONG, ["fine", "good"])
        assert [(t.index, t.part) for t in result.truncated] == [(0, "query")]


def test_the_best_window_is_the_score():
    with Loopback(vendors.dashscope(limits=DashScopeLimits(item=20))) as server:
        model = limited(server, too_long="best_window")
        whole = model.rerank(QUERY, [LONG, "Bread needs yeast and time."])
        assert whole.truncated == ()
        sent = [text for body in server.bodies for text in body["input"]["documents"]]
        assert all(words(text) <= 20 for text in sent)
        best = max(tiny_reranker().rerank(QUERY, sent[:-1]).scores)
        assert whole.scores[0] == pytest.approx(best, abs=1e-5)
        assert whole.scores[0] > whole.scores[1]
        cut = tiny_reranker().rerank(QUERY, [" ".join(LONG.split()[:20])]).scores[0]
        assert whole.scores[0] > cut  # what a cut would have lost
        with pytest.raises(InputError, match="query 0 has"):
            model.rerank(LONG, ["fine"])


def test_a_limit_on_the_pair_leaves_room_for_the_document():
    with Loopback(vendors.vllm()) as server:
        options = {"base_url": server.url, "template": "client", "probe": False, "tokenizer": words}
        model = load_reranker("vllm:m", max_tokens=100, too_long="truncate", **options)
        with pytest.warns(TruncationWarning):
            result = model.rerank(QUERY, [LONG])
        frame = words(DEFAULT_INSTRUCTION) + 64
        assert result.truncated[0].kept == 100 - frame - words(QUERY)
        with pytest.raises(InputError, match="leave no room for a document within 80"):
            load_reranker("vllm:m", max_tokens=80, **options).rerank(QUERY, ["a"])


# --- DashScope's two forms -------------------------------------------------------------------------------------------


def test_where_the_first_form_is_refused_the_second_is_used_and_remembered():
    with Loopback(vendors.dashscope(rerank="flat")) as server:
        model = dashscope(server)
        for _ in range(2):
            assert model.rerank("q", ["a", "b"]).scores.shape == (2,)
        assert [received.path == FLAT for received in server.received] == [False, True, True]
        dashscope(server)  # another instance begins anew


def test_what_is_refused_in_both_forms_is_the_first_error():
    with Loopback(lambda received: status(400, {"code": "InvalidParameter", "message": received.path})) as server:
        with pytest.raises(RemoteRequestError, match="services/rerank"):
            dashscope(server).rerank("q", ["a"])
        assert len(server.received) == 2


def test_what_is_not_about_the_form_is_not_tried_again():
    moderation = status(400, {"code": "DataInspectionFailed", "message": "inappropriate content"})
    for reply in (moderation, status(401, {"code": "InvalidApiKey", "message": "no"})):
        with Loopback(lambda received, reply=reply: reply) as server:
            with pytest.raises(Exception, match="DashScope"):
                dashscope(server).rerank("q", ["a"])
            assert len(server.received) == 1


def test_one_form_can_be_chosen():
    with Loopback(vendors.dashscope(rerank="flat")) as server:
        with pytest.raises(RemoteRequestError):
            dashscope(server, api="native").rerank("q", ["a"])
        dashscope(server, api="compatible").rerank("q", ["a"])
        assert [received.path == FLAT for received in server.received] == [False, True]


# --- scores and answers ----------------------------------------------------------------------------------------------


def answering(*scores):
    def app(received: Received) -> Reply:
        return Reply({"results": [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]})

    return app


def plain(server: Loopback, **options):
    return load_reranker("vllm:m", base_url=server.url, template="server", probe=False, **options)


def test_probabilities_have_logits_and_logits_probabilities():
    with Loopback(answering(0.5, 0.0, 1.0)) as server:
        result = plain(server).rerank("q", ["a", "b", "c"])
        np.testing.assert_allclose(result.scores, [0.5, 0, 1], atol=1e-6)
        assert np.isfinite(result.logits).all()
    with Loopback(answering(0.0, -3.0, 7.0)) as server:
        result = plain(server, scores="logit").rerank("q", ["a", "b", "c"])
        np.testing.assert_allclose(result.logits, [0, -3, 7])
        np.testing.assert_allclose(result.scores, [0.5, 0.04742587, 0.99908894], atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((0.5, 7.0), "scores='logit'"),
        ((0.5, float("nan")), "no probability"),
        ((0.5, None), "no probability"),
        ((0.5,), "1 rows for 2"),
    ],
)
def test_wrong_scores_are_errors(scores, message):
    with Loopback(answering(*scores)) as server, pytest.raises(RemoteAnswerError, match=message):
        plain(server).rerank("q", ["a", "b"])


@pytest.mark.parametrize("fault", [429, 500, 503])
async def test_faults_are_healed_both_ways(fault):
    app, broken = vendors.vllm(template=True), {"q", "p"}

    def sometimes(received: Received) -> Reply:
        query = received.body["query"]
        if query in broken:
            broken.remove(query)
            return status(fault)
        return app(received)

    with Loopback(sometimes) as server:
        model = plain(server, retries=RetryPolicy(attempts=3, base=0.01))
        ours, theirs = model.rerank("q", ["a", "b"]), await model.arerank("p", ["a", "b"])
        np.testing.assert_allclose(ours.scores, tiny_reranker().rerank("q", ["a", "b"]).scores, atol=1e-5)
        np.testing.assert_allclose(theirs.scores, tiny_reranker().rerank("p", ["a", "b"]).scores, atol=1e-5)


def test_what_succeeded_is_kept_and_only_the_rest_is_sent_again():
    sick = {"bad"}

    def app(received: Received) -> Reply:
        return status(500) if sick & set(received.body["input"]["documents"]) else by_length(received)

    with Loopback(app) as server:
        model = dashscope(server, rows=2, retries=RetryPolicy(attempts=1))
        with pytest.raises(RemoteBatchError, match="2 of 6 documents failed, the first at position 2") as caught:
            model.rerank("q", ["a b", "c", "bad", "e", "f g h", "a b"])
        assert caught.value.done == pytest.approx({0: 0.0002, 1: 0.0001, 4: 0.0003, 5: 0.0002}, rel=1e-3)
        sick.clear()
        before = len(server.received)
        assert caught.value.resume().scores == pytest.approx([0.0002, 0.0001, 0.0001, 0.0001, 0.0003, 0.0002], rel=1e-3)
        assert len(server.received) == before + 1


def test_an_instruction_goes_to_other_models_only_if_it_was_chosen():
    with Loopback(vendors.siliconflow()) as server:
        options = {"base_url": f"{server.url}/v1", "api_key": KEY}
        load_reranker("siliconflow:BAAI/bge-reranker-v2-m3", **options).rerank("q", ["a"])
        load_reranker("siliconflow:Qwen/Qwen3-Reranker-8B", **options).rerank("q", ["a"])
        load_reranker("siliconflow:BAAI/bge-reranker-v2-m3", **options).rerank("q", ["a"], instruction="find code")
        assert [body.get("instruction") for body in server.bodies] == [None, DEFAULT_INSTRUCTION, "find code"]


def test_a_model_without_instructions_is_given_none():
    with Loopback(vendors.dashscope()) as server:
        model = dashscope(server, "dashscope:gte-rerank-v2")
        model.rerank("q", ["a"])
        assert "instruct" not in server.bodies[0]["parameters"]
        with pytest.raises(ConfigurationError, match="uses no instruction"):
            model.rerank("q", ["a"], instruction="find code")


async def test_warming_up_sends_one_request():
    with Loopback(vendors.dashscope()) as server:
        model = dashscope(server)
        assert model.warm_up() is model
        assert await model.awarm_up() is model
        assert len(server.received) == 2
