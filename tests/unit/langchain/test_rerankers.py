"""`Qwen3Reranker` and `Qwen3CrossEncoder`: exact scores on copies, nothing lost, nothing changed."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.langchain import Qwen3CrossEncoder, Qwen3Reranker
from qwen3_rag.langchain.rerankers import RUN_NAME
from tests.fakes import OverlapReranker

local = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `local`")

QUERY = "how is data stored"
TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored: in segments"]


@pytest.fixture
def inner():
    return OverlapReranker()


@pytest.fixture
def documents():
    return [
        Document(id=f"d{i}", page_content=text, metadata={"n": i, "deep": {"a": [1]}}) for i, text in enumerate(TEXTS)
    ]


def test_best_first_with_score_and_rank_on_copies(inner, documents):
    before = [d.model_dump() for d in documents]
    ranked = Qwen3Reranker(inner, top_n=None).compress_documents(documents, QUERY)
    expected = inner.rerank(QUERY, TEXTS).scores.tolist()
    assert [d.id for d in ranked] == ["d3", "d1", "d2", "d0"]
    assert [d.metadata["relevance_score"] for d in ranked] == sorted(expected, reverse=True)
    assert [d.metadata["retrieval_rank"] for d in ranked] == [4, 2, 3, 1]
    assert {type(d.metadata["relevance_score"]) for d in ranked} == {float}
    assert [d.model_dump() for d in documents] == before
    assert ranked[1].page_content == TEXTS[1]
    assert ranked[1].metadata == {"n": 1, "deep": {"a": [1]}, "relevance_score": expected[1], "retrieval_rank": 2}
    assert ranked[0] is not documents[3]


def test_an_earlier_retrieval_score_survives(inner):
    document = Document(page_content="data", metadata={"retrieval_score": 0.25})
    (ranked,) = Qwen3Reranker(inner).compress_documents([document], "data")
    assert ranked.metadata["retrieval_score"] == 0.25


def test_subclasses_of_document_stay_what_they_are(inner):
    class Page(Document):
        number: int = 0

    (ranked,) = Qwen3Reranker(inner).compress_documents([Page(page_content="x", number=7)], "x")
    assert type(ranked) is Page
    assert ranked.number == 7


def test_top_n_and_threshold(inner, documents):
    reranker = Qwen3Reranker(inner)
    assert reranker.top_n == len(reranker.compress_documents(documents, QUERY)) == 3
    assert len(reranker.compress_documents(documents, QUERY, top_n=1)) == 1
    assert len(reranker.compress_documents(documents, QUERY, top_n=None)) == 4
    good = reranker.compress_documents(documents, QUERY, top_n=None, score_threshold=0.6)
    assert good
    assert all(d.metadata["relevance_score"] >= 0.6 for d in good)
    assert len(good) < 4
    assert Qwen3Reranker(inner, score_threshold=1.0).compress_documents(documents, QUERY) == []


def test_instruction_per_instance_and_per_call_changes_the_scores(inner, documents):
    reranker = Qwen3Reranker(inner, top_n=None)
    usual = [d.id for d in reranker.compress_documents(documents, QUERY)]
    inverted = [d.id for d in reranker.compress_documents(documents, QUERY, instruction="invert")]
    assert inverted != usual
    assert inverted[0] == "d0"
    again = reranker.with_instruction("invert").compress_documents(documents, QUERY)
    assert [d.id for d in again] == inverted
    assert [d.id for d in reranker.compress_documents(documents, QUERY)] == usual
    assert [instruction for *_, instruction in inner.calls] == [None, "invert", "invert", None]


def test_duplicates_all_come_back_in_their_order(inner):
    documents = [Document(id=str(i), page_content="data") for i in range(4)]
    ranked = Qwen3Reranker(inner, top_n=None).compress_documents(documents, "data")
    assert [d.id for d in ranked] == ["0", "1", "2", "3"]
    assert [d.metadata["retrieval_rank"] for d in ranked] == [1, 2, 3, 4]


def test_no_documents_no_model_call(inner):
    assert Qwen3Reranker(inner).compress_documents([], QUERY) == []
    assert Qwen3CrossEncoder(inner).score([]) == []
    assert inner.calls == []


async def test_documents_of_a_generator_are_all_there(inner, documents):
    reranker = Qwen3Reranker(inner)
    expected = reranker.compress_documents(documents, QUERY)
    assert reranker.compress_documents((d for d in documents), QUERY) == expected
    assert await reranker.acompress_documents((d for d in documents), QUERY) == expected
    assert reranker.compress_documents((d for d in ()), QUERY) == []


async def test_no_documents_no_model_call_async(inner):
    assert await Qwen3Reranker(inner).acompress_documents([], QUERY) == []
    assert await Qwen3CrossEncoder(inner).ascore([]) == []
    assert inner.calls == []


words = st.lists(st.sampled_from(["how", "is", "data", "stored", "bread", ""]), max_size=5).map(" ".join)


@given(st.lists(words, max_size=6), st.sampled_from([None, 1, 3]), st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_async_is_the_same_for_any_input(texts, top_n, threshold):
    documents = [Document(page_content=t) for t in texts]
    reranker = Qwen3Reranker(OverlapReranker(), top_n=top_n, score_threshold=threshold)
    expected = reranker.compress_documents(documents, QUERY)
    assert asyncio.run(reranker.acompress_documents(documents, QUERY)) == expected


@pytest.mark.parametrize(
    "options", [{"top_n": 1}, {"top_n": None}, {"score_threshold": 0.6}, {"instruction": "invert"}]
)
async def test_options_per_call_act_in_both_twins(inner, documents, options):
    reranker = Qwen3Reranker(inner)
    expected = reranker.compress_documents(documents, QUERY, **options)
    assert await reranker.acompress_documents(documents, QUERY, **options) == expected
    assert expected != reranker.compress_documents(documents, QUERY)


@pytest.mark.parametrize(
    "options",
    [
        {"top_n": 0},
        {"top_n": -1},
        {"top_n": True},
        {"score_threshold": 1.5},
        {"score_threshold": float("nan")},
        {"instruction": " "},
    ],
)
def test_wrong_settings_are_refused_before_any_work(inner, documents, options):
    with pytest.raises(ConfigurationError):
        Qwen3Reranker(inner, **options)
    with pytest.raises(ConfigurationError):
        Qwen3Reranker(inner).compress_documents(documents, QUERY, **options)
    assert inner.calls == []


@local
def test_unknown_settings_are_refused(inner, documents):
    with pytest.raises(ConfigurationError, match="'topn'"):
        Qwen3Reranker(inner, topn=3)
    with pytest.raises(ConfigurationError, match="'topn'"):
        Qwen3Reranker(inner).compress_documents(documents, QUERY, topn=3)
    with pytest.raises(TypeError, match="topn"):
        Qwen3Reranker("tiny", topn=3)


async def test_candidates_of_any_kind_are_read_once(inner, documents):
    reranker = Qwen3Reranker(inner)
    expected = reranker.compress_documents(documents, QUERY)
    assert reranker.compress_documents(iter(documents), QUERY) == expected
    assert await reranker.acompress_documents((d for d in documents), QUERY) == expected


@pytest.mark.parametrize("threshold", ["0.5", float("nan"), [0.5]])
def test_a_threshold_that_is_no_number_is_refused(inner, threshold):
    with pytest.raises(ConfigurationError, match="score_threshold"):
        Qwen3Reranker(inner, score_threshold=threshold)


@local
def test_pairs_that_are_no_list_are_refused():
    encoder = Qwen3CrossEncoder("tiny")
    for pairs in (None, zip(["q"], ["d"], strict=True)):
        with pytest.raises(InputError, match="pairs must be a list of pairs"):
            encoder.score(pairs)
    assert encoder.score([]) == []


def test_with_options_is_a_copy_on_the_same_weights(inner):
    reranker = Qwen3Reranker(inner, score_threshold=0.5)
    other = reranker.with_options(top_n=7, instruction="i")
    assert other.reranker is reranker.reranker
    assert (other.top_n, other.score_threshold, other.instruction) == (7, 0.5, "i")
    assert (reranker.top_n, reranker.instruction) == (3, None)


def test_a_failure_of_the_model_is_the_callers(inner, documents, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(inner, "rerank", fail)
    with pytest.raises(MemoryError):
        Qwen3Reranker(inner).compress_documents(documents, QUERY)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_share_the_weights(inner, duplicate):
    reranker = Qwen3Reranker(inner, top_n=5)
    assert duplicate(reranker).reranker is reranker.reranker
    assert duplicate(reranker).top_n == 5


@local
def test_pickles_carry_names_and_settings():
    for adapter in (Qwen3Reranker("tiny", top_n=5, device="cpu"), Qwen3CrossEncoder("tiny", instruction="i")):
        twin = pickle.loads(pickle.dumps(adapter))
        assert repr(twin) == repr(adapter)
        assert type(twin.reranker) is type(adapter.reranker)


@local
def test_repr_is_short(inner):
    assert repr(Qwen3Reranker(inner)) == "Qwen3Reranker(model=<class 'tests.fakes.OverlapReranker'>, top_n=3)"
    assert repr(Qwen3CrossEncoder("tiny")) == "Qwen3CrossEncoder(model='tiny')"


def test_the_step_is_a_run_of_its_own(inner, documents):
    runs = RunCollectorCallbackHandler()
    ranked = Qwen3Reranker(inner).compress_documents(documents, QUERY, callbacks=[runs])
    (run,) = runs.traced_runs
    assert run.name == RUN_NAME
    assert run.inputs["query"] == QUERY
    assert run.outputs["output"] == ranked


async def test_the_step_is_a_child_run_where_it_is_called_from_a_runnable(inner, documents):
    reranker = Qwen3Reranker(inner)
    chain = RunnableLambda(
        lambda q: reranker.compress_documents(documents, q), lambda q: reranker.acompress_documents(documents, q)
    )
    runs = RunCollectorCallbackHandler()
    chain.invoke(QUERY, {"callbacks": [runs]})
    await chain.ainvoke(QUERY, {"callbacks": [runs]})
    assert [[child.name for child in run.child_runs] for run in runs.traced_runs] == [[RUN_NAME]] * 2


class SlowReranker(OverlapReranker):
    """Works in a thread, as the local models do."""

    def rerank(self, query, documents, *, instruction=None):
        time.sleep(0.3)
        self.thread = threading.get_ident()
        return super().rerank(query, documents, instruction=instruction)

    async def arerank(self, query, documents, *, instruction=None):
        return await asyncio.to_thread(self.rerank, query, documents, instruction=instruction)


async def test_reranking_does_not_block_the_event_loop(documents):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    inner = SlowReranker()
    ticker = asyncio.create_task(tick())
    await Qwen3Reranker(inner).acompress_documents(documents, QUERY)
    ticker.cancel()
    assert inner.thread != threading.get_ident()
    assert ticks >= 5


def test_cross_encoder_keeps_order_and_returns_python_floats(inner):
    pairs = [(QUERY, t) for t in TEXTS] + [("bread", TEXTS[0])]
    scores = Qwen3CrossEncoder(inner).score(pairs)
    assert scores == inner.score_pairs(pairs).scores.tolist()
    assert {type(s) for s in scores} == {float}


async def test_cross_encoder_async_and_instructions(inner):
    pairs = [(QUERY, t) for t in TEXTS]
    encoder = Qwen3CrossEncoder(inner, instruction="invert")
    inverted = inner.score_pairs(pairs, instruction="invert").scores.tolist()
    assert encoder.score(pairs) == inverted != Qwen3CrossEncoder(inner).score(pairs)
    assert Qwen3CrossEncoder(inner).score(pairs, instruction="invert") == inverted
    assert await encoder.ascore(pairs) == inverted
    assert await Qwen3CrossEncoder(inner).ascore(pairs, instruction="invert") == inverted


def test_they_are_what_langchain_asks_for(inner):
    assert isinstance(Qwen3Reranker(inner), BaseDocumentCompressor)
    assert isinstance(Qwen3CrossEncoder(inner), BaseCrossEncoder)
