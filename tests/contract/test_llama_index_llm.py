"""What LlamaIndex expects of an LLM, asked of `Qwen3LLM` in all ways to call: the cases of LangChain's standard suite."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMStructuredPredictEndEvent
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.thinking import LEARNED, Evidence, ThinkingBudget, ThinkingPolicy
from tests.chat_server import MARK, ChatServer
from tests.llama_index_llm import ADD, NOW, STREAMS, WAYS, WEATHER, ask, call, calls, connect, thoughts

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def server():
    LEARNED.clear()
    with ChatServer() as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thinking", [True, False])
async def test_an_answer_and_its_reasoning(server, way, thinking):
    responses = await call(connect(server), way, thinking=thinking)
    last = responses[-1]
    assert last.message.role is MessageRole.ASSISTANT
    assert last.message.content.startswith("Hello, this is qwen-plus.")
    assert MARK not in last.message.content
    assert thoughts(last).startswith(MARK) == thinking
    assert server.last.thinks is thinking
    assert last.additional_kwargs["thinking"]["source"] == "asked"
    assert last.additional_kwargs["finish_reason"] == "stop"
    assert last.additional_kwargs["request_id"] == server.last.request_id


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_adds_up(server, way):
    responses = await call(connect(server), way, thinking=True)
    text = reasoning = ""
    for response in responses:
        text += response.delta
        reasoning += response.additional_kwargs.get("thinking_delta", "")
        assert (response.message.content, thoughts(response)) == (text, reasoning)
    assert (text, reasoning) == (responses[-1].message.content, thoughts(responses[-1]))
    # Nothing is lost at the beginning, nor does the text come in one piece.
    assert responses[0].additional_kwargs["thinking_delta"] == MARK.split()[0]
    assert len([response for response in responses if response.delta]) > 10
    # An earlier response is not changed by the later ones.
    assert thoughts(responses[0]) == MARK.split()[0]


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream_complete", "astream_complete"])
async def test_completions(server, way):
    llm = connect(server)
    result = getattr(llm, way)("Hello there", thinking=True)
    result = await result if way.startswith("a") else result
    if way == "astream_complete":
        responses = [response async for response in result]
    else:
        responses = list(result) if way == "stream_complete" else [result]
    assert responses[-1].text.startswith("Hello, this is qwen-plus.")
    assert responses[-1].additional_kwargs["reasoning_tokens"] > 0
    if "stream" in way:
        assert "".join(response.delta for response in responses) == responses[-1].text
        assert responses[0].additional_kwargs["thinking_delta"] == MARK.split()[0]


@pytest.mark.parametrize("way", WAYS)
async def test_a_conversation(server, way):
    messages = [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Hello"),
        ChatMessage(role="assistant", content="Hi."),
        ChatMessage(role="user", content="And now?"),
        ChatMessage(role="user", content="Well?"),
    ]
    assert "Well?" in (await ask(connect(server), way, messages)).message.content
    assert [(m["role"], m["content"]) for m in server.last.body["messages"]] == [
        (m.role.value, m.content) for m in messages
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thinking", [True, False])
async def test_a_tool_is_called(server, way, thinking):
    history = [ChatMessage("What is the weather in Paris?")]
    last = await ask(connect(server), way, history, tools=[WEATHER, ADD], thinking=thinking)
    (block,) = calls(last)
    assert block.tool_name == "get_weather"
    assert block.tool_call_id.startswith("call_")
    assert json.loads(block.tool_kwargs).keys() == {"city"}
    assert bool(thoughts(last)) is thinking
    assert last.additional_kwargs["finish_reason"] == "tool_calls"
    assert (server.last.body["tool_choice"], server.last.body["parallel_tool_calls"]) == ("auto", True)
    assert "strict" not in server.last.body["tools"][0]["function"]
    assert len(history) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_several_tools_are_called_at_once(server, way):
    server.reply(
        reasoning="Both.", tool_calls=[("get_weather", {"city": "Paris"}), ("add", {"a": 1, "b": 2}), ("now", "")]
    )
    last = await ask(connect(server), way, tools=[WEATHER, ADD, NOW], thinking=True)
    assert [(call.tool_name, json.loads(call.tool_kwargs)) for call in calls(last)] == [
        ("get_weather", {"city": "Paris"}),
        ("add", {"a": 1, "b": 2}),
        ("now", {}),
    ]
    selections = connect(server).get_tool_calls_from_response(last)
    assert [(one.tool_id, one.tool_kwargs) for one in selections] == [
        ("call_scripted_0", {"city": "Paris"}),
        ("call_scripted_1", {"a": 1, "b": 2}),
        ("call_scripted_2", {}),
    ]


@pytest.mark.parametrize("way", ["chat", "achat"])
async def test_one_tool_at_a_time_if_asked(server, way, caplog):
    llm = connect(server)
    both = [("get_weather", {"city": "Paris"}), ("add", {"a": 1, "b": 2})]
    server.reply(tool_calls=both)
    last = await ask(llm, way, tools=[WEATHER, ADD], allow_parallel_tool_calls=False)
    assert server.last.body["parallel_tool_calls"] is False
    assert [call.tool_name for call in calls(last)] == ["get_weather"]
    assert len(last.message.additional_kwargs["tool_calls"]) == 1
    assert "['add'] left out" in caplog.text  # this server did not keep to it


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({"tool_required": True}, "required"),
        ({"tool_choice": "add"}, {"type": "function", "function": {"name": "add"}}),
        ({"tool_choice": "none"}, "none"),
    ],
)
async def test_the_choice_of_a_tool(server, way, options, choice):
    last = await ask(connect(server), way, "Hello", tools=[ADD], **options)
    assert server.last.body["tool_choice"] == choice
    assert [call.tool_name for call in calls(last)] == ([] if choice == "none" else ["add"])


async def test_strict_tools(server):
    await ask(connect(server), "achat", tools=[ADD], strict=True)
    assert server.last.body["tools"][0]["function"]["strict"] is True
    assert server.last.body["tools"][0]["function"]["parameters"]["additionalProperties"] is False
    await ask(connect(server, strict=True), "achat", tools=[ADD])
    assert server.last.body["tools"][0]["function"]["strict"] is True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("legacy", [False, True])
async def test_the_results_of_tools_in_the_history(server, way, legacy):
    call_id = "call_1"
    function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    asked = (
        ChatMessage(
            role="assistant",
            additional_kwargs={"tool_calls": [{"id": call_id, "type": "function", "function": function}]},
        )
        if legacy
        else ChatMessage(
            role="assistant",
            blocks=[ToolCallBlock(tool_call_id=call_id, tool_name="add", tool_kwargs={"a": 1, "b": 2})],
        )
    )
    result = ChatMessage(role="tool", content="the sum is 3", additional_kwargs={"tool_call_id": call_id})
    last = await ask(connect(server), way, [ChatMessage("1 + 2?"), asked, result], tools=[ADD])
    assert "the sum is 3" in last.message.content
    _, sent, answered = server.last.body["messages"]
    assert sent == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }
    assert answered == {"role": "tool", "content": "the sum is 3", "tool_call_id": call_id}


@pytest.mark.parametrize("way", WAYS)
async def test_json_mode(server, way):
    last = await ask(connect(server), way, "A joke as json", response_format={"type": "json_object"})
    assert isinstance(json.loads(last.message.content), dict)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", ["qwen-plus", "qwen3.6-plus", "qwen3.7-max"])
async def test_json_mode_while_thinking(server, way, model):
    """qwen-plus refuses it, qwen3.6 ignores it, qwen3.7 does it; each gives JSON and its reasoning."""
    options = {"response_format": {"type": "json_object"}, "thinking": True}
    responses = await call(connect(server, model), way, "A joke as json", **options)
    last = responses[-1]
    assert isinstance(json.loads(last.message.content), dict)
    assert thoughts(last).startswith(MARK)
    requests = len(server.bodies)
    assert requests == (1 if model == "qwen3.7-max" else 2)
    tokens = last.additional_kwargs
    assert tokens["total_tokens"] == tokens["prompt_tokens"] + tokens["completion_tokens"]
    assert tokens["reasoning_tokens"] > 0
    assert tokens["thinking"]["enabled"] is True
    if way in STREAMS:
        assert "".join(response.delta for response in responses) == last.message.content
        streamed = "".join(response.additional_kwargs.get("thinking_delta", "") for response in responses)
        assert streamed == thoughts(last)


@pytest.mark.parametrize("way", WAYS)
async def test_tokens(server, way):
    last = await ask(connect(server), way, thinking=True)
    tokens = last.additional_kwargs
    assert tokens["prompt_tokens"] > 0
    assert tokens["completion_tokens"] > tokens["reasoning_tokens"] > 0
    assert tokens["total_tokens"] == tokens["prompt_tokens"] + tokens["completion_tokens"]
    assert last.raw.usage.total_tokens == tokens["total_tokens"]
    assert last.message.blocks[0].num_tokens == tokens["reasoning_tokens"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_without_details_or_without_usage(server, way):
    plain = (await ask(connect(server, "qwen-turbo"), way)).additional_kwargs
    assert (plain["reasoning_tokens"], plain["cached_tokens"]) == (0, 0)
    server.reply("Yes.", usage=None)
    last = await ask(connect(server), way)
    assert last.message.content == "Yes."
    assert "prompt_tokens" not in last.additional_kwargs


async def test_usage_of_a_stream_can_be_declined(server):
    last = await ask(connect(server), "astream_chat", stream_options={"include_usage": False})
    assert "prompt_tokens" not in last.additional_kwargs


@pytest.mark.parametrize("way", WAYS)
async def test_the_explicit_context_cache(server, way):
    handbook = [TextBlock(text="word " * 1200), CachePoint(cache_control=CacheControl(type="ephemeral"))]
    messages = [ChatMessage(role="system", blocks=handbook), ChatMessage("Hello")]
    first = await ask(connect(server), way, messages)
    second = await ask(connect(server), way, messages)
    assert first.additional_kwargs["cache_creation_tokens"] > 1000
    assert second.additional_kwargs["cached_tokens"] > 1000


@pytest.mark.parametrize("way", WAYS)
async def test_stop(server, way):
    last = await ask(connect(server), way, stop=["qwen"])
    assert last.message.content == "Hello, this is "


@pytest.mark.parametrize("way", WAYS)
async def test_images(server, way):
    blocks = [TextBlock(text="What is this?"), ImageBlock(image=PIXEL, image_mimetype="image/png")]
    last = await ask(connect(server, "qwen3-vl-plus"), way, [ChatMessage(role="user", blocks=blocks)])
    assert "What is this?" in last.message.content
    text, image = server.last.body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == PIXEL


@pytest.mark.parametrize("way", WAYS)
async def test_another_model_for_one_call(server, way):
    llm = connect(server)
    # This one is stream-only while it thinks, which it does by default: facts are those of the model that is called.
    last = await ask(llm, way, model="qwen3-8b")
    assert last.message.content.startswith("Hello, this is qwen3-8b.")
    assert thoughts(last)
    assert llm.model == llm.metadata.model_name == "qwen-plus"


# --- structured output


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    nickname: str | None = None


PROMPT = PromptTemplate("Tell me about {who}, as json.")


async def predict(llm, way, output_cls=Person, **llm_kwargs: Any):
    """All objects that a way of structured prediction gives."""
    arguments = {"output_cls": output_cls, "prompt": PROMPT, "llm_kwargs": llm_kwargs, "who": "Ann"}
    if way == "chat":
        return [llm.structured_predict(**arguments)]
    if way == "achat":
        return [await llm.astructured_predict(**arguments)]
    if way == "stream_chat":
        return list(llm.stream_structured_predict(**arguments))
    return [one async for one in await llm.astream_structured_predict(**arguments)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thinking", [None, True, False])
@pytest.mark.parametrize("model", ["qwen3.7-max", "qwen-plus", "qwen3.8-flash", "qwen3-8b", "qwq-plus"])
async def test_structured_output(server, way, thinking, model):
    """By schema (3.7, 3.8), by a tool (plus), by a tool that can't be forced and a repair (8b, QwQ)."""
    llm = connect(server, model)
    objects = await predict(llm, way, **({} if thinking is None else {"thinking": thinking}))
    assert type(objects[-1]) is Person
    assert objects[-1].name
    first = next(one for one in server.requests if one.status == 200)
    expected = True if model == "qwq-plus" else model != "qwen-plus" if thinking is None else thinking
    assert first.thinks is expected
    assert llm.thinking is None


