"""A small corpus of the project's own writing, on Milvus, retrieval and Qwen3, in English and Chinese."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
"""Folder of the Markdown files."""

QUESTIONS = (
    "What happens if two programs open the same file?",
    "Can I turn off thinking?",
    "怎样把长文档切分成段落？",
)
"""Three questions that use other words than their answers; chosen because reranking visibly helps them."""

EVALUATION = Path(__file__).parent / "questions.jsonl"
"""Fifty-one questions with the headings that answer them, for `qwen3-rag evaluate`; no model was tuned on them."""
