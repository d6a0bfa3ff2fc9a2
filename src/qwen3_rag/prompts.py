"""The exact texts around a query or a document. Pure functions; sources cited.

Sources: QwenLM/Qwen3-Embedding, `README.md` and `examples/qwen3_{embedding,reranker}_transformers.py`.
"""

from __future__ import annotations

import re

from qwen3_rag.errors import ConfigurationError

DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
"""The official default task: no final period. Instructions work best in English, whatever the texts' language."""

RERANK_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
"""Everything before `<Instruct>:`; 39 tokens in the real vocabulary."""

RERANK_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""Everything after the document; 9 tokens in the real vocabulary."""

RERANK_YES, RERANK_NO = "yes", "no"
"""The two answers whose next-token logits are the score; ids 9693 and 2152 in the real vocabulary."""

END_OF_TEXT = "<|endoftext|>"
"""Appended to every text that is embedded; its hidden state is the vector. Id 151643 in the real vocabulary."""


def check_instruction(instruction: str) -> str:
    """Returns the instruction, or says why it can't be one.

    Raises:
        ConfigurationError: If it is not a string, is blank, or holds half of a surrogate pair.
    """
    if not isinstance(instruction, str) or not instruction.strip() or re.search(r"[\ud800-\udfff]", instruction):
        msg = f"instruction must be a non-empty string such as {DEFAULT_INSTRUCTION!r}, got {instruction!r}"
        raise ConfigurationError(msg)
    return instruction


def query_text(query: str, instruction: str = DEFAULT_INSTRUCTION) -> str:
    """Returns the text that Qwen3-Embedding wants for a query: one newline, no space after `Query:`."""
    return f"Instruct: {check_instruction(instruction)}\nQuery:{query}"


def rerank_instruct(instruction: str = DEFAULT_INSTRUCTION) -> str:
    """Returns the part of the reranker's user turn before the query's text."""
    return f"<Instruct>: {check_instruction(instruction)}\n<Query>: "


RERANK_DOCUMENT = "\n<Document>:"
"""Between query and document. The one space that follows belongs to the document's first token."""


def rerank_body(query: str, document: str, instruction: str = DEFAULT_INSTRUCTION) -> str:
    """Returns the whole user turn of the reranker, as the official code formats a pair."""
    return f"{rerank_instruct(instruction)}{query}{RERANK_DOCUMENT} {document}"
