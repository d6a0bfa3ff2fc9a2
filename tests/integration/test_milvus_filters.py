"""Filters on a real Milvus against an independent reading of their documentation, in Python."""

import operator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_rag.milvus import And, Compare, MilvusCollection, Not, Or
from qwen3_rag.types import Passage
from tests.integration.milvus_support import lite_server, vectors

HOSTILE = [
    "",
    "a",
    "None",
    "ab",
    "abc",
    "ab%",
    "a_c",
    "%",
    "_",
    "\\",
    "a\\",
    '"',
    'a" or id != "',
    "' or 1 == 1 or '",
    "{x}",
    "[1, 2]",
    '["a", "b"]',
    " [1]",
    "1",
    "true",
    "null",
    "new\nline",
    "tab\tcr\r",
    "\x00\x01",
    "\u2028",
    "Ä",
    "中文",
    "中",
    "😀",
    "\uffff",
    "\U0010ffff",
    "\ud7ff",
    "\ue000",
]
NUMBERS = [-3, -1.5, 0, 1, 2, 2.5, 3.0, 10, 1e16, 2**53 + 2, 2**63 - 1, -(2**63) + 1, 5e-324]
# Booleans have keys of their own: Milvus Lite takes True for 1, which the documentation says.
VALUES = st.sampled_from([*HOSTILE, *NUMBERS])
STRINGS = st.sampled_from(HOSTILE)
NUMBER_KEYS, STRING_KEYS, MIXED_KEYS = (
    ["n"],
    ["s"],
    ["m", "it's", "text", "doc_id", "_metadata", "语言", "in", "a.b", "$meta"],
)
FILTER_KEYS = [
    *NUMBER_KEYS,
    *STRING_KEYS,
    *[k for k in MIXED_KEYS if k[0] != "$"],
    "absent",
    'x"] or 1 == 1 or $meta["n',
]
LIST_KEYS = ["tags", "标签", "id", "m", "s", "absent"]


def build_passages() -> list[Passage]:
    out = []
    for i in range(72):
        metadata: dict = {}
        if i % 5:
            metadata["n"] = NUMBERS[i % len(NUMBERS)]
        if i % 7:
            metadata["s"] = HOSTILE[i % len(HOSTILE)]
        if i % 4:
            kinds = [HOSTILE[i * 5 % len(HOSTILE)], NUMBERS[i * 3 % len(NUMBERS)], [1, "a"], {"a": 1}, None, [], {}]
            for j, key in enumerate(MIXED_KEYS):
                metadata[key] = kinds[(i + j) % len(kinds)]
        if i % 3:
            lists = [["a", 1], [HOSTILE[i % len(HOSTILE)], 2.5], [], [["a"]], [None, "a"], "a", '["a"]', {"a": 1}]
            for j, key in enumerate(["tags", "标签", "id"]):
                metadata[key] = lists[(i + j) % len(lists)]
        if i % 2:
            metadata["flag"] = [True, False, "true", None][i // 2 % 4]
        doc_id = None if i % 6 == 0 else (HOSTILE[i % len(HOSTILE)].replace("None", "") or "d")
        out.append(Passage(f"{HOSTILE[i % len(HOSTILE)]}#{i}", HOSTILE[i * 7 % len(HOSTILE)], metadata, doc_id))
    return out


PASSAGES = build_passages()


@pytest.fixture(scope="module", params=["file", "server"])
def stored(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("filters")

    def fill(uri: str):
        with MilvusCollection(uri) as c:
            half = len(PASSAGES) // 2
            vs = vectors(len(PASSAGES))
            c.upsert(PASSAGES[:half], vs[:half])
            c.flush()  # one half from disk, one from memory: Milvus Lite evaluates them separately
            c.upsert(PASSAGES[half:], vs[half:])
            yield c

    if request.param == "file":
        yield from fill(str(folder / "m.db"))
    else:
        with lite_server(folder / "data") as uri:
            yield from fill(uri)


# ---------------------------------------------------------------- the documentation, read by somebody else

ORDER = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def kind(value):
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "number" if isinstance(value, int | float) else type(value)


def equal(a, b):
    return kind(a) == kind(b) and a == b


def like(value, pattern):
    """Matches by recursion, without regular expressions."""
    if not pattern:
        return not value
    if pattern[0] == "%":
        return any(like(value[i:], pattern[1:]) for i in range(len(value) + 1))
    return bool(value) and pattern[0] in ("_", value[0]) and like(value[1:], pattern[1:])


def look_up(passage, key):
    if key in ("$id", "$text", "$doc_id"):
        return getattr(passage, key[1:])
    return passage.metadata.get(key)


def condition(node, value, wanted):  # noqa: PLR0911 - one per kind of operator
    op, operand = node.op, node.value
    if op in ("!=", "not in", "missing"):
        positive = {"!=": "==", "not in": "in", "missing": "exists"}[op]
        return condition(Compare(node.key, positive, operand), value, not wanted)
    if op == "exists":
        return (value is not None) is wanted
    if op in ("==", "in"):
        options = operand if op == "in" else (operand,)
        return any(value is None if o is None else equal(value, o) for o in options) is wanted
    if op in ORDER or op == "prefix":
        if value is None:
            return not wanted
        if kind(value) != kind(operand):
            return False
        return (value.startswith(operand) if op == "prefix" else ORDER[op](value, operand)) is wanted
    if op in ("like", "substring"):
        pattern = operand if op == "like" else f"%{operand}%"
        return (isinstance(value, str) and like(value, pattern)) is wanted
    options = (operand,) if op == "contains" else operand
    inside = [isinstance(value, list) and any(equal(item, o) for item in value) for o in options]
    return (any(inside) if op == "contains_any" else all(inside)) is wanted


def matches(node, passage, wanted=True):
    if isinstance(node, Not):
        return matches(node.operand, passage, not wanted)
    if isinstance(node, And | Or):
        parts = [matches(o, passage, wanted) for o in node.operands]
        return all(parts) if isinstance(node, And) is wanted else any(parts)
    return condition(node, look_up(passage, node.key), wanted)


# ---------------------------------------------------------------- filters to try


def text_values(op):
    refused = {"like": "\\", "substring": "%_\\", "prefix": ""}[op]
    return STRINGS.map(lambda s: "".join(c for c in s if c not in refused))


own = st.sampled_from(["$id", "$text", "$doc_id"])
any_key = st.sampled_from(FILTER_KEYS)
compares = st.one_of(
    st.builds(Compare, any_key, st.sampled_from(["==", "!="]), VALUES | st.none()),
    st.builds(Compare, any_key, st.sampled_from(["in", "not in"]), st.lists(VALUES | st.none(), max_size=4)),
    st.builds(Compare, any_key, st.sampled_from(list(ORDER)), VALUES),
    st.builds(Compare, own, st.sampled_from(["==", "!=", *ORDER]), STRINGS),
    st.builds(Compare, own, st.sampled_from(["in", "not in"]), st.lists(STRINGS | st.none(), max_size=4)),
    st.builds(Compare, own | any_key, st.sampled_from(["exists", "missing"])),
    *(st.builds(Compare, own | any_key, st.just(op), text_values(op)) for op in ("like", "prefix", "substring")),
    st.builds(Compare, st.sampled_from(LIST_KEYS), st.just("contains"), VALUES),
    st.builds(Compare, st.sampled_from(LIST_KEYS), st.just("contains_any"), st.lists(VALUES, max_size=3)),
    st.builds(Compare, st.sampled_from(LIST_KEYS), st.just("contains_all"), st.lists(VALUES, min_size=1, max_size=3)),
    st.builds(Compare, st.just("flag"), st.sampled_from(["==", "!="]), st.booleans() | STRINGS | st.none()),
)


def filter_trees(leaves, max_leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda o: And(*o)),
            st.lists(inner, max_size=3).map(lambda o: Or(*o)),
            st.builds(Not, inner),
        ),
        max_leaves=max_leaves,
    )


