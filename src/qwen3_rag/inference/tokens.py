"""Prompts as token lists: the user's text is only text, control tokens are added by hand.

A Qwen tokenizer reads `<|im_end|>` or `<think>` inside a document as control tokens. Here the user's text goes through a copy
of the tokenizer that knows no added tokens, so that nothing a document contains can close a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwen3_rag.errors import ModelCheckError
from qwen3_rag.inference.packing import TokenIds
from qwen3_rag.models import QWEN3_VOCABULARY, QWEN3_VOCABULARY_SIZE
from qwen3_rag.prompts import RERANK_PREFIX, RERANK_SUFFIX

_PREFIX_TOKENS, _SUFFIX_TOKENS = 39, 9


class PromptTokenizer:
    """Tokenises user text and control text, each in its own way.

    Args:
        tokenizer: A transformers tokenizer with a `tokenizers` back end.
        name: The model's name, for error messages.

    Raises:
        ModelCheckError: If there is no such back end, or the vocabulary is not what Qwen3's size promises.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelCheckError(
                f"{name!r} has no fast tokenizer (tokenizer.json): Qwen3 models have one, download it again"
            )
        self._text = Tokenizer(backend.model)  # the same vocabulary, without added tokens and post-processor
        self._text.normalizer = backend.normalizer
        self._text.pre_tokenizer = backend.pre_tokenizer
        self._control = tokenizer
        self._name = name
        self._check_vocabulary(len(tokenizer))

    def _check_vocabulary(self, size: int) -> None:
        if size != QWEN3_VOCABULARY_SIZE:
            return
        for token, expected in QWEN3_VOCABULARY.items():
            if (found := self.token_id(token)) != expected:
                raise ModelCheckError(
                    f"{self._name!r} has Qwen3's vocabulary size, but {token!r} is {found} and not {expected}: "
                    "the tokenizer files are not Qwen3's, download them again"
                )

    def token_id(self, token: str) -> int:
        """Returns the id of a token that must be in the vocabulary.

        Raises:
            ModelCheckError: If it is not.
        """
        found = self._control.convert_tokens_to_ids(token)
        if not isinstance(found, int) or self._control.convert_ids_to_tokens(found) != token:
            raise ModelCheckError(f"{self._name!r} has no token {token!r}, so it is not a Qwen3 tokenizer")
        return found

    def control(self, text: str) -> TokenIds:
        """Tokenises a text of our own in which control tokens count as such."""
        return tuple(self._control.encode(text, add_special_tokens=False))

    def text(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenises user texts, in one batch; whatever they contain is text."""
        return [e.ids for e in self._text.encode_batch_fast(list(texts), add_special_tokens=False)]

    def cut(self, text: str, tokens: int) -> str:
        """Returns the beginning of a text that has at most so many tokens by itself."""
        offsets = self._text.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= tokens else text[: offsets[tokens][0]]

    def frame(self) -> tuple[TokenIds, TokenIds]:
        """Returns the reranker's prefix and suffix.

        Raises:
            ModelCheckError: If they don't tokenise as documented: 39 and 9 tokens in the real vocabulary, and in any
                vocabulary with every control token in one piece.
        """
        prefix, suffix = self.control(RERANK_PREFIX), self.control(RERANK_SUFFIX)
        for token in ("<|im_start|>", "<|im_end|>", "<think>", "</think>"):
            if self.token_id(token) not in prefix + suffix:
                raise ModelCheckError(f"{self._name!r} splits {token!r}, so it is not a Qwen3 reranker's tokenizer")
        lengths = (len(prefix), len(suffix))
        if len(self._control) == QWEN3_VOCABULARY_SIZE and lengths != (_PREFIX_TOKENS, _SUFFIX_TOKENS):
            raise ModelCheckError(
                f"{self._name!r} gives a prefix and suffix of {lengths} tokens, not ({_PREFIX_TOKENS}, {_SUFFIX_TOKENS})"
            )
        return prefix, suffix
