"""The small parts: cache markers, token counts, errors, formats, and what is imported when."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref

import openai
import pytest
from langchain_core import exceptions as langchain
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

import qwen3_rag.langchain
from qwen3_rag import errors
from qwen3_rag.langchain import cache_prefix
from qwen3_rag.langchain._chat_errors import CLASSES
from qwen3_rag.langchain._chat_format import response_format
from qwen3_rag.langchain._chat_loops import in_this_loop
from qwen3_rag.langchain._chat_tokens import IMAGE_TOKENS, count_messages

MARK = {"type": "ephemeral"}


# --- cache markers


def test_the_leading_system_messages_are_the_prefix_unless_told_otherwise():
    messages = [SystemMessage("a"), SystemMessage("b"), HumanMessage("c")]
    marked = cache_prefix(messages)
    assert [message.content for message in marked] == [
        "a",
        [{"type": "text", "text": "b", "cache_control": MARK}],
        "c",
    ]
    assert [message.content for message in messages] == ["a", "b", "c"]


def test_the_last_part_of_a_message_is_marked_and_negative_places_count_from_the_end():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]
    [marked] = cache_prefix([HumanMessage(parts)], -1)
    assert marked.content == [parts[0], {**parts[1], "cache_control": MARK}]
    assert "cache_control" not in parts[1]


def test_four_markers_are_enough_and_old_ones_count():
    messages = [HumanMessage(str(i)) for i in range(6)]
    marked = cache_prefix(messages, 0, 1, 2, 3)
    assert cache_prefix(marked, 3) == marked  # again is not more
    with pytest.raises(errors.ConfigurationError, match="5 cache markers"):
        cache_prefix(marked, 4)


@pytest.mark.parametrize(
    ("messages", "ends", "told"),
    [
        ([HumanMessage("a")], (), "no system message"),
        ([HumanMessage("a")], (1,), "no message 1"),
        ([AIMessage("a")], (0,), "'ai'"),
        ([HumanMessage("")], (0,), "empty"),
        ([], (), "no system message"),
    ],
)
def test_what_cant_be_marked_is_told(messages, ends, told):
    with pytest.raises(errors.ConfigurationError, match=told):
        cache_prefix(messages, *ends)


# --- token counts


def test_parts_calls_and_tools_count():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 10_000}}]
    assert count_messages([], [], len) == 3
    assert count_messages([{"role": "user", "content": "abc"}], [], len) == 3 + 5 + 3
    assert count_messages([{"role": "user", "content": image}], [], len) == 3 + 5 + 2 + IMAGE_TOKENS
    assert count_messages([{"role": "assistant", "content": None, "tool_calls": [call]}], [], len) == 3 + 5 + 32
    assert count_messages([], [{"a": 1}], len) == 3 + 8


# --- errors


def all_chat_errors(kind=errors.ChatError):
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from all_chat_errors(each)


@pytest.mark.parametrize("kind", list(all_chat_errors()), ids=lambda kind: kind.__name__)
def test_every_error_of_the_core_has_its_langchain_twin(kind):
    ours = CLASSES[kind]
    assert issubclass(ours, kind)
    assert issubclass(ours, langchain.ModelError)
    assert ours.is_retryable == kind.retryable
    error = ours("what happened", status=429, request_id="r", retry_after=2.0)
    assert str(error) == "what happened"
    assert (error.status, error.request_id, error.retry_after) == (429, "r", 2.0)


def test_the_pairs_that_frameworks_look_for():
    for ours, theirs in (
        (errors.AuthenticationError, langchain.ModelAuthenticationError),
        (errors.RateLimitError, langchain.ModelRateLimitError),
        (errors.ContextOverflowError, langchain.ContextOverflowError),
        (errors.UnknownModelError, langchain.ModelNotFoundError),
        (errors.ServerTimeoutError, langchain.ModelTimeoutError),
    ):
        assert issubclass(CLASSES[ours], theirs)
    assert not issubclass(CLASSES[errors.QuotaError], langchain.ModelRateLimitError)  # waiting does not help


# --- formats


class Inner(BaseModel):
    """Inside."""

    number: int


class Outer(BaseModel):
    """Outside."""

    inner: Inner


def test_a_class_becomes_a_schema_of_its_own():
    form = response_format(Outer, strict=True)
    named = form["json_schema"]
    assert (form["type"], named["name"], named["strict"]) == ("json_schema", "Outer", True)
    assert named["schema"]["properties"]["inner"]["properties"]["number"] == {"type": "integer"}
    assert "$ref" not in str(form)
    assert "parameters" not in named


def test_formats_that_are_one_already_stay():
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}):
        assert response_format(form, strict=True) is form
    named = {"name": "a", "schema": {"type": "object"}}
    assert response_format(named, strict=None) == {"type": "json_schema", "json_schema": named}
    assert response_format(named, strict=True)["json_schema"]["strict"] is True


# --- connections


def test_each_event_loop_has_connections_of_its_own(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "of-openai")
    client = openai.AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", organization="mine", timeout=3)

    async def run():
        first, second = in_this_loop(client), in_this_loop(client)
        assert first._client is second._client
        assert (first.organization, first.timeout, str(first.base_url)) == ("mine", 3, "http://127.0.0.1:9/v1/")
        return first._client

    assert asyncio.run(run()) is not asyncio.run(run())


def test_connections_of_closed_event_loops_are_let_go_of():
    """They hold their loop, so that weak keys alone keep both, and a socket, for each `asyncio.run` of a program."""
    client = openai.AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:9/v1")

    async def run():
        loop = asyncio.get_running_loop()
        in_this_loop(client)._client.loop = loop  # as an open connection does
        return weakref.ref(loop)

    loops = [asyncio.run(run()) for _ in range(3)]
    asyncio.run(run())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3


# --- imports


def test_embedding_and_reranking_do_not_import_the_openai_package():
    program = (
        "import sys, qwen3_rag.langchain as q; q.Qwen3Reranker; print('openai' in sys.modules, 'ChatQwen3' in dir(q))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split()[0] == "False"
    assert qwen3_rag.langchain.ChatQwen3.__name__ == "ChatQwen3"
    with pytest.raises(AttributeError, match="NoSuchName"):
        _ = qwen3_rag.langchain.NoSuchName


def test_a_missing_package_is_told_by_its_extra():
    program = (
        "import sys; sys.modules['langchain_openai'] = None\n"
        "try:\n    from qwen3_rag.langchain import ChatQwen3\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.startswith("MissingDependencyError")
    assert "qwen3-rag[langchain]" in out
