"""Nodes as passages and back, without a database."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from qwen3_rag.llama_index.nodes import to_node, to_passage
from qwen3_rag.types import Passage

text = st.text(st.characters(exclude_categories=["Cs"]))
scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
json_value = st.recursive(scalar, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=6)
related = st.builds(
    RelatedNodeInfo, node_id=text, metadata=st.dictionaries(text, json_value, max_size=2), hash=st.none() | text
)


@given(
    st.builds(
        TextNode,
        id_=text,
        text=text,
        metadata=st.dictionaries(text, json_value, max_size=4),
        relationships=st.dictionaries(
            st.sampled_from([NodeRelationship.SOURCE, NodeRelationship.PREVIOUS, NodeRelationship.NEXT]), related
        ),
        excluded_embed_metadata_keys=st.lists(text, max_size=2),
        excluded_llm_metadata_keys=st.lists(text, max_size=2),
        metadata_template=text,
        metadata_separator=text,
        text_template=text,
        start_char_idx=st.none() | st.integers(0, 10),
        mimetype=text,
    )
)
def test_any_node_survives(node):
    before = node.model_dump_json()
    passage = to_passage(node)
    assert (passage.id, passage.text, passage.doc_id) == (node.node_id, node.text, node.ref_doc_id)
    assert to_node(passage) == node
    assert node.model_dump_json() == before


@given(text, text, st.dictionaries(text, json_value, max_size=3), st.none() | text)
def test_any_passage_becomes_a_node(id_, body, metadata, doc_id):
    node = to_node(Passage(id_, body, metadata, doc_id))
    assert (node.node_id, node.text, node.metadata, node.ref_doc_id) == (id_, body, metadata, doc_id)


def test_a_node_has_its_own_metadata():
    passage = Passage("i", "t", {"a": 1})
    to_node(passage).metadata["a"] = 2
    assert passage.metadata == {"a": 1}
