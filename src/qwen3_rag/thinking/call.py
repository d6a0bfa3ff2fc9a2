"""One call as it was asked for, and what it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking.budget import Grant, ThinkingBudget
from qwen3_rag.thinking.endpoints import Endpoint
from qwen3_rag.thinking.healing import FixName
from qwen3_rag.thinking.history import History
from qwen3_rag.thinking.policy import Decision, Evidence, ThinkingPolicy
from qwen3_rag.thinking.reader import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as it was asked for, without a framework.

    Attributes:
        model: The name that is sent.
        endpoint: Where it is sent.
        facts: What is known of the model.
        policy: What the user asks for.
        budget: The session's budget, which the call shares.
        question: The question, for `auto`.
        evidence: How sure retrieval is, for `auto`.
        stream: Whether the user reads the answer as a stream.
        has_tools: Whether tools are sent.
        tool_choice: Its value on the wire.
        response_format: Its value on the wire.
        user_body: The user's own `extra_body`.
        set_by_user: Names of the sampling parameters that the user has set.
    """

    model: str
    endpoint: Endpoint
    facts: ChatFacts
    policy: ThinkingPolicy = field(default_factory=ThinkingPolicy)
    budget: ThinkingBudget | None = None
    question: str = ""
    evidence: Evidence | None = None
    stream: bool = False
    has_tools: bool = False
    tool_choice: Any = None
    response_format: Any = None
    user_body: Mapping[str, Any] = field(default_factory=dict)
    set_by_user: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one call sends, and how its answer is read.

    Attributes:
        decision: Whether and how much it thinks, and why.
        body: For `extra_body`: our fields and presets under the user's own.
        stream: Send it with `stream`, whether or not the user reads a stream.
        tool_choice: What to send.
        response_format: What to send.
        think_first: The server can't think and keep to a format at once, so `response_format` is held back: the answer is
            to be brought into it by a second call with `thinking=False`.
        history: Which reasoning of earlier answers is sent back, by `outgoing`.
        soft_switch: Text to append to the last user message.
        reader_start: How the reader begins.
        notes: What could not be had as it was asked.
        grant: The call's share of the session budget; a `Turn` settles it.
        healed: The lessons that changed this call.
        known: All lessons that there were when it was planned.
    """

    decision: Decision
    body: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    tool_choice: Any = None
    response_format: Any = None
    think_first: bool = False
    history: History = "tools"
    soft_switch: str | None = None
    reader_start: Start = "answer"
    notes: tuple[str, ...] = ()
    grant: Grant | None = None
    healed: tuple[str, ...] = ()
    known: frozenset[FixName] = frozenset()
