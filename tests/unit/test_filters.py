"""Filters without a database: what is accepted, what is refused, and the expressions that come out."""

import enum
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import FilterError
from qwen3_rag.milvus import And, Compare, Not, Or, compile_filter, parse_filter
from qwen3_rag.milvus.columns import is_plain_key
from qwen3_rag.milvus.expressions import MAX_DEPTH, _after_prefix, compile_condition, id_in, quoted

EXPRESSIONS = [
    ({"lang": "en"}, 'lang == "en"'),
    ({"n": {"$ne": -1}}, "((not (exists n)) or n != -1)"),
    ({"n": {"$gte": 1, "$lt": 2.5}}, "(n >= 1 and n < 2.5)"),
    ({"flag": True}, "flag == true"),
    ({"n": {"$in": [1, 2]}}, "(n == 1 or n == 2)"),
    ({"n": {"$nin": [1, 2]}}, "(((not (exists n)) or n != 1) and ((not (exists n)) or n != 2))"),
    ({"n": {"$in": [None, 1]}}, "((not (exists n)) or n == 1)"),
    ({"n": None}, "(not (exists n))"),
    ({"n": {"$exists": True}}, "(exists n)"),
    ({"n": {"$not": {"$gt": 3}}}, "((not (exists n)) or n <= 3)"),
    ({"$not": {"a": 1, "b": 2}}, "(((not (exists a)) or a != 1) or ((not (exists b)) or b != 2))"),
    ({"$not": {"$not": {"a": 1}}}, "a == 1"),
    ({"a": 1, "$or": [{"b": 2}, {"c": 3}]}, "(a == 1 and (b == 2 or c == 3))"),
    ({"s": {"$like": "a%%_"}}, 's like "a%_"'),
    ({"s": {"$like": ""}}, 's == ""'),
    ({"s": {"$not": {"$like": "a"}}}, '((not (exists s)) or s != "a")'),
    ({"s": {"$substring": "b"}}, 's like "%b%"'),
    ({"s": {"$prefix": "ab_"}}, '(s >= "ab_" and s < "ab`")'),
    ({"tags": {"$contains": "x"}}, '(json_contains_any(tags, ["x"]) and not (tags like "%"))'),
    ({"标签": {"$contains": -3}}, '(json_contains_any(_metadata["标签"], [-3]) and not (_metadata["标签"] like "%"))'),
    ({"it's": 1}, '$meta["it\'s"] == 1'),
    ({'a"] or 1 == 1 or $meta["b': 1}, '$meta["a\\"] or 1 == 1 or $meta[\\"b"] == 1'),
    ({"语言": "中文"}, '$meta["语言"] == "中文"'),
    ({"like": 1}, '$meta["like"] == 1'),
    ({"Exists": 1}, '$meta["Exists"] == 1'),
    ({"text": "x"}, '_metadata["text"] == "x"'),
    ({"$text": "x"}, 'text == "x"'),
    ({"$id": {"$nin": ["a", "b"]}}, 'id not in ["a", "b"]'),
    ({"$doc_id": None}, 'doc_id == "None"'),
    ({"$doc_id": "None"}, 'id == ""'),
    ({"$doc_id": {"$in": ["None", "a"]}}, 'doc_id in ["a"]'),
    ({"$doc_id": {"$gt": "A"}}, '(doc_id > "A" and doc_id != "None")'),
    ({"$not": {"$doc_id": {"$prefix": "N"}}}, '(doc_id == "None" or (doc_id < "N" or doc_id >= "O"))'),
    ({"s": 'a"\\\n\t\r'}, 's == "a\\"\\\\\\n\\t\\r"'),
    ({}, 'id != ""'),
    ({"$and": []}, 'id != ""'),
    ({"$or": []}, 'id == ""'),
    ({"n": {"$in": []}}, 'id == ""'),
    ({"n": {"$nin": []}}, 'id != ""'),
    ({"a": 1, "n": {"$in": []}}, 'id == ""'),
    ({"$or": [{"a": 1}, {"n": {"$nin": []}}]}, 'id != ""'),
    ({"$not": {"n": {"$in": []}}}, 'id != ""'),
]


@pytest.mark.parametrize(("source", "expression"), EXPRESSIONS, ids=[str(e[0]) for e in EXPRESSIONS])
def test_mapping_to_expression(source, expression):
    assert compile_filter(parse_filter(source)) == expression