@pytest.mark.parametrize("way", WAYS)
async def test_a_structured_answer_that_is_none_is_repaired(server, way, caplog):
    server.reply("Ann is forty.", reasoning="Hm.")
    objects = await predict(connect(server), way, thinking=True)
    assert type(objects[-1]) is Person
    first, second = server.bodies
    assert first["tool_choice"] == {"type": "function", "function": {"name": "Person"}}
    assert second["response_format"] == {"type": "json_object"}
    assert second["enable_thinking"] is False
    assert "Ann is forty." in second["messages"][-1]["content"]
    assert "second call without thinking repairs it" in caplog.text


@pytest.mark.parametrize("way", STREAMS)
async def test_objects_grow_in_a_stream(server, way):
    text = '{"name": "Ann of the north", "age": 40, "nickname": null}'
    server.reply(deltas=[{"content": piece} for piece in (text[:12], text[12:20], text[20:40], text[40:])])
    objects = await predict(connect(server, "qwen3.7-max"), way, thinking=False)
    assert objects[0].name == "An"
    assert len(objects) == len({one.model_dump_json() for one in objects}) > 2
    assert objects[-1] == Person(name="Ann of the north", age=40)


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_as_structured_llm(server, way):
    structured = connect(server, "qwen3.7-max").as_structured_llm(Person)
    assert isinstance((await ask(structured, way)).raw, Person)


