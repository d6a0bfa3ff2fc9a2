"""Streamed tool calls, as careless as servers send them, put together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.thinking.tool_calls import CallPieces


def piece(arguments: Any, index: int | None = None, call_id: Any = None, name: Any = None) -> dict[str, Any]:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


def told(pieces: CallPieces) -> list[tuple[str, str, str]]:
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in pieces.whole()]


TWO = [("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')]
SERVERS = {
    "the standard": [
        piece("", 0, "a", "f"), piece('{"x":', 0), piece(" 1}", 0), piece("", 1, "b", "g"), piece('{"y": 2}', 1),
    ],
    "DashScope": [piece('{"x"', 0, "a", "f"), piece(": 1}", 0, ""), piece('{"y"', 1, "b", "g"), piece(": 2}", 1, "", "")],
    "id and name in every piece": [
        piece('{"x"', 0, "a", "f"), piece(": 1}", 0, "a", "f"), piece('{"y"', 1, "b", "g"), piece(": 2}", 1, "b", "g"),
    ],
    "Ollama": [piece('{"x": 1}', 0, "a", "f"), piece('{"y": 2}', 0, "b", "g")],
    "SGLang": [piece('{"x": 1}', 0, "a", "f"), piece('{"y"', 1, "b", "g"), piece(": 2}", 0)],
    "no index": [piece('{"x"', None, "a", "f"), piece(": 1}"), piece('{"y"', None, "b", "g"), piece(": 2}")],
    "objects": [piece({"x": 1}, 0, "a", "f"), piece({"y": 2}, 1, "b", "g")],
    "interleaved": [
        piece('{"x"', 0, "a", "f"), piece('{"y"', 1, "b", "g"), piece(": 1}", 0), piece(": 2}", 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("together", [True, False])
def test_two_calls_as_servers_send_them(server, together):
    pieces = CallPieces()
    for one in [SERVERS[server]] if together else [[one] for one in SERVERS[server]]:
        pieces.feed(one)
    assert told(pieces) == TWO


def test_what_is_passed_on_names_a_call_once_and_by_the_right_index():
    passed = CallPieces().feed(SERVERS["SGLang"])
    assert [(one["index"], one["id"], one["function"]["name"]) for one in passed] == [
        (0, "a", "f"),
        (1, "b", "g"),
        (1, None, None),
    ]


def test_a_call_without_an_id_gets_one_and_keeps_it():
    pieces = CallPieces()
    pieces.feed([piece('{"x"', 0, None, "f")])
    ((first, *_),) = told(pieces)
    pieces.feed([piece(": 1}", 0), piece("{}", 1, None, "g")])
    (again, *_), (other, *_) = told(pieces)
    assert first == again
    assert len({first, other, ""}) == 3


def test_a_name_that_comes_late():
    pieces = CallPieces()
    first, second = pieces.feed([piece("", 0, "a"), piece("{}", 0, None, "f")])
    assert (first["function"]["name"], second["function"]["name"]) == (None, "f")
    assert told(pieces) == [("a", "f", "{}")]


@pytest.mark.parametrize("nothing", [None, []])
def test_no_calls(nothing):
    pieces = CallPieces()
    assert pieces.feed(nothing) == pieces.whole() == []


@given(
    st.lists(st.dictionaries(st.text(max_size=4), st.integers(), max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.booleans(),
)
def test_any_cut_gives_the_same_calls(arguments, sizes, numbered):
    """With right indices, or with none and one call after the other."""
    pieces = CallPieces()
    for number, value in enumerate(arguments):
        text, index = json.dumps(value), number if numbered else None
        pieces.feed([piece("", index, f"id{number}", "f")])
        while text:
            size = sizes[len(text) % len(sizes)]
            pieces.feed([piece(text[:size], index, "")])
            text = text[size:]
    assert [json.loads(call["function"]["arguments"]) for call in pieces.whole()] == arguments
    assert [call["id"] for call in pieces.whole()] == [f"id{number}" for number in range(len(arguments))]


def test_an_id_that_is_a_number_and_a_name_that_is_none():
    pieces = CallPieces()
    pieces.feed([piece("{}", 0, 5, "f")])
    assert told(pieces) == [("5", "f", "{}")]
    with pytest.raises(TypeError, match="name of a tool must be a string, got 5"):
        pieces.feed([piece("{}", 1, "b", 5)])
