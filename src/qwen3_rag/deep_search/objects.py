"""What the planner answers with, and how it is read from whatever a model made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from qwen3_rag.texts import whole

Object = TypeVar("Object", bound=BaseModel)

MAX_CHARACTERS = 20_000
"""Longest answer of a planner that is read; one that is longer has lost its way."""

# A model that is asked for a list and has one thing to say often gives that alone, or null where it has none. JSON may
# have half of a surrogate pair, such as that of a broken emoji, which nobody can search for.
Texts: TypeAlias = Annotated[
    list[Annotated[str, AfterValidator(whole)]],
    BeforeValidator(lambda given: [] if given is None else [given] if isinstance(given, str) else given),
]


class Decomposition(BaseModel):
    """The simpler questions that answer a question together."""

    questions: Texts = Field(description="The questions, each understandable by itself; empty for a simple question.")


class Reflection(BaseModel):
    """Whether what was found is enough, and what else to search for."""

    enough: bool = Field(description="Whether the passages answer the question fully.")
    gaps: Texts = Field(description="What is missing, each in a few words; empty if nothing is.")
    questions: Texts = Field(description="New questions to search for what is missing; empty if nothing is.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        return {"gaps": [], "questions": [], **given} if isinstance(given, dict) else given


def read_object(kind: type[Object], said: str) -> Object | None:
    """Reads an object from a tool call's arguments or from text, where it may stand in prose or in a Markdown fence.

    Args:
        kind: What it must be.
        said: What the model said.

    Returns:
        The last such object in the text; `None` if there is none, or the text is longer than `MAX_CHARACTERS`.
    """
    if len(said) > MAX_CHARACTERS:
        return None
    found = None
    for value in _objects(said):
        try:
            found = kind.model_validate(value)
        except ValidationError:
            continue
    return found


def _objects(text: str) -> Iterator[Any]:
    decoder, end = json.JSONDecoder(), 0
    for match in re.finditer(r"\{", text):
        if match.start() < end:
            continue  # inside the one before
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield value
