"""What every caller relies on, asked of every back end: the local tiny models, and each kind of server.

The servers run on the loopback interface, behave as their vendors document, and compute with the same tiny models, so
that a remote result is right only if the prompt, the order and the reading of the answer are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from qwen3_rag import load_embedder, load_reranker
from qwen3_rag.cache import CachedEmbedder
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from qwen3_rag.types import Embedder, Reranker
from tests.remote_server import vendors
from tests.remote_server.engine import tiny_embedder, tiny_reranker
from tests.remote_server.loopback import App, Loopback
from tests.remote_server.vendors import KEY

TEXTS = [
    "Milvus keeps inserted data in object storage.",
    "größer als 5 µm — 数据存储在哪里？ 🐟 é",
    "def f(x):\n\treturn x  # <|im_end|>\r\n",
    "  two  spaces ",
    "word " * 150,
    "Bread needs yeast.",
    *(f"Segment {number} is sealed and flushed." for number in range(40)),
]
QUERIES = ["Where is data stored?", "数据存储在哪里？\n(zh)", "What does bread need?"]
CODE = "Given a task, retrieve code that solves it"


@dataclass(frozen=True)
class Case:
    """One back end: how it is named, what it is made with, and what it can't do."""

    name: str
    app: Callable[[], App] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    exact: bool = True
    empty_texts: bool = True
    instructions: bool = True


KEYED = {"api_key": KEY}
EMBEDDERS = [
    Case("tiny", options={"dtype": "float32"}),
    Case("dashscope:text-embedding-v4", vendors.dashscope, {**KEYED, "dimensions": 128}, empty_texts=False),
    Case(
        "dashscope:text-embedding-v4",
        vendors.dashscope,
        {**KEYED, "dimensions": 128, "api": "compatible"},
        empty_texts=False,
    ),
    Case("vllm:tiny", vendors.vllm),
    Case("sglang:tiny", vendors.sglang, path="/v1"),
    Case("tei:tiny", vendors.tei),
    Case("llamacpp:tiny", vendors.llamacpp),
    Case("ollama:tiny", vendors.ollama, empty_texts=False),
    Case("infinity:tiny", vendors.infinity),
    Case("siliconflow:tiny", vendors.siliconflow, KEYED, path="/v1"),
    Case("openai:tiny", vendors.openai, KEYED, path="/v1"),
]
UNPROBED = {"probe": False}
RERANKERS = [
    Case("tiny", options={"dtype": "float32"}),
    Case("dashscope:qwen3-rerank", vendors.dashscope, KEYED),
    Case("dashscope:qwen3-rerank", lambda: vendors.dashscope(rerank="flat"), KEYED),
    Case("dashscope:qwen3.7-text-rerank", vendors.dashscope, {**KEYED, "api": "compatible"}),
    Case("vllm:tiny", vendors.vllm, {**UNPROBED, "template": "client"}),
    Case("vllm:tiny", lambda: vendors.vllm(template=True), {**UNPROBED, "template": "server"}),
    Case("sglang:tiny", vendors.sglang, {**UNPROBED, "template": "server"}),
    Case("tei:tiny", vendors.tei, {**UNPROBED, "template": "client"}),
    Case("llamacpp:tiny", vendors.llamacpp, {**UNPROBED, "template": "server"}, instructions=False),
    Case("infinity:tiny", vendors.infinity, {**UNPROBED, "template": "client"}),
    Case("jina:tiny", vendors.jina, KEYED, path="/v1", instructions=False),
    Case("siliconflow:tiny", vendors.siliconflow, KEYED, path="/v1"),
    Case("openai:tiny", vendors.openai, KEYED, path="/v1", instructions=False),
]


def label(case: Case) -> str:
    marks = [case.options.get(name) for name in ("api", "template") if case.options.get(name)]
    flat = ["flat"] if case.app is not None and "lambda" in repr(case.app) and not marks else []
    return "-".join([case.name, *marks, *flat])


