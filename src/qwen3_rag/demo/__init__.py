"""A small corpus of the project's own writing, on Milvus, retrieval and Qwen3, in English and Chinese."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
"""Folder of the Markdown files."""

QUESTIONS = (
    "Do I need Docker, or is a file on my disk enough?",
    "Why look at the candidates a second time with a slower model?",
    "怎样知道检索得好不好？",
)
"""Three questions that use other words than their answers."""
