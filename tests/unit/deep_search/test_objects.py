from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.deep_search import Decomposition, Reflection, read_object
from qwen3_rag.deep_search.objects import MAX_CHARACTERS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PROSE = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=40)


@given(PROSE, st.lists(st.text(max_size=20), max_size=5), PROSE)
def test_an_object_is_found_in_whatever_stands_around_it(before, questions, after):
    said = f"{before}{json.dumps({'questions': questions})}{after}"
    assert read_object(Decomposition, said) == Decomposition(questions=questions)


@given(st.text(max_size=200) | JSON.map(json.dumps))
def test_reading_never_fails(said):
    for kind in (Decomposition, Reflection):
        found = read_object(kind, said)
        assert found is None or isinstance(found, kind)


@pytest.mark.parametrize(
    ("said", "questions"),
    [
        ('```json\n{"questions": ["a", "b"]}\n```', ["a", "b"]),
        ('Here: {"questions": ["a [1]", "b"]}.', ["a [1]", "b"]),  # what literal_eval broke on elsewhere
        ('First {"questions": ["x"]}, no: {"questions": ["y"]}', ["y"]),
        ('{"note": "{", "questions": "one"}', ["one"]),
        ('{"questions": null}', []),
        ("<think>{</think>" + '{"questions": []}', []),
    ],
)
def test_what_models_make_of_it(said, questions):
    assert read_object(Decomposition, said) == Decomposition(questions=questions)


def test_half_a_surrogate_pair_is_no_text_to_search_for():
    assert read_object(Decomposition, r'{"questions": ["what \ud83d?", "\ud83d\ude00"]}').questions == ["what ??", "😀"]
    assert read_object(Reflection, r'{"enough": false, "gaps": "\ude00"}').gaps == ["?"]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "YES",
        '["a", "b"]',
        '{"questions": [1]}',
        '{"questions": {"a": "b"}}',
        '{"questions": ["a"',
        '{"a":' * 4000,
        '{"questions": ["' + "x" * MAX_CHARACTERS + '"]}',
    ],
)
def test_what_is_no_decomposition(said):
    assert read_object(Decomposition, said) is None


def test_a_verdict_may_leave_out_what_is_empty():
    assert read_object(Reflection, '{"enough": true}') == Reflection(enough=True, gaps=[], questions=[])
    assert read_object(Reflection, '{"gaps": [], "questions": []}') is None
    assert read_object(Reflection, '{"enough": "perhaps"}') is None