def started(case: Case, stack: ExitStack) -> dict[str, Any]:
    """Starts the case's server, if it has one, and returns the options that lead to it."""
    if case.app is None:
        return dict(case.options)
    server = stack.enter_context(Loopback(case.app()))
    return {**case.options, "base_url": server.url + case.path}


@pytest.fixture(params=EMBEDDERS, ids=label, scope="module")
def embedding(request: pytest.FixtureRequest) -> Iterator[tuple[Case, Embedder]]:
    with ExitStack() as stack:
        embedder = load_embedder(request.param.name, **started(request.param, stack))
        yield request.param, stack.enter_context(embedder)


@pytest.fixture(params=RERANKERS, ids=label, scope="module")
def reranking(request: pytest.FixtureRequest) -> Iterator[tuple[Case, Reranker]]:
    with ExitStack() as stack:
        reranker = load_reranker(request.param.name, **started(request.param, stack))
        yield request.param, stack.enter_context(reranker)


# --- embedders -------------------------------------------------------------------------------------------------------


def test_an_embedder_speaks_the_protocol(embedding):
    _, embedder = embedding
    assert isinstance(embedder, Embedder)
    assert embedder.dimensions == 128
    assert embedder.instruction == DEFAULT_INSTRUCTION
    assert embedder.model_id


def test_documents_are_embedded_as_the_local_model_embeds_them(embedding):
    _, embedder = embedding
    result = embedder.embed_documents(TEXTS)
    assert result.vectors.shape == (len(TEXTS), 128)
    assert result.vectors.dtype == np.float32
    np.testing.assert_allclose(result.vectors, tiny_embedder().embed_documents(TEXTS).vectors, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-5)
    assert result.truncated == ()


def test_queries_are_embedded_under_their_instruction(embedding):
    _, embedder = embedding
    for instruction in (None, CODE):
        ours = embedder.embed_queries(QUERIES, instruction=instruction).vectors
        local = tiny_embedder().embed_queries(QUERIES, instruction=instruction).vectors
        np.testing.assert_allclose(ours, local, atol=1e-5)
    assert np.abs(embedder.embed_queries(QUERIES).vectors - embedder.embed_documents(QUERIES).vectors).max() > 1e-2


def test_one_text_has_the_same_vector_alone_and_among_others(embedding):
    _, embedder = embedding
    together = embedder.embed_documents(TEXTS).vectors
    for position in (0, 4, len(TEXTS) - 1):
        np.testing.assert_allclose(
            embedder.embed_documents([TEXTS[position]]).vectors[0], together[position], atol=1e-5
        )


def test_nothing_in_nothing_out(embedding):
    _, embedder = embedding
    embedder.embed_documents(["a"])  # now any of them knows its width
    assert embedder.embed_documents([]).vectors.shape == (0, 128)
    assert embedder.embed_queries([], dimensions=64).vectors.shape == (0, 64)


def test_an_empty_text_is_a_text_or_an_error_that_names_it(embedding):
    case, embedder = embedding
    if case.empty_texts:
        vectors = embedder.embed_documents(["a", ""]).vectors
        np.testing.assert_allclose(vectors, tiny_embedder().embed_documents(["a", ""]).vectors, atol=1e-5)
    else:
        with pytest.raises(InputError, match=r"texts\[1\] is empty"):
            embedder.embed_documents(["a", ""])


def test_equal_texts_have_equal_vectors(embedding):
    _, embedder = embedding
    vectors = embedder.embed_documents(["a b", "c", "a b", "a b"]).vectors
    np.testing.assert_array_equal(vectors[[0, 0]], vectors[[2, 3]])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_a_width_per_call_is_cut_and_normalised(embedding):
    _, embedder = embedding
    for embed, local in (
        (embedder.embed_documents, tiny_embedder().embed_documents),
        (embedder.embed_queries, tiny_embedder().embed_queries),
    ):
        narrow = embed(TEXTS[:12], dimensions=64).vectors
        np.testing.assert_allclose(narrow, local(TEXTS[:12], dimensions=64).vectors, atol=1e-5)
    assert embedder.embed_documents(["a"]).vectors.shape == (1, 128)


