"""From LlamaIndex's messages to the JSON of Chat Completions."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from qwen3_rag.errors import InputError
from qwen3_rag.llama_index._llm_messages import question_of, reasoning_of, to_wire

POINT = CachePoint(cache_control=CacheControl(type="ephemeral"))


def wire(*blocks, role="user", **kwargs):
    (message,) = to_wire([ChatMessage(role=role, blocks=list(blocks), additional_kwargs=kwargs)])
    return message


@pytest.mark.parametrize("role", list(MessageRole))
def test_every_role_is_one_that_qwen_knows(role):
    message = wire(TextBlock(text="x"), role=role, tool_call_id="c")
    assert message["role"] in {"system", "user", "assistant", "tool"}
    assert message["content"] == "x"


@given(st.lists(st.text(), max_size=4), st.sampled_from(["system", "user", "assistant"]))
def test_text_is_a_string_and_all_of_it(texts, role):
    assert wire(*(TextBlock(text=text) for text in texts), role=role)["content"] == "".join(texts)


def test_reasoning_is_no_part_of_the_text():
    message = ChatMessage(
        role="assistant",
        blocks=[
            ThinkingBlock(content="a", additional_information={"reasoning_details": [{"text": "a"}]}),
            ThinkingBlock(),
            ThinkingBlock(content="b"),
            TextBlock(text="c"),
        ],
    )
    assert to_wire([message]) == [{"role": "assistant", "content": "c"}]
    assert reasoning_of(message) == ("ab", ({"text": "a"},))


def test_tool_calls_of_every_kind():
    function = {"name": "f", "arguments": '{"x": 1}'}
    expected = [{"id": "c", "type": "function", "function": function}]
    sdk = ChatCompletionMessageFunctionToolCall.model_validate(expected[0])
    assert (
        wire(ToolCallBlock(tool_call_id="c", tool_name="f", tool_kwargs={"x": 1}), role="assistant")["tool_calls"]
        == expected
    )
    assert (
        wire(ToolCallBlock(tool_call_id="c", tool_name="f", tool_kwargs='{"x": 1}'), role="assistant")["tool_calls"]
        == expected
    )
    assert wire(role="assistant", tool_calls=expected)["tool_calls"] == expected
    assert wire(role="assistant", tool_calls=[sdk])["tool_calls"] == expected


def test_the_blocks_win_over_the_copy_in_additional_kwargs():
    block = ToolCallBlock(tool_call_id="c", tool_name="f")
    (call,) = wire(block, role="assistant", tool_calls=[{"id": "d", "function": {"name": "g", "arguments": ""}}])[
        "tool_calls"
    ]
    assert (call["id"], call["function"]) == ("c", {"name": "f", "arguments": "{}"})


def test_what_an_assistant_message_carries_besides():
    assert wire(TextBlock(text="{"), role="assistant", partial=True, name="Ann", other=1) == {
        "role": "assistant",
        "content": "{",
        "partial": True,
        "name": "Ann",
    }


@pytest.mark.parametrize("key", ["tool_call_id", "call_id"])
def test_the_result_of_a_tool(key):
    assert wire(TextBlock(text="r"), role="tool", **{key: "c"}) == {"role": "tool", "content": "r", "tool_call_id": "c"}
    with pytest.raises(InputError, match="tool_call_id"):
        wire(TextBlock(text="r"), role="tool")


def test_media():
    image = wire(TextBlock(text="?"), ImageBlock(url="https://example.org/a.png", detail="high"))
    assert image["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "https://example.org/a.png", "detail": "high"},
    }
    video = wire(VideoBlock(url="https://example.org/a.mp4", fps=2))
    assert video["content"] == [{"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}, "fps": 2}]
    inline = wire(VideoBlock(video=b"\x00\x01\x02", video_mimetype="video/mp4"))["content"][0]["video_url"]["url"]
    assert base64.b64decode(inline.removeprefix("data:video/mp4;base64,")) == b"\x00\x01\x02"
    document = wire(DocumentBlock(data=base64.b64encode(b"x"), title="a.txt", document_mimetype="text/plain"))
    assert document["content"][0]["type"] == "file"


@pytest.mark.parametrize("role", ["system", "user"])
def test_a_cache_point_marks_what_stands_before_it(role):
    message = wire(TextBlock(text="long"), POINT, TextBlock(text="short"), role=role)
    assert message["content"] == [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "short"},
    ]


@pytest.mark.parametrize(
    ("role", "blocks"),
    [
        ("user", [POINT]),
        ("user", [CitableBlock(title="t", source="s", content=[TextBlock(text="x")])]),
        ("system", [ImageBlock(url="https://example.org/a.png")]),
        ("assistant", [ImageBlock(url="https://example.org/a.png")]),
        ("assistant", [TextBlock(text="x"), POINT]),
        ("tool", [ImageBlock(url="https://example.org/a.png")]),
    ],
)
def test_what_a_message_can_not_carry_is_no_silent_loss(role, blocks):
    with pytest.raises(InputError):
        wire(*blocks, role=role, tool_call_id="c")


def test_the_question_is_the_users_last_message():
    messages = [ChatMessage("one"), ChatMessage("two"), ChatMessage(role="assistant", content="three")]
    assert question_of(messages) == "two"
    assert question_of(messages[2:]) == ""


@pytest.mark.parametrize("arguments", [{"day": dt.date(2026, 1, 1)}, {"a": {1}}])
def test_arguments_that_are_no_json_are_named(arguments):
    calls = [{"id": "c", "function": {"name": "look", "arguments": arguments}}]
    with pytest.raises(InputError, match="arguments of tool 'look' can't be written as JSON"):
        wire(role="assistant", tool_calls=calls)
