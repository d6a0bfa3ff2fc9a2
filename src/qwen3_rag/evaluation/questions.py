"""Questions with known answers: read from a file, and looked up in a collection.

A file has a JSON object on each line: `question`, and what answers it, in one or several of three ways:

- `passages`: ids of passages.
- `sections`: objects with `source`, as in the passages' metadata, and perhaps `heading`: all passages that stand under a
  heading of that name, or all of the source.
- `answer`: strings, or one, such as a sentence: all passages that contain one of them.

`id` names the question in messages and results; without it the line does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwen3_rag.chunking import HEADINGS, SOURCE
from qwen3_rag.errors import InputError
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.texts import check_unicode

_SHOWN: Final = 5  # problems that one message names
_ANSWERS: Final = ("passages", "sections", "answer")
_KEYS: Final = frozenset({"id", "question", *_ANSWERS})


@dataclass(frozen=True, slots=True)
class Section:
    """A place in the sources.

    Attributes:
        source: As in the passages' metadata.
        heading: A heading there; `None` for the whole source.
    """

    source: str
    heading: str | None = None

    def __str__(self) -> str:
        return self.source if self.heading is None else f"{self.source} › {self.heading}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what answers it.

    Attributes:
        id: Its name.
        text: The question.
        passages: Ids of passages that answer it.
        sections: Places whose passages do.
        answer: Texts that such a passage contains.
    """

    id: str
    text: str
    passages: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    answer: tuple[str, ...] = ()


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Reads a file of questions; the module says what is in it. Empty lines count as none.

    Args:
        path: A JSONL file in UTF-8.

    Raises:
        InputError: If the file can't be read or has no question, or lines of it are wrong: they are named by number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")  # not at U+2028, which JSON may have
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read questions from {os.fspath(path)!r}: {error}") from error
    questions: dict[str, Question] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            question = parse_question(line, default_id=f"line {number}")
        except InputError as error:
            wrong.append(f"line {number}: {error}")
            continue
        if question.id in questions:
            wrong.append(f"line {number}: the id {question.id!r} is that of another question")
        questions[question.id] = question
    if wrong:
        raise InputError(f"{os.fspath(path)!r}: {_listed(wrong)}")
    if not questions:
        raise InputError(f"{os.fspath(path)!r} has no question: write a JSON object on each line")
    return list(questions.values())


def parse_question(line: str, *, default_id: str) -> Question:
    """Reads one line.

    Args:
        line: A JSON object.
        default_id: The question's name if it has none of its own.

    Raises:
        InputError: If it is something else, or says not what answers the question.
    """
    try:
        about = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no JSON: {error}") from error
    if not isinstance(about, dict):
        raise InputError(f"expected a JSON object, got {about!r}")
    if unknown := sorted(about.keys() - _KEYS):
        raise InputError(f"unknown key {', '.join(map(repr, unknown))}: known are {', '.join(sorted(_KEYS))}")
    text = about.get("question")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"question is {text!r}, expected a text")
    check_unicode(text, "question")
    id_ = about.get("id", default_id)
    if not isinstance(id_, str) or not id_:
        raise InputError(f"id is {id_!r}, expected a name")
    question = Question(
        id_, text, _texts(about, "passages"), tuple(map(_section, _list(about, "sections"))), _texts(about, "answer")
    )
    if not (question.passages or question.sections or question.answer):
        raise InputError(f"nothing says what answers it: give {', '.join(_ANSWERS[:-1])} or {_ANSWERS[-1]}")
    return question


def find_relevant(questions: Sequence[Question], collection: MilvusCollection) -> list[set[str]]:
    """Looks up in a collection what answers the questions.

    Args:
        questions: The questions.
        collection: Where the answers are. All its passages are read if any question names its answer by text.

    Returns:
        For each question, the ids of the passages that answer it.

    Raises:
        InputError: If something that is to answer a question is not there; the question is named.
    """
    known = collection.existing_ids([id_ for question in questions for id_ in question.passages])
    places = {section: _ids_of(collection, section) for question in questions for section in question.sections}
    texts = {p.id: p.text for p in collection.find({})} if any(question.answer for question in questions) else {}
    found: list[set[str]] = []
    missing: list[str] = []
    for question in questions:
        ids = set(question.passages) & known
        missing += [f"{question.id!r}: no passage {id_!r}" for id_ in question.passages if id_ not in known]
        for section in question.sections:
            ids |= places[section]
            missing += [] if places[section] else [f"{question.id!r}: no passage under {str(section)!r}"]
        for text in question.answer:
            having = {id_ for id_, passage in texts.items() if text in passage}
            ids |= having
            missing += [] if having else [f"{question.id!r}: no passage contains {text!r}"]
        found.append(ids)
    if missing:
        raise InputError(
            f"collection {collection.name!r} lacks what is to answer {_listed(missing)}. Was it filled from other files, or "
            "cut in another way?"
        )
    return found


def _ids_of(collection: MilvusCollection, section: Section) -> set[str]:
    condition: dict[str, Any] = {SOURCE: section.source}
    if section.heading is not None:
        condition[HEADINGS] = {"$contains": section.heading}
    return {passage.id for passage in collection.find(condition)}


def _section(about: Any) -> Section:
    named = (
        isinstance(about, Mapping) and about.keys() <= {"source", "heading"} and isinstance(about.get("source"), str)
    )
    if not named or not isinstance(about.get("heading", ""), str):
        raise InputError(f"sections has {about!r}, expected an object with 'source' and perhaps 'heading'")
    return Section(**about)


def _texts(about: Mapping[str, Any], key: str) -> tuple[str, ...]:
    given = [about[key]] if isinstance(about.get(key), str) else _list(about, key)
    if not all(isinstance(text, str) and text for text in given):
        raise InputError(f"{key} is {about[key]!r}, expected texts")
    return tuple(given)


def _list(about: Mapping[str, Any], key: str) -> list[Any]:
    given = about.get(key, [])
    if not isinstance(given, list):
        raise InputError(f"{key} is {given!r}, expected a list")
    return given


def _listed(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more