@pytest.mark.parametrize("width", [31, -64, 1.5, True, "64"])
def test_an_impossible_width_is_refused(embedding, width):
    with pytest.raises(ConfigurationError, match="dimensions"):
        embedding[1].embed_documents(["a"], dimensions=width)


@pytest.mark.parametrize("texts", ["one text", b"bytes", ["a", 1], ["a", None], None, map(str, "ab")])
def test_what_is_no_list_of_texts_is_refused(embedding, texts):
    with pytest.raises(InputError):
        embedding[1].embed_documents(texts)


def test_a_blank_instruction_is_refused(embedding):
    with pytest.raises(ConfigurationError, match="instruction"):
        embedding[1].embed_queries(["a"], instruction=" ")


async def test_async_is_the_same(embedding):
    _, embedder = embedding
    documents, queries, narrow = await asyncio.gather(
        embedder.aembed_documents(TEXTS),
        embedder.aembed_queries(QUERIES, instruction=CODE),
        embedder.aembed_documents(TEXTS, dimensions=64),
    )
    np.testing.assert_allclose(documents.vectors, embedder.embed_documents(TEXTS).vectors, atol=1e-6)
    np.testing.assert_allclose(queries.vectors, embedder.embed_queries(QUERIES, instruction=CODE).vectors, atol=1e-6)
    np.testing.assert_allclose(narrow.vectors, embedder.embed_documents(TEXTS, dimensions=64).vectors, atol=1e-6)


def test_a_call_changes_neither_its_input_nor_the_embedder(embedding):
    _, embedder = embedding
    texts, before = [*TEXTS[:3]], embedder.model_id
    first = embedder.embed_queries(QUERIES).vectors
    embedder.embed_documents(texts, dimensions=64)
    embedder.embed_queries(texts, instruction=CODE, dimensions=32 if embedder.model_id == "tiny" else 64)
    assert texts == TEXTS[:3]
    assert (embedder.model_id, embedder.dimensions, embedder.instruction) == (before, 128, DEFAULT_INSTRUCTION)
    np.testing.assert_array_equal(embedder.embed_queries(QUERIES).vectors, first)


def test_a_cache_around_it_is_invisible(embedding):
    class Storage(dict):
        def mget(self, keys):
            return [self.get(key) for key in keys]

        def mset(self, pairs):
            self.update(pairs)

    _, embedder = embedding
    cached = CachedEmbedder(embedder, Storage())
    for _ in range(2):
        np.testing.assert_allclose(
            cached.embed_documents(TEXTS).vectors, embedder.embed_documents(TEXTS).vectors, atol=1e-6
        )
        np.testing.assert_allclose(
            cached.embed_queries(TEXTS[:2]).vectors, embedder.embed_queries(TEXTS[:2]).vectors, atol=1e-6
        )


# --- rerankers -------------------------------------------------------------------------------------------------------


def test_a_reranker_speaks_the_protocol(reranking):
    _, reranker = reranking
    assert isinstance(reranker, Reranker)
    assert reranker.instruction == DEFAULT_INSTRUCTION
    assert reranker.model_id


def test_documents_are_scored_as_the_local_model_scores_them(reranking):
    _, reranker = reranking
    documents = [
        text for text in TEXTS if "<|" not in text
    ]  # a server sees those otherwise; see the templates' own tests
    for query in QUERIES:
        ours, local = reranker.rerank(query, documents), tiny_reranker().rerank(query, documents)
        assert ours.scores.shape == ours.logits.shape == (len(documents),)
        assert ours.scores.dtype == ours.logits.dtype == np.float32
        np.testing.assert_allclose(ours.scores, local.scores, atol=1e-5)
        np.testing.assert_allclose(ours.logits, local.logits, atol=1e-3)
        assert ours.truncated == ()


