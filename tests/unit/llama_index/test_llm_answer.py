"""One answer while it is read, whatever the pieces that it comes in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import TextBlock, ThinkingBlock, ToolCallBlock
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from qwen3_rag.errors import ResponseError, StreamError
from qwen3_rag.llama_index._llm_answer import Answer
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking import Call, Turn, plan, resolve_endpoint

CALL = Call(
    model="qwen-plus", endpoint=resolve_endpoint(base_url="http://localhost:8000/v1"), facts=chat_facts("qwen-plus")
)
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "completion_tokens_details": None}


def answer(**options):
    return Answer(turn=Turn(CALL, plan(CALL)), **options)


def chunk(delta=None, finish=None, **more):
    choices = [] if delta is None and finish is None else [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    body = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices, **more}
    return ChatCompletionChunk.model_validate(body)


def completion(message, finish="stop", **more):
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}]
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, **more}
    return ChatCompletion.model_validate(body)


def read(reader, raw):
    return reader.read(reader.body(raw), raw)


def pieces_of(text, cuts):
    places = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def test_a_whole_answer():
    reader = answer()
    message = {"content": "Yes.", "reasoning_content": "Hm."}
    response = read(reader, completion(message, usage=USAGE))
    assert [type(block) for block in response.message.blocks] == [ThinkingBlock, TextBlock]
    last = reader.end()
    assert last.message.content == "Yes."
    assert last.additional_kwargs["finish_reason"] == "stop"
    assert last.additional_kwargs["total_tokens"] == 12
    assert last.additional_kwargs["reasoning_tokens"] is None  # the server does not say


@given(
    reasoning=st.text(max_size=30).filter(lambda text: "<" not in text),
    text=st.text(max_size=30).filter(lambda text: "<" not in text),
    arguments=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_a_streamed_answer_is_the_whole_one(reasoning, text, arguments, cuts):
    raw = json.dumps(arguments)
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    streamed = answer()
    thought = said = ""
    deltas = [
        *({"reasoning_content": piece} for piece in pieces_of(reasoning, cuts)),
        *({"content": piece} for piece in pieces_of(text, cuts)),
        {"tool_calls": [call]},
        *(
            {"tool_calls": [{"index": 0, "id": "", "function": {"name": None, "arguments": p}}]}
            for p in pieces_of(raw, cuts)
        ),
    ]
    for delta in deltas:
        if response := read(streamed, chunk(delta)):
            thought += response.additional_kwargs.get("thinking_delta", "")
            said += response.delta
            assert (response.message.content or "") == said
    read(streamed, chunk({}, "tool_calls"))
    last = streamed.end()
    thought, said = thought + last.additional_kwargs.get("thinking_delta", ""), said + last.delta

    whole = answer()
    message = {
        "content": text,
        "reasoning_content": reasoning,
        "tool_calls": [{**call, "function": {"name": "f", "arguments": raw}}],
    }
    read(whole, completion(message, "tool_calls"))
    assert last.message.blocks == whole.end().message.blocks
    # Newlines that could only be the frame of a block are no text: alone in the reasoning, or right after it.
    assert thought == (reasoning if reasoning.strip("\n") else "")
    assert said == (text.lstrip("\n") if reasoning else text)
    (block,) = (block for block in last.message.blocks if isinstance(block, ToolCallBlock))
    assert (block.tool_call_id, block.tool_name, json.loads(block.tool_kwargs)) == ("c", "f", arguments)


def test_a_stream_that_nobody_reads_gives_the_last_response_only():
    reader = answer(shown=False)
    assert read(reader, chunk({"reasoning_content": "Hm."})) is None
    assert read(reader, chunk({"content": "Yes."}, "stop")) is None
    last = reader.end()
    assert [block.model_dump().get("content") or block.model_dump().get("text") for block in last.message.blocks] == [
        "Hm.",
        "Yes.",
    ]


def test_an_answer_that_never_came():
    reader = answer()
    assert read(reader, chunk(usage=USAGE)) is None
    with pytest.raises(ResponseError, match="no choices"):
        reader.end()


def test_a_whole_answer_needs_no_reason_for_its_end():
    reader = answer()
    assert reader.read({"choices": [{"message": {"content": "Yes."}, "finish_reason": None}], "usage": "none"}, None)
    assert reader.end().message.content == "Yes."


def test_an_answer_without_an_end():
    reader = answer()
    read(reader, chunk({"content": "Ye"}))
    with pytest.raises(StreamError) as caught:
        reader.end()
    assert caught.value.partial.text == "Ye"


@pytest.mark.parametrize("raw", ["<html></html>", None, 5])
def test_what_is_no_completion(raw):
    with pytest.raises(ResponseError, match="no chat completion"):
        answer().body(raw)


@pytest.mark.parametrize("choice", ["x", {"delta": 5}, {"delta": {"tool_calls": 5}}])
def test_a_choice_that_can_not_be_read(choice):
    with pytest.raises(ResponseError, match="can't be read"):
        answer().read({"choices": [choice]}, None)


def test_log_probabilities_are_gathered():
    reader = answer()
    for token in ("Ye", "s"):
        logprobs = {"content": [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}], "refusal": None}
        body = {"choices": [{"delta": {"content": token}, "logprobs": logprobs}]}
        response = reader.read(body, None)
    assert [[one.token for one in position] for position in response.logprobs] == [["Ye"], ["s"]]


def test_the_text_of_a_first_answer_is_kept_back():
    reader = answer(form={"type": "json_object"})
    response = read(reader, completion({"content": "Yes, indeed.", "reasoning_content": "Hm."}))
    assert (response.message.content, response.delta) == ("", "")
    reader.end()
    assert reader.silent
    assert reader.turn.text == "Yes, indeed."


@pytest.mark.parametrize(
    ("form", "content", "finish", "silent"),
    [
        ({"type": "json_object"}, '{"a": 1}', "stop", False),
        ({"type": "json_object"}, "[1]", "stop", True),
        ({"type": "json_schema"}, '{"a": 1}', "stop", True),  # whether it is valid, nobody knows
        ({"type": "json_object"}, '{"a": ', "length", False),  # what was cut can't be completed
    ],
)
def test_a_first_answer_that_needs_no_second(form, content, finish, silent):
    reader = answer(form=form)
    read(reader, completion({"content": content}, finish))
    last = reader.end()
    assert reader.silent is silent
    assert last.delta == last.message.content == ("" if silent else content)


def test_a_second_answer_adds_up_with_the_first():
    first = answer(form={"type": "json_object"})
    read(first, completion({"content": "Yes.", "reasoning_content": "Hm."}, usage=USAGE))
    first.end()
    second = answer(thought=first.as_thought())
    read(second, completion({"content": '{"a": 1}'}, usage=USAGE))
    last = second.end()
    assert [type(block) for block in last.message.blocks] == [ThinkingBlock, TextBlock]
    assert last.message.blocks[0].content == "Hm."
    assert last.additional_kwargs["total_tokens"] == 24


def test_a_whole_answer_of_one_tool_call_has_no_empty_text():
    reader = answer()
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    read(reader, completion({"content": None, "tool_calls": [call]}, "tool_calls"))
    last = reader.end()
    assert [type(block) for block in last.message.blocks] == [ToolCallBlock]
    assert last.message.additional_kwargs["tool_calls"] == [call]
