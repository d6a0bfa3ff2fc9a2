"""What a caller of the local reranker relies on, beyond the numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3_rag import LocalReranker
from qwen3_rag.errors import ConfigurationError, InputError, ModelCheckError, TruncationWarning
from qwen3_rag.inference import engine as engine_module
from qwen3_rag.types import Reranker
from tests.unit.inference.test_embedder import CPU_OOM, Memory

relaxed = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_is_a_reranker(reranker_folder: Path) -> None:
    assert isinstance(LocalReranker(reranker_folder), Reranker)


@relaxed
@given(
    query=st.text(max_size=30),
    document=st.text(max_size=60),
    others=st.lists(st.text(max_size=60), max_size=6),
    budget=st.integers(1, 300),
)
def test_alone_or_among_others_is_the_same_score(
    reranker_folder: Path, query: str, document: str, others: list[str], budget: int
) -> None:
    alone = LocalReranker(reranker_folder).rerank(query, [document])
    among = LocalReranker(reranker_folder, pack_tokens=budget).rerank(query, [*others, document, *others])
    np.testing.assert_allclose(among.logits[len(others)], alone.logits[0], atol=1e-5)


@relaxed
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "b b", "你好"]), st.sampled_from(["x", "y y", "z", ""])), max_size=9)
)
def test_pairs_of_several_queries(reranker_folder: Path, pairs: list[tuple[str, str]]) -> None:
    reranker = LocalReranker(reranker_folder, pack_tokens=150)
    together = reranker.score_pairs(pairs).logits
    one_by_one = [reranker.rerank(query, [document]).logits[0] for query, document in pairs]
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


def test_no_documents(reranker_folder: Path) -> None:
    result = LocalReranker(reranker_folder).rerank("q", [])
    assert result.scores.shape == result.logits.shape == (0,)


def test_scores_are_the_sigmoid_of_the_logits(reranker_folder: Path) -> None:
    result = LocalReranker(reranker_folder).rerank("q", ["a", "b", "c d e"])
    np.testing.assert_allclose(result.scores, 1 / (1 + np.exp(-result.logits)), atol=1e-6)


def test_the_prefix_is_computed_once_and_equal_documents_too(
    reranker_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(monkeypatch, 10**9, CPU_OOM)
    reranker = LocalReranker(reranker_folder, pack_tokens=120)
    prefix = len(reranker.warm_up()._ready().loaded.tokenizer.frame()[0])
    documents = [f"document number {i}" for i in range(60)]
    result = reranker.rerank("q", documents * 2)
    assert sum(memory.sizes) == result.tokens
    assert len(memory.sizes) > 5  # the prefix was carried from pack to pack
    assert result.tokens < 60 * prefix
    np.testing.assert_array_equal(result.scores[:60], result.scores[60:])


def test_out_of_memory_in_the_middle_of_a_carried_prefix(
    reranker_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [f"document {i} " * (1 + i % 5) for i in range(30)]
    expected = LocalReranker(reranker_folder).rerank("what?", documents).logits
    real = engine_module.forward_pack
    failures = iter([False, False, True, False, True] + [False] * 1000)

    def forward(decoder: Any, pack: Any, carried: Any) -> Any:
        if next(failures):
            raise CPU_OOM
        return real(decoder, pack, carried)

    monkeypatch.setattr(engine_module, "forward_pack", forward)
    found = LocalReranker(reranker_folder, pack_tokens=300).rerank("what?", documents).logits
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_truncation_is_reported_once(reranker_folder: Path) -> None:
    long = "word " * 300
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = LocalReranker(reranker_folder, max_length=200, max_query_length=20).rerank(long, ["short", long])
    assert [w.category for w in caught] == [TruncationWarning]
    assert caught[0].filename == __file__
    assert {(t.part, t.index, t.kept) for t in result.truncated if t.part == "query"} == {("query", 0, 20)}
    (document,) = [t for t in result.truncated if t.part == "document"]
    assert (document.index, document.tokens) == (1, 301)
    assert "lost" in str(caught[0].message)


def test_an_instruction_that_leaves_no_room(reranker_folder: Path) -> None:
    with pytest.raises(InputError, match="leave no room for a document"):
        LocalReranker(reranker_folder, max_length=128).rerank("q", ["d"], instruction="word " * 200)


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 10},
        {"max_length": 99_999},
        {"max_query_length": 0},
        {"max_query_length": "20"},
        {"max_query_length": 1.5},
        {"max_query_length": True},
        {"max_query_length": 9000},
        {"instruction": " "},
    ],
)
def test_wrong_options_fail_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LocalReranker("tiny", **options)


def test_wrong_inputs_are_named(reranker_folder: Path) -> None:
    reranker = LocalReranker(reranker_folder)
    with pytest.raises(InputError, match=r"documents\[1\]"):
        reranker.rerank("q", ["a", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"documents\[1\] holds half of a surrogate pair"):
        reranker.rerank("q", ["a", "\ud83d"])
    with pytest.raises(InputError, match=r"query\[0\]"):
        reranker.rerank(None, ["a"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"pairs\[0\]"):
        reranker.score_pairs([("q", "a", "b")])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"pairs\[1\]"):
        reranker.score_pairs([("q", "a"), "qa"])  # type: ignore[list-item]


@pytest.mark.parametrize("documents", [None, 5, iter(["a"]), (text for text in ["a", "b"])])
def test_documents_that_can_be_read_only_once_are_refused(reranker_folder: Path, documents: Any) -> None:
    with pytest.raises(InputError, match=r"documents must be a list of strings, got .*no length"):
        LocalReranker(reranker_folder).rerank("q", documents)


@pytest.mark.parametrize("pairs", [None, zip(["q"], ["d"], strict=True)])
def test_pairs_that_are_no_list_are_refused(reranker_folder: Path, pairs: Any) -> None:
    with pytest.raises(InputError, match="pairs must be a list of pairs"):
        LocalReranker(reranker_folder).score_pairs(pairs)


@pytest.mark.parametrize("pair", [None, 5, {"query": "q", "document": "d"}, {"q", "d"}])
def test_what_has_no_first_and_second_is_no_pair(reranker_folder: Path, pair: Any) -> None:
    with pytest.raises(InputError, match=r"pairs\[0\] must be \(query, document\)"):
        LocalReranker(reranker_folder).score_pairs([pair])


def test_the_defaults_of_torch_change_nothing(reranker_folder: Path) -> None:
    reranker = LocalReranker(reranker_folder)
    before = reranker.rerank("q", ["a"]).logits
    try:
        torch.set_default_dtype(torch.float64)
        after = reranker.rerank("q", ["a"]).logits
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(after, before)


def test_an_embedding_model_is_refused(embedder_folder: Path) -> None:
    with pytest.raises(ModelCheckError, match="is an embedding model"):
        LocalReranker(embedder_folder).warm_up()


def test_tokenizer_that_splits_the_frame_is_refused(reranker_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(reranker_folder, tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] not in ("<think>", "</think>")]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelCheckError, match="<think>"):
        LocalReranker(folder).rerank("q", ["d"])


async def test_async_equals_sync(reranker_folder: Path) -> None:
    reranker = LocalReranker(reranker_folder)
    pairs = [("q", "a"), ("r", "b")]
    np.testing.assert_array_equal(
        (await reranker.arerank("q", ["a", "b"])).scores, reranker.rerank("q", ["a", "b"]).scores
    )
    np.testing.assert_array_equal((await reranker.ascore_pairs(pairs)).scores, reranker.score_pairs(pairs).scores)
    reranker.close()