# --- one knob, one call


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_never_changes_the_instance(server, way):
    given = {"enable_search": True, "search_options": {"forced_search": True}}
    llm = connect(server, additional_kwargs={"extra_body": given, "top_p": 0.9}, temperature=0.5)
    before = llm.model_dump()
    override = {"search_options": {"search_strategy": "max"}}
    await ask(llm, way, thinking=512, extra_body=override, temperature=0.1, top_p=0.8, max_tokens=9, model="qwen3-max")
    body = server.last.body
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["model"]) == (0.1, 0.8, 9, "qwen3-max")
    assert (body["enable_thinking"], body["thinking_budget"]) == (True, 512)
    assert body["search_options"] == {"forced_search": True, "search_strategy": "max"}
    assert body["enable_search"] is True
    assert llm.model_dump() == before
    assert override == {"search_options": {"search_strategy": "max"}}
    await ask(llm, way)
    assert "thinking_budget" not in server.last.body
    assert server.last.body["temperature"] == 0.5


@pytest.mark.parametrize("way", WAYS)
async def test_the_users_own_body_wins(server, way):
    last = await ask(connect(server, thinking=False), way, extra_body={"enable_thinking": True, "thinking_budget": 300})
    assert (server.last.body["enable_thinking"], server.last.body["thinking_budget"]) == (True, 300)
    assert thoughts(last)


