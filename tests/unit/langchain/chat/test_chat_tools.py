"""Pieces of streamed tool calls find their call, however a server marks them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.thinking.tool_calls import CallPieces

NAMES = st.sampled_from(["look", "get_weather", "Report"])
ARGUMENTS = st.dictionaries(st.text(max_size=5), st.text(max_size=12) | st.integers(), max_size=3).map(json.dumps)


def merged(pieces):
    """The calls, as LangChain merges pieces of one index."""
    calls = {}
    for piece in pieces:
        call = calls.setdefault(piece["index"], {"id": None, "name": None, "arguments": ""})
        for key, value in (("id", piece["id"]), ("name", piece["function"]["name"])):
            assert value != ""  # an empty string would be merged as one
            if value is not None:
                assert call[key] is None  # strings that come twice would be put together
                call[key] = value
        call["arguments"] += piece["function"]["arguments"]
    return list(calls.values())


def spelled(index, call_id, name, arguments):
    return {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@st.composite
def answers(draw):
    """Calls with their arguments cut anywhere, and the manner of a server."""
    calls = draw(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
    manner = draw(
        st.sampled_from(["openai", "dashscope", "repeating", "one index", "no index", "late index", "no ids"])
    )
    deltas = []
    for number, (name, arguments) in enumerate(calls):
        cuts = sorted(draw(st.lists(st.integers(1, max(1, len(arguments) - 1)), max_size=3, unique=True)))
        parts = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        index = {"one index": 0, "no index": None}.get(manner, number)
        call_id = None if manner == "no ids" else f"call_{number}"
        deltas.append(spelled(index, call_id, name, parts[0]))
        for part in parts[1:]:
            again = manner == "repeating"
            rest = 0 if manner == "late index" else index
            empty = None if manner == "openai" else ""
            deltas.append(spelled(rest, call_id if again else empty, name if again else empty, part))
    return calls, deltas


@given(answers())
def test_every_piece_finds_its_call(answer):
    calls, deltas = answer
    reader = CallPieces()
    pieces = [piece for delta in deltas for piece in reader.feed([delta])]
    assert [(call["name"], call["arguments"]) for call in merged(pieces)] == calls
    assert len({call["id"] for call in merged(pieces)}) == len(calls)
    assert all(call["id"] for call in merged(pieces))


def test_interleaved_pieces_are_told_apart_by_index():
    deltas = [
        spelled(0, "a", "look", '{"a"'),
        spelled(1, "b", "look", '{"b"'),
        spelled(0, None, None, ": 1}"),
        spelled(1, None, None, ": 2}"),
    ]
    assert [call["arguments"] for call in merged(CallPieces().feed(deltas))] == ['{"a": 1}', '{"b": 2}']


@pytest.mark.parametrize("arguments", [{"city": "Köln"}, '{"city": "Köln"}'])
def test_arguments_may_come_as_an_object(arguments):
    [call] = merged(CallPieces().feed([spelled(0, "a", "look", arguments)]))
    assert json.loads(call["arguments"]) == {"city": "Köln"}


def test_a_name_may_come_late_and_nothing_at_all_is_nothing():
    pieces = CallPieces().feed([{"index": 0, "id": "a"}, spelled(0, None, "look", "{}")])
    assert merged(pieces) == [{"id": "a", "name": "look", "arguments": "{}"}]
    assert CallPieces().feed(None) == []
