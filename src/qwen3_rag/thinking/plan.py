"""What a call sends, how its answer is read, and what to change when the server refuses it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from qwen3_rag.thinking.bodies import merge, overlay, read_amount, read_switch
from qwen3_rag.thinking.call import Call, Plan
from qwen3_rag.thinking.deciding import (
    heed_body,
    heed_model,
    learned_facts,
    thinking_expected,
    wish,
    within_limits,
    within_session,
)
from qwen3_rag.thinking.dialects import Request
from qwen3_rag.thinking.healing import LEARNED, Fix, FixName, Learned, find_fix
from qwen3_rag.thinking.history import History, resolve_history
from qwen3_rag.thinking.policy import Decision, Source
from qwen3_rag.thinking.reader import Start
from qwen3_rag.thinking.wire import WireError, host_of

__all__ = ["Call", "Plan", "heal", "plan"]

_logger = logging.getLogger("qwen3_rag.thinking")

# Servers with models that only stream while they think, and that end an answer after 300 s with what there is of it.
_STREAM_THINKING: Final = frozenset({"dashscope", "modelscope"})
# Servers that ignore a forced tool_choice altogether.
_FORCE_NOTHING: Final = frozenset({"ollama", "transformers"})
# Servers that refuse a later request without the reasoning of any earlier answer that called a tool, and ignore the rest:
# https://api-docs.deepseek.com/guides/thinking_mode
_WANTS_ALL: Final = frozenset({"deepseek"})
_PRESERVE: Final[Mapping[str, Mapping[str, Any]]] = {
    "dashscope": {"preserve_thinking": True},
    **{name: {"chat_template_kwargs": {"preserve_thinking": True}} for name in ("vllm", "sglang", "llamacpp")},
}


def plan(call: Call, learned: Learned = LEARNED) -> Plan:
    """Decides what a call sends.

    It reserves the call's share of the session budget, and logs each note once per model and server.

    Args:
        call: The call.
        learned: What the servers have taught so far.

    Returns:
        The plan; give it to a `Turn`, which ends the reservation.
    """
    made = _Planner(call, learned.known(call.endpoint.base_url, call.model)).plan()
    for note in made.notes:
        _warn_once(call.model, call.endpoint.base_url, note)
    return made


def heal(call: Call, error: BaseException, learned: Learned = LEARNED, *, tried: Plan | None = None) -> bool:
    """Learns from a refusal what to change.

    Ask only while nothing of the answer has been passed on. Each lesson heals a call once, so planning and sending again
    for as long as this says so comes to an end.

    Args:
        call: The call.
        error: What the SDK raised.
        learned: Where the lesson is remembered.
        tried: The plan that was refused. Without it a lesson that another thread has learnt in the meantime, or this
            very call in an earlier round, counts as tried.

    Returns:
        Whether to plan and send again; what `tried` had reserved is released then.
    """
    wire = WireError.of(error)
    fix = find_fix(wire) if wire is not None else None
    if wire is None or fix is None:
        return False
    new = learned.add(call.endpoint.base_url, call.model, fix)
    if new:
        # Not the server's words: some servers quote the request.
        host, why = host_of(call.endpoint.base_url), wire.status or wire.kind
        _logger.warning("%s on %s refused a call (%s): learnt %r", call.model, host, why, fix.name)
    if fix.name in tried.known if tried is not None else not new:
        return False
    if tried is not None and tried.grant is not None:
        tried.grant.release()
    return True


@lru_cache(maxsize=4096)
def _warn_once(model: str, base_url: str, note: str) -> None:
    _logger.warning("%s on %s: %s", model, host_of(base_url), note)


class _Planner:
    """Makes one plan; its parts leave their notes, and the lessons that they heed, as they go."""

    def __init__(self, call: Call, known: Mapping[FixName, Fix]) -> None:
        self._call = call
        self._known = known
        self._facts = learned_facts(call.facts, known)
        self._dialect = call.endpoint.dialect
        self._notes: list[str] = []
        self._healed: list[FixName] = []

    def plan(self) -> Plan:
        call = self._call
        decision, grant, note = within_session(self._decide(), self._facts, call.budget)
        if note:
            self._notes.append(note)
        decision = self._limit(decision)
        request = self._request(decision)
        history = self._history()
        thinks = thinking_expected(decision, self._facts)
        think_first = self._think_first(thinks)
        extras = merge(self._preset(thinks), _PRESERVE.get(self._dialect.name, {}) if history == "preserve" else {})
        return Plan(
            decision=decision,
            body=overlay(merge(extras, request.body), call.user_body),
            stream=self._stream(thinks),
            tool_choice=self._tool_choice(thinks),
            response_format=None if think_first else call.response_format,
            think_first=think_first,
            history=history,
            soft_switch=request.soft_switch,
            reader_start=self._reader_start(decision, request),
            notes=tuple(dict.fromkeys(self._notes)),
            grant=grant,
            healed=tuple(dict.fromkeys(self._healed)),
            known=frozenset(self._known),
        )

    def _heeds(self, lesson: FixName) -> bool:
        """Whether there is this lesson; ask where it changes the call."""
        if lesson in self._known:
            self._healed.append(lesson)
        return lesson in self._known

    def _decide(self) -> Decision:
        call = self._call
        asked = heed_body(wish(call.policy, call.question, call.evidence), call.user_body)
        decision = heed_model(asked, self._facts, call.model)
        contrary = asked.enabled is not None and decision.enabled != asked.enabled
        if contrary:
            self._notes.append(f"{decision.reason}, so thinking={asked.enabled} could not be had")
        if asked.asks and self._heeds("no_thinking_switch"):
            decision = replace(decision, source="learned")
        if contrary and self._heeds("thinking_on"):
            decision = replace(decision, source="learned")
        return self._free_for_tools(decision)

    def _free_for_tools(self, decision: Decision) -> Decision:
        """Where no tool can be forced while thinking, thinking gives way unless the user has asked for it."""
        wanted = decision.source == "asked" or self._facts.thinking == "always"
        if wanted or not self._forces_in_vain(thinking_expected(decision, self._facts)):
            return decision
        source: Source = "learned" if self._heeds("tool_choice_while_thinking") else "model"
        reason = f"a tool is forced, and {self._dialect.label} can't force one while it thinks"
        self._notes.append(f"{reason}: thinking was switched off; thinking=True keeps it and leaves the choice open")
        return Decision(False, reason=reason, source=source)

    def _forces_in_vain(self, thinks: bool | None) -> bool:
        """Whether thinking is what keeps a forced tool from being forced."""
        blocked = not self._dialect.forced_tool_choice or "tool_choice_while_thinking" in self._known
        always = "tool_choice_auto" in self._known or self._dialect.name in _FORCE_NOTHING
        return _is_forced(self._call) and blocked and not always and thinks is not False

    def _tool_choice(self, thinks: bool | None) -> Any:
        choice, label = self._call.tool_choice, self._dialect.label
        if not _is_forced(self._call):
            return choice
        if self._heeds("tool_choice_auto") or self._dialect.name in _FORCE_NOTHING:
            self._notes.append(f"{label} can't force a tool here: tool_choice {choice!r} was sent as 'auto'")
            return "auto"
        if self._forces_in_vain(thinks):
            self._heeds("tool_choice_while_thinking")
            self._notes.append(
                f"{label} can't force a tool while it thinks: tool_choice {choice!r} was sent as 'auto'; thinking=False "
                "forces it"
            )
            return "auto"
        return choice

    def _limit(self, decision: Decision) -> Decision:
        """Keeps to what the server has said about budgets; `extra_body` is not ours to change."""
        if read_amount(self._call.user_body) is not None:
            if decision.source == "session budget":
                self._notes.append(f"{decision.reason}, but extra_body says otherwise and wins")
            return decision
        limited, note, lesson = within_limits(decision, self._facts, self._known)
        if note and lesson:
            self._heeds(lesson)
            self._notes.append(note)
        return limited

    def _request(self, decision: Decision) -> Request:
        if read_amount(self._call.user_body) is not None:
            decision = replace(decision, effort=None, budget=None)
        request = self._dialect.request(decision, self._facts)
        self._notes.extend(request.notes)
        return request

    def _history(self) -> History:
        asked = resolve_history(self._call.policy.history, self._call.facts)
        if asked == "tools" and self._call.policy.history == "auto" and self._dialect.name in _WANTS_ALL:
            return "preserve"
        if asked == "preserve" or not self._heeds("send_reasoning_back"):
            return asked
        if self._call.policy.history != "auto":
            self._notes.append(f"the server wants all earlier reasoning back, so history={asked!r} could not be had")
        return "preserve"

    def _preset(self, thinks: bool | None) -> dict[str, Any]:
        """Sampling for a server that has no defaults of the model's vendor; what the user has set stays."""
        if not self._dialect.self_hosted or thinks is None:
            return {}
        preset = self._facts.sampling_thinking if thinks else self._facts.sampling_answering
        values = preset.as_body() if preset is not None else {}
        return {name: value for name, value in values.items() if name not in self._call.set_by_user}

    def _stream(self, thinks: bool | None) -> bool:
        only = self._facts.stream_only
        needed = thinks or only == "always" or (thinks is None and only == "thinking")
        return self._call.stream or (self._dialect.name in _STREAM_THINKING and bool(needed)) or self._heeds("stream")

    def _think_first(self, thinks: bool | None) -> bool:
        """Whether thinking and a format exclude each other; DashScope's newer models do both, others ignore the format.

        Source: https://help.aliyun.com/zh/model-studio/qwen-structured-output
        """
        if not _constrains(self._call.response_format) or thinks is False:
            return False
        known = self._dialect.name == "dashscope" and self._facts.family != "unknown"
        first = bool(thinks) and known and not self._facts.json_while_thinking
        if self._heeds("no_json_while_thinking") or first:
            self._notes.append(
                f"{self._call.model} can't think and keep to a response_format at once: it thinks first, and a second call "
                "without thinking brings the answer into the format"
            )
            return True
        return False

    def _reader_start(self, decision: Decision, request: Request) -> Start:
        """Whether the server parses can't be known, so a block that the prompt may have opened is told by its end."""
        if not (self._dialect.inline_reasoning and self._facts.opens_in_prompt):
            return "answer"
        told = request.body or request.soft_switch or read_switch(self._call.user_body) is False
        switched_off = decision.enabled is False and told
        return "answer" if switched_off or self._facts.thinking == "never" else "unknown"


def _is_forced(call: Call) -> bool:
    choice = call.tool_choice
    return call.has_tools and choice not in (None, False, "auto", "none")


def _constrains(response_format: Any) -> bool:
    kind = response_format.get("type") if isinstance(response_format, Mapping) else response_format
    return kind not in (None, "text")