filters = filter_trees(compares, max_leaves=6)


@settings(max_examples=250, deadline=None)
@given(node=filters)
@example(node=Compare("s", "prefix", "\ud7ff"))
@example(node=Not(Compare("m", "contains", "a")))
@example(node=Not(Compare("n", ">", "a")))
@example(node=Compare("tags", "contains", "a"))
@example(node=Compare("标签", "contains_all", ["a", 1]))
def test_filters_mean_what_the_documentation_says(stored, node):
    expected = [p.id for p in PASSAGES if matches(node, p)]
    assert [p.id for p in stored.find(node)] == sorted(expected)
    hits = stored.search(vectors(1)[0], 100, filter=node)
    assert sorted(h.passage.id for h in hits) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(
    value=st.text(st.characters(codec="utf-8"), max_size=12),
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
)
def test_no_string_gets_out_of_its_quotes(stored, value, key):
    """Strings that nobody stored match nothing, whatever they contain, and are no syntax errors."""
    value = "never stored " + value
    for name in ("s", "m", "$id", "$doc_id", key.lstrip("$") or "k"):
        for op in ("==", "prefix"):
            assert stored.find(Compare(name, op, value)) == []
        assert stored.find(Compare(name, "in", [value, "x" + value])) == []
        assert len(stored.search(vectors(1)[0], 100, filter=Compare(name, "!=", value))) == len(PASSAGES)


@settings(max_examples=60, deadline=None)
@given(node=filters)
def test_a_filter_and_its_negation_never_overlap(stored, node):
    assert not {p.id for p in stored.find(node)} & {p.id for p in stored.find(Not(node))}


def test_the_oracle_can_tell_filters_apart():
    """A test that can't fail is worse than none: each operator matches some passages and not others."""
    for node in (
        Compare("n", "==", 1),
        Compare("n", ">", 2),
        Compare("s", "<=", "b"),
        Compare("s", "prefix", "ab"),
        Compare("s", "like", "a_"),
        Compare("s", "substring", "b"),
        Compare("tags", "contains", "a"),
        Compare("标签", "contains", "a"),
        Compare("id", "contains", "a"),
        Compare("m", "exists"),
        Compare("text", "prefix", "a"),
        Compare("$doc_id", "missing"),
        Compare("flag", "==", True),
    ):
        assert 0 < sum(matches(node, p) for p in PASSAGES) < len(PASSAGES), node


def test_milvus_lite_takes_true_for_one_as_documented(tmp_path):
    with MilvusCollection(tmp_path / "m.db") as c:
        c.upsert([Passage("bool", "t", {"k": True}), Passage("int", "t", {"k": 1})], vectors(2))
        assert {p.id for p in c.find({"k": True})} == {"bool", "int"}


def test_a_very_long_list_of_values(stored):
    many = [f"never {i}" for i in range(5_000)]
    assert stored.find(Compare("$id", "in", [*many, PASSAGES[3].id])) == [PASSAGES[3]]
    assert len(stored.find(Compare("s", "in", [*many, "abc"]))) == sum(p.metadata.get("s") == "abc" for p in PASSAGES)
