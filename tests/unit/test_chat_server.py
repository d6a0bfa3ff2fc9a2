"""DashScope's face of the loopback chat server is as the vendor documents it. The adapters' tests stand on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat_server import FACES, MARK, ChatServer
from tests.chat_server.raw import HELLO, events, post, said
from tests.chat_server.schema import Words, fill
from tests.chat_server.script import Answer, ToolCall, tokens
from tests.chat_server.wire import Spelling, deltas, merge, message

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "The sum of two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
JOKE = {
    "type": "object",
    "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}},
    "required": ["setup", "punchline"],
    "additionalProperties": False,
}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running


# --- DashScope: shapes


def test_a_stream_has_the_documented_order_of_chunks(server: ChatServer) -> None:
    answer = post(server, model="qwen3.7-max", stream=True, stream_options={"include_usage": True})
    assert answer.headers["transfer-encoding"] == "chunked"
    first, *middle, last, usage = events(answer)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": ""}
    parts = [chunk["choices"][0]["delta"] for chunk in middle]
    kinds = ["reasoning" if part["content"] is None else "content" for part in parts]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"reasoning", "content"}
    assert all(part["reasoning_content"] is None for part, kind in zip(parts, kinds, strict=True) if kind == "content")
    assert {chunk["choices"][0]["finish_reason"] for chunk in (first, *middle)} == {None}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens_details"]["reasoning_tokens"] == len(
        [k for k in kinds if k == "reasoning"]
    )
    assert {chunk["usage"] for chunk in (first, *middle, last)} == {None}
    assert first["id"] == f"chatcmpl-{answer.headers['x-request-id']}"


def test_usage_is_streamed_only_if_asked_for(server: ChatServer) -> None:
    assert all(chunk["choices"] for chunk in events(post(server, stream=True)))


def test_streamed_and_whole_say_the_same(server: ChatServer) -> None:
    for body in ({"enable_thinking": True}, {"tools": [WEATHER], "tool_choice": "required"}):
        whole, streamed = said(post(server, **body)), said(post(server, stream=True, **body))
        for call in whole.get("tool_calls", ()):
            call.pop("index")
        assert {k: v for k, v in streamed.items() if v is not None} == whole


@pytest.mark.parametrize(
    ("model", "details"),
    [
        ("qwen-turbo", None),
        ("qwen-plus", {"reasoning_tokens": 96}),
        ("qwen3.7-max", {"reasoning_tokens": 96, "text_tokens": 23, "audio_tokens": None}),
    ],
)
def test_details_of_usage_depend_on_the_model(server: ChatServer, model: str, details: Any) -> None:
    usage = post(server, model=model, enable_thinking=True).json()["usage"]
    assert (usage["completion_tokens_details"] or {}).keys() == (details or {}).keys()
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    if details:
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 96


def test_prompts_are_cached_implicitly_and_explicitly(server: ChatServer) -> None:
    long = "word " * 300
    messages = [{"role": "system", "content": long}, *HELLO]
    read = [post(server, messages=messages).json()["usage"]["prompt_tokens_details"] for _ in range(2)]
    assert [details["cached_tokens"] >= 300 for details in read] == [False, True]
    part = {"type": "text", "text": long * 4, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": [part]}, *HELLO]
    read = [post(server, messages=messages).json()["usage"]["prompt_tokens_details"] for _ in range(2)]
    assert [details["cache_creation_input_tokens"] for details in read] == [1204, 0]
    assert [details["cached_tokens"] for details in read] == [0, 1204]


def test_limits_stop_and_n(server: ChatServer) -> None:
    def choice(**body: Any) -> Any:
        return post(server, **body).json()["choices"][0]

    short = choice(max_tokens=3, enable_thinking=True)
    assert (short["finish_reason"], short["message"]["content"]) == ("length", "Hello, this")
    assert len(tokens(short["message"]["reasoning_content"])) == 96  # not limited by max_tokens
    both = choice(max_completion_tokens=5, enable_thinking=True)
    assert (both["finish_reason"], both["message"]["content"]) == ("length", "")
    assert len(tokens(both["message"]["reasoning_content"])) == 5
    assert choice(stop=["You"])["message"]["content"].endswith("qwen-plus. ")
    first, second = post(server, n=2).json()["choices"]
    assert (first["index"], second["index"]) == (0, 1)
    assert first["message"]["content"] != second["message"]["content"]


# --- DashScope: thinking


@pytest.mark.parametrize(
    ("model", "switch", "thinks"),
    [
        ("qwen3.8-flash", {}, True),
        ("qwen3.8-flash", {"enable_thinking": False}, False),
        ("qwen3.8-flash", {"reasoning_effort": "none"}, False),
        ("qwen-plus", {}, False),
        ("qwen-plus", {"enable_thinking": True}, True),
        ("qwen-plus", {"chat_template_kwargs": {"enable_thinking": True}}, False),
        ("qwq-plus", {"stream": True}, True),
        ("qwen3-8b", {"stream": True}, True),
        ("qwen3-8b", {"enable_thinking": False}, False),
        ("qwen3-coder-plus", {}, False),
        ("qwen3-235b-a22b-instruct-2507", {}, False),
        ("qwen3-next-80b-a3b-thinking", {}, True),
    ],
)
def test_who_thinks(server: ChatServer, model: str, switch: dict[str, Any], thinks: bool) -> None:
    answer = said(post(server, model=model, **switch))
    assert (MARK in (answer.get("reasoning_content") or "")) is thinks is server.last.thinks
    assert MARK not in answer["content"]


def test_the_soft_switch_works_on_the_models_that_know_it(server: ChatServer) -> None:
    off = [{"role": "user", "content": "Hello /no_think"}]
    assert not said(post(server, model="qwen3-8b", messages=off, stream=True)).get("reasoning_content")
    assert said(post(server, model="qwen3.7-max", messages=off, stream=True)).get("reasoning_content")


def test_budget_and_effort_bound_the_reasoning(server: ChatServer) -> None:
    def size(**body: Any) -> int:
        return len(tokens(said(post(server, model="qwen3.8-max", **body))["reasoning_content"]))

    assert [size(thinking_budget=n) for n in (1, 7, 20)] == [1, 7, 20]
    low, medium, high = (size(reasoning_effort=e) for e in ("low", "medium", "xhigh"))
    assert low < medium < high == size()


PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
FORCED = {"tools": [WEATHER], "tool_choice": "required"}
NAMED = {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
JSON = {"response_format": {"type": "json_object"}}
JSON_ASKED = {**JSON, "messages": [{"role": "user", "content": "A JSON object, please."}]}
ON = {"enable_thinking": True}


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        ("qwen3-8b", {}, "parameter.enable_thinking must be set to false for non-streaming calls"),
        ("qwen3-30b-a3b-thinking-2507", {}, "parameter.enable_thinking only support stream call"),
        (
            "qwq-plus",
            {},
            "This model only support stream mode, please enable the stream parameter to access the model. ",
        ),
        ("qvq-max", {}, "current user api does not support http call."),
        ("qwq-plus", {"enable_thinking": False}, "The value of the enable_thinking parameter is restricted to True."),
        ("qwen3-coder-plus", ON, "The model qwen3-coder-plus does not support enable_thinking."),
        ("qwen3-8b", {"thinking_budget": 40000}, "must be a positive integer and not greater than 38912"),
        ("qwen-plus", {"thinking_budget": 0}, "must be a positive integer and not greater than 81920"),
        (
            "qwen3.8-max",
            {"thinking_budget": 100, "reasoning_effort": "low"},
            "'reasoning_effort' and 'thinking_budget' cannot be set simultaneously",
        ),
        ("qwen3.8-max", {"reasoning_effort": "huge"}, "'reasoning_effort' must be one of"),
        (
            "qwen3.8-flash",
            FORCED,
            "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to required",
        ),
        ("qwen3.7-plus", NAMED, "does not support being set to required or object in thinking mode"),
        ("qwen3-8b", {**FORCED, "enable_thinking": False}, "tool_choice is one of the strings that should be"),
        ("qwen-plus", JSON, "'messages' must contain the word 'json' in some form"),
        ("qwen-plus", {**JSON_ASKED, **ON}, "Json mode response is not supported when enable_thinking is true"),
        ("qwen-plus", {"temperature": 2.0}, "Temperature should be in [0.0, 2.0)"),
        ("qwen-plus", {"max_tokens": 0}, "Range of max_tokens should be [1, "),
        ("qwen-plus", {"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ("qwen-plus", {"messages": []}, "[] is too short - 'messages'"),
        (
            "qwen-plus",
            {"messages": [*HELLO, {"role": "assistant", "content": PARTS}]},
            "input content must be a string.",
        ),
        ("qwen3-8b", {"messages": PARTS, "stream": True}, "input content must be a string."),
        (
            "qwen-plus",
            {"tools": [{"type": "function", "function": {"name": "search"}}]},
            "Tool names are not allowed to be [search]",
        ),
        (
            "qwen-plus",
            {"messages": [*HELLO, {"role": "tool", "content": "1", "tool_call_id": "x"}]},
            'with role "tool"',
        ),
    ],
)
def test_refusals(server: ChatServer, model: str, body: dict[str, Any], message: str) -> None:
    server.reply("never used")
    answer = post(server, model=model, **body)
    error = answer.json()["error"]
    assert (answer.status_code, server.last.status) == (400, 400)
    assert message in error["message"]
    assert error.keys() == {"code", "message", "param", "type"}
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert server.unused == 1


def test_keys_names_and_length(server: ChatServer) -> None:
    def error(code: int, **body: Any) -> str:
        answer = post(server, **body)
        assert answer.status_code == code
        return str(answer.json()["error"]["code"])

    assert error(401, key="sk-other") == "invalid_api_key"
    assert error(404, model="qwen-nope") == "model_not_found"
    assert error(404, model="Qwen/Qwen3-8B") == "model_not_supported"
    assert error(500, messages=[*HELLO, {"role": "assistant", "content": "I"}]) == "internal_error"
    server.context_tokens = 10
    answer = post(server, messages=[{"role": "user", "content": "word " * 20}])
    assert answer.json()["error"]["message"].endswith("Range of input length should be [1, 10]")


# --- tools and formats


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def calls(answer: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = answer.get("tool_calls") or ()
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (asked("How is the weather in Paris?"), [("get_weather", {"city": "Paris"})]),
        (asked("Call get_weather for '東京', 3 days"), [("get_weather", {"city": "東京", "days": 3})]),
        (asked("add(1, 2) and add(3, 4)"), [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]),
        (asked("add(1, 2) and add(3, 4)", parallel_tool_calls=False), [("add", {"a": 1, "b": 2})]),
        (asked("Hello"), []),
        (
            asked("Hello 5 6", tool_choice={"type": "function", "function": {"name": "add"}}),
            [("add", {"a": 5, "b": 6})],
        ),
        (asked("How is the weather in Paris?", tool_choice="none"), []),
    ],
)
def test_tools_are_called(server: ChatServer, body: dict[str, Any], expected: list[Any], stream: bool) -> None:
    assert calls(said(post(server, tools=[WEATHER, ADD], stream=stream, **body))) == expected


def test_a_call_is_continued_with_an_empty_id_and_no_name(server: ChatServer) -> None:
    chunks = events(post(server, tools=[ADD], stream=True, enable_thinking=True, **asked("add 1, 2")))
    pieces = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert len(pieces) > 2
    assert pieces[0]["id"].startswith("call_")
    assert {(p["id"], p["function"]["name"]) for p in pieces[1:]} == {("", None)}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_results_are_answered_and_formats_called_last(server: ChatServer) -> None:
    report = {"type": "function", "function": {"name": "Report", "description": "Weather report.", "parameters": JOKE}}
    messages = asked("How is the weather in Paris?")["messages"]
    first = said(post(server, messages=messages, tools=[WEATHER, report]))
    assert [name for name, _ in calls(first)] == ["get_weather"]
    result = {"role": "tool", "content": "21 degrees", "tool_call_id": first["tool_calls"][0]["id"]}
    messages = [*messages, first, result]
    assert "21 degrees" in said(post(server, messages=messages, tools=[WEATHER]))["content"]
    ((name, arguments),) = calls(said(post(server, messages=messages, tools=[WEATHER, report], tool_choice="required")))
    assert name == "Report"
    assert "21 degrees" in arguments["setup"]


def test_json_formats_are_obeyed_where_they_are_documented_to_be(server: ChatServer) -> None:
    schema = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "Joke", "schema": JOKE, "strict": True}}
    }
    answer = said(post(server, model="qwen3.8-max", **schema))
    jsonschema.validate(json.loads(answer["content"]), JOKE)
    assert MARK in answer["reasoning_content"]
    text = f"A joke as JSON, with this schema: {json.dumps(JOKE)}"
    jsonschema.validate(json.loads(said(post(server, **asked(text, **JSON)))["content"]), JOKE)
    keys = said(post(server, **asked("JSON with 'setup' and 'punchline' keys", **JSON)))["content"]
    assert json.loads(keys).keys() == {"setup", "punchline"}
    for model, body in (("qwen-plus", schema), ("qwen3.6-plus", JSON_ASKED)):  # "may not take effect"
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(said(post(server, model=model, **body))["content"])


def test_images_are_for_the_models_that_see(server: ChatServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    assert post(server, model="qwen3-vl-plus", messages=messages).json()["usage"]["prompt_tokens"] > 256
    assert post(server, model="qwen-plus", messages=messages).status_code == 400


LEAVES = st.one_of(
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-9, 9),
        st.integers(0, 5),
    ),
    st.builds(lambda size: {"type": "string", "maxLength": size, "minLength": min(size, 3)}, st.integers(1, 20)),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"enum": ["x", 3]}, {"const": 4}, {"$ref": "#/$defs/Leaf"}]
    ),
    st.just({"anyOf": [{"type": "null"}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda items, n: {"type": "array", "items": items, "minItems": n, "maxItems": n + 1},
            inner,
            st.integers(0, 3),
        ),
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)[:2]},
            st.dictionaries(st.sampled_from("abcd"), inner),
        ),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.text(), st.booleans())
def test_arguments_are_valid_for_any_schema(schema: dict[str, Any], text: str, phrase: bool) -> None:
    schema = {**schema, "$defs": {"Leaf": {"type": "string"}}}
    jsonschema.validate(fill(schema, Words(text, phrase=phrase)), schema)


@given(st.text())
def test_tokens_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


@given(st.text(), st.text(), st.text(min_size=1), st.sampled_from(list(FACES.values())))
def test_deltas_add_up_to_the_message(text: str, reasoning: str, arguments: str, face: Any) -> None:
    spelling: Spelling = face.spelling
    answer = Answer(text, reasoning if spelling.field != "inline" else "", (ToolCall("f", arguments, "1"),))
    whole, merged = message(answer, spelling), merge(list(deltas(answer, spelling)))
    for key in ("content", "reasoning", "reasoning_content"):
        assert (merged.get(key) or "") == whole.get(key, "")
    assert merged["tool_calls"][0]["function"] == {"name": "f", "arguments": arguments}