REFUSED = [
    "n > 3",
    None,
    ["n"],
    {"n": {"$foo": 1}},
    {"n": {"gt": 1}},
    {"n": {}},
    {"n": {"$gt": 1, "lt": 2}},
    {"$nor": []},
    {"$and": {"a": 1}},
    {"$or": "ab"},
    {"$or": [1]},
    {"$not": 1},
    {"": 1},
    {1: 1},
    {"n": [1, 2]},
    {"n": {"$in": 1}},
    {"n": {"$in": "ab"}},
    {"n": {"$in": [[1]]}},
    {"n": {"$in": {"a": 1}}},
    {"n": {"$gt": None}},
    {"n": {"$contains": None}},
    {"n": {"$contains_any": [None]}},
    {"n": {"$contains_all": []}},
    {"n": math.nan},
    {"n": {"$lt": math.inf}},
    {"n": 2**63},
    {"n": {"$gt": -(2**63)}},
    {"n": b"x"},
    {"n": object()},
    {"n": 1j},
    {"n": {"$exists": 1}},
    {"n": {"$like": 3}},
    {"n": {"$prefix": None}},
    {"n": {"$like": "50\\%"}},
    {"n": {"$substring": "50%"}},
    {"n": {"$substring": "a_b"}},
    {"n": "\ud800"},
    {"\udfff": 1},
    {"$id": 3},
    {"$text": {"$gt": 1}},
    {"$doc_id": {"$in": ["a", 1]}},
    {"$id": {"$contains": "a"}},
    {"$meta": 1},
]


@pytest.mark.parametrize("source", REFUSED, ids=repr)
def test_refuses_what_has_no_meaning(source):
    with pytest.raises(FilterError):
        parse_filter(source)


def test_refuses_unknown_operators_and_operands():
    with pytest.raises(FilterError, match="=~"):
        Compare("n", "=~", 1)
    with pytest.raises(FilterError, match="takes no value"):
        Compare("n", "exists", True)
    for build in (And, Or, Not):
        with pytest.raises(FilterError):
            build({"a": 1})


def test_deep_nesting_is_refused_not_a_recursion_error():
    node = Compare("a", "==", 1)
    for _ in range(MAX_DEPTH):
        node = Not(node)
    compile_filter(node)
    with pytest.raises(FilterError, match="deeper"):
        compile_filter(Not(node))


def test_a_filter_passes_through_and_equal_filters_are_equal_and_hashable():
    node = And(Compare("a", "in", [1, 2]), Not(Compare("b", "==", "x")))
    assert parse_filter(node) is node
    assert {node} == {And(Compare("a", "in", (1, 2)), Not(Compare("b", "==", "x")))}


def test_input_is_not_mutated_and_later_changes_do_not_reach_the_filter():
    values = [1, 2]
    source = {"n": {"$in": values}}
    node = parse_filter(source)
    values.append(3)
    assert node == Compare("n", "in", (1, 2))
    assert source == {"n": {"$in": [1, 2, 3]}}


def test_subclasses_can_not_print_themselves_into_the_expression():
    class Evil(str):
        __slots__ = ()

        def translate(self, table):
            return '" or 1 == 1 or "'

    class EvilInt(int):
        def __repr__(self):
            return "1 or 1 == 1"

    class Lang(enum.StrEnum):
        EN = "en"

    assert compile_filter(Compare("s", "==", Evil("x"))) == 's == "x"'
    assert compile_filter(Compare("n", "==", EvilInt(7))) == "n == 7"
    assert compile_filter(Compare("s", "==", Lang.EN)) == 's == "en"'
    numpy = pytest.importorskip("numpy")
    assert compile_filter(Compare("n", ">", numpy.float64(1.5))) == "n > 1.5"


def test_constants_are_told_apart_from_conditions():
    assert compile_condition(And()) is True
    assert compile_condition(Not(And())) is False
    assert compile_condition(And(Compare("a", "==", 1), Or())) is False
    assert compile_condition(Or(Compare("a", "==", 1), Or())) == "a == 1"


@given(st.text(), st.text(max_size=3))
def test_a_prefix_is_a_range(text, prefix):
    high = _after_prefix(prefix)
    inside = text >= prefix and (high is None or text < high)
    assert inside == text.startswith(prefix)


@given(st.text(max_size=3), st.text())
def test_a_prefix_is_a_range_that_holds_all_continuations(prefix, rest):
    high = _after_prefix(prefix)
    assert prefix + rest >= prefix
    assert high is None or (prefix + rest < high and not high.startswith(prefix))


@given(st.text())
def test_a_literal_ends_where_it_should_and_reads_back(text):
    literal = quoted(text)
    body = literal[1:-1]
    assert literal[0] == literal[-1] == '"'
    assert not any(c in body for c in "\n\r")
    out, i = [], 0
    while i < len(body):
        assert body[i] != '"'
        if body[i] == "\\":
            out.append({"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t"}[body[i + 1]])
            i += 1
        else:
            out.append(body[i])
        i += 1
    assert "".join(out) == text


@given(st.text())
def test_only_ascii_identifiers_are_plain(key):
    if is_plain_key(key):
        assert key.isascii()
        assert key.isidentifier()


def test_ids_are_quoted():
    assert id_in(['a"', "b\\"]) == 'id in ["a\\"", "b\\\\"]'
