"""What the loopback server's model says as the planner of a deep search, and what it was asked as one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tests.chat_server import ChatServer, Recorded

ASKED = {"You plan a search": "decompose", "You judge whether": "reflect", "You answer questions": "answer"}


def plans(server: ChatServer, *questions: str, **how: Any) -> None:
    """It breaks the next question down into these."""
    server.reply(tool_calls=[("Decomposition", {"questions": questions})], when=_asked("decompose"), **how)


def judges(server: ChatServer, *questions: str, enough: bool = False, gaps: Sequence[str] = (), **how: Any) -> None:
    """It finds that what was found is (not) enough, and asks these."""
    verdict = {"enough": enough, "gaps": gaps, "questions": questions}
    server.reply(tool_calls=[("Reflection", verdict)], when=_asked("reflect"), **how)


def answers(server: ChatServer, text: str, **how: Any) -> None:
    """It answers."""
    server.reply(text, when=_asked("answer"), **how)


def stage(request: Recorded) -> str:
    """Which call of a deep search it was."""
    rules = request.body["messages"][0]["content"]
    return next((name for words, name in ASKED.items() if rules.startswith(words)), "condense")


def stages(server: ChatServer) -> list[str]:
    """All calls."""
    return [stage(request) for request in server.requests]


def prompt(request: Recorded) -> str:
    """What stands in the last message."""
    text: str = request.body["messages"][-1]["content"]
    return text


def given_passages(request: Recorded) -> list[str]:
    """The texts of the passages in a prompt."""
    return re.findall(r"<passage number[^>]*>\n(.*?)\n</passage>", prompt(request), re.DOTALL)


def _asked(name: str) -> Any:
    return lambda request: stage(request) == name
