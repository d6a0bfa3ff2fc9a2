"""Structured output while thinking, in all methods; the model stays as it was."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from qwen3_rag.errors import ConfigurationError
from tests.chat_server import MARK


class Person(BaseModel):
    """Who somebody is."""

    name: str
    age: int = Field(ge=0)


class PersonDict(TypedDict):
    """Who somebody is."""

    name: str
    age: int


ASK = "Ada is 36. Who is it?"
FORMS = {"pydantic": Person, "dict": PersonDict, "schema": Person.model_json_schema()}
METHODS = {
    "qwen3.7-max": [None, "json_schema", "function_calling", "json_mode"],
    "qwen-plus": [None, "function_calling", "json_mode"],
    "qwen3.5-plus": [None, "function_calling", "json_mode"],
    "qwen3-8b": [None, "function_calling", "json_mode"],
    "qwq-plus": [None],
}


def run(structured, is_async, prompt=ASK, **options):
    return asyncio.run(structured.ainvoke(prompt, **options)) if is_async else structured.invoke(prompt, **options)


def answered(server):
    return [request for request in server.requests if request.status == 200]


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name, methods in METHODS.items() for method in methods]
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_each_method_gives_the_object_and_the_reasoning(server, chat, *, name, method, form, is_async):
    model = chat(name, thinking=True)
    before = model.model_dump()
    structured = model.with_structured_output(FORMS[form], method=method, include_raw=True)
    prompt = f"{ASK} Answer as JSON with 'name' and 'age' as {json.dumps(Person.model_json_schema())}"
    out = run(structured, is_async, prompt if method == "json_mode" else ASK)
    assert out["parsing_error"] is None
    parsed = out["parsed"].model_dump() if form == "pydantic" else out["parsed"]
    assert set(parsed) == {"name", "age"}
    assert isinstance(parsed["age"], int)
    assert out["raw"].additional_kwargs["reasoning_content"].startswith(MARK)
    assert out["raw"].response_metadata["thinking"]["enabled"] is True
    assert answered(server)[0].thinks
    assert model.model_dump() == before


def test_json_schema_is_taken_where_the_model_guarantees_it(server, chat):
    chat("qwen3.7-max").with_structured_output(Person).invoke(ASK)
    [body] = server.bodies
    form = body["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Person", True)
    assert form["json_schema"]["schema"]["additionalProperties"] is False
    chat("qwen3.7-max").with_structured_output(Person, strict=False).invoke(ASK)
    assert server.last.body["response_format"]["json_schema"]["strict"] is False


def test_elsewhere_a_tool_is_forced_while_not_thinking(server, chat):
    chat("qwen-plus").with_structured_output(Person).invoke(ASK)
    [body] = server.bodies
    assert body["tool_choice"] == {"type": "function", "function": {"name": "Person"}}
    assert body["parallel_tool_calls"] is False
    assert "response_format" not in body


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("said", ["It is Ada, she is 36.", '{"name": "Ada"}', ""])
def test_what_comes_without_a_call_is_repaired_without_thinking(server, chat, is_async, said, caplog):
    server.reply(said, reasoning="Somebody called Ada.")
    model = chat("qwen3-8b", thinking=True)
    with caplog.at_level(logging.WARNING, "qwen3_rag.thinking"):
        out = run(model.with_structured_output(Person, include_raw=True), is_async)
    assert isinstance(out["parsed"], Person)
    assert "repairs it" in caplog.text
    first, second = answered(server)
    assert (first.thinks, second.thinks) == (True, False)
    assert second.body["response_format"] == {"type": "json_object"}
    assert "tools" not in second.body
    assert ASK in second.body["messages"][-1]["content"]
    assert said in second.body["messages"][-1]["content"]
    assert "JSON schema" in second.body["messages"][0]["content"]
    assert out["raw"].additional_kwargs["reasoning_content"] == "Somebody called Ada."
    assert out["raw"].response_metadata["repaired"]
    assert out["raw"].usage_metadata["input_tokens"] > 40  # of both calls


def test_arguments_that_do_not_fit_are_repaired_too(server, chat):
    server.reply(tool_calls=[("Person", {"name": "Ada", "age": -1})])
    assert isinstance(chat().with_structured_output(Person).invoke(ASK), Person)
    assert '{"name": "Ada", "age": -1}' in server.last.body["messages"][-1]["content"]


def test_what_cant_be_repaired_is_an_error(server, chat):
    server.reply("I don't know.", times=4)
    with pytest.raises(OutputParserException):
        chat().with_structured_output(Person).invoke(ASK)
    out = chat().with_structured_output(Person, include_raw=True).invoke(ASK)
    assert out["parsed"] is None
    assert isinstance(out["parsing_error"], OutputParserException)
    assert len(server.requests) == 4  # one repair each, no more


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", ["qwen3.5-plus", "qwen3-8b", "qwen-plus"])
def test_a_model_that_cant_think_in_json_thinks_first(server, chat, name, streamed, is_async):
    """`response_format` on models that ignore or refuse it while they think: Model Studio's own two steps."""
    form = {"type": "json_schema", "json_schema": {"name": "Person", "schema": Person.model_json_schema()}}
    model = chat(name, thinking=True).bind(response_format=form)

    async def acollect():
        return [chunk async for chunk in model.astream(ASK)]

    if streamed:
        chunks = asyncio.run(acollect()) if is_async else list(model.stream(ASK))
        message = sum(chunks[1:], chunks[0])
        # Reasoning first, as it comes; of the free answer nothing.
        said = [chunk for chunk in chunks if chunk.content or chunk.additional_kwargs]
        thought = ["reasoning_content" in chunk.additional_kwargs for chunk in said]
        assert thought == sorted(thought, reverse=True)
        assert sum(1 for chunk in chunks if chunk.chunk_position == "last") == 1
    else:
        message = run(model, is_async)
    assert Person.model_validate_json(message.text)
    assert message.additional_kwargs["reasoning_content"].startswith(MARK)
    first, second = answered(server)
    assert (first.thinks, second.thinks) == (True, False)
    assert "response_format" not in first.body
    assert second.body["response_format"] == {"type": "json_object"}  # the schema is in the prompt
    metadata = message.response_metadata
    assert metadata["unformatted"].startswith("Hello, this is")
    assert (metadata["thinking"]["enabled"], metadata["finish_reason"], metadata["model_name"]) == (True, "stop", name)
    assert message.usage_metadata["output_tokens"] > 96  # the reasoning alone


