"""The other faces of the loopback chat server, its faults, and what tests script."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from qwen3_rag import errors
from tests.chat_server import FACES, FAULTS, KEY, MARK, ChatServer, fault_names
from tests.chat_server.raw import HELLO, events, post, said

MODELS = {
    "openrouter": "qwen/qwen3.5-plus",
    "deepseek": "deepseek-v4-pro",
    "lmstudio": "qwen3-8b",
    "tgi": "Qwen/Qwen3-8B",
}
TEMPLATE = {"chat_template_kwargs": {"enable_thinking": False}}
QUIET = [{"role": "user", "content": "Hello there /no_think"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(delay=1.0) as running:
        yield running


def client(server: ChatServer, face: str = "dashscope", **options: Any) -> OpenAI:
    return OpenAI(base_url=server.url_for(face), **{"max_retries": 0, "timeout": 10.0, "api_key": KEY, **options})


def model_of(face: str) -> str:
    return MODELS.get(face, "Qwen/Qwen3.5-27B")


# --- dialects

OFF: dict[str, dict[str, Any]] = {
    "modelscope": {"enable_thinking": False},
    "siliconflow": {"enable_thinking": False},
    "vllm": TEMPLATE,
    "vllm-legacy": TEMPLATE,
    "sglang": TEMPLATE,
    "llamacpp": TEMPLATE,
    "ollama": {"reasoning_effort": "none"},
    "openrouter": {"reasoning": {"enabled": False}},
    "deepseek": {"thinking": {"type": "disabled"}},
    "lmstudio": {"messages": QUIET},
    "tgi": {"messages": QUIET},
}
WHERE = {
    **dict.fromkeys(("vllm", "ollama", "openrouter"), "reasoning"),
    **dict.fromkeys(("lmstudio", "tgi"), "content"),
}


@pytest.mark.parametrize("face", OFF)
def test_each_face_has_one_switch_and_one_field(server: ChatServer, face: str) -> None:
    model, field = model_of(face), WHERE.get(face, "reasoning_content")
    for name, body in OFF.items():  # only its own switch, or one that is spelled the same, is obeyed
        if face == "deepseek" and name == "ollama":
            continue  # an effort that it refuses
        thinks = body != OFF[face] and not (face == "llamacpp" and name == "ollama")
        answer = said(post(server, face, model=model, stream=True, **body))
        assert server.last.thinks is thinks, name
        assert (MARK in (answer.get(field) or "")) is thinks
        others = {"reasoning", "reasoning_content", "content"} - {field}
        assert not any(MARK in (answer.get(other) or "") for other in others)
        if not (face == "modelscope" and thinks):
            assert (MARK in (said(post(server, face, model=model, **body)).get(field) or "")) is thinks


@pytest.mark.parametrize(
    ("face", "budget"),
    [
        ("vllm", {"thinking_token_budget": 6}),
        ("sglang", {"custom_params": {"thinking_budget": 6}}),
        ("llamacpp", {"thinking_budget_tokens": 6}),
        ("llamacpp", {"reasoning_budget_tokens": 6}),
        ("openrouter", {"reasoning": {"max_tokens": 6}}),
        ("siliconflow", {"thinking_budget": 6}),
    ],
)
def test_each_face_has_its_own_budget(server: ChatServer, face: str, budget: dict[str, Any]) -> None:
    field = WHERE.get(face, "reasoning_content")
    assert said(post(server, face, model=model_of(face), **budget))[field] == "Let me think about “Hello"


def test_effort_is_obeyed_by_ollama_openrouter_and_deepseek(server: ChatServer) -> None:
    for face, low, high in (
        ("ollama", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ("ollama", {"reasoning": {"effort": "low"}}, {}),
        ("openrouter", {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "xhigh"}}),
        ("deepseek", {"reasoning_effort": "low"}, {"reasoning_effort": "max"}),
    ):
        field = WHERE.get(face, "reasoning_content")
        short, long = (said(post(server, face, model=model_of(face), **body))[field] for body in (low, high))
        assert len(short) < len(long)


def test_inline_reasoning_is_tagged_as_the_template_of_the_model_does(server: ChatServer) -> None:
    opened = said(post(server, "tgi", model="Qwen/Qwen3-8B"))["content"]
    assert opened.startswith(f"<think>\n{MARK}")
    assert "\n</think>\n\nHello" in opened
    lone = said(post(server, "tgi", model="Qwen/Qwen3-4B-Thinking-2507"))["content"]
    assert lone.startswith(MARK)
    assert "\n</think>\n\nHello" in lone
    assert said(post(server, "tgi", model="Qwen/Qwen3-8B", messages=QUIET))["content"].startswith(
        "<think>\n\n</think>\n\nHello"
    )
    assert said(post(server, "sglang", model="Qwen/Qwen3-8B", separate_reasoning=False))["content"].startswith(
        "<think>"
    )
    assert said(post(server, "llamacpp", model="qwen3.5", reasoning_format="none"))["content"].startswith(MARK)
    cut = said(post(server, "lmstudio", model="qwen3-8b", max_tokens=5))["content"]
    assert cut == "<think>\nLet me think about “"


def test_openrouter_sends_details_and_counts_costs(server: ChatServer) -> None:
    answer = said(post(server, "openrouter", model="qwen/qwen3.5-plus"))
    assert answer["reasoning_details"][0] == {
        "type": "reasoning.text",
        "text": answer["reasoning"],
        "format": "unknown",
        "index": 0,
    }
    hidden = said(post(server, "openrouter", model="qwen/qwen3.5-plus", reasoning={"exclude": True}))
    assert hidden.keys() == {"role", "content"}
    assert server.last.thinks
    streamed = post(server, "openrouter", model="qwen/qwen3.5-plus", stream=True)
    assert streamed.text.startswith(": OPENROUTER PROCESSING\n\n")
    assert events(streamed)[-1]["usage"]["cost"] > 0
    both = post(server, "openrouter", model="qwen/qwen3.5-plus", reasoning={"effort": "low", "max_tokens": 9})
    assert both.json()["error"]["message"].startswith("Only one of")


def test_deepseek_wants_its_reasoning_back_after_tool_calls(server: ChatServer) -> None:
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
    }
    result = {"role": "tool", "content": "5", "tool_call_id": "1"}
    with_reasoning = {**call, "reasoning_content": "Let me call f."}
    plain = {"role": "assistant", "content": "Hi"}

    def status(*messages: dict[str, Any], **body: Any) -> int:
        return post(server, "deepseek", model="deepseek-v4-pro", messages=[*HELLO, *messages], **body).status_code

    assert status(with_reasoning, result) == 200
    assert status({**call, "reasoning_content": ""}, result) == 200
    assert status(call, result, thinking={"type": "disabled"}) == 200
    assert status(plain, *HELLO) == 200
    assert status(call, result) == 400
    assert status(call, result, {**plain, "reasoning_content": ""}, *HELLO) == 400  # in later turns too
    forced = post(server, "deepseek", model="deepseek-v4-pro", tools=[TOOL], tool_choice="required")
    assert forced.json()["error"]["message"] == "Thinking mode does not support this tool_choice"


def test_ollama_has_no_tool_choice_and_other_local_servers_do(server: ChatServer) -> None:
    for face in ("vllm", "sglang", "llamacpp", "lmstudio", "tgi", "ollama"):
        answer = said(post(server, face, model="qwen3.5:4b", tools=[TOOL], tool_choice="required"))
        assert bool(answer.get("tool_calls")) is (face != "ollama")


def test_modelscope_streams_what_thinks(server: ChatServer) -> None:
    answer = post(server, "modelscope", model="Qwen/Qwen3-32B")
    assert answer.json()["error"]["message"] == "enable thinking can not be support when `stream=False`."


@pytest.mark.parametrize("face", FACES)
def test_each_face_says_in_its_own_words_that_a_prompt_is_too_long(server: ChatServer, face: str) -> None:
    server.context_tokens = 12
    model = "qwen-plus" if face == "dashscope" else model_of(face)
    answer = post(server, face, model=model, messages=[{"role": "user", "content": "word " * 30}])
    assert answer.status_code in {400, 422}
    assert "12" in answer.text


# --- faults


@pytest.mark.parametrize(("name", "stream"), [(n, s) for s in (False, True) for n in fault_names(stream=s)])
def test_faults_end_as_they_say(server: ChatServer, name: str, stream: bool) -> None:
    fault = server.fail(name)
    ends = fault.ends(stream=stream)
    options = {"timeout": 0.4} if fault.slow else {}
    # The SDK can't know which of its 400 or 429 is what; that it raises, or succeeds, is what can be seen here.
    api = client(server, max_retries=2 if fault.times else 0, **options)
    parts: list[str] = []

    def call() -> Any:
        answer = api.chat.completions.create(model="qwen-plus", messages=HELLO, stream=stream)
        if not stream:
            return answer.choices[0].message.content
        for chunk in answer:
            for choice in chunk.choices:
                parts.append(getattr(choice.delta, "reasoning_content", None) or "")
                parts.append(choice.delta.content or "")
        return "".join(parts)

    if name.startswith("stream_only") and not stream:
        with pytest.raises(openai.BadRequestError):
            call()
        server.requests.clear()
        api.chat.completions.create(model="qwen-plus", messages=HELLO, stream=True)
        assert server.last.status == 200
    elif ends == "success":
        assert call()
        first, *more = server.requests
        assert len(more) == (fault.times or 0)
        assert not more or more[0].at - first.at >= fault.waits
    else:
        assert issubclass(getattr(errors, ends), errors.Qwen3RagError)
        if (ends == "ResponseError" and name in ("empty_choices", "html_page")) or name in (
            "error_in_200",
            "no_finish",
        ):
            return  # the SDK lets these pass: the adapters have to look
        with pytest.raises((openai.OpenAIError, httpx.HTTPError, ValueError)):
            call()
        assert "".join(parts) == (fault.heard.reasoning + fault.heard.text if stream else "")


def test_every_fault_makes_sense_somewhere() -> None:
    assert set(fault_names(stream=True)) | set(fault_names(stream=False)) == set(FAULTS)
    assert not any(FAULTS[name].slow for name in fault_names(stream=True, slow=False))


def test_faults_come_before_everything_else_and_as_often_as_asked(server: ChatServer) -> None:
    server.fail("unavailable", times=2, when=lambda request: request.body["model"] == "qwen-plus")
    server.fail("arrears", times=1)
    assert post(server, model="qwen-turbo").status_code == 400
    assert [post(server, key="wrong").status_code for _ in range(3)] == [503, 503, 401]


# --- scripts


def test_replies_are_first_in_first_out(server: ChatServer) -> None:
    server.reply("one", reasoning="because")
    server.reply(tool_calls=[("f", {"x": "é"}), {"name": "g", "args": "{bro", "id": "7"}], times=2)
    first = post(server, stream=True)
    assert said(first) == {"role": "assistant", "reasoning_content": "because", "content": "one"}
    for stream in (False, True):
        answer = said(post(server, stream=stream))
        assert [call["function"]["arguments"] for call in answer["tool_calls"]] == ['{"x": "é"}', "{bro"]
        assert answer["tool_calls"][1]["id"] == "7"
    assert said(post(server))["content"].startswith("Hello")


@pytest.mark.parametrize("stream", [False, True])
def test_exact_deltas_and_messages_serve_both_kinds_of_calls(server: ChatServer, stream: bool) -> None:
    parts = [{"role": "assistant", "content": ""}, {"reasoning": "a"}, {"content": "<thi"}, {"content": "nk>b"}]
    server.reply(deltas=parts)
    server.reply(message={"role": "assistant", "content": "whole answer", "reasoning": "r"}, finish_reason="length")
    server.reply(raw=b"data: [DONE]\n\n", content_type="text/event-stream", status=201, headers={"X-Test": "1"})
    first = post(server, "vllm", stream=stream)
    assert said(first) == {"role": "assistant", "reasoning": "a", "content": "<think>b"}
    if stream:
        assert [chunk["choices"][0]["delta"] for chunk in events(first)] == [*parts, {}]
    second = post(server, "vllm", stream=stream)
    assert said(second) == {"role": "assistant", "reasoning": "r", "content": "whole answer"}
    choice = events(second)[-1]["choices"][0] if stream else second.json()["choices"][0]
    assert choice["finish_reason"] == "length"
    raw = post(server, "vllm", stream=stream, key="wrong")
    assert (raw.content, raw.status_code, raw.headers["x-test"]) == (b"data: [DONE]\n\n", 201, "1")


def test_usage_can_be_scripted_or_left_out(server: ChatServer) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "completion_tokens_details": None}
    server.reply("a", usage=usage, times=2)
    server.reply("a", usage=None, times=2)
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    assert post(server).json()["usage"] == usage
    assert events(post(server, **streamed))[-1]["usage"] == usage
    assert post(server).json()["usage"] is None
    assert events(post(server, **streamed))[-1]["choices"]


def test_requests_are_recorded(server: ChatServer) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        for face, path in itertools.product(("dashscope", "vllm"), ("models", "chat/completions", "nothing")):
            url = f"{server.url_for(face)}/{path}"
            http.get(url) if path == "models" else http.post(url, json={"model": "qwen-plus", "messages": HELLO})
    assert [(r.face, r.method, r.status) for r in server.requests] == [
        (face, *rest) for face in ("dashscope", "vllm") for rest in (("GET", 200), ("POST", 200), ("POST", 404))
    ]
    assert server.last.headers["authorization"] == f"Bearer {KEY}"
    assert server.bodies[0] == {"model": "qwen-plus", "messages": HELLO}
    server.reply("x")
    server.clear()
    assert (server.requests, server.unused) == ([], 0)


async def test_a_client_that_leaves_is_noticed(server: ChatServer) -> None:
    server.reply("word " * 200, pause=0.01)
    api = AsyncOpenAI(base_url=server.url, api_key=KEY)
    stream = await api.chat.completions.create(model="qwen-plus", messages=HELLO, stream=True)
    await anext(stream)
    await stream.close()
    assert await asyncio.to_thread(server.settled)
    assert server.last.aborted


def test_requests_are_served_at_the_same_time(server: ChatServer) -> None:
    server.reply("slow", pause=0.5, times=4)

    async def both() -> list[Any]:
        async with AsyncOpenAI(base_url=server.url, api_key=KEY) as api:
            ask = [api.chat.completions.create(model="qwen-plus", messages=HELLO) for _ in range(4)]
            return await asyncio.gather(*ask)

    begin = time.monotonic()
    assert {answer.choices[0].message.content for answer in asyncio.run(both())} == {"slow"}
    assert time.monotonic() - begin < 1.9


def test_a_closing_server_does_not_wait_for_slow_answers() -> None:
    with ChatServer(delay=30) as server:
        server.fail("slow_headers")
        with pytest.raises(openai.APITimeoutError):
            client(server, timeout=0.2).chat.completions.create(model="qwen-plus", messages=HELLO)
        begin = time.monotonic()
    assert time.monotonic() - begin < 2
