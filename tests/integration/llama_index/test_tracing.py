"""What LlamaIndex's instrumentation is told of a retrieval: a span for every stage in its place, and the usual events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import QueryBundle
from pydantic import Field

from qwen3_rag.errors import CollectionError, InputError
from qwen3_rag.llama_index import MilvusStore, Qwen3Retriever, create_query_engine
from qwen3_rag.thinking import LEARNED
from tests.chat_server import ChatServer
from tests.fakes import OverlapReranker, SparseWordEmbedder, WordEmbedder
from tests.llama_index_llm import connect

QUERY = "how is data stored"
TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored here"]
NAMES = ["a", "b", "c"]


class Events(BaseEventHandler):
    seen: list[Any] = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.seen.append(event)


@dataclass
class Told:
    """What was told: events, and spans with the names of those around them, the outermost first."""

    spans: SimpleSpanHandler = field(default_factory=SimpleSpanHandler)
    events: Events = field(default_factory=Events)

    def paths(self) -> Counter[tuple[str, ...]]:
        spans = [*self.spans.completed_spans, *self.spans.dropped_spans]
        parents = {span.id_: span.parent_id for span in spans}
        return Counter(tuple(self._path(span.id_, parents)) for span in spans)

    def _path(self, id_: str, parents: dict[str, str | None]) -> list[str]:
        above = parents.get(id_)
        return [*(self._path(above, parents) if above in parents else []), name(id_)]

    def __getitem__(self, kind: str) -> list[Any]:
        return [event for event in self.events.seen if event.class_name() == kind]


def name(id_: str) -> str:
    return id_.partition("-")[0]


@contextmanager
def told() -> Iterator[Told]:
    record, root = Told(), get_dispatcher()
    root.add_span_handler(record.spans)
    root.add_event_handler(record.events)
    try:
        yield record
    finally:
        root.span_handlers.remove(record.spans)
        root.event_handlers.remove(record.events)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return tmp_path_factory.mktemp("tracing") / "milvus.db"


@pytest.fixture(scope="module")
def parts(uri):
    parts = WordEmbedder(), OverlapReranker()
    for collection in NAMES:
        Qwen3Retriever.from_texts([f"{t} {collection}" for t in TEXTS], *parts, uri=uri, collection=collection)
    return parts


@pytest.fixture
def retriever(uri, parts):
    with MilvusStore(uri, "a") as store:
        yield Qwen3Retriever.from_store(store, *parts, k=3, top_n=2)


@pytest.fixture
def several(uri, parts):
    return Qwen3Retriever.from_collections(NAMES, *parts, uri=uri, k=3, top_n=4)


@pytest.fixture(params=["sync", "async"])
def way(request):
    return request.param


async def asked(way, retriever, query):
    return retriever.retrieve(query) if way == "sync" else await retriever.aretrieve(query)


def spans(way: str) -> dict[str, str]:
    a = "" if way == "sync" else "a"
    return {
        "outer": f"Qwen3Retriever.{a}retrieve",
        "work": f"Qwen3Retriever._{a}retrieve",
        "source": f"VectorIndexRetriever.{a}retrieve",
        "fetch": f"VectorIndexRetriever._{a}retrieve",
        "embed": f"Qwen3Embedding.{a}get_query_embedding",
        "search": "MilvusStore.query",
        "rerank": f"Qwen3Rerank._{a}postprocess_nodes",
    }


async def test_every_stage_is_a_span_and_tells_its_events(retriever, way):
    bundle = QueryBundle(QUERY)
    with told() as record:
        found = await asked(way, retriever, bundle)
    s, paths = spans(way), record.paths()
    source = (s["outer"], s["work"], s["source"], s["fetch"])
    assert {(*source, s["embed"]), (*source, s["search"])} <= paths.keys()
    assert [path[:2] for path in paths if path[-1] == s["rerank"]] == [(s["outer"], s["work"])]
    assert set(paths.values()) == {1}, "nothing is traced twice"
    assert record.spans.open_spans == {}
    assert [event.class_name() for event in record.events.seen] == [
        "RetrievalStartEvent",
        "RetrievalStartEvent",
        "EmbeddingStartEvent",
        "EmbeddingEndEvent",
        "RetrievalEndEvent",
        "ReRankStartEvent",
        "ReRankEndEvent",
        "RetrievalEndEvent",
    ]
    assert {event.str_or_query_bundle.query_str for event in record["RetrievalStartEvent"]} == {QUERY}
    inner, outer = record["RetrievalEndEvent"]
    assert (len(inner.nodes), outer.nodes) == (3, found)
    [start], [end] = record["ReRankStartEvent"], record["ReRankEndEvent"]
    assert (start.query.query_str, start.nodes, start.model_name) == (QUERY, inner.nodes, "fake/overlap")
    assert end.nodes == found
    assert record["EmbeddingStartEvent"][0].model_dict["model_name"] == "fake/words"
    assert record["EmbeddingEndEvent"][0].chunks == [QUERY]
    places = {event.class_name(): name(event.span_id) for event in record.events.seen}
    assert (places["EmbeddingStartEvent"], places["ReRankEndEvent"]) == (s["embed"], s["rerank"])
    assert bundle.embedding is None


async def test_several_collections_are_searched_below_the_one_retrieval(several, way):
    with told() as record:
        await asked(way, several, QUERY)
    s, paths = spans(way), record.paths()
    work = (s["outer"], s["work"])
    assert paths[*work, s["embed"]] == 1
    assert paths[*work, s["source"], s["fetch"], s["search"]] == 3
    assert [path[-1] for path in paths].count(s["rerank"]) == 1
    assert len(record["EmbeddingStartEvent"]) == 1
    assert len(record["RetrievalEndEvent"]) == 4


async def test_a_sparse_vector_of_the_model_has_a_span_and_events_of_its_own(uri, way):
    embedder = SparseWordEmbedder()
    with MilvusStore(uri, "sparse", sparse="model") as store:
        with told() as filling:
            retriever = Qwen3Retriever.from_texts(TEXTS, embedder, OverlapReranker(), store=store, mode="hybrid", k=3)
        with told() as record:
            await asked(way, retriever, QUERY)
    assert filling["SparseEmbeddingEndEvent"][0].chunks == TEXTS
    s, paths = spans(way), record.paths()
    assert paths[s["outer"], s["work"], "Qwen3Embedding.sparse_query"] == 1
    [end] = record["SparseEmbeddingEndEvent"]
    assert (end.chunks, set(end.embeddings[0].values()), len(end.embeddings[0])) == ([QUERY], {1.0}, 4)
    assert len(record["SparseEmbeddingStartEvent"]) == len(record["EmbeddingStartEvent"]) == 1


async def test_calls_at_the_same_time_have_a_tree_each(several, way):
    with told() as record:
        if way == "sync":
            await asyncio.gather(*(asyncio.to_thread(several.retrieve, f"{QUERY} {i}") for i in range(4)))
        else:
            await asyncio.gather(*(several.aretrieve(f"{QUERY} {i}") for i in range(4)))
    s, paths = spans(way), record.paths()
    assert paths[s["outer"],] == 4
    assert paths[s["outer"], s["work"], s["source"], s["fetch"], s["search"]] == 12


async def test_an_error_drops_the_spans_of_its_stage_and_of_those_around_it(uri, parts, way):
    Qwen3Retriever.from_texts(TEXTS, *parts, store=MilvusStore(uri, "wordless", sparse=None))
    retriever = Qwen3Retriever.from_store(MilvusStore(uri, "wordless"), *parts, mode="sparse")
    with told() as record, pytest.raises(CollectionError):
        await asked(way, retriever, QUERY)
    s = spans(way)
    assert [name(span.id_) for span in record.spans.dropped_spans] == [
        *(s[key] for key in ("search", "fetch", "source", "work", "outer"))
    ]
    assert record.spans.open_spans == {}
    assert record["ReRankStartEvent"] == record["RetrievalEndEvent"] == []


async def test_a_reranker_that_fails_is_told_as_such(retriever, way, monkeypatch):
    def fail(*args, **kwargs):
        raise InputError("no")

    async def afail(*args, **kwargs):
        raise InputError("no")

    monkeypatch.setattr(retriever._reranker.reranker, "rerank", fail)
    monkeypatch.setattr(retriever._reranker.reranker, "arerank", afail)
    with told() as record, pytest.raises(InputError):
        await asked(way, retriever, QUERY)
    s = spans(way)
    dropped = {name(span.id_) for span in record.spans.dropped_spans}
    assert {s["rerank"], s["work"], s["outer"]} <= dropped
    assert s["search"] not in dropped
    assert all(event.err_str == "no" for event in record["SpanDropEvent"])


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def llm():
    LEARNED.clear()
    with ChatServer() as server:
        server.reply("Here [1].", reasoning="Hm.", times=None)
        llm = connect(server)
        yield llm
        llm.close()
        await llm.aclose()
    LEARNED.clear()


EVENTS = [
    *("QueryStartEvent", "RetrievalStartEvent", "RetrievalEndEvent", "SynthesizeStartEvent"),
    *("LLMChatStartEvent", "LLMChatEndEvent", "SynthesizeEndEvent", "QueryEndEvent"),
]


async def streamed(way, engine):
    return list(engine.stream(QUERY)) if way == "sync" else [piece async for piece in engine.astream(QUERY)]


def outermost(record: Told) -> list[str]:
    """The events in their order, of the retrievals only the outer one."""
    names = [event.class_name() for event in record.events.seen]
    return [kind for kind in dict.fromkeys(names) if kind in EVENTS and kind != "RetrievalEndEvent"]


async def test_a_streamed_answer_is_told_as_a_query_is(retriever, llm, way):
    engine = create_query_engine(retriever, llm, thinking=True)
    with told() as record:
        pieces = await streamed(way, engine)
    top = "RagQueryEngine.stream" if way == "sync" else "RagQueryEngine.astream"
    assert record.spans.open_spans == {}
    assert {path[0] for path in record.paths()} == {top}
    assert record.paths()[top,] == 1
    assert outermost(record) == [kind for kind in EVENTS if kind != "RetrievalEndEvent"]
    [end] = record["QueryEndEvent"]
    assert end.response.metadata["answer"] is pieces[-1]
    assert [node.node_id for node in end.response.source_nodes] == [p.id for p in pieces[-1].passages]
    assert str(end.response) == "Here [1]."


async def test_what_happens_between_the_pieces_is_no_part_of_the_answer(retriever, llm):
    stream = create_query_engine(retriever, llm).stream(QUERY)
    with told() as record:
        next(stream)
        retriever.retrieve("something else")
        list(stream)
    assert record.paths()["Qwen3Retriever.retrieve",] == 1
    assert record.paths()["RagQueryEngine.stream", "Qwen3Retriever.retrieve"] == 1


async def test_who_stops_listening_ends_the_span(retriever, llm, way):
    engine = create_query_engine(retriever, llm)
    with told() as record:
        if way == "sync":
            stream = engine.stream(QUERY)
            next(stream)
            stream.close()
        else:
            astream = engine.astream(QUERY)
            await anext(astream)
            await astream.aclose()
    assert record.spans.open_spans == {}
    assert record["QueryEndEvent"] == []


async def test_a_stream_that_fails_drops_its_span(retriever, llm, way, monkeypatch):
    def fail(*args, **kwargs):
        raise InputError("no")

    monkeypatch.setattr(retriever, "_stage", fail)
    engine = create_query_engine(retriever, llm)
    with told() as record, pytest.raises(InputError):
        await streamed(way, engine)
    assert name(record.spans.dropped_spans[-1].id_) in ("RagQueryEngine.stream", "RagQueryEngine.astream")
    assert record.spans.open_spans == {}