def test_a_model_that_always_thinks_is_asked_twice(server, chat):
    server.reply("Ada, 36.", reasoning="A name and a number.")
    server.reply('{"name": "Ada", "age": 36}', reasoning="As JSON.")
    out = chat("qwq-plus").with_structured_output(Person, method="json_mode", include_raw=True).invoke("JSON, please")
    assert out["parsed"] == Person(name="Ada", age=36)
    assert out["raw"].additional_kwargs["reasoning_content"] == "A name and a number.As JSON."
    assert len(answered(server)) == 2


def test_what_is_json_already_needs_no_second_call(server, chat):
    server.reply('{"a": 1}', reasoning="Easy.")
    message = chat("qwen3.5-plus", thinking=True).bind(response_format={"type": "json_object"}).invoke("JSON, please")
    assert (message.text, len(server.requests)) == ('{"a": 1}', 1)


def test_a_tool_comes_before_the_format(server, chat):
    server.reply(tool_calls=[("look", {})], reasoning="I need to look.")
    tool = {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
    model = chat("qwen3.5-plus", thinking=True).bind_tools([tool]).bind(response_format={"type": "json_object"})
    message = model.invoke("JSON, please")
    assert [call["name"] for call in message.tool_calls] == ["look"]
    assert len(server.requests) == 1


def test_dictionaries_are_streamed_as_they_grow(server, chat):
    pieces = list(chat("qwen3.7-max", thinking=True).with_structured_output(PersonDict).stream(ASK))
    assert len(pieces) > 2
    assert pieces[-1].keys() == {"name", "age"}
    assert list(chat(thinking=True).with_structured_output(Person).stream(ASK)) != []


def test_it_is_a_part_of_chains_and_heeds_their_config(server, chat):
    chain = ChatPromptTemplate.from_template("{who} is 36. Who is it?") | chat(thinking=True).with_structured_output(
        Person
    )
    assert isinstance(chain.invoke({"who": "Ada"}, config={"configurable": {"thinking": False}}), Person)
    assert not server.last.thinks
    assert isinstance(chain.invoke({"who": "Ada"}), Person)
    messages = [HumanMessage(ASK)]
    assert isinstance(chat().with_structured_output(Person).invoke(messages), Person)


@pytest.mark.parametrize("name", ["qwen-plus", "qwen3.7-max"])
def test_options_of_a_call_reach_the_model(server, chat, name):
    structured = chat(name, thinking=True).with_structured_output(PersonDict)
    for call in (structured.invoke, lambda prompt, **options: list(structured.stream(prompt, **options))):
        assert call(ASK, thinking=False)
        assert not server.last.thinks
    asyncio.run(structured.ainvoke(ASK, thinking=False))
    assert not server.last.thinks


def test_options_of_bind_reach_both_calls(server, chat):
    server.reply("It is Ada, she is 36.")
    chat("qwen-plus").with_structured_output(Person, model="qwen-flash", temperature=0.1).invoke(ASK)
    assert [(body["model"], body["temperature"]) for body in server.bodies] == [("qwen-flash", 0.1)] * 2


def test_what_makes_no_sense_is_refused(chat):
    with pytest.raises(ConfigurationError, match="needs a schema"):
        chat().with_structured_output()
    with pytest.raises(ConfigurationError, match="strict=True"):
        chat().with_structured_output(Person, method="json_mode", strict=True)
    with pytest.raises(ConfigurationError, match="'yaml'"):
        chat().with_structured_output(Person, method="yaml")
