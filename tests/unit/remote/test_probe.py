"""The probe, against servers that give the published values if they are spoken to rightly, and noise if not."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from qwen3_rag import load_embedder, load_reranker
from qwen3_rag.errors import ConfigurationError, ModelCheckError
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, END_OF_TEXT, query_text
from qwen3_rag.remote.probe import EMBEDDING_EXAMPLE, RERANK_EXAMPLE, to_logits
from qwen3_rag.remote.templates import framed_document, framed_query
from tests.qwen_models import real_tokenizer
from tests.remote_server.loopback import Loopback, Received, Reply
from tests.remote_server.vendors import openai_data


def noise(text: str, width: int = 16) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = (
        np.abs(np.random.default_rng(seed).standard_normal(width)) + 2
    )  # all much alike, as without a trained model
    return vector / np.linalg.norm(vector)


def published_vectors() -> dict[str, np.ndarray]:
    """Vectors whose cosines are the published ones."""
    axes = np.eye(16)
    out = dict(zip(EMBEDDING_EXAMPLE.documents, axes[:2], strict=True))
    for number, (query, row) in enumerate(zip(EMBEDDING_EXAMPLE.queries, EMBEDDING_EXAMPLE.similarities, strict=True)):
        rest = np.sqrt(1 - sum(value * value for value in row))
        out[query_text(query)] = row[0] * axes[0] + row[1] * axes[1] + rest * axes[2 + number]
    return out


@dataclass
class EmbeddingServer:
    """Appends the end token or not, normalises or not, counts tokens or not, works or not."""

    appends: bool = True
    length: float = 1.0
    counts: bool = True
    works: bool = True

    def __call__(self, received: Received) -> Reply:
        known, vectors, tokens = published_vectors(), [], 0
        for text in received.body["input"]:
            bare = text.removesuffix(END_OF_TEXT)
            ends = (text != bare) + self.appends
            right = self.works and ends == 1
            vectors.append((known.get(bare, noise(bare)) if right else noise(text)) * self.length)
            tokens += self.tokens_of(bare) + ends
        return Reply(openai_data([v.tolist() for v in vectors], tokens if self.counts else 0))

    @staticmethod
    def tokens_of(text: str) -> int:
        return TOKENS.setdefault(text, 5)


TOKENS: dict[str, int] = dict(
    zip((*map(query_text, EMBEDDING_EXAMPLE.queries), *EMBEDDING_EXAMPLE.documents), (22, 18, 8, 37), strict=True)
)
EMBEDDERS = [
    EmbeddingServer(),
    EmbeddingServer(counts=False),
    EmbeddingServer(appends=False),
    EmbeddingServer(appends=False, counts=False),
    EmbeddingServer(length=3.5),
    EmbeddingServer(appends=False, length=0.2),
]


def embedder(server: Loopback, **options):
    return load_embedder("llamacpp:m", base_url=server.url, **options)


@pytest.mark.parametrize("app", EMBEDDERS, ids=str)
def test_an_embedding_server_is_found_out(app):
    with Loopback(app) as server:
        model = embedder(server)
        probe = model.probe()
        assert (probe.append_eos, probe.normalizes, probe.published) == (not app.appends, app.length == 1.0, True)
        np.testing.assert_allclose(probe.similarities, EMBEDDING_EXAMPLE.similarities, atol=1e-6)
        queries = model.embed_queries(EMBEDDING_EXAMPLE.queries).vectors
        documents = model.embed_documents(EMBEDDING_EXAMPLE.documents).vectors
        np.testing.assert_allclose(queries @ documents.T, EMBEDDING_EXAMPLE.similarities, atol=1e-6)
        assert np.allclose(np.linalg.norm(queries, axis=1), 1)


async def test_it_is_found_out_once_by_the_first_call_of_many():
    with Loopback(EmbeddingServer(appends=False, counts=False)) as server:
        model = embedder(server)
        await asyncio.gather(*(model.aembed_documents([f"text {n}"]) for n in range(10)))
        assert len(server.received) == 4 + 10  # queries and documents, without and with the end token
        assert all(text.endswith(END_OF_TEXT) for body in server.bodies[4:] for text in body["input"])
        assert (await model.aprobe()).append_eos


@pytest.mark.parametrize("counts", [True, False])
def test_an_embedding_server_that_does_not_work_is_refused(counts):
    with Loopback(EmbeddingServer(works=False, counts=counts)) as server:
        model = embedder(server)
        for call in (model.warm_up, model.probe, lambda: model.embed_documents(["a"])):
            with pytest.raises(
                ModelCheckError, match=r"near-random vectors.*0\.76 0\.14 / 0\.14 0\.60.*--pooling last"
            ):
                call()
        assert embedder(server, probe=False).embed_documents(["a"]).vectors.shape == (1, 16)


def test_a_width_of_the_instance_does_not_change_the_verdict():
    class Wide(EmbeddingServer):
        def __call__(self, received: Received) -> Reply:
            data = super().__call__(received).body
            for row in data["data"]:
                row["embedding"] = [0.0] * 40 + row["embedding"]
            return Reply(data)

    with Loopback(Wide()) as server:
        assert embedder(server, dimensions=32).probe().published


def test_a_chosen_end_token_is_only_checked():
    with Loopback(EmbeddingServer(appends=False)) as server:
        assert embedder(server, append_eos=True).probe().append_eos
        with pytest.raises(ModelCheckError):
            embedder(server, append_eos=False).probe()


# --- reranking -------------------------------------------------------------------------------------------------------


@dataclass
class RerankServer:
    """Puts the prompt or not, uses an instruction or not, gives probabilities or logits, counts tokens or not, works or not."""

    frames: bool = True
    uses_instruction: bool = True
    logits: bool = False
    counts: bool = True
    works: bool = True

    def __call__(self, received: Received) -> Reply:
        body = received.body
        query, documents = body["query"], body["documents"]
        instruction = body.get("chat_template_kwargs", {}).get("instruction", DEFAULT_INSTRUCTION)
        if not self.uses_instruction:
            instruction = DEFAULT_INSTRUCTION
        scores = np.array([self.probability(query, document, instruction) for document in documents])
        rows = [
            {"index": i, "relevance_score": float(s)}
            for i, s in enumerate(to_logits(scores) if self.logits else scores)
        ]
        bare = query == RERANK_EXAMPLE.query
        tokens = RERANK_EXAMPLE.tokens if bare and not self.frames else RERANK_EXAMPLE.framed_tokens
        return Reply({"results": rows, "usage": {"total_tokens": tokens if self.counts else 0}})

    def probability(self, query: str, document: str, instruction: str) -> float:
        known = dict(zip(RERANK_EXAMPLE.documents, RERANK_EXAMPLE.probabilities, strict=True))
        if not self.frames:
            framed = {framed_document(text): value for text, value in known.items()}
            known = framed if query == framed_query(RERANK_EXAMPLE.query, DEFAULT_INSTRUCTION) else {}
        if self.works and document in known and (self.frames is (query == RERANK_EXAMPLE.query)):
            return known[document] * (0.9 if instruction != DEFAULT_INSTRUCTION else 1.0)
        return 0.4 + len(document) % 7 / 100


RERANKERS = [
    RerankServer(),
    RerankServer(counts=False),
    RerankServer(uses_instruction=False),
    RerankServer(frames=False),
    RerankServer(frames=False, counts=False),
    RerankServer(logits=True),
    RerankServer(frames=False, logits=True, counts=False),
]


def reranker(server: Loopback, **options):
    return load_reranker("vllm:m", base_url=server.url, **options)


@pytest.mark.parametrize("app", RERANKERS, ids=str)
def test_a_reranking_server_is_found_out(app):
    with Loopback(app) as server:
        model = reranker(server)
        probe = model.probe()
        assert probe.template == ("server" if app.frames else "client")
        assert probe.scores == ("logit" if app.logits else "probability")
        assert probe.instructions == (app.frames and app.uses_instruction)
        assert probe.published
        result = model.rerank(RERANK_EXAMPLE.query, RERANK_EXAMPLE.documents)
        np.testing.assert_allclose(result.scores, RERANK_EXAMPLE.probabilities, atol=1e-3)


def test_an_instruction_that_the_server_would_ignore_is_refused():
    message = "uses no instruction of the request, got 'find code'"
    with Loopback(RerankServer(uses_instruction=False)) as server, pytest.raises(ConfigurationError, match=message):
        reranker(server).rerank("q", ["a"], instruction="find code")
    with Loopback(RerankServer(frames=False)) as server:  # the client puts the prompt, so any instruction works
        reranker(server).rerank("q", ["a"], instruction="find code")
        assert "<Instruct>: find code" in server.bodies[-1]["query"]


@pytest.mark.parametrize(
    ("app", "advice"),
    [
        (RerankServer(works=False), "needs a GGUF file with cls.output"),
        (RerankServer(works=False, counts=False), "scores text without the Qwen3 prompt.*--hf-overrides"),
        (RerankServer(frames=False, works=False), "scores text without the Qwen3 prompt"),
    ],
)
def test_a_reranking_server_that_does_not_work_is_refused(app, advice):
    with Loopback(app) as server:
        model = reranker(server)
        for call in (model.warm_up, model.probe, lambda: model.rerank("q", ["a"])):
            with pytest.raises(ModelCheckError, match=f"near-random scores: .*{advice}"):
                call()
        assert reranker(server, template="client", probe=False).rerank("q", ["a"]).scores.shape == (1,)


def test_a_chosen_template_is_only_checked():
    with Loopback(RerankServer(frames=False)) as server:
        assert reranker(server, template="client").probe().template == "client"
        with pytest.raises(ModelCheckError):
            reranker(server, template="server").probe()


def test_hosted_models_are_not_probed():
    def app(received: Received) -> Reply:
        return Reply({"output": {"results": [{"index": 0, "relevance_score": 0.5}]}})

    with Loopback(app) as server:
        load_reranker("dashscope:qwen3-rerank", base_url=server.url, api_key="k").rerank("q", ["a"])
        assert len(server.received) == 1


def test_the_examples_token_counts_are_those_of_qwen_s_vocabulary():
    tokenizer: Any = real_tokenizer(eos=False)

    def count(*texts: str) -> int:
        return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)

    queries = [query_text(query) for query in EMBEDDING_EXAMPLE.queries]
    assert count(*queries, *EMBEDDING_EXAMPLE.documents) == EMBEDDING_EXAMPLE.tokens == sum(list(TOKENS.values())[:4])
    example = RERANK_EXAMPLE
    assert sum(count(example.query, text) for text in example.documents) == example.tokens
    query = framed_query(example.query, DEFAULT_INSTRUCTION)
    assert sum(count(query, framed_document(text)) for text in example.documents) == example.framed_tokens
