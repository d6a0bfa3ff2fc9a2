"""What a call sends back, learns, costs, and how it is stopped."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from qwen3_rag.errors import ConfigurationError, InputError, ServerTimeoutError
from qwen3_rag.langchain import cache_prefix
from qwen3_rag.thinking import LEARNED, ThinkingBudget, ThinkingPolicy
from qwen3_rag.tokens import estimate_tokens
from tests.chat_server import MARK
from tests.integration.langchain.chat.ways import STREAMED, WAYS, WHOLE

CALL = {"name": "look", "args": {"at": "sky"}, "id": "c1", "type": "tool_call"}


def kept(text, reasoning, version, **more):
    """An earlier answer, as either output version has it."""
    if version == "v0":
        return AIMessage(text, additional_kwargs={"reasoning_content": reasoning}, **more)
    blocks = [{"type": "reasoning", "reasoning": reasoning}, *([{"type": "text", "text": text}] if text else [])]
    return AIMessage(blocks + more.get("tool_calls", []), response_metadata={"output_version": "v1"}, **more)


def sent_reasoning(server, field="reasoning_content"):
    return [message.get(field) for message in server.last.body["messages"] if message["role"] == "assistant"]


# --- history


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize(
    ("name", "history", "sent"),
    [
        ("qwen-plus", "auto", [None, "second"]),
        ("qwen-plus", "strip", [None, None]),
        ("qwen3.7-max", "preserve", ["first", "second"]),
        ("qwen3.8-max", "auto", ["first", "second"]),
        ("qwen3.8-flash", "tools", [None, "second"]),
    ],
)
def test_reasoning_goes_back_as_the_model_wants_it(server, chat, *, name, history, sent, version):
    messages = [
        HumanMessage("One"),
        kept("A", "first", version),
        HumanMessage("Two"),
        kept("", "second", version, tool_calls=[CALL]),
        ToolMessage("blue", tool_call_id="c1"),
    ]
    chat(name, thinking=ThinkingPolicy(enabled=True, history=history)).invoke(messages)
    assert sent_reasoning(server) == sent
    assert [message["content"] for message in server.last.body["messages"]] == ["One", "A", "Two", "", "blue"]
    assert ("preserve_thinking" in server.last.body) == (sent[0] is not None)


def test_deepseek_gets_all_of_it(server, chat):
    messages = [
        HumanMessage("One"),
        kept("", "first", "v0", tool_calls=[CALL]),
        ToolMessage("blue", tool_call_id="c1"),
        kept("A", "second", "v0"),
        HumanMessage("Two"),
    ]
    message = chat("deepseek-v4", face="deepseek", dialect="deepseek").invoke(messages)
    assert sent_reasoning(server) == ["first", "second"]
    assert message.response_metadata["healed"] == []


def test_openrouter_gets_its_details_back_unchanged(server, chat):
    model = chat("qwen/qwen3-8b", face="openrouter", dialect="openrouter", thinking=True)
    for way in WAYS.values():
        answer = way(
            model.bind_tools([{"name": "look", "description": "Look at the sky.", "parameters": {}}]), "Look at the sky"
        )
        details = answer.additional_kwargs["reasoning_details"]
        assert "".join(item.get("text", "") for item in details) == answer.additional_kwargs["reasoning_content"]
        result = ToolMessage("blue", tool_call_id=answer.tool_calls[0]["id"])
        model.invoke([HumanMessage("Look at the sky"), answer, result])
        assert sent_reasoning(server, "reasoning_details") == [details]


def test_messages_are_not_changed_and_content_goes_out_as_text(server, chat):
    messages = [
        SystemMessage([{"type": "text", "text": "Be"}, {"type": "text", "text": " kind."}]),
        HumanMessage([{"type": "text", "text": "One"}]),
        AIMessage([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]),
        HumanMessage(["Look ", {"type": "image", "url": "https://example.com/a.png"}]),
    ]
    before = [message.model_dump() for message in messages]
    chat("qwen3-vl-plus").invoke(messages)
    assert [message.model_dump() for message in messages] == before
    contents = [message["content"] for message in server.last.body["messages"]]
    assert contents[:3] == ["Be kind.", "One", "AB"]
    assert contents[3][0] == {"type": "text", "text": "Look "}
    assert contents[3][1] == {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


# --- refusals that teach


@pytest.mark.parametrize("way", WHOLE)
def test_a_refusal_is_healed_once_and_remembered(server, chat, way, caplog):
    server.fail("stream_only", times=1)
    model = chat("qwen-plus")
    with caplog.at_level(logging.WARNING, "qwen3_rag.thinking"):
        message = WAYS[way](model, "Hi")
    assert message.text
    assert [request.status for request in server.requests] == [400, 200]
    assert message.response_metadata["healed"] == ["stream"]
    assert "learnt 'stream'" in caplog.text
    again = WAYS[way](model, "Hi")
    assert len(server.requests) == 3
    assert server.last.body["stream"] is True
    assert again.response_metadata["healed"] == ["stream"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "thinking"),
    [("qwen3.8-2.4t-a95b", False), ("qwen3-235b-a22b-thinking-2507", False), ("qwen3-coder-plus", True)],
)
def test_what_a_model_cant_do_is_told(server, chat, way, name, thinking):
    message = WAYS[way](chat(name), "Hi", thinking=thinking)
    assert any(f"thinking={thinking} could not be had" in note for note in message.response_metadata["notes"])
    assert bool(message.additional_kwargs.get("reasoning_content")) == (not thinking)
    assert [request.status for request in server.requests] == [200]  # known, so not even asked


@pytest.mark.parametrize("way", WAYS)
def test_stream_only_models_are_streamed_by_themselves(server, chat, way):
    for name, thinking in (("qwq-plus", None), ("qwen3-8b", True), ("qwen3-235b-a22b-thinking-2507", None)):
        server.clear()
        message = WAYS[way](chat(name, streaming=False), "Hi", thinking=thinking)
        assert message.additional_kwargs["reasoning_content"].startswith(MARK)
        assert [request.status for request in server.requests] == [200]
        assert server.last.body["stream"] is True
    server.clear()
    WAYS[way](chat("qwen3-8b"), "Hi", thinking=False)
    assert server.last.body["stream"] is (way in STREAMED)


def test_lessons_of_one_server_are_not_anothers(server, chat):
    server.fail("stream_only", times=1)
    chat("qwen-plus").invoke("Hi")
    assert LEARNED.known(server.url, "qwen-plus").keys() == {"stream"}
    assert LEARNED.known(server.url_for("vllm"), "qwen-plus") == {}


def test_several_answers_at_once(server, chat):
    result = chat().generate([[HumanMessage("Hi")]], n=2)
    assert [generation.text[:5] for generation in result.generations[0]] in (["Hello"], ["Hello", "Hello"])
    assert server.last.body["n"] == 2
    with pytest.raises(ConfigurationError, match="n=2"):
        list(chat().stream("Hi", n=2))


# --- cost


@pytest.mark.parametrize("way", WAYS)
def test_usage_has_reasoning_and_both_sides_of_the_cache(server, chat, way):
    messages = cache_prefix([SystemMessage(f"{way} " + "what everybody knows " * 600), HumanMessage("And?")])
    model = chat("qwen3.7-max")
    first = WAYS[way](model, messages).usage_metadata
    second = WAYS[way](model, messages).usage_metadata
    assert first["input_token_details"]["cache_creation"] > 1024
    assert second["input_token_details"] == {
        "cache_read": first["input_token_details"]["cache_creation"],
        "cache_creation": 0,
    }
    assert second["output_token_details"]["reasoning"] == 96
    assert second["total_tokens"] == second["input_tokens"] + second["output_tokens"]


def test_usage_of_a_stream_can_be_left_out(server, chat):
    chunks = list(chat(stream_usage=False).stream("Hi"))
    assert "stream_options" not in server.last.body
    assert all(chunk.usage_metadata is None for chunk in chunks)
    assert list(chat().stream("Hi", stream_usage=False))[-1].usage_metadata is None


@pytest.mark.parametrize("way", WAYS)
def test_the_ledger_has_every_call(server, chat, way):
    budget = ThinkingBudget(10_000, per_call=5000)
    WAYS[way](chat(), "Hi", thinking=True, budget=budget)
    WAYS[way](chat(), "Hi", thinking=False, budget=budget)
    thought, answered = budget.ledger
    assert (thought.usage.reasoning, answered.usage.reasoning) == (48, 0)
    assert budget.remaining == 10_000 - 48


def test_threads_never_get_more_than_the_budget_together(server, chat):
    budget = ThinkingBudget(100, per_call=24, minimum=24)
    model = chat(thinking=True, budget=budget)
    model.batch(["Hi"] * 8, config={"max_concurrency": 8})
    assert budget.spent <= 100
    assert len(budget.ledger) == 8
    assert sorted(body["enable_thinking"] for body in server.bodies).count(True) == budget.spent // 24


def test_a_cache_of_answers_knows_thinking_from_not_thinking(server, chat):
    model = chat(cache=InMemoryCache())
    first = model.invoke("Hi", thinking=True)
    again = model.invoke("Hi", config={"configurable": {"thinking": True}})
    assert (len(server.requests), again.content_blocks) == (1, first.content_blocks)
    assert "reasoning_content" not in model.invoke("Hi", thinking=False).additional_kwargs
    assert len(server.requests) == 2


# --- stopping


def test_a_stream_that_is_left_is_closed_and_gives_its_tokens_back(server, chat):
    server.reply("word " * 200, reasoning="thought " * 200, pause=0.02)
    budget = ThinkingBudget(5000)
    chunks = chat(thinking=True, budget=budget).stream("Hi")
    next(chunks)
    assert budget.remaining == 0
    chunks.close()
    assert 4900 < budget.remaining < 5000
    assert server.settled()
    assert server.last.aborted


def test_an_async_stream_that_is_left_is_closed(server, chat):
    server.reply("word " * 200, reasoning="thought " * 200, pause=0.02)
    budget = ThinkingBudget(5000)

    async def run():
        async for _ in chat(thinking=True, budget=budget).astream("Hi"):
            break
        await asyncio.sleep(0.1)

    asyncio.run(run())
    assert 4900 < budget.remaining < 5000
    assert server.settled()
    assert server.last.aborted


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cancelled_task_closes_its_request(server, chat, streamed):
    server.reply("word " * 400, reasoning="thought " * 400, pause=0.02)
    budget = ThinkingBudget(5000)
    model = chat(thinking=True, budget=budget)

    async def read():
        async for _ in model.astream("Hi"):
            pass

    async def run():
        task = asyncio.create_task(read() if streamed else model.ainvoke("Hi"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begin = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - begin < 3
    assert budget.remaining > 4000
    assert server.settled()
    assert server.last.aborted


def test_silence_in_an_async_stream_is_a_timeout(server, chat):
    server.reply("word word", pause=1.0)

    async def run():
        return [chunk async for chunk in chat(stream_chunk_timeout=0.2, max_retries=0).astream("Hi")]

    with pytest.raises(ServerTimeoutError, match=r"no chunk for 0\.2 s"):
        asyncio.run(run())


def test_one_model_in_many_loops_and_threads_sends_each_request_once(server, chat):
    model = chat()

    def run():
        for _ in range(3):
            assert asyncio.run(model.ainvoke("Hi")).text

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 12


# --- counting without sending


def test_tokens_are_counted_without_a_request_or_a_download(server, chat):
    model = chat()
    kind, weather = "Be kind.", "今天天气怎么样？"
    messages = [SystemMessage(kind), HumanMessage(weather)]
    # 3 for the opening, 5 of the frame of each message
    estimate = 3 + (5 + estimate_tokens(kind)) + (5 + estimate_tokens(weather))
    assert model.get_num_tokens_from_messages(messages) == estimate
    tool = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {}}}
    assert model.get_num_tokens_from_messages(messages, tools=[tool]) > 30
    assert model.get_num_tokens(kind) == estimate_tokens(kind) > 0
    exact = chat(custom_get_token_ids=lambda text: list(text.encode()))
    assert exact.get_num_tokens_from_messages([HumanMessage("abc")]) == 3 + 5 + 3
    assert exact.get_token_ids("ab") == [97, 98]
    with pytest.raises(ConfigurationError, match="custom_get_token_ids"):
        model.get_token_ids("ab")
    assert server.requests == []


def test_the_payload_can_be_looked_at_without_sending(server, chat):
    budget = ThinkingBudget(100)
    payload = chat(thinking="low", budget=budget)._get_request_payload("Hi")
    assert payload["extra_body"] == {"enable_thinking": True, "thinking_budget": 4096}
    assert payload["messages"] == [{"role": "user", "content": "Hi"}]
    assert (server.requests, budget.remaining) == ([], 100)


def test_traces_name_the_server_and_the_thinking(server, chat):
    seen = []

    class Handler(BaseCallbackHandler):
        def on_chat_model_start(self, serialized, messages, *, metadata=None, invocation_params=None, **kwargs):
            seen.append((metadata, invocation_params))

    chat(thinking=True).invoke("Hi", config={"callbacks": [Handler()]}, budget=ThinkingBudget(100))
    [(metadata, params)] = seen
    assert (metadata["ls_provider"], metadata["ls_model_name"]) == ("dashscope", "qwen-plus")
    assert params["thinking"] is True
    assert params["budget"] == "ThinkingBudget(tokens=100, spent=0, remaining=100)"


# --- what can't be sent


@pytest.mark.parametrize(
    ("content", "args", "told"),
    [
        ("a\ud800", {}, r"messages\[0\]\.content holds half of a surrogate pair"),
        ("Hi", {"at": "\ud800"}, r"messages\[1\]\.tool_calls\[0\]\.function\.arguments holds half"),
        ("Hi", {"at": {1}}, "arguments of tool 'look' can't be written as JSON"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_can_not_be_sent_is_named_and_costs_nothing(server, chat, *, content, args, told, streamed):
    messages = [
        HumanMessage(content),
        AIMessage("", tool_calls=[{**CALL, "args": args}]),
        ToolMessage("blue", tool_call_id="c1"),
    ]
    budget = ThinkingBudget(1000)
    model = chat(thinking=True, budget=budget)
    with pytest.raises(InputError, match=told):
        list(model.stream(messages)) if streamed else model.invoke(messages)
    assert budget.remaining == 1000


def test_copies_share_connections_and_budget(server, chat):
    model = chat(budget=ThinkingBudget(1000))
    model.invoke("Hi")
    for copied in (copy.copy(model), copy.deepcopy(model), copy.deepcopy(model.bind(thinking=False)).bound):
        assert copied.root_client is model.root_client
        assert copied.budget is model.budget
        assert copied.invoke("Hi").text
