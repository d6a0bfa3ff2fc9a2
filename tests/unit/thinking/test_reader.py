"""The reader: every field, every frame, every chunking."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_rag.thinking.reader import Pieces, ReasoningReader, details_text, merge_details

STARTS = ["answer", "reasoning", "unknown"]
# Letters would hardly ever make a tag or half of one.
PARTS = [
    "<think>",
    "</think>",
    "<",
    "</",
    "</thi",
    "<think",
    "think>",
    ">",
    "\n",
    "\n\n",
    " ",
    "a",
    "思考",
    "😀",
    "\t",
    "{",
]
contents = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
cuts = st.lists(st.integers(0, 60), max_size=12)


def chunks_of(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def read(deltas, start="answer", cut=False):
    """Reads all deltas; what `held` promises on the way must be what `close` gives."""
    reader = ReasoningReader(start=start)
    pieces = [reader.feed(delta) for delta in deltas]
    held = reader.held(cut=cut)
    pieces.append(reader.close(cut=cut))
    assert pieces[-1] == held
    return "".join(piece.reasoning for piece in pieces), "".join(piece.text for piece in pieces)


def expected(content: str, start: str, cut: bool) -> tuple[str, str]:
    """The same rule, written down for a whole text."""
    opened = re.match(r"\s*<think>", content)
    if opened:
        content = content[opened.end() :]
    elif start != "unknown" and not content.strip():
        return (content, "") if start == "reasoning" else ("", content)
    elif start == "answer" or (start == "unknown" and "</think>" not in content and not cut):
        return "", content
    elif start == "unknown" and "</think>" not in content:
        return content, ""
    reasoning, end, answer = content.partition("</think>")
    reasoning = reasoning.lstrip("\n")
    if not end:
        return reasoning, ""
    return reasoning.rstrip("\n"), re.sub(r"\A(\n*</think>)*\n*", "", answer)


@given(contents, cuts, st.sampled_from(STARTS), st.booleans())
@example("<think>\n\n</think>\n\nhi", list(range(30)), "answer", False)
@example("so\n</think>\n\nhi", list(range(30)), "unknown", False)
@example("so\n</think>\n\nhi", list(range(30)), "reasoning", True)
@example("a </think> b", list(range(30)), "answer", False)
@example("never closed\n</thin", list(range(30)), "unknown", True)
def test_any_content_in_any_chunks_is_read_as_the_rule_says(content, places, start, cut):
    chunks = [{"content": chunk} for chunk in chunks_of(content, places)]
    assert read(chunks, start, cut) == expected(content, start, cut)


@given(contents, cuts, st.sampled_from(STARTS), st.booleans())
def test_no_character_is_lost_but_tags_and_white_space_around_them(content, places, start, cut):
    reasoning, text = read([{"content": chunk} for chunk in chunks_of(content, places)], start, cut)
    kept = [re.sub(r"</?think>|\s", "", part) for part in (reasoning, text, content)]
    assert kept[0] + kept[1] == kept[2]
    assert re.sub(r"[^ \t]", "", reasoning + text) in re.sub(r"[^ \t]", "", content)


words = contents.filter(lambda text: "think>" not in text)
fields = st.sampled_from(
    [
        lambda text: {"reasoning_content": text},
        lambda text: {"reasoning": text},
        lambda text: {"reasoning_content": text, "reasoning": text},
        lambda text: {"reasoning_content": None, "reasoning": text},
        lambda text: {"reasoning": text, "reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]},
        lambda text: {"reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]},
        lambda text: {"reasoning_details": [{"type": "reasoning.summary", "summary": text, "index": 0}]},
    ]
)


@given(
    reasoning=words.filter(lambda text: text.strip("\n")),
    content=contents,
    as_field=fields,
    reasoning_cuts=cuts,
    content_cuts=cuts,
    start=st.sampled_from(STARTS),
    cut=st.booleans(),
)
def test_a_reasoning_field_is_taken_once_and_as_it_is(
    *, reasoning, content, as_field, reasoning_cuts, content_cuts, start, cut
):
    whole = {"role": "assistant", "content": content} | as_field(reasoning)
    streamed = [
        {"role": "assistant", "content": "", "reasoning_content": None},
        *({"content": None, **as_field(chunk)} for chunk in chunks_of(reasoning, reasoning_cuts)),
        *({"content": chunk, "reasoning_content": None} for chunk in chunks_of(content, content_cuts)),
    ]
    answer = re.sub(r"\A(\n*</think>)*\n*", "", content)
    assert read([whole], start, cut) == (reasoning, answer)
    assert read(streamed, start, cut) == (reasoning, answer)


@given(words.map(lambda text: text.strip("\n")), words.map(lambda text: text.lstrip("\n")), cuts)
def test_every_frame_of_qwen_gives_the_same(reasoning, answer, places):
    frames = [
        (f"<think>\n{reasoning}\n</think>\n\n{answer}", STARTS),
        (f"\n<think>{reasoning}</think>{answer}", STARTS),
        (f"{reasoning}\n</think>\n\n{answer}", ["reasoning", "unknown"]),
        (f"\n{reasoning}\n\n</think>\n\n</think>\n\n{answer}", ["reasoning", "unknown"]),
    ]
    for content, starts in frames:
        for start in starts:
            deltas = [{"content": chunk} for chunk in chunks_of(content, places)]
            assert read(deltas, start) == (reasoning, answer)


def test_reasoning_is_passed_on_as_it_comes():
    reader = ReasoningReader()
    seen = [
        reader.feed({"content": chunk}) for chunk in ("<th", "ink>\n", "one ", "two\n", "three\n</thi", "nk>\n", "A")
    ]
    assert [(piece.reasoning, piece.text) for piece in seen] == [
        ("", ""),
        ("", ""),
        ("one ", ""),
        ("two", ""),
        ("\nthree", ""),
        ("", ""),
        ("", "A"),
    ]


def test_an_ordinary_answer_is_passed_on_at_once():
    reader = ReasoningReader()
    assert [reader.feed({"content": chunk}).text for chunk in ("H", "i </think>", " <think>")] == [
        "H",
        "i </think>",
        " <think>",
    ]


def test_held_content_is_the_answer_as_soon_as_a_field_shows_that_the_server_parses():
    reader = ReasoningReader(start="unknown")
    assert reader.feed({"content": "\n"}) == Pieces()
    assert reader.feed({"reasoning": "so"}) == Pieces(reasoning="so")
    assert reader.feed({"content": "\n\nYes"}) == Pieces(text="Yes")
    assert ReasoningReader(start="unknown").feed({"content": "Yes", "reasoning": "so"}) == Pieces("so", "Yes")


def test_a_block_after_a_field_is_content():
    assert read([{"reasoning_content": "so", "content": "<think> is a tag"}]) == ("so", "<think> is a tag")


def test_two_fields_that_differ_are_both_kept():
    assert read([{"reasoning_content": "one ", "reasoning": "two"}]) == ("one two", "")


def test_deltas_without_text_change_nothing():
    deltas = [
        {},
        {"role": "assistant", "content": None},
        {"content": "", "reasoning_content": ""},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"reasoning": {"effort": "high"}, "reasoning_details": None},
    ]
    reader = ReasoningReader(start="unknown")
    assert [reader.feed(delta) for delta in deltas] == [Pieces()] * 5
    assert not any(reader.feed(delta) for delta in deltas)


def test_content_may_be_a_list_of_parts():
    deltas = [{"content": [{"type": "text", "text": "<think>so"}, "</think>", {"type": "image_url"}, {"text": "Yes"}]}]
    assert read(deltas) == ("so", "Yes")


def test_details_are_kept_whole():
    item = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1", "index": 0}
    pieces = ReasoningReader().feed({"content": "Yes", "reasoning_details": [item]})
    assert pieces == Pieces(text="Yes", details=(item,))
    assert Pieces(details=(item,))
    assert not Pieces()


def test_streamed_details_are_joined_by_index_and_the_signature_stays():
    common = {"type": "reasoning.text", "format": "anthropic-claude-v1"}
    streamed = [
        {**common, "text": "Let", "index": 0},
        {**common, "text": " me", "index": 0, "signature": None},
        {**common, "text": "Two", "index": 1},
        {**common, "signature": "Et8B", "index": 0},
        {"type": "reasoning.encrypted", "data": "gAAA", "index": 2},
        {"type": "reasoning.encrypted", "data": "gBBB", "index": 2},
        {**common, "text": "no index"},
        {**common, "text": "no index"},
        "unheard of",
    ]
    before = [dict(item) if isinstance(item, dict) else item for item in streamed]
    whole = merge_details(streamed)
    assert whole == (
        {**common, "text": "Let me", "index": 0, "signature": "Et8B"},
        {**common, "text": "Two", "index": 1},
        {"type": "reasoning.encrypted", "data": "gAAA", "index": 2},
        {"type": "reasoning.encrypted", "data": "gBBB", "index": 2},
        {**common, "text": "no index"},
        {**common, "text": "no index"},
        "unheard of",
    )
    assert streamed == before
    assert merge_details(whole) == whole
    assert details_text(whole) == "Let meTwono indexno index"


@given(words, cuts)
def test_details_in_any_chunks_are_the_same_whole(text, places):
    parts = [{"type": "reasoning.text", "text": chunk, "index": 0} for chunk in chunks_of(text, places)]
    assert merge_details(parts) == ({"type": "reasoning.text", "text": text, "index": 0},)


@pytest.mark.parametrize("start", STARTS)
def test_long_responses_are_read_in_linear_time(start):
    reader = ReasoningReader(start=start)
    for _ in range(200_000):
        reader.feed({"content": "x\n<"})
    assert reader.close(cut=True).reasoning == {"answer": "", "reasoning": "\n<", "unknown": "x\n<" * 200_000}[start]


@pytest.mark.parametrize("blank", ["\n", "\n\n"])
def test_a_field_with_the_frame_of_an_empty_block_is_no_reasoning(blank):
    """`transformers serve` streams the newlines of the empty block that the prompt holds."""
    deltas = [{"reasoning_content": each} for each in blank] + [{"content": "\n\nNo"}]
    reader = ReasoningReader()
    read = [reader.feed(delta) for delta in deltas] + [reader.close()]
    assert ("".join(p.reasoning for p in read), "".join(p.text for p in read)) == ("", "No")


def test_newlines_before_the_reasoning_of_a_field_are_kept():
    """Qwen3.8 wants its reasoning back as it was."""
    reader = ReasoningReader()
    read = [reader.feed({"reasoning_content": each}) for each in ("\n", "\nOn", "e\n", "\n")] + [reader.close()]
    assert "".join(p.reasoning for p in read) == "\n\nOne\n\n"
