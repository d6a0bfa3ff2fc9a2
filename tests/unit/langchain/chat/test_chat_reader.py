"""Whatever the chunking: chunks add up to the same blocks as the whole message, in both output versions and in v3 events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models._compat_bridge import chunks_to_events
from langchain_core.language_models._utils import _update_message_content_to_blocks
from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.messages import AIMessage

from qwen3_rag.langchain._chat_reader import ChoiceReader, gather, usage_metadata
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking import Call, Turn, plan, resolve_endpoint

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=20)
CALL = Call(
    model="Qwen/Qwen3-8B", endpoint=resolve_endpoint(base_url="http://localhost:8000/v1"), facts=chat_facts("qwen3-8b")
)
ARGUMENTS = '{"city": "Paris"}'


def pieces_of(draw, text):
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def answers(draw):
    reasoning, text = draw(TEXT), draw(TEXT)
    manner = draw(st.sampled_from(["reasoning_content", "reasoning", "inline"]))
    if manner == "inline":
        reasoning, text = reasoning.strip("\n"), text.lstrip("\n")
        deltas = [{"content": part} for part in pieces_of(draw, f"<think>\n{reasoning}\n</think>\n\n{text}")]
    else:
        text = text.lstrip("\n") if reasoning else text.lstrip()
        deltas = [{manner: part} for part in pieces_of(draw, reasoning)]
        deltas += [{"content": part} for part in pieces_of(draw, text)]
        reasoning = reasoning if reasoning.strip("\n") else ""  # newlines alone are the frame of an empty block
    called = draw(st.booleans())
    if called:
        for number, part in enumerate(pieces_of(draw, ARGUMENTS)):
            head = {"id": "call_1"} if number == 0 else {"id": ""}
            name = {"name": "look"} if number == 0 else {}
            deltas.append({"tool_calls": [{"index": 0, **head, "function": {**name, "arguments": part}}]})
    return reasoning, text, called, deltas


def read(deltas):
    reader = ChoiceReader(Turn(CALL, plan(CALL)))
    chunks = [reader.feed({"delta": delta}) for delta in deltas]
    chunks.append(reader.feed({"delta": {}, "finish_reason": "stop"}))
    return [*filter(None, chunks), reader.last(None, {"model_name": "m"})]


def expected(reasoning, text, called):
    blocks = [{"type": "reasoning", "reasoning": reasoning}] if reasoning else []
    blocks += [{"type": "text", "text": text}] if text else []
    call = {"type": "tool_call", "name": "look", "args": {"city": "Paris"}, "id": "call_1"}
    return [*blocks, call] if called else blocks


def bare(blocks):
    return [{key: value for key, value in block.items() if key != "index"} for block in blocks]


@given(answers())
def test_chunks_gather_to_the_blocks_of_the_answer(answer):
    reasoning, text, called, deltas = answer
    message = gather(read(deltas)).message
    assert message.content_blocks == expected(reasoning, text, called)
    assert message.text == text
    assert message.additional_kwargs.get("reasoning_content", "") == reasoning
    assert ("reasoning_content" in message.additional_kwargs) == bool(reasoning)


@given(answers())
def test_chunks_of_version_1_add_up_too(answer):
    reasoning, text, called, deltas = answer
    chunks = [_update_message_content_to_blocks(chunk.message, "v1") for chunk in read(deltas)]
    whole = sum(chunks[1:], chunks[0])
    assert bare(whole.content_blocks) == expected(reasoning, text, called)
    assert whole.chunk_position == "last"


@given(answers())
def test_events_of_version_3_give_the_same_blocks(answer):
    reasoning, text, called, deltas = answer
    stream = ChatModelStream(message_id="m")
    for event in chunks_to_events(iter(read(deltas)), message_id="m"):
        stream.dispatch(event)
    assert bare(stream.output_message.content) == expected(reasoning, text, called)


@given(answers())
def test_a_whole_message_is_read_as_its_stream_is(answer):
    _, _, called, deltas = answer
    joined = {key: "".join(d.get(key) or "" for d in deltas) for key in ("content", "reasoning", "reasoning_content")}
    whole = {key: value for key, value in joined.items() if value}
    if called:
        whole["tool_calls"] = [{"id": "call_1", "function": {"name": "look", "arguments": ARGUMENTS}}]
    reader = ChoiceReader(Turn(CALL, plan(CALL)))
    first = reader.feed({"message": whole, "finish_reason": "stop"})
    message = gather([*filter(None, [first]), reader.last(None, {})]).message
    assert message.content_blocks == gather(read(deltas)).message.content_blocks


def test_a_message_without_its_translator_shows_the_same_blocks():
    message = gather(read([{"reasoning": "Hm."}, {"content": "Yes."}])).message
    elsewhere = AIMessage(message.content, additional_kwargs=message.additional_kwargs)
    assert elsewhere.content_blocks == message.content_blocks


def test_blocks_of_other_origin_are_kept():
    own = {"model_provider": "qwen"}
    message = AIMessage(["a", {"type": "text", "text": "b"}, {"type": "strange", "x": 1}], response_metadata=own)
    assert message.content_blocks == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
        {"type": "non_standard", "value": {"type": "strange", "x": 1}},
    ]


@pytest.mark.parametrize("text", ["[1]", "3", '"a"', "{", '{"a": '])
def test_arguments_that_are_no_object_are_an_invalid_call(text):
    delta = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "look", "arguments": text}}]}
    message = gather(read([delta])).message
    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["args"] == text
    assert message.invalid_tool_calls[0]["error"]


def test_no_arguments_are_an_empty_object():
    delta = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "look", "arguments": ""}}]}
    assert gather(read([delta])).message.tool_calls[0]["args"] == {}


def test_log_probabilities_are_kept():
    reader = ChoiceReader(Turn(CALL, plan(CALL)))
    tokens = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.2}]
    chunks = [reader.feed({"delta": {"content": token["token"]}, "logprobs": {"content": [token]}}) for token in tokens]
    assert gather([*chunks, reader.last(None, {})]).generation_info["logprobs"] == {"content": tokens}


def test_usage_under_the_names_of_langchain():
    usage = {"prompt_tokens": 10, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
    plain = usage_metadata(usage)
    assert "output_token_details" not in plain
    assert plain["input_token_details"] == {"cache_read": 4, "cache_creation": 0}
    thought = usage_metadata({**usage, "completion_tokens_details": {"reasoning_tokens": 5}})
    assert thought["output_token_details"] == {"reasoning": 5}
    assert (thought["input_tokens"], thought["output_tokens"], thought["total_tokens"]) == (10, 7, 17)
    assert usage_metadata(None) is None