async def test_nothing_is_sent_that_nobody_asked_for(server):
    await ask(connect(server), "achat")
    assert server.last.body == {
        "model": "qwen-plus",
        "messages": [{"role": "user", "content": "Hello there"}],
        "stream": False,
    }


@pytest.mark.parametrize("way", WAYS)
async def test_an_openai_account_in_the_environment_is_nobody_elses_business(server, way, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "of-openai")
    await ask(connect(server), way)
    assert "of-openai" not in str(server.last.headers)


@pytest.mark.parametrize("way", WAYS)
async def test_an_unknown_argument_is_named(server, way):
    with pytest.raises(ConfigurationError, match="'temprature'"):
        await ask(connect(server), way, temprature=0.1)
    with pytest.raises(ConfigurationError, match="n=2"):
        await ask(connect(server), way, n=2)
    assert server.requests == []


# --- the session's budget, and thinking only where it adds value


@pytest.mark.parametrize("way", WAYS)
async def test_a_session_budget_ends_in_answers_without_thinking(server, way):
    budget = ThinkingBudget(60, per_call=40, minimum=10)
    llm = connect(server, thinking=True, budget=budget)
    sources = [(await ask(llm, way)).additional_kwargs["thinking"]["source"] for _ in range(4)]
    assert sources[-1] == "session budget"
    assert [one.thinks for one in server.requests][-1] is False
    assert server.requests[0].body["thinking_budget"] == 40
    assert budget.spent <= 60
    assert len(budget.ledger) == 4
    # Another budget, or none, for one call.
    last = await ask(llm, way, budget=None)
    assert thoughts(last)


