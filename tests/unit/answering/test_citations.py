from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_rag.answering import CitationReader, Mark


def read(text: str, known: int = 3, cuts: tuple[int, ...] = ()) -> tuple[str, list[Mark], list[int]]:
    reader = CitationReader(known)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [reader.feed(text[start:end]) for start, end in pairwise(edges)]
    return "".join([*pieces, reader.close()]), reader.marks, reader.invalid


@pytest.mark.parametrize(
    ("text", "shown", "numbers", "invalid"),
    [
        ("In segments [1].", "In segments [1].", [1], []),
        ("In segments[1][2].", "In segments[1][2].", [1, 2], []),
        ("Both [1, 3] say so.", "Both [1][3] say so.", [1, 3], []),
        ("Both [ 1 ;3 ].", "Both [1][3].", [1, 3], []),
        ("All [1-3].", "All [1][2][3].", [1, 2, 3], []),
        ("All [2–3, 1].", "All [2][3][1].", [2, 3, 1], []),
        ("存在段中【1】。", "存在段中[1]。", [1], []),
        ("存在段中【1，２】。", "存在段中[1][2]。", [1, 2], []),
        ("区間［3］と", "区間[3]と", [3], []),
        ("No such [4] passage.", "No such passage.", [], [4]),
        ("Half right [1, 9].", "Half right [1].", [1], [9]),
        ("None [0][7] [7].", "None.", [], [0, 7]),
        ("Twice [1, 1] and [1].", "Twice [1] and [1].", [1, 1], []),
        ("Since [2024] and [x] and [] and [1a].", "Since [2024] and [x] and [] and [1a].", [], []),
        ("An open [1", "An open [1", [], []),
        ("A backwards range [3-1].", "A backwards range.", [], []),
        ("Code `a[1]` and [1].", "Code `a[1]` and [1].", [1], []),
        ("```python\nx = a[1]\nb[9]\n```\nso [2]", "```python\nx = a[1]\nb[9]\n```\nso [2]", [2], []),
        ("``a`[1]`` [2]", "``a`[1]`` [2]", [2], []),
        ("A lone ` here\nand [1]", "A lone ` here\nand [1]", [1], []),
        ("```\na[1]\n````\n[1]", "```\na[1]\n````\n[1]", [1], []),
        ("", "", [], []),
    ],
)
def test_forms(text, shown, numbers, invalid):
    found, marks, wrong = read(text)
    assert found == shown
    assert [mark.number for mark in marks] == numbers
    assert wrong == invalid


answers = st.lists(
    st.one_of(
        st.sampled_from(
            ["[1]", "[2, 3]", "【1】", "[9]", " [4]", "[1-2]", "[", "]", "`", "```", "\n", "  ", "[12", ", 3]", "a"]
        ),
        st.text(alphabet="ab1 2[],【】`\n\t-；", max_size=6),
    ),
    max_size=20,
).map("".join)


@given(answers, st.lists(st.integers(0, 60), max_size=8).map(tuple))
@example("x [1", (3,))
@example("``[1]``", (1,))
def test_how_it_is_cut_never_matters(text, cuts):
    assert read(text, cuts=cuts) == read(text)
    assert read(text, cuts=tuple(range(len(text)))) == read(text)


@given(answers)
def test_marks_are_where_they_say(text):
    shown, marks, invalid = read(text)
    for mark in marks:
        assert shown[mark.start : mark.end] == f"[{mark.number}]"
        assert 1 <= mark.number <= 3
    assert [mark.start for mark in marks] == sorted({mark.start for mark in marks})
    assert len(set(invalid)) == len(invalid)
    assert not {mark.number for mark in marks} & set(invalid)


@given(st.text().filter(lambda text: not re.search(r"[\[【［]", text)))
def test_text_without_brackets_is_left_alone(text):
    assert read(text, known=0) == (text, [], [])


@given(st.text(max_size=60), st.integers(0, 60))
def test_no_letter_is_lost(text, cut):
    def letters(said: str) -> str:
        return "".join(re.findall(r"[^\W\d]", said))

    assert letters(read(text, cuts=(cut,))[0]) == letters(text)


@pytest.mark.parametrize("loop", [" ", "[" + "1, " * 10_000, "`"])
def test_a_model_in_a_loop_takes_no_time(loop):
    text = (loop * 30_000)[:30_000]
    start = time.process_time()
    assert read(text, cuts=tuple(range(len(text)))) == read(text)
    assert time.process_time() - start < 2


def test_only_what_may_become_a_citation_is_held_back():
    reader = CitationReader(1)
    assert reader.feed("It is so") == "It is so"
    assert reader.feed(" ") == ""
    assert reader.feed("[") == ""
    assert reader.feed("1") == ""
    assert reader.feed("]") == " [1]"
    assert reader.feed(" [n") == " [n"
