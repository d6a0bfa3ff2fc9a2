"""What the loopback servers compute with: the bundled tiny models, so that a right prompt has a right answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from qwen3_rag import LocalEmbedder, LocalReranker
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, RERANK_PREFIX, RERANK_SUFFIX

_FRAMED = re.compile(
    re.escape(RERANK_PREFIX)
    + r"<Instruct>: (?P<instruction>.*)\n<Query>: (?P<query>.*)\n<Document>: (?P<document>.*)"
    + re.escape(RERANK_SUFFIX),
    re.DOTALL,
)


@cache
def tiny_embedder() -> LocalEmbedder:
    return LocalEmbedder("tiny", dtype="float32", device="cpu")


@cache
def tiny_reranker() -> LocalReranker:
    return LocalReranker("tiny", dtype="float32", device="cpu")


def words(text: str) -> int:
    """The servers' own way to count; given to the client as its tokenizer where limits are tested."""
    return len(text.split())


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Vectors of texts as they are, with the end token that the tokenizer appends."""
    return [[float(x) for x in row] for row in tiny_embedder().embed_documents(texts).vectors]


def widened(vectors: Sequence[Sequence[float]], width: int) -> list[list[float]]:
    """The same directions in another width."""
    out = []
    for vector in vectors:
        row = np.tile(np.asarray(vector), -(-width // len(vector)))[:width]
        out.append([float(x) for x in row / np.linalg.norm(row)])
    return out


def score(query: str, documents: Sequence[str], instruction: str | None = None) -> list[float]:
    """P(yes) from a server that puts the prompt itself."""
    result = tiny_reranker().rerank(query, documents, instruction=instruction or DEFAULT_INSTRUCTION)
    return [float(x) for x in result.scores]


def score_as_is(query: str, documents: Sequence[str]) -> list[float]:
    """P(yes) from a server that scores what it gets: right for the whole prompt, and random for anything else."""
    out = []
    for document in documents:
        match = _FRAMED.fullmatch(query + document)
        out.append(
            score(match["query"], [match["document"]], match["instruction"])[0] if match else _noise(query, document)
        )
    return out


def sparse(text: str) -> list[dict[str, Any]]:
    """Word counts under made-up vocabulary entries."""
    found = sorted(set(re.findall(r"\w+", text.lower())))
    return [{"index": _number(word) % 150_000, "value": 1.0 + len(word) / 10, "token": word} for word in found]


def _noise(query: str, document: str) -> float:
    return _number(query + document) % 10_000 / 10_000


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
