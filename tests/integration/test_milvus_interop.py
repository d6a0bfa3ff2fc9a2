"""Our collections and LlamaIndex: it reads what we write, and we read what it writes."""

import json

import pytest

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage
from tests.integration.milvus_support import vectors

METADATA = {
    "n": 1,
    "none": None,
    "nested": {"a": [1, {"b": None}]},
    "text": "collides",
    "doc_id": 7,
    "_node_content": "x",
    "语言": ["中文"],
}


def stored(uri: str) -> list[dict]:
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    rows = [dict(row) for row in client.query("qwen3_rag", filter='id != ""', output_fields=["*"])]
    client.close()
    return sorted(rows, key=lambda row: row["id"])


@pytest.fixture
def written(tmp_path):
    passages = [
        Passage("a", "text of a", METADATA, "the doc"),
        Passage("b", "text of b", {"n": 2}),
        Passage("c", "", {}, 'it\'s "quoted"'),
    ]
    with MilvusCollection(tmp_path / "m.db") as c:
        c.upsert(passages, vectors(3))
        yield passages, stored(c.uri)


def test_llama_index_reads_our_nodes(written):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.utils import metadata_dict_to_node

    passages, rows = written
    for passage, row in zip(passages, rows, strict=True):
        node = metadata_dict_to_node(row, text=row["text"])
        assert type(node) is TextNode
        assert node.node_id == passage.id
        assert node.text == passage.text
        assert node.metadata == passage.metadata
        assert node.ref_doc_id == passage.doc_id


def test_the_envelope_is_the_one_that_llama_index_writes(written):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
    from llama_index.core.vector_stores.utils import node_to_metadata_dict

    for passage, row in zip(*written, strict=True):
        node = TextNode(id_=passage.id, text=passage.text, metadata=dict(passage.metadata))
        if passage.doc_id is not None:
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=passage.doc_id)
        expected = node_to_metadata_dict(node, remove_text=True)
        assert json.loads(row["_node_content"]) == json.loads(expected["_node_content"])
        for key in ("_node_type", "document_id", "doc_id", "ref_doc_id"):
            assert row[key] == expected[key], key


def test_metadata_keys_lie_beside_the_columns_for_other_tools(written):
    row = written[1][0]
    assert (row["n"], row["nested"], row["语言"]) == (1, {"a": [1, {"b": None}]}, ["中文"])
    assert row["text"] == "text of a"
    assert row["_metadata"] == {"text": "collides", "doc_id": 7, "_node_content": "x", "语言": ["中文"]}


def foreign_collection(
    uri: str, rows: list[dict], *, doc_id: bool = True, metric: str = "COSINE", index: str = "FLAT"
) -> None:
    """Creates a collection with the fields of LlamaIndex's store (version 1.2, dense only)."""
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=65_535, is_primary=True)
    if doc_id:
        schema.add_field("doc_id", DataType.VARCHAR, max_length=65_535)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=8)
    index_params = client.prepare_index_params()
    index_params.add_index("embedding", index_type=index, metric_type=metric, index_name="vectors")
    client.create_collection("qwen3_rag", schema=schema, index_params=index_params)
    client.insert("qwen3_rag", rows)
    client.flush("qwen3_rag")
    client.close()


def release(uri: str) -> None:
    """Ends the database in this process, as a restart would."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(uri)


def test_we_read_and_write_what_llama_index_wrote(tmp_path):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
    from llama_index.core.vector_stores.utils import node_to_metadata_dict

    uri = str(tmp_path / "m.db")
    node = TextNode(id_="theirs", text="their text", metadata={"year": 2024, "who": "llama", "none": None})
    node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="their doc")
    lonely = TextNode(id_="alone", text="no document", metadata={})
    rows = [
        {
            **node_to_metadata_dict(n, remove_text=True),
            "id": n.node_id,
            "text": n.text,
            "embedding": vectors(2)[i].tolist(),
        }
        for i, n in enumerate([node, lonely])
    ]
    foreign_collection(uri, rows)
    release(uri)
    expected = Passage("theirs", "their text", {"year": 2024, "who": "llama", "none": None}, "their doc")
    with MilvusCollection(uri) as c:
        assert c.get(["theirs", "alone"]) == [expected, Passage("alone", "no document")]
        assert c.search(vectors(2)[0], filter={"year": {"$gt": 2000}})[0].passage == expected
        assert c.find({"$doc_id": "their doc", "none": None}) == [expected]
        c.upsert([Passage("ours", "t", {"year": 1})], vectors(1, seed=9))
        c.upsert([Passage("alone", "replaced", {"x": 1})], vectors(1, seed=8))
        assert c.find({"$doc_id": None}) == [Passage("alone", "replaced", {"x": 1}), Passage("ours", "t", {"year": 1})]


def test_rows_without_an_envelope_have_their_own_keys_as_metadata(tmp_path):
    uri = str(tmp_path / "m.db")
    row = {"id": "x", "text": "t", "doc_id": "d", "embedding": vectors(1)[0].tolist(), "lang": "en", "tags": ["a"]}
    broken = {**row, "id": "y", "_node_content": "{not json", "_node_type": "TextNode"}
    odd = {**row, "id": "z", "_node_content": "[1]", "_node_type": "TextNode"}
    foreign_collection(uri, [row, broken, odd])
    with MilvusCollection(uri) as c:
        for id_ in "xyz":
            assert c.get([id_]) == [Passage(id_, "t", {"lang": "en", "tags": ["a"]}, "d")]
        assert len(c.find({"tags": {"$contains": "a"}})) == 3
    release(uri)


def test_longer_limits_of_a_foreign_collection_are_used(tmp_path):
    uri = str(tmp_path / "m.db")
    foreign_collection(uri, [])
    with MilvusCollection(uri) as c:
        c.upsert([Passage("x" * 5_000, "t", {}, "d" * 5_000)], vectors(1))
        assert c.find({})[0].doc_id == "d" * 5_000


def test_another_metric_is_refused_with_the_way_out(tmp_path):
    uri = str(tmp_path / "m.db")
    foreign_collection(uri, [], metric="L2")
    reason = r"compared by L2, asked was COSINE \(open it with metric='L2'\)"
    with MilvusCollection(uri) as c, pytest.raises(CollectionError, match=reason):
        c.count()
    with MilvusCollection(uri, metric="L2") as c:
        assert c.count() == 0
    release(uri)


def test_without_a_column_for_the_document_it_can_be_read_not_written(tmp_path):
    uri = str(tmp_path / "m.db")
    row = {"id": "x", "text": "t", "doc_id": "d", "embedding": vectors(1)[0].tolist(), "lang": "en"}
    foreign_collection(uri, [row], doc_id=False)
    with MilvusCollection(uri) as c:
        assert c.get(["x"]) == [Passage("x", "t", {"doc_id": "d", "lang": "en"})]
        with pytest.raises(CollectionError, match="laid out by another tool"):
            c.upsert([Passage("y", "t")], vectors(1))
    release(uri)


def test_an_index_that_lite_can_not_load_again_is_named(tmp_path):
    uri = str(tmp_path / "m.db")
    rows = [{"id": str(i), "text": "t", "doc_id": "d", "embedding": v.tolist()} for i, v in enumerate(vectors(300))]
    foreign_collection(uri, rows, index="IVF_PQ")
    release(uri)
    with MilvusCollection(uri) as c, pytest.raises(CollectionError, match=r"IVF_PQ.*can't load again.*rows are intact"):
        c.count()
