"""Embedding servers with an API of their own, used where their OpenAI-like one would cut long texts in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwen3_rag.remote.api import EmbeddingCall, Rows


@dataclass(frozen=True, slots=True)
class TeiEmbeddings:
    """text-embeddings-inference's `POST /embed`: a bare list of vectors, in the order of the inputs.

    Source: https://huggingface.github.io/text-embeddings-inference (OpenAPI). Its `/v1/embeddings` cuts long inputs where
    the server runs with `--auto-truncate`, the default.
    """

    path: str = "/embed"

    def body(self, call: EmbeddingCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        return {"inputs": list(call.texts), "truncate": False, "normalize": True}

    def rows(self, data: Any) -> Rows:
        """Reads an answer; one that is no list raises `TypeError`."""
        return Rows([(None, row) for row in _list(data)])


@dataclass(frozen=True, slots=True)
class OllamaEmbeddings:
    """Ollama's `POST /api/embed`. Its `/v1/embeddings` cuts long inputs without a word.

    Source: https://docs.ollama.com/api/embed
    """

    path: str = "/api/embed"

    def body(self, call: EmbeddingCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        return {"model": call.model, "input": list(call.texts), "truncate": False}

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        tokens = data.get("prompt_eval_count")
        return Rows([(None, row) for row in _list(data["embeddings"])], tokens if isinstance(tokens, int) else 0)


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError("not a list")
    return data
