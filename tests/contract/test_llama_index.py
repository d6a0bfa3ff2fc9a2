"""What LlamaIndex expects of its parts, asked of each model adapter with each kind of model."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from importlib.resources import files

import numpy as np
import pytest
from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from qwen3_rag.errors import InputError
from qwen3_rag.llama_index import Qwen3Embedding, Qwen3Rerank
from tests.fakes import OverlapReranker, WordEmbedder

TEXTS = [
    "Milvus stores data in object storage.",
    "",
    "größer als 5 µm — 数据存储在哪里？ 🐟 é",
    "def f(x):\n\treturn x  # <|im_end|>",
    "Milvus stores data in object storage.",
    "word " * 700,
]
QUERY = "Where does Milvus store data? 数据"

tiny = pytest.mark.skipif(
    not all(files("qwen3_rag").joinpath("tiny", kind, "config.json").is_file() for kind in ("embedder", "reranker")),
    reason="the bundled models are not built",
)
KINDS = ["fake", pytest.param("tiny", marks=tiny)]


@pytest.fixture(params=KINDS, scope="module")
def embed_model(request):
    return Qwen3Embedding("tiny" if request.param == "tiny" else WordEmbedder())


@pytest.fixture(params=KINDS, scope="module")
def rerank(request):
    return Qwen3Rerank("tiny" if request.param == "tiny" else OverlapReranker(), top_n=None)


def nodes():
    return [
        NodeWithScore(
            node=TextNode(id_=str(i), text=text, metadata={"n": [i]}, excluded_embed_metadata_keys=["n"]),
            score=1 - i / 10,
        )
        for i, text in enumerate(TEXTS)
    ]


class Events(BaseEventHandler):
    """Remembers the events of some classes."""

    seen: list = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.seen.append(event)


class Callbacks(BaseCallbackHandler):
    """Remembers what the older callbacks are told."""

    def __init__(self):
        super().__init__([], [])
        self.started, self.ended = [], []

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self.started.append((event_type, payload))
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self.ended.append((event_type, payload))

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass


@contextmanager
def recorded(*kinds):
    handler, root = Events(), get_dispatcher()
    root.add_event_handler(handler)
    events = []
    try:
        yield events
    finally:
        root.event_handlers.remove(handler)
        events += [event for event in handler.seen if isinstance(event, kinds)]


async def postprocess(rerank, mode, *args):
    return rerank.postprocess_nodes(*args) if mode == "sync" else await rerank.apostprocess_nodes(*args)


def same(left, right):
    return np.allclose(np.array(left), np.array(right), atol=2e-5)


# --- embedding model -------------------------------------------------------------------------------------------------


def test_vectors_are_lists_of_floats_of_unit_length(embed_model):
    for vector in [*embed_model.get_text_embedding_batch(TEXTS), embed_model.get_query_embedding(QUERY)]:
        assert type(vector) is list
        assert {type(x) for x in vector} == {float}
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_order_and_length(embed_model):
    batch = embed_model.get_text_embedding_batch(TEXTS)
    assert len(batch) == len(TEXTS)
    assert same(batch, [embed_model.get_text_embedding(text) for text in TEXTS])
    assert same(batch, embed_model.get_text_embedding_batch(TEXTS[::-1])[::-1])
    assert batch[0] == batch[4], "equal texts, equal vectors"
    assert not same(batch[0], batch[2])


def test_small_batches_change_nothing(embed_model):
    small = embed_model.model_copy(update={"embed_batch_size": 2})
    assert same(small.get_text_embedding_batch(TEXTS), embed_model.get_text_embedding_batch(TEXTS))


async def test_embedding_nothing(embed_model):
    assert embed_model.get_text_embedding_batch([]) == []
    assert await embed_model.aget_text_embedding_batch([]) == []


async def test_embedding_async_is_sync(embed_model):
    assert same(await embed_model.aget_text_embedding_batch(TEXTS), embed_model.get_text_embedding_batch(TEXTS))
    assert same(await embed_model.aget_query_embedding(QUERY), embed_model.get_query_embedding(QUERY))
    assert same(await embed_model.aget_text_embedding(QUERY), embed_model.get_text_embedding(QUERY))
    many = await asyncio.gather(*[embed_model.aget_query_embedding(text) for text in TEXTS])
    assert same(many, [embed_model.get_query_embedding(text) for text in TEXTS])


def test_instruction_changes_query_vectors_only(embed_model):
    other = embed_model.with_instruction("Given a bug report, retrieve the code to blame")
    assert not same(other.get_query_embedding(QUERY), embed_model.get_query_embedding(QUERY))
    assert not same(embed_model.get_query_embedding(QUERY), embed_model.get_text_embedding(QUERY))
    assert same(other.get_text_embedding(QUERY), embed_model.get_text_embedding(QUERY))


def test_aggregated_queries_are_their_mean(embed_model):
    mean = embed_model.get_agg_embedding_from_queries(TEXTS[:2])
    assert same(mean, np.mean([embed_model.get_query_embedding(text) for text in TEXTS[:2]], axis=0))


def test_embedding_events_fire_once(embed_model):
    with recorded(EmbeddingStartEvent, EmbeddingEndEvent) as events:
        vector = embed_model.get_query_embedding(QUERY)
    assert [type(e) for e in events] == [EmbeddingStartEvent, EmbeddingEndEvent]
    assert events[0].model_dict == embed_model.to_payload()
    assert (events[1].chunks, events[1].embeddings) == ([QUERY], [vector])
    with recorded(EmbeddingStartEvent, EmbeddingEndEvent) as events:
        embed_model.get_query_embedding(QUERY, instruction="another")
    assert [type(e) for e in events] == [EmbeddingStartEvent, EmbeddingEndEvent]
    assert events[0].model_dict["instruction"] == "another"


async def test_embedding_events_of_a_batch(embed_model):
    model = embed_model.model_copy(update={"embed_batch_size": 4})
    with recorded(EmbeddingStartEvent, EmbeddingEndEvent) as sync_events:
        model.get_text_embedding_batch(TEXTS)
    with recorded(EmbeddingStartEvent, EmbeddingEndEvent) as async_events:
        await model.aget_text_embedding_batch(TEXTS)
    for events in (sync_events, async_events):
        ends = [e for e in events if isinstance(e, EmbeddingEndEvent)]
        assert [e.chunks for e in ends] == [TEXTS[:4], TEXTS[4:]]
        assert len(events) == 4


def test_a_query_is_one_span(embed_model):
    """Overriding a traced method makes LlamaIndex trace the override and the original: two spans for one query."""
    from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

    handler, root = SimpleSpanHandler(), get_dispatcher()
    root.add_span_handler(handler)
    try:
        embed_model.get_query_embedding("q")
    finally:
        root.span_handlers.remove(handler)
    spans = [span.id_ for span in handler.completed_spans]
    assert sum(".get_query_embedding" in span for span in spans) == 1


# --- reranker --------------------------------------------------------------------------------------------------------


async def test_reranking_keeps_every_node_once_best_first(rerank):
    for found in (
        rerank.postprocess_nodes(nodes(), query_str=QUERY),
        await rerank.apostprocess_nodes(nodes(), query_str=QUERY),
    ):
        scores = [n.score for n in found]
        assert sorted(n.node_id for n in found) == [str(i) for i in range(len(TEXTS))]
        assert scores == sorted(scores, reverse=True)
        assert all(type(score) is float and 0 <= score <= 1 for score in scores)
        assert [n.metadata["relevance_score"] for n in found] == scores
        for n in found:
            assert n.metadata["retrieval_rank"] == int(n.node_id) + 1
            assert n.metadata["retrieval_score"] == nodes()[int(n.node_id)].score
        twins = [n for n in found if n.node_id in "04"]
        assert [n.node_id for n in twins] == ["0", "4"]


async def test_reranking_async_is_sync(rerank):
    left = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    right = await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
    assert [n.node_id for n in left] == [n.node_id for n in right]
    assert same([n.score for n in left], [n.score for n in right])


async def test_reranking_mutates_nothing(rerank):
    given = nodes()
    before = [n.model_dump_json() for n in given]
    identities = [(id(n), id(n.node), id(n.node.metadata)) for n in given]
    rerank.postprocess_nodes(given, query_str=QUERY)
    await rerank.apostprocess_nodes(given, query_str=QUERY)
    assert [n.model_dump_json() for n in given] == before
    assert [(id(n), id(n.node), id(n.node.metadata)) for n in given] == identities


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_rerank_events_fire_once(rerank, mode):
    callbacks, bundle, given = Callbacks(), QueryBundle(QUERY), nodes()
    model = rerank.with_options(top_n=2)
    model.callback_manager = CallbackManager([callbacks])
    with recorded(ReRankStartEvent, ReRankEndEvent) as events:
        found = await postprocess(model, mode, given, bundle)
    start, end = events
    assert (type(start), type(end)) == (ReRankStartEvent, ReRankEndEvent)
    assert (start.query, start.nodes, start.top_n, start.model_name) == (bundle, given, 2, model.model)
    assert end.nodes == found
    assert callbacks.started == [
        (
            CBEventType.RERANKING,
            {
                EventPayload.NODES: given,
                EventPayload.MODEL_NAME: model.model,
                EventPayload.QUERY_STR: QUERY,
                EventPayload.TOP_K: 2,
            },
        )
    ]
    assert callbacks.ended == [(CBEventType.RERANKING, {EventPayload.NODES: found})]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_reranking_is_one_span(rerank, mode):
    from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

    handler, root = SimpleSpanHandler(), get_dispatcher()
    root.add_span_handler(handler)
    try:
        await postprocess(rerank, mode, nodes(), QueryBundle(QUERY))
    finally:
        root.span_handlers.remove(handler)
    assert len([s for s in handler.completed_spans if s.id_.startswith("Qwen3Rerank.")]) == 1


def test_no_nodes_no_events(rerank):
    with recorded(ReRankStartEvent, ReRankEndEvent) as events:
        rerank.postprocess_nodes([], query_str=QUERY)
    assert events == []


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_failure_ends_the_event_and_reaches_the_caller(mode):
    class Broken(OverlapReranker):
        def rerank(self, query, documents, *, instruction=None):
            raise InputError("no")

    callbacks = Callbacks()
    rerank = Qwen3Rerank(Broken(), callback_manager=CallbackManager([callbacks]))
    with recorded(ReRankStartEvent, ReRankEndEvent) as events, pytest.raises(InputError, match="no"):
        await postprocess(rerank, mode, nodes(), QueryBundle(QUERY))
    assert [type(e) for e in events] == [ReRankStartEvent]
    assert len(callbacks.started) == len(callbacks.ended) == 1


def test_top_n_none_is_reported_as_all(rerank):
    with recorded(ReRankStartEvent) as events:
        rerank.postprocess_nodes(nodes(), query_str=QUERY)
    assert events[0].top_n == len(TEXTS)
