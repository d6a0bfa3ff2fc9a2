"""The real weights against the values that were published for them. Needs the hub, or its cache.

Sources: the model card of Qwen/Qwen3-Embedding-0.6B (transformers sample, float32) and sentence-transformers' own test of
Qwen/Qwen3-Reranker-0.6B (float32, raw logit difference).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pytest

from qwen3_rag import LocalEmbedder, LocalReranker
from qwen3_rag.errors import ModelNotFoundError

pytestmark = pytest.mark.hub
Local = TypeVar("Local", LocalEmbedder, LocalReranker)


def loaded(model: Local) -> Local:
    try:
        return model.warm_up()
    except ModelNotFoundError as error:
        pytest.skip(f"the weights are not here: {error}")


def test_embedding_similarities_of_the_model_card() -> None:
    embedder = loaded(LocalEmbedder("Qwen/Qwen3-Embedding-0.6B", dtype="float32"))
    queries = embedder.embed_queries(["What is the capital of China?", "Explain gravity"]).vectors
    gravity = (
        "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
        "responsible for the movement of planets around the sun."
    )
    documents = embedder.embed_documents(["The capital of China is Beijing.", gravity]).vectors
    published = [[0.7645568, 0.1414251], [0.1354974, 0.5999550]]
    np.testing.assert_allclose(queries @ documents.T, published, atol=1e-3)


def test_reranker_logits_of_sentence_transformers() -> None:
    reranker = loaded(LocalReranker("Qwen/Qwen3-Reranker-0.6B", dtype="float32"))
    documents = [
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    ]
    result = reranker.rerank("Which planet is known as the Red Planet?", documents)
    np.testing.assert_allclose(result.logits, [-3.1092978, 7.1203899, -0.3787546, 3.5416374], atol=1e-2)
