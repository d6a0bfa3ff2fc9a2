"""Packs passages into a prompt: best first, within a budget, numbered, and so that they are only text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from qwen3_rag.answering.answer import SourcePassage
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.tokens import TokenCounter

_FIRST_LINE, _LAST_LINE = "<passages>", "</passages>"
_LONGEST_NAME: Final = 200

# What a tokenizer, a chat template or a model may take for more than text. The names in angle brackets are those of this
# prompt, of Qwen's template (https://huggingface.co/Qwen/Qwen3-8B/blob/main/tokenizer_config.json) and of Gemma's, Llama's
# and Mistral's; DeepSeek has full-width bars. `/think` and `/no_think` are Qwen3's switches, which it obeys in any prompt.
# White space is taken whole (`*+`): a passage that is mostly blanks must not take minutes.
_ACTIVE: Final = re.compile(
    r"<(?=[|｜])"
    r"|<(?=\s*+(?:/\s*+)?(?:passages?|question|conversation|think|tools?|tool_call|tool_response|start_of_turn|end_of_turn|"
    r"bos|eos|s)\b)"
    r"|<(?=<?/?\s*SYS>)"
    r"|\[(?=/?INST\])"
    r"|/(?=(?:no_)?think\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Packed:
    """Passages in a prompt.

    Attributes:
        text: What goes into the prompt; empty if there are none.
        passages: All passages in the order given, those in the prompt with their number.
        tokens: How many tokens the text counts.
    """

    text: str
    passages: tuple[SourcePassage, ...]
    tokens: int

    @property
    def omitted(self) -> tuple[SourcePassage, ...]:
        """The passages that did not fit."""
        return tuple(passage for passage in self.passages if passage.number is None)


def inert(text: str) -> str:
    """Writes what could be more than text as an HTML entity: control tokens, delimiters, Qwen3's switches.

    A reader, and a model, sees what it was; a tokenizer finds no control token. All other text stays as it is.
    """
    return _ACTIVE.sub(lambda match: "&lt;" if match[0] == "<" else f"&#{ord(match[0])};", text)


def inert_line(text: str) -> str:
    """Returns a name, such as that of a source, as one short line that is only text."""
    return " ".join(inert(text).split())[:_LONGEST_NAME]


def pack(passages: Iterable[SourcePassage], budget: int, count: TokenCounter) -> Packed:
    """Packs passages until the budget is used up.

    A passage that does not fit is left out as a whole, and those after it that do fit still go in.

    Args:
        passages: The best first.
        budget: Most tokens of the text, its frame included.
        count: Counts the tokens of a text.

    Raises:
        ConfigurationError: If there are passages and not one fits.
    """
    blocks: list[str] = []
    numbered: list[SourcePassage] = []
    tokens = count(f"{_FIRST_LINE}\n") + count(_LAST_LINE)
    smallest = None
    for passage in passages:
        block = _block(passage, len(blocks) + 1)
        size = count(block)
        if tokens + size > budget:
            smallest = min(size, smallest or size)
            numbered.append(replace(passage, number=None))
            continue
        blocks.append(block)
        tokens += size
        numbered.append(replace(passage, number=len(blocks)))
    if blocks:
        return Packed(f"{_FIRST_LINE}\n{''.join(blocks)}{_LAST_LINE}", tuple(numbered), tokens)
    if smallest is not None:
        raise ConfigurationError(
            f"no passage fits into context_tokens={budget}: the smallest needs {tokens + smallest}. Raise context_tokens, or "
            "cut the documents into smaller passages"
        )
    return Packed("", (), 0)


def _block(passage: SourcePassage, number: int) -> str:
    source = inert_line(passage.source or "").replace('"', "&quot;")
    label = f' source="{source}"' if source else ""
    return f'<passage number="{number}"{label}>\n{inert(passage.text.strip())}\n</passage>\n'
