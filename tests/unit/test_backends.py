"""One string, or one object, names a back end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from qwen3_rag import LocalEmbedder, LocalReranker, load_embedder, load_reranker
from qwen3_rag.errors import ConfigurationError
from tests.fakes import OverlapReranker, WordEmbedder


def test_names_become_local_models() -> None:
    assert isinstance(load_embedder("tiny", dimensions=64), LocalEmbedder)
    assert isinstance(load_reranker("Qwen/Qwen3-Reranker-4B", max_length=1024), LocalReranker)


def test_objects_pass_through() -> None:
    embedder, reranker = WordEmbedder(), OverlapReranker()
    assert load_embedder(embedder) is embedder
    assert load_reranker(reranker) is reranker


def test_a_local_model_passes_through_without_being_loaded() -> None:
    embedder, reranker = LocalEmbedder("/nowhere"), LocalReranker("/nowhere")
    assert load_embedder(embedder) is embedder
    assert load_reranker(reranker) is reranker


@pytest.mark.parametrize(("load", "made"), [(load_embedder, WordEmbedder()), (load_reranker, OverlapReranker())])
def test_options_of_a_ready_made_object_are_refused(load: Any, made: Any) -> None:
    with pytest.raises(ConfigurationError, match="'dtype' can't be set here"):
        load(made, dtype="float32")


@pytest.mark.parametrize("load", [load_embedder, load_reranker])
@pytest.mark.parametrize("name", ["acme:text-embedding-v4", "acme:" + "a" * 300, "c:model", "", "  "])
def test_unknown_names_are_refused(load: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="Qwen/Qwen3-"):
        load(name)


@pytest.mark.parametrize("load", [load_embedder, load_reranker])
def test_other_objects_are_refused(load: Any) -> None:
    with pytest.raises(ConfigurationError, match="got"):
        load(3)


def test_constructing_imports_no_torch() -> None:
    code = "import sys, qwen3_rag as q; q.load_embedder('tiny'); q.load_reranker('tiny'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
