"""`thinking`, `budget` and `evidence` wherever they can be given; a call never changes the instance."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.load import dumps
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import ValidationError

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain import ChatQwen3
from qwen3_rag.thinking import Evidence, ThinkingBudget, ThinkingPolicy
from tests.chat_server import KEY
from tests.integration.langchain.chat.ways import WAYS


def switches(server):
    return [body.get("enable_thinking") for body in server.bodies]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_wins_over_bind_and_config_and_instance(server, chat, way):
    model = chat(thinking=True)
    before = model.model_dump()
    call = WAYS[way]
    call(model, "Hi")
    call(model, "Hi", thinking=False)
    call(model.bind(thinking=False), "Hi")
    call(model, "Hi", config={"configurable": {"thinking": False}})
    call(model, "Hi", config={"configurable": {"thinking": False}}, thinking=True)
    call(model, "Hi", thinking=None)
    call(model, "Hi")
    assert switches(server) == [True, False, False, False, True, None, True]
    assert model.model_dump() == before


@pytest.mark.parametrize("way", WAYS)
def test_the_config_reaches_a_model_inside_a_chain(server, chat, way):
    chain = ChatPromptTemplate.from_template("Say {word}") | chat(thinking=True) | StrOutputParser()
    config = {"configurable": {"thinking": "low", "budget": "somebody else's", "thread_id": "1"}}
    if way in ("invoke", "ainvoke"):
        WAYS[way](chain, {"word": "this"}, config=config)
    elif way == "stream":
        list(chain.stream({"word": "this"}, config=config))
    else:
        asyncio.run(collect(chain.astream({"word": "this"}, config=config)))
    assert server.last.body["thinking_budget"] == 4096


async def collect(chunks):
    return [chunk async for chunk in chunks]


def test_the_config_reaches_a_model_inside_a_graph(server, chat):
    model = chat(thinking=True)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    graph.compile().invoke({"messages": "Hi"}, {"configurable": {"thinking": False}})
    assert switches(server) == [False]


def test_batches_are_told_one_by_one_or_all_at_once(server, chat):
    model = chat()
    model.batch(["a", "b"], config=[{"configurable": {"thinking": flag}} for flag in (True, False)])
    assert sorted(switches(server)) == [False, True]
    server.clear()
    asyncio.run(model.abatch(["a", "b"], thinking=True))
    assert switches(server) == [True, True]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_events_of_the_older_versions(server, chat, version):
    async def run(**options):
        return [event async for event in chat().astream_events("Hi", version=version, **options)]

    events = asyncio.run(run(config={"configurable": {"thinking": True}}))
    events += asyncio.run(run(thinking=True))
    assert switches(server) == [True, True]
    chunks = [event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"]
    assert any(chunk.additional_kwargs.get("reasoning_content") for chunk in chunks)


@pytest.mark.parametrize("options", [{"config": {"configurable": {"thinking": True}}}, {"thinking": True}])
def test_events_of_version_3(server, chat, options):
    stream = chat().stream_events("Hi", version="v3", **options)
    assert "".join(stream.reasoning).startswith("Let me think")
    assert "".join(stream.text).startswith("Hello, this is")
    assert [block["type"] for block in stream.output.content] == ["reasoning", "text"]

    async def run():
        stream = await chat().astream_events("Hi", version="v3", **options)
        return await stream.output

    message = asyncio.run(run())
    assert [block["type"] for block in message.content] == ["reasoning", "text"]
    assert message.usage_metadata["output_token_details"]["reasoning"] > 0
    assert switches(server) == [True, True]


def test_auto_decides_by_question_and_evidence_and_says_why(server, chat):
    model = chat(thinking="auto")
    easy = model.invoke("What is Milvus?", evidence=Evidence((0.99, 0.98)))
    hard = model.invoke("Prove that the sum of two odd numbers is even, step by step.")
    assert switches(server) == [False, True]
    for message, enabled in ((easy, False), (hard, True)):
        told = message.response_metadata["thinking"]
        assert (told["enabled"], told["source"]) == (enabled, "auto")
        assert told["reason"]


def test_a_rule_of_ones_own(server, chat):
    asked = []

    def rule(question, evidence):
        asked.append((question, evidence))
        return "why" in question

    evidence = Evidence((0.5,))
    model = chat(thinking=ThinkingPolicy(auto=rule))
    model.invoke("why?", config={"configurable": {"evidence": evidence}})
    model.invoke([("system", "why"), ("user", "so")])
    assert asked == [("why?", evidence), ("so", None)]
    assert switches(server) == [True, False]


def test_a_plain_value_of_a_call_leaves_the_history_mode_as_it_is(server, chat):
    model = chat("qwen3.7-max", thinking=ThinkingPolicy(enabled=True, history="preserve"))
    model.invoke("Hi", thinking="low")
    assert server.last.body["preserve_thinking"] is True
    model.invoke("Hi", thinking=ThinkingPolicy(enabled=True))
    assert "preserve_thinking" not in server.last.body


@pytest.mark.parametrize("value", [0, -1, 1.5, "much", {"type": "enabled"}])
def test_what_means_nothing_is_refused_at_once_and_names_the_value(server, chat, value):
    with pytest.raises(ConfigurationError, match="thinking"):
        chat(thinking=value)
    with pytest.raises(ConfigurationError, match="thinking"):
        chat().invoke("Hi", thinking=value)
    with pytest.raises(ConfigurationError, match="thinking"):
        chat().invoke("Hi", config={"configurable": {"thinking": value}})
    assert server.requests == []


def test_wrong_budgets_and_evidence_are_refused(server, chat):
    with pytest.raises(ConfigurationError, match="budget must be a ThinkingBudget, got 4096"):
        chat(budget=4096)
    with pytest.raises(ConfigurationError, match="budget must be a ThinkingBudget"):
        chat().invoke("Hi", budget=4096)
    with pytest.raises(ConfigurationError, match="evidence must be a Evidence"):
        chat().invoke("Hi", evidence=[0.5])
    assert server.requests == []


def test_unknown_names_are_refused_and_the_servers_own_are_sent(server, chat):
    with pytest.raises(ConfigurationError, match=r"'temprature'.*extra_body"):
        chat(temprature=0)
    with pytest.raises(ConfigurationError, match=r"'temprature'.*extra_body"):
        chat().invoke("Hi", temprature=0)
    model = chat(top_k=5, max_completion_tokens=50, extra_body={"seed_of_my_own": 1})
    model.invoke("Hi", enable_thinking=True, repetition_penalty=1.1)
    body = server.last.body
    assert body["max_completion_tokens"] == 50
    assert (body["top_k"], body["repetition_penalty"], body["seed_of_my_own"]) == (5, 1.1, 1)
    assert server.last.thinks
    assert server.bodies[1:] == []


def test_the_key_is_shown_nowhere(server, chat):
    model = chat(thinking=True)
    model.invoke("Hi")
    for text in (repr(model), str(model), dumps(model), str(model.asdict()), str(model.model_dump())):
        assert KEY not in text
    with pytest.raises(ValidationError) as refused:
        chat(temperature="hot")
    assert KEY not in str(refused.value)


def test_the_environment_of_openai_goes_nowhere_else(server, chat, monkeypatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "of-openai")
    chat().invoke("Hi")
    asyncio.run(chat().ainvoke("Hi"))
    for request in server.requests:
        assert "of-openai" not in str(request.headers)


def test_where_it_is_sent(monkeypatch):
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    for options, url, dialect in (
        ({}, "https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ({"region": "intl"}, "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope"),
        (
            {"region": "singapore", "workspace_id": "ws-1"},
            "https://ws-1.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1",
            "dashscope",
        ),
        ({"base_url": "http://localhost:11434/v1"}, "http://localhost:11434/v1", "ollama"),
        ({"base_url": "http://localhost:8000/v1"}, "http://localhost:8000/v1", "vllm"),
        ({"dialect": "lmstudio"}, "http://localhost:1234/v1", "lmstudio"),
    ):
        model = ChatQwen3("qwen-plus", **options)
        assert (model.openai_api_base, model.dialect) == (url, dialect)
        key = model.openai_api_key.get_secret_value()
        assert (key == KEY) == (dialect == "dashscope")
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    with pytest.raises(ConfigurationError, match="DASHSCOPE_API_KEY"):
        ChatQwen3("qwen-plus")


def test_a_shared_budget_at_construction_in_a_call_and_in_the_config(server, chat):
    budget = ThinkingBudget(48, minimum=24)  # the loopback model takes 24 tokens of a budget so small
    chat(thinking=True, budget=budget).invoke("Hi")
    chat().invoke("Hi", thinking=True, budget=budget)
    assert [body["thinking_budget"] for body in server.bodies] == [48, 24]
    message = chat("qwen3.7-max").invoke("Hi", config={"configurable": {"budget": budget}})
    assert server.last.body["enable_thinking"] is False
    assert message.response_metadata["thinking"]["source"] == "session budget"
    assert [entry.model for entry in budget.ledger] == ["qwen-plus", "qwen-plus", "qwen3.7-max"]
    assert (budget.spent, budget.remaining) == (48, 0)
