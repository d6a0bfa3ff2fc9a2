"""The bundled reranker against the tutorials' questions: it must help BM25 and must not harm the bundled embedder."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
rank_bm25 = pytest.importorskip("rank_bm25")

QUESTIONS = Path(__file__).parents[1] / "data" / "tutorial_questions.jsonl"
VARIABLE = "QWEN3_RAG_TUTORIAL_CORPUS"
TOP = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} names no folder with the tutorials' FAQ"),
]


def load():
    files = sorted(Path(os.environ[VARIABLE]).glob("*.md"))
    chunks = [chunk for file in files for chunk in file.read_text(encoding="utf-8").split("# ")]
    questions, truth = [], []
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        right = {i for i, chunk in enumerate(chunks) if any(text in chunk for text in row["answer"])}
        assert right, f"no chunk answers {row['id']}"
        questions.append(row["question"])
        truth.append(right)
    return chunks, questions, truth


def figures(orders, truth):
    ranks = np.array(
        [next((r for r, i in enumerate(o[:TOP], 1) if i in t), 10**6) for o, t in zip(orders, truth, strict=True)]
    )
    mrr = float(np.where(ranks <= TOP, 1 / ranks, 0).mean())
    return {"mrr@10": mrr, "recall@1": float((ranks <= 1).mean()), "recall@3": float((ranks <= 3).mean())}


def words(text):
    return re.findall(r"\w+", text.lower())


@pytest.fixture(scope="module")
def results():
    from qwen3_rag.inference import LocalEmbedder, LocalReranker

    chunks, questions, truth = load()
    index = rank_bm25.BM25Okapi([words(c) for c in chunks])
    lexical = np.array([index.get_scores(words(q)) for q in questions])
    embedder = LocalEmbedder("tiny")
    dense = embedder.embed_queries(questions).vectors @ embedder.embed_documents(chunks).vectors.T
    reranker = LocalReranker("tiny")
    out = {}
    for name, scores in (("BM25", lexical), ("tiny embedder", dense)):
        orders = [np.argsort(-row, kind="stable")[:TOP] for row in scores]
        out[name] = figures(orders, truth)
        again = []
        for question, order in zip(questions, orders, strict=True):
            result = reranker.rerank(question, [chunks[i] for i in order])
            again.append(order[np.argsort(-result.scores, kind="stable")])
        out[f"{name} + rerank"] = figures(again, truth)
    for name, row in out.items():
        print(f"{name:24}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    return out


def test_reranking_bm25_raises_mrr(results):
    assert results["BM25 + rerank"]["mrr@10"] >= results["BM25"]["mrr@10"] + 0.05


def test_reranking_the_tiny_embedder_does_not_lower_mrr(results):
    assert results["tiny embedder + rerank"]["mrr@10"] >= results["tiny embedder"]["mrr@10"] - 0.03


def test_scores_are_probabilities_that_make_sense():
    from qwen3_rag.inference import LocalReranker

    scores = (
        LocalReranker("tiny")
        .rerank(
            "How do I delete old log files?",
            [
                "Removing log files\n\nOld log files can be deleted with the command `logs delete --older-than 7d`.",
                "Bread needs flour, water, salt and yeast, and a hot oven.",
            ],
        )
        .scores
    )
    assert scores[0] > 0.5
    assert scores[1] < 0.2
