"""Which column of a collection is what, and where a filter's key lies, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import CollectionError, FilterError
from qwen3_rag.milvus import Compare, Not, parse_filter
from qwen3_rag.milvus.columns import OURS, Column, Columns, is_integer_id
from qwen3_rag.milvus.contract import PROPERTY, Contract
from qwen3_rag.milvus.expressions import after_id, compile_condition, id_in

pymilvus = pytest.importorskip("pymilvus", reason="needs the extra `milvus`")
DataType, FunctionType = pymilvus.DataType, pymilvus.FunctionType


def field(name, kind, **more):
    return {"name": name, "type": kind, "params": {}, **more}


ID = field("pk", DataType.VARCHAR, is_primary=True)
NUMBER = field("pk", DataType.INT64, is_primary=True, auto_id=True)
TEXT = field("text", DataType.VARCHAR)
VECTOR = field("vector", DataType.FLOAT_VECTOR)
SPARSE = field("sparse", DataType.SPARSE_FLOAT_VECTOR, is_function_output=True)
BM25 = {"name": "f", "type": FunctionType.BM25, "input_field_names": ["text"], "output_field_names": ["sparse"]}


def describe(*fields, dynamic=False, functions=(), **more):
    return {
        "collection_name": "c",
        "fields": list(fields),
        "functions": list(functions),
        "enable_dynamic_field": dynamic,
        **more,
    }


def own(**more):
    fields = [
        field("id", DataType.VARCHAR, is_primary=True),
        field("text", DataType.VARCHAR),
        field("doc_id", DataType.VARCHAR),
        field("embedding", DataType.FLOAT_VECTOR),
    ]
    return describe(*fields, **{"dynamic": True, **more})


def test_ours_and_that_of_llama_index_is_the_default():
    assert Columns.of(own()) == OURS
    assert OURS.ours
    assert OURS.output_fields == ("text", "doc_id", "$meta")


def test_columns_are_metadata_by_default():
    fields = [TEXT, ID, VECTOR, SPARSE, field("lang", DataType.VARCHAR), field("n", DataType.INT64, nullable=True)]
    lists = field("tags", DataType.ARRAY, element_type=DataType.VARCHAR)
    found = Columns.of(describe(*fields, lists, functions=[BM25]))
    assert (found.id, found.text, found.embedding, found.sparse, found.doc_id) == (
        "pk",
        "text",
        "vector",
        "sparse",
        None,
    )
    assert found.metadata == (
        Column("lang", "string"),
        Column("n", "integer", nullable=True),
        Column("tags", "list", element="string"),
    )
    assert (found.ours, found.dynamic, found.json, found.integer_ids) == (False, False, None, False)
    assert found.output_fields == ("text", "lang", "n", "tags")
    assert found.metadata_of({"pk": "1", "text": "t", "vector": [0.1], "lang": "en", "n": None}) == {
        "lang": "en",
        "n": None,
    }
    assert str(found) == "ids in 'pk', texts in 'text', vectors in 'vector'"


def test_a_json_column_alone_holds_the_metadata():
    found = Columns.of(describe(TEXT, ID, VECTOR, field("metadata", DataType.JSON)))
    assert (found.json, found.metadata) == ("metadata", ())
    assert found.metadata_of({"text": "t", "metadata": {"a": 1}}) == {"a": 1}
    assert found.metadata_of({"text": "t", "metadata": None}) == {}
    beside = Columns.of(describe(TEXT, ID, VECTOR, field("metadata", DataType.JSON), field("n", DataType.INT64)))
    assert (beside.json, [column.name for column in beside.metadata]) == (None, ["metadata", "n"])


@pytest.mark.parametrize(
    ("fields", "functions", "text"),
    [
        ([TEXT, field("title", DataType.VARCHAR)], [], "text"),
        (
            [field("body", DataType.VARCHAR), field("title", DataType.VARCHAR)],
            [{**BM25, "input_field_names": ["body"]}],
            "body",
        ),
        ([field("body", DataType.VARCHAR), field("n", DataType.INT64)], [], "body"),
        ([field("body", DataType.VARCHAR), field("tenant", DataType.VARCHAR, is_partition_key=True)], [], "body"),
    ],
)
def test_the_text_is_the_column_that_can_be_no_other(fields, functions, text):
    sparse = [SPARSE] if functions else []
    assert Columns.of(describe(*fields, ID, VECTOR, *sparse, functions=functions)).text == text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            [TEXT, ID, VECTOR, field("image", DataType.FLOAT_VECTOR)],
            r"'vector' and 'image' where.*one column of 32-bit float",
        ),
        ([TEXT, ID], "nothing where there should be one column of 32-bit float vectors"),
        ([TEXT, ID, field("v", DataType.FLOAT16_VECTOR)], "nothing where there should be one column of 32-bit float"),
        ([ID, VECTOR], "nothing where there should be one column of texts"),
        (
            [ID, VECTOR, field("title", DataType.VARCHAR), field("body", DataType.VARCHAR)],
            "'title' and 'body' where there should be one column of texts",
        ),
        ([TEXT, field("pk", DataType.VARCHAR), VECTOR], "nothing where there should be a primary key"),
        (
            [TEXT, ID, VECTOR, SPARSE, field("more", DataType.SPARSE_FLOAT_VECTOR)],
            "'sparse' and 'more' where.*at most one",
        ),
        ([TEXT, ID, field("v", 999_999)], "nothing where there should be one column of 32-bit float vectors"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_way_out(fields, reason):
    with pytest.raises(
        CollectionError, match=rf"collection 'c' does not fit: it has {reason}.*Qwen3Retriever takes as it is"
    ):
        Columns.of(describe(*fields))


def test_a_collection_of_ours_is_never_taken_for_another():
    """What says that we wrote it, and is not laid out so, is broken: it is named, not read under other names."""
    contract = Contract("m", None, 8, "", True, "1").properties()
    assert PROPERTY in contract
    with pytest.raises(CollectionError, match="it has no dynamic field"):
        Columns.of(own(dynamic=False, properties=contract))
    assert not Columns.of(own(dynamic=False)).ours


TYPED = Columns.of(
    describe(
        TEXT,
        NUMBER,
        VECTOR,
        field("i", DataType.INT32),
        field("f", DataType.FLOAT),
        field("d", DataType.DOUBLE, nullable=True),
        field("s", DataType.VARCHAR, nullable=True),
        field("b", DataType.BOOL),
        field("l", DataType.ARRAY, element_type=DataType.INT64),
        field("j", DataType.JSON),
        field("in", DataType.INT64),
    )
)
DYNAMIC = Columns.of(describe(TEXT, ID, VECTOR, dynamic=True))
JSON = Columns.of(describe(TEXT, ID, VECTOR, field("md", DataType.JSON)))


@pytest.mark.parametrize(
    ("columns", "source", "expression"),
    [
        (TYPED, {"i": 1.0}, "i == 1"),
        (TYPED, {"i": 1.5}, False),
        (TYPED, {"i": {"$ne": 1.5}}, True),
        (TYPED, {"i": {"$gt": 1.5}}, "i > 1"),
        (TYPED, {"i": {"$gte": 1.5}}, "i > 1"),
        (TYPED, {"i": {"$lt": -1.5}}, "i <= -2"),
        (TYPED, {"i": {"$lte": -1.5}}, "i <= -2"),
        (TYPED, {"i": {"$lt": 1e300}}, True),
        (TYPED, {"i": {"$lt": -1e300}}, False),
        (TYPED, {"i": "1"}, False),
        (TYPED, {"i": True}, False),
        (TYPED, {"i": {"$gt": "1"}}, False),
        (TYPED, {"i": {"$not": {"$gt": "1"}}}, False),
        (TYPED, {"i": {"$in": [1, "x", 2.5, 3]}}, "i in [1, 3]"),
        (TYPED, {"i": {"$in": [None, 1]}}, "i in [1]"),
        (TYPED, {"i": None}, False),
        (TYPED, {"f": 0.5}, "f == 0.5"),
        (TYPED, {"f": 0.1}, False),
        (TYPED, {"f": {"$gt": 0.1}}, "f >= 0.10000000149011612"),
        (TYPED, {"f": {"$lte": 0.1}}, "f < 0.10000000149011612"),
        (TYPED, {"f": {"$gt": 1e300}}, False),
        (TYPED, {"d": 1}, "d == 1.0"),
        (TYPED, {"d": {"$ne": 1}}, "((d is null) or d != 1.0)"),
        (TYPED, {"d": {"$exists": True}}, "(d is not null)"),
        (TYPED, {"d": {"$nin": [1, 2]}}, "((d is null) or d not in [1.0, 2.0])"),
        (TYPED, {"s": {"$not": {"$like": "a%"}}}, '((s is null) or not (s like "a%"))'),
        (TYPED, {"s": {"$like": "a%"}}, 's like "a%"'),
        (TYPED, {"b": True}, "b == true"),
        (TYPED, {"b": 1}, False),
        (TYPED, {"b": {"$like": "t%"}}, False),
        (TYPED, {"l": {"$contains_all": [1, -3]}}, "(array_contains_any(l, [1]) and array_contains_any(l, [-3]))"),
        (TYPED, {"l": {"$contains": "1"}}, False),
        (TYPED, {"l": {"$not": {"$contains": 1}}}, "not array_contains_any(l, [1])"),
        (TYPED, {"l": 1}, False),
        (TYPED, {"s": {"$contains": "a"}}, False),
        (TYPED, {"absent": {"$ne": 1}}, True),
        (TYPED, {"absent": {"$gt": 1}}, False),
        (TYPED, {"absent": {"$not": {"$gt": 1}}}, True),
        (TYPED, {"$doc_id": "d"}, False),
        (TYPED, {"$doc_id": None}, True),
        (TYPED, {"$id": "12"}, "pk == 12"),
        (TYPED, {"$id": {"$in": ["-1", "x", "007", "9" * 30]}}, "pk in [-1]"),
        (TYPED, {"$text": {"$prefix": "a"}}, '(text >= "a" and text < "b")'),
        (DYNAMIC, {"lang": "en"}, 'lang == "en"'),
        (DYNAMIC, {"doc_id": 1}, "doc_id == 1"),
        (DYNAMIC, {"_metadata": 1}, "_metadata == 1"),
        (DYNAMIC, {"vector": 1}, '$meta["vector"] == 1'),
        (DYNAMIC, {"a b": {"$exists": False}}, '(not (exists $meta["a b"]))'),
        (DYNAMIC, {"$id": "x"}, 'pk == "x"'),
        (JSON, {'a"b': 1}, 'md["a\\"b"] == 1'),
        (JSON, {"t": {"$contains": 1}}, '(json_contains_any(md["t"], [1]) and not (md["t"] like "%"))'),
        (JSON, {"md": {"$ne": 1}}, '((not (exists md["md"])) or md["md"] != 1)'),
    ],
    ids=str,
)
def test_where_a_key_lies(columns, source, expression):
    assert compile_condition(parse_filter(source), columns) == expression


@pytest.mark.parametrize(
    ("columns", "node", "reason"),
    [
        (TYPED, Compare("$id", ">", "5"), "integers, which have no order as strings"),
        (TYPED, Compare("$id", "prefix", "5"), "integers, which have no order as strings"),
        (TYPED, Not(Compare("$id", "like", "5%")), "integers, which have no order as strings"),
        (TYPED, Compare("b", ">", False), "booleans, which have no order"),
        (TYPED, Compare("j", "==", 1), "a column whose type has no comparison"),
        (TYPED, Compare("in", "==", 1), "whose name can't be said in an expression"),
        (DYNAMIC, Compare("a b", "contains", 1), "can't look into lists under a key that is no identifier"),
    ],
)
def test_what_no_expression_can_say_is_refused(columns, node, reason):
    with pytest.raises(FilterError, match=reason):
        compile_condition(node, columns)


def test_ids_in_expressions():
    assert id_in(["1", "x", "-7", "01"], TYPED) == "pk in [1, -7]"
    assert id_in(["1", 'a"'], DYNAMIC) == 'pk in ["1", "a\\""]'
    assert after_id("", TYPED) == "(pk < 0 or pk >= 0)"
    assert after_id("12", TYPED) == "pk > 12"
    assert (after_id(""), after_id("a")) == ('id != ""', 'id > "a"')


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_every_integer_is_an_id_in_one_spelling(number):
    assert is_integer_id(str(number))
    assert not is_integer_id(f"0{number}")
    assert not is_integer_id(f" {number}")


@given(
    st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from("<>"),
    st.booleans(),
)
def test_an_order_of_whole_numbers_means_the_same_after_rounding(value, sign, strict):
    """Of all the numbers around the value, those match that matched before."""
    if abs(value) >= 2**63:
        return
    operator = sign if strict else sign + "="
    compiled = compile_condition(Compare("i", operator, value), TYPED)
    middle = int(value)
    for i in range(middle - 2, middle + 3):
        expected = {">": i > value, ">=": i >= value, "<": i < value, "<=": i <= value}[operator]
        assert eval(compiled, {}, {"i": i}) is expected
