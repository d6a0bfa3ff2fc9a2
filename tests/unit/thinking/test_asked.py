"""A call as arguments of the SDK: sorted, planned, put together again, and its second call."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.thinking import LEARNED, ThinkingPolicy, plan, resolve_endpoint
from qwen3_rag.thinking.asked import BODY_PARAMETERS, Asked, ask
from qwen3_rag.thinking.formatting import JSON_OBJECT, formatting_messages

MESSAGES = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
PARAMETERS = {
    "model",
    "messages",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "response_format",
    "stream_options",
    "n",
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "title": "A title"}}}


@pytest.fixture(autouse=True)
def _forgotten():
    LEARNED.clear()


def asked(model: str = "qwen-plus", dialect: str = "dashscope", thinking: Any = None, **payload: Any) -> Asked:
    options = {name: payload.pop(name) for name in ("stream", "extra_body", "include_usage") if name in payload}
    body = {"model": model, "messages": MESSAGES, **payload}
    return ask(
        body,
        reasoning=(None,) * len(MESSAGES),
        question="Q",
        parameters=PARAMETERS,
        endpoint=resolve_endpoint(base_url="http://localhost:9/v1", dialect=dialect, api_key="k"),
        policy=ThinkingPolicy.of(thinking),
        **options,
    )


def request(call: Asked) -> dict[str, Any]:
    return call.request(plan(call.call))


def test_nothing_is_sent_that_nobody_asked_for():
    assert request(asked()) == {"model": "qwen-plus", "messages": MESSAGES, "stream": False}


def test_fields_of_the_body_may_stand_among_the_arguments():
    payload = {"top_k": 5, "reasoning_effort": "low", "temperature": 0.5}
    call = asked(**payload, extra_body={"top_k": 6, "x": 1})
    assert call.call.user_body == {"top_k": 6, "reasoning_effort": "low", "x": 1}
    assert call.call.set_by_user == {"temperature"}
    assert request(call)["extra_body"] == {**call.call.user_body, "enable_thinking": True}  # an effort is a wish
    assert not BODY_PARAMETERS & request(call).keys()


def test_a_name_that_nobody_knows():
    with pytest.raises(ConfigurationError, match=r"'temprature'.*extra_body"):
        asked(temprature=1)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"include_usage": False}, None),
        ({"stream_options": {"include_usage": False}}, {"include_usage": False}),
        ({"stream_options": {"x": 1}}, {"include_usage": True, "x": 1}),
    ],
)
def test_token_counts_end_a_stream(options, sent):
    assert request(asked(stream=True, **options)).get("stream_options") == sent
    assert "stream_options" not in request(asked(**options))


def test_several_answers_can_not_be_streamed():
    assert request(asked(n=2))["n"] == 2
    with pytest.raises(ConfigurationError, match="n=2"):
        request(asked(n=2, stream=True))


@pytest.mark.parametrize("content", ["Q", [{"type": "text", "text": "Q"}]])
def test_a_soft_switch_is_said_at_the_end_of_the_question(content):
    call = asked("qwen3-8b", "tgi", thinking=False)
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "A"}]
    call.payload["messages"] = messages
    sent = request(call)["messages"]
    assert sent[0]["content"] == (
        "Q /no_think" if content == "Q" else [*content, {"type": "text", "text": "/no_think"}]
    )
    assert messages[0]["content"] == content


def test_the_second_call_formats_and_does_not_think():
    first = asked(
        thinking=True, response_format=SCHEMA, tools=[{}], tool_choice="auto", extra_body={"enable_thinking": True}
    )
    second = first.formatting("The answer.")
    sent = request(second)
    assert second.formats
    assert sent["extra_body"] == {"enable_thinking": False}
    assert sent["response_format"] == JSON_OBJECT  # this model would ignore a schema
    assert not {"tools", "tool_choice"} & sent.keys()
    system, user = sent["messages"]
    assert json.dumps(SCHEMA["json_schema"]["schema"]) in system["content"]
    assert user["content"] == "Question:\nQ\n\nAnswer:\nThe answer."
    assert first.call.policy.enabled
    assert request(asked("qwen3.7-max", response_format=SCHEMA).formatting("A"))["response_format"] == SCHEMA


def test_the_prompt_for_any_json_object():
    system, _ = formatting_messages("Q", "A", JSON_OBJECT)
    assert "JSON" in system["content"]  # DashScope wants the word
    assert "schema" not in system["content"]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"model": "a\ud800"}, "model"),
        ({"messages": [MESSAGES[0], {"role": "user", "content": "a\ud800"}]}, r"messages\[1\]\.content"),
        ({"tools": [{"function": {"name": "f", "parameters": {"x\ud800": 1}}}]}, r"tools\[0\]\.function\.parameters"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "\ud800"}}}, r"json_schema\.name"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"extra_body": {"a": [{1}]}}, r"extra_body\.a\[0\] is \{1\}"),
        ({"top_k": np.int64(5)}, r"extra_body\.top_k is np\.int64\(5\)"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(options, where):
    with pytest.raises(InputError, match=where):
        request(asked(**options))


def test_reasoning_that_goes_back_is_checked_too():
    messages = [*MESSAGES, {"role": "assistant", "content": "A", "reasoning_content": "\ud800"}]
    call = ask(
        {"model": "qwen-plus", "messages": messages},
        reasoning=(None,) * 3,
        question="Q",
        parameters=PARAMETERS,
        endpoint=resolve_endpoint(base_url="http://localhost:9/v1", dialect="dashscope", api_key="k"),
        policy=ThinkingPolicy(history="preserve"),
    )
    with pytest.raises(InputError, match=r"messages\[2\]\.reasoning_content"):
        request(call)


def test_half_a_pair_in_an_answer_does_not_keep_it_from_its_format():
    again = asked(response_format=SCHEMA, thinking=True).formatting("a\ud800")
    assert request(again)["messages"][-1]["content"].endswith("a?")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": None}, "model must be"),
        ({"model": 5}, "model must be"),
        ({"extra_body": "x"}, "extra_body must be a dict"),
    ],
)
def test_what_can_be_no_call_is_refused(options, told):
    with pytest.raises(ConfigurationError, match=told):
        asked(**options)
