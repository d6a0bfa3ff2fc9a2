"""Nine ways in which other integrations are silently wrong about Qwen3, and that this one is not.

Each test names what goes wrong elsewhere, and looks at ours through the adapter that a user would have in hand.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3_rag.errors import ModelCheckError
from tests.qwen_models import WEB_SEARCH, OfficialEmbedder, OfficialReranker, make_model

langchain = pytest.importorskip("qwen3_rag.langchain")
llama_index = pytest.importorskip("qwen3_rag.llama_index")
QUERY = "How is data stored?"


def official_query(folder: Path, text: str) -> np.ndarray:
    return OfficialEmbedder(folder).embed([f"Instruct: {WEB_SEARCH}\nQuery:{text}"]).numpy()[0]


def test_1_the_model_that_was_asked_for_is_the_one_that_scores(reranker_folder: Path, tmp_path: Path) -> None:
    """Elsewhere a validator replaces the model's name by a retired one."""
    other = make_model(tmp_path / "other", "reranker", seed=1)
    first, second = (
        langchain.Qwen3CrossEncoder(folder).score([(QUERY, "a"), (QUERY, "b")]) for folder in (reranker_folder, other)
    )
    assert np.abs(np.subtract(first, second)).max() > 1e-3
    np.testing.assert_allclose(second, OfficialReranker(other).score(QUERY, ["a", "b"])[0], atol=1e-5)


def test_2_a_query_is_embedded_as_a_query_in_batches_too(embedder_folder: Path) -> None:
    """Elsewhere the role never arrives, and more than 25 texts fail."""
    model = llama_index.Qwen3Embedding(embedder_folder)
    texts = [f"text {i}" for i in range(60)]
    assert len(model.get_text_embedding_batch(texts)) == 60
    assert np.abs(np.subtract(model.get_query_embedding("text 0"), model.get_text_embedding("text 0"))).max() > 1e-3


def test_3_the_query_prompt_of_the_model_is_kept(embedder_folder: Path) -> None:
    """Elsewhere the saved prompts are overwritten by empty ones: queries go in bare."""
    found = llama_index.Qwen3Embedding(embedder_folder).get_query_embedding(QUERY)
    np.testing.assert_allclose(found, official_query(embedder_folder, QUERY), atol=1e-5)


def test_4_queries_have_their_prompt_and_texts_their_newlines(embedder_folder: Path) -> None:
    """Elsewhere there is no prompt, and every newline becomes a space."""
    model = langchain.Qwen3Embeddings(embedder_folder)
    np.testing.assert_allclose(model.embed_query("a\nb"), official_query(embedder_folder, "a\nb"), atol=1e-5)
    code = "def f():\n    return 1\n"
    np.testing.assert_allclose(
        model.embed_documents([code])[0], OfficialEmbedder(embedder_folder).embed([code])[0], atol=1e-5
    )


def test_5_a_cache_does_not_mix_roles_dimensions_and_instructions(embedder_folder: Path) -> None:
    """Elsewhere the bare text is the key."""
    from langchain_core.stores import InMemoryByteStore
    from llama_index.core.storage.kvstore import SimpleKVStore

    store = InMemoryByteStore()
    wide = langchain.Qwen3Embeddings(embedder_folder, cache=store)
    narrow = langchain.Qwen3Embeddings(embedder_folder, cache=store, dimensions=32)
    plain = langchain.Qwen3Embeddings(embedder_folder)
    for _ in range(2):  # the second time from the cache
        assert wide.embed_query("x") == pytest.approx(plain.embed_query("x"), abs=1e-6)
        assert wide.embed_documents(["x"])[0] == pytest.approx(plain.embed_documents(["x"])[0], abs=1e-6)
        assert wide.embed_query("x", instruction="Find bugs") != pytest.approx(wide.embed_query("x"), abs=1e-4)
        assert len(narrow.embed_query("x")) == 32
    cached = llama_index.Qwen3Embedding(embedder_folder, embeddings_cache=SimpleKVStore())
    for _ in range(2):
        assert cached.get_query_embedding("x") != pytest.approx(cached.get_text_embedding("x"), abs=1e-4)


def test_6_shortened_vectors_have_unit_length(embedder_folder: Path) -> None:
    """Elsewhere the cut comes after normalisation: a norm of 0.34 at 8 of 32 dimensions."""
    for vector in langchain.Qwen3Embeddings(embedder_folder, dimensions=32).embed_documents(["a", "b c"]):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_7_more_than_512_tokens_are_read(reranker_folder: Path) -> None:
    """Elsewhere pairs are cut to 512 tokens, 70 of which are the frame."""
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(id_=end, text="word " * 700 + end)) for end in ("yes", "stone")]
    ranked = llama_index.Qwen3Rerank(reranker_folder, top_n=2).postprocess_nodes(nodes, query_str=QUERY)
    assert abs(ranked[0].score - ranked[1].score) > 1e-6


def test_8_any_number_of_strings_in_one_call(embedder_folder: Path) -> None:
    """Elsewhere 1,000 texts go out at once as arrays of token ids, and the server refuses both."""
    texts = [f"{i}" for i in range(1200)]
    vectors = langchain.Qwen3Embeddings(embedder_folder).embed_documents(texts)
    assert len(vectors) == 1200
    np.testing.assert_allclose(vectors[777], OfficialEmbedder(embedder_folder).embed(["777"])[0], atol=1e-5)


def test_9_the_frame_does_not_depend_on_a_chat_template(reranker_folder: Path, tmp_path: Path) -> None:
    """Elsewhere a tokenizer without a template scores the bare pair without a word."""
    folder = shutil.copytree(reranker_folder, tmp_path / "bare")
    for template in folder.glob("chat_template*"):
        template.unlink()
    expected, _ = OfficialReranker(reranker_folder).score(QUERY, ["a", "b"])
    np.testing.assert_allclose(
        langchain.Qwen3CrossEncoder(folder).score([(QUERY, "a"), (QUERY, "b")]), expected, atol=1e-5
    )
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("<|im_start|>", "<|im_begin|>"))
    with pytest.raises(ModelCheckError, match="im_start"):
        langchain.Qwen3CrossEncoder(folder).score([(QUERY, "a")])
