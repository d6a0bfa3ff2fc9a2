"""What becomes of one request: good, healed, explained or cancelled, and what the session's budget has of it."""

from __future__ import annotations

import asyncio

import pytest

from qwen3_rag.errors import InvalidRequestError, ResponseError, ServerError, StreamError
from qwen3_rag.thinking import LEARNED, ThinkingBudget, ThinkingPolicy, resolve_endpoint
from qwen3_rag.thinking.asked import ask
from qwen3_rag.thinking.attempt import Attempt
from tests.unit.thinking.sdk import broken_stream, dashscope_body, event, refused


class MineError(InvalidRequestError):
    """A framework's own."""


@pytest.fixture(autouse=True)
def _forgotten():
    LEARNED.clear()


@pytest.fixture
def budget():
    return ThinkingBudget(10_000, per_call=4_000)


def attempt(budget, *, stream=False, dialect="dashscope", **options):
    call = ask(
        {"model": "qwen3-max", "messages": [{"role": "user", "content": "Q"}]},
        reasoning=(None,),
        question="Q",
        parameters={"model", "messages"},
        endpoint=resolve_endpoint(base_url="http://localhost:9/v1", dialect=dialect, api_key="k"),
        policy=ThinkingPolicy.of(True),
        budget=budget,
        stream=stream,
    )
    return Attempt(call, **options)


def test_a_good_end_is_settled_by_the_turn(budget):
    with attempt(budget) as one:
        assert budget.remaining == 6_000
        one.turn.feed({"reasoning_content": "Hm.", "content": "Yes."})
        one.turn.close("stop")
        one.turn.finish(
            {"prompt_tokens": 1, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 9}}
        )
    assert not one.healed
    assert budget.remaining == 9_991


def test_a_refusal_that_heals(budget):
    text = "parameter.enable_thinking must be set to false for non-streaming calls"
    with attempt(budget, dialect="vllm") as one:
        raise refused(400, dashscope_body(text))
    assert one.healed
    assert budget.remaining == 10_000
    assert attempt(budget, dialect="vllm").plan.healed == ("stream",)


def test_nothing_is_healed_once_something_was_heard(budget):
    error = refused(400, dashscope_body("enable_thinking parameter is restricted to True"))
    one = attempt(budget)
    one.heard = True
    with pytest.raises(InvalidRequestError), one:
        raise error


def test_a_refusal_is_explained(budget):
    error = refused(400, dashscope_body("Range of top_p should be (0.0, 1.0]"))
    with pytest.raises(MineError) as caught, attempt(budget, classes={InvalidRequestError: MineError}):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.request_id == "req-body"
    assert caught.value.partial is None
    assert budget.remaining == 10_000


def test_what_had_arrived_is_on_the_error_and_paid_for(budget):
    deltas, error = broken_stream([event({"reasoning_content": "Let me think about it."}), "data: {"])
    one = attempt(budget, stream=True)
    one.opened({"x-request-id": "r1"})
    one.turn.feed(deltas[0])
    with pytest.raises(ResponseError) as caught, one:
        raise error
    assert caught.value.partial.reasoning == "Let me think about it."
    assert caught.value.request_id == "r1"
    assert "r1" in str(caught.value)
    assert 9_900 < budget.remaining < 10_000


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit(), TypeError("a fault")]
)
def test_what_is_no_failure_of_the_wire_passes(budget, error):
    with pytest.raises(type(error)) as caught, attempt(budget):
        raise error
    assert caught.value is error
    assert budget.remaining == 10_000


def test_an_error_that_is_explained_already_learns_the_request(budget):
    one = attempt(budget)
    one.opened({"x-request-id": "r1"})
    with pytest.raises(ResponseError) as caught, one:
        raise ResponseError("empty")
    assert caught.value.request_id == "r1"


@pytest.mark.parametrize(("stream", "kind"), [(False, ServerError), (True, StreamError)])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "code": 502}},
        {"object": "error", "message": "Provider returned error", "type": "x", "code": 502},
    ],
)
def test_an_error_in_place_of_an_answer(budget, stream, kind, body):
    with pytest.raises(kind, match="Provider returned error"), attempt(budget, stream=stream, dialect="vllm") as one:
        one.check(body)
    assert budget.remaining == 10_000


@pytest.mark.parametrize("body", [{"choices": []}, {"choices": [{}], "error": None}, {"usage": {}}, {"id": "1"}])
def test_what_is_no_error(budget, body):
    with attempt(budget) as one:
        one.check(body)
