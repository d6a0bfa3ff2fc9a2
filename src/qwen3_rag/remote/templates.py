"""The exact Qwen3 reranker prompt for servers that score a query and a document as they are, one after the other.

Such a server gets the prompt in two halves, as in vLLM's `examples/online_serving/qwen3_rerank_client.py`, but cut within
`<Document>:`. There too tokenising the halves gives the same tokens as tokenising the whole, and no half begins or ends with
a newline of the prompt's middle, which Infinity would strip. It also strips the two newlines at the prompt's end, which can't
be helped: its scores are near the right ones, not equal.
"""

from __future__ import annotations

import re

from qwen3_rag.prompts import RERANK_DOCUMENT, RERANK_PREFIX, RERANK_SUFFIX, rerank_instruct

_FIRST_HALF, _SECOND_HALF = RERANK_DOCUMENT[:-2], RERANK_DOCUMENT[-2:]
_CONTROL = re.compile(r"<(?=\|[a-z_]+\|>|/?think>|/?tool_(?:call|response)>)")


def framed_query(query: str, instruction: str) -> str:
    """Returns the prompt up to `<Document`."""
    return f"{RERANK_PREFIX}{rerank_instruct(instruction)}{plain(query)}{_FIRST_HALF}"


def framed_document(document: str) -> str:
    """Returns the prompt from `>:` on."""
    return f"{_SECOND_HALF} {plain(document)}{RERANK_SUFFIX}"


def plain(text: str) -> str:
    """Puts a space into whatever a Qwen tokenizer would read as a control token, so that no text can close its own turn.

    A local model needs no such change, since it gets token ids; a server gets one string and parses it.
    """
    return _CONTROL.sub("< ", text)
