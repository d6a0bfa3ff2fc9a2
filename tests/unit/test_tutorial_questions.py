"""The 45 measuring questions: well formed here, resolvable where the corpus they ask about is at hand.

How hard they are, over the 72 chunks of the Milvus 2.4 FAQ: BM25 (rank_bm25's BM25Okapi over lower-cased `\\w+`) has
recall@3 0.644 and MRR@10 0.549, all-MiniLM-L6-v2 0.978 and 0.848. They are frozen: no model was tuned on them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

QUESTIONS = Path(__file__).parents[1] / "data" / "tutorial_questions.jsonl"
CORPUS_VARIABLE = "QWEN3_RAG_TUTORIAL_CORPUS"


def load_questions() -> list[dict]:
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


def load_chunks(folder: Path) -> list[str]:
    """Cuts the Markdown files the way the Milvus tutorial does."""
    files = sorted(folder.glob("*.md"), key=lambda path: path.name)
    return [chunk for path in files for chunk in path.read_text(encoding="utf-8").split("# ")]


def test_questions_are_well_formed():
    questions = load_questions()
    assert len(questions) == 45
    for name in ("id", "question"):
        assert len({q[name] for q in questions}) == 45
    for question in questions:
        assert set(question) == {"id", "question", "answer"}
        assert re.fullmatch(r"[a-z0-9-]+", question["id"])
        assert question["question"].strip()
        assert question["answer"]
        # Identifying strings only: the corpus itself is not part of this repository.
        assert all(0 < len(text) <= 120 for text in question["answer"])


def test_no_question_quotes_its_answer():
    for question in load_questions():
        for text in question["answer"]:
            assert text.lower() not in question["question"].lower()
            assert question["question"].lower() not in text.lower()


@pytest.mark.skipif(CORPUS_VARIABLE not in os.environ, reason=f"{CORPUS_VARIABLE} names no folder")
def test_every_question_has_one_or_two_right_chunks():
    chunks = load_chunks(Path(os.environ[CORPUS_VARIABLE]))
    assert len(chunks) == 72
    for question in load_questions():
        right = {i for i, chunk in enumerate(chunks) if any(text in chunk for text in question["answer"])}
        assert 1 <= len(right) <= 2, question["id"]
        for text in question["answer"]:
            assert sum(text in chunk for chunk in chunks) == 1, (question["id"], text)