async def test_a_budget_that_many_calls_share_at_once(server):
    budget = ThinkingBudget(300, per_call=40, minimum=10)
    llm = connect(server, thinking=True, budget=budget)
    await asyncio.gather(*(llm.achat([ChatMessage("Hello")]) for _ in range(15)))
    await llm.aclose()
    assert 0 < budget.spent <= 300
    assert len(budget.ledger) == 15
    assert sum(one.thinks for one in server.requests) < 15


@pytest.mark.parametrize("way", WAYS)
async def test_auto(server, way):
    llm = connect(server, thinking="auto")
    easy = await ask(llm, way, "Hello!")
    hard = await ask(llm, way, "Prove step by step that the square root of two is irrational.")
    assert (bool(thoughts(easy)), bool(thoughts(hard))) == (False, True)
    assert hard.additional_kwargs["thinking"]["source"] == "auto"
    assert hard.additional_kwargs["thinking"]["reason"]

    seen = []
    policy = ThinkingPolicy(auto=lambda question, evidence: seen.append((question, evidence)) or True)
    assert thoughts(await ask(llm, way, "Mine?", thinking=policy, evidence=Evidence((0.9, 0.1))))
    assert seen == [("Mine?", Evidence((0.9, 0.1)))]


# --- what LlamaIndex looks at from outside


class Events(BaseEventHandler):
    seen: list[Any]

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event)


@pytest.mark.parametrize("way", WAYS)
async def test_callbacks_and_events_have_the_whole_answer(server, way):
    handler, counter = Events(seen=[]), TokenCountingHandler()
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        last = await ask(connect(server, callback_manager=CallbackManager([counter])), way, thinking=True)
        await predict(connect(server, "qwen3.7-max"), "achat")
    finally:
        dispatcher.event_handlers.remove(handler)
    ends = [event for event in handler.seen if isinstance(event, LLMChatEndEvent)]
    assert ends[0].response.message.blocks == last.message.blocks
    assert [event.output.name for event in handler.seen if isinstance(event, LLMStructuredPredictEndEvent)]
    (counted,) = counter.llm_token_counts
    assert counted.total_token_count == last.additional_kwargs["total_tokens"]
    assert CBEventType.LLM is CBEventType("llm")


def test_one_model_in_several_event_loops(server):
    """A client that is kept for the next loop would fail there with "Event loop is closed"."""
    llm = connect(server)
    for _ in range(3):
        assert asyncio.run(llm.achat([ChatMessage("Hello")])).message.content
    assert len(llm._aclients) == 1  # those of closed loops can't be used again, and each holds a socket


async def test_clients_of_one_call_are_closed(server):
    llm = connect(server, reuse_client=False)
    for way in WAYS:
        assert (await ask(llm, way)).message.content
    assert llm._client is None
