"""The texts of the two planning calls: what to search for, and whether it was found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qwen3_rag.answering import QUOTED_RULE, Message, inert

DECOMPOSE_RULES: Final = """\
You plan a search in a collection of documents. Break the question into the few simpler questions whose answers, searched \
for one by one, answer it together.
- Each must be understandable by itself: write names instead of "it", "they" and the like.
- At most {most}, and fewer are better. The question itself is searched in any case; if that will do, give none.
- Keep the language of the question. Do not answer it.
Answer with a JSON object: {{"questions": ["...", "..."]}}"""

REFLECT_RULES: Final = """\
You judge whether the passages that a search has found are enough to answer a question fully.
- If they are, "enough" is true and both lists are empty.
- If they are not, "gaps" names what is missing, each in a few words, and "questions" has at most {most} new questions to \
search for it. Each must be understandable by itself, differ from those that were searched already, and keep the language of \
the question.
- {quoted}
Answer with a JSON object: {{"enough": false, "gaps": ["..."], "questions": ["..."]}}"""

_NOTHING: Final = "Nothing was found."


def decompose_messages(question: str, most: int) -> tuple[Message, ...]:
    """Returns the messages of the call that breaks a question down.

    Args:
        question: The question, understandable by itself.
        most: How many sub-questions it may give.
    """
    return ("system", DECOMPOSE_RULES.format(most=most)), ("user", question)


def reflect_messages(question: str, context: str, asked: Iterable[str], most: int) -> tuple[Message, ...]:
    """Returns the messages of the call that judges what was found.

    Args:
        question: The question.
        context: The packed passages, the best first; empty if there are none.
        asked: What was searched already. A model made it up, perhaps after a passage's words, so it is quoted too.
        most: How many new questions it may give.
    """
    searched = "\n".join(f"<question>{inert(one)}</question>" for one in asked)
    rules = REFLECT_RULES.format(most=most, quoted=QUOTED_RULE)
    return (
        ("system", rules),
        ("user", f"{context or _NOTHING}\n\nSearched already:\n{searched}\n\nThe question: {question}"),
    )