def test_an_instruction_per_call_is_used_or_refused(reranking):
    case, reranker = reranking
    if case.instructions:
        ours = reranker.rerank(QUERIES[0], TEXTS[:2], instruction=CODE)
        np.testing.assert_allclose(
            ours.scores, tiny_reranker().rerank(QUERIES[0], TEXTS[:2], instruction=CODE).scores, atol=1e-5
        )
    else:
        with pytest.raises(ConfigurationError, match="uses no instruction"):
            reranker.rerank(QUERIES[0], TEXTS[:2], instruction=CODE)


def test_pairs_with_several_queries_keep_their_order(reranking):
    _, reranker = reranking
    pairs = [(query, text) for text in (TEXTS[0], TEXTS[5], TEXTS[0]) for query in QUERIES]
    np.testing.assert_allclose(reranker.score_pairs(pairs).scores, tiny_reranker().score_pairs(pairs).scores, atol=1e-5)


def test_no_documents_no_scores(reranking):
    _, reranker = reranking
    assert reranker.rerank("q", []).scores.shape == reranker.score_pairs([]).logits.shape == (0,)


def test_equal_documents_have_equal_scores(reranking):
    _, reranker = reranking
    scores = reranker.rerank(QUERIES[0], [TEXTS[0], TEXTS[5], TEXTS[0]]).scores
    assert scores[0] == scores[2] != scores[1]


def test_an_empty_document_has_a_score(reranking):
    _, reranker = reranking
    ours = reranker.rerank(QUERIES[0], ["", TEXTS[0]]).scores
    np.testing.assert_allclose(ours, tiny_reranker().rerank(QUERIES[0], ["", TEXTS[0]]).scores, atol=1e-5)


@pytest.mark.parametrize("documents", ["one", ["a", 2], None, map(str, "ab")])
def test_what_is_no_list_of_documents_is_refused(reranking, documents):
    with pytest.raises(InputError):
        reranking[1].rerank("q", documents)


@pytest.mark.parametrize("pairs", [["qd"], [("q",)], [("q", "d", "e")], [("q", 1)], [{"q": 1, "d": 2}], [None]])
def test_what_is_no_pair_is_refused(reranking, pairs):
    with pytest.raises(InputError, match=r"pairs\[0\]"):
        reranking[1].score_pairs(pairs)


@pytest.mark.parametrize("pairs", [None, zip(["q"], ["d"], strict=True)])
def test_what_is_no_list_of_pairs_is_refused(reranking, pairs):
    with pytest.raises(InputError, match="list of pairs"):
        reranking[1].score_pairs(pairs)


async def test_async_reranking_is_the_same(reranking):
    _, reranker = reranking
    pairs = [(QUERIES[0], TEXTS[0]), (QUERIES[1], TEXTS[1])]
    one, several = await asyncio.gather(reranker.arerank(QUERIES[0], TEXTS), reranker.ascore_pairs(pairs))
    np.testing.assert_allclose(one.scores, reranker.rerank(QUERIES[0], TEXTS).scores, atol=1e-6)
    np.testing.assert_allclose(several.scores, reranker.score_pairs(pairs).scores, atol=1e-6)


def test_a_call_changes_neither_its_input_nor_the_reranker(reranking):
    _, reranker = reranking
    documents, before = TEXTS[:4], reranker.model_id
    first = reranker.rerank(QUERIES[0], documents).scores
    reranker.score_pairs([(QUERIES[1], documents[0])])
    assert documents == TEXTS[:4]
    assert (reranker.model_id, reranker.instruction) == (before, DEFAULT_INSTRUCTION)
    np.testing.assert_array_equal(reranker.rerank(QUERIES[0], documents).scores, first)
