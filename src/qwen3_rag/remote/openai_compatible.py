"""OpenAI's embeddings, as vLLM, SGLang, llama.cpp, Infinity, SiliconFlow and many others serve them.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qwen3_rag.remote.api import EmbeddingCall, IndexedRows, Rows

_READ = IndexedRows("data", "embedding")


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddings:
    """`POST /v1/embeddings`.

    Attributes:
        path: Where on the host.
        sends_width: Whether `dimensions` is sent; servers that can't shorten vectors refuse it.
        more: Further fields of every request.
    """

    path: str = "/v1/embeddings"
    sends_width: bool = False
    more: tuple[tuple[str, Any], ...] = field(default=())

    def body(self, call: EmbeddingCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        body = {"model": call.model, "input": list(call.texts), "encoding_format": "float", **dict(self.more)}
        if self.sends_width and call.width is not None:
            body["dimensions"] = call.width
        return body

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        return _READ(data)
