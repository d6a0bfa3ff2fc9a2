"""One call as arguments of the `openai` package: sorted into what is planned and what is not, and put together again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeAlias

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import chat_facts
from qwen3_rag.texts import whole
from qwen3_rag.thinking.bodies import check_json, merge, without_thinking
from qwen3_rag.thinking.budget import ThinkingBudget
from qwen3_rag.thinking.call import Call, Plan
from qwen3_rag.thinking.endpoints import Endpoint
from qwen3_rag.thinking.formatting import JSON_OBJECT, formatting_messages
from qwen3_rag.thinking.history import Reasoning, outgoing
from qwen3_rag.thinking.policy import Evidence, ThinkingPolicy

Json: TypeAlias = dict[str, Any]

BODY_PARAMETERS: Final = frozenset(
    {
        "chat_template_kwargs",
        "clear_thinking",
        "enable_code_interpreter",
        "enable_search",
        "enable_thinking",
        "min_p",
        "preserve_thinking",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "search_options",
        "thinking_budget",
        "tool_stream",
        "top_k",
        "vl_high_resolution_images",
    }
)
"""Fields of the request that belong into its body and may be given like those that the `openai` package knows.

It does know `reasoning_effort`, but that is a spelling of thinking and has to be weighed against the others.
"""
_NOT_SENT_AS_JSON: Final = frozenset({"timeout", "extra_headers", "extra_query"})
_SAMPLING: Final = frozenset({"temperature", "top_p", "top_k", "min_p", "presence_penalty"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it was asked for.

    Attributes:
        call: What the plan decides on.
        payload: The SDK's arguments without that.
        reasoning: Of each message, for the assistant's ones.
        include_usage: Whether a stream shall end with the token counts; the payload's own `stream_options` win.
        formats: Whether this is the second call, that brings the answer of the first into its format.
    """

    call: Call
    payload: Json
    reasoning: tuple[Reasoning, ...]
    include_usage: bool = True
    formats: bool = False

    def request(self, plan: Plan) -> Json:
        """Returns the arguments of the SDK's `create`.

        Raises:
            ConfigurationError: If several answers were asked for and have to be streamed.
            InputError: If something in it can't be written as JSON; the message says where.
        """
        dialect = self.call.endpoint.dialect
        messages = outgoing(self.payload["messages"], self.reasoning, mode=plan.history, dialect=dialect)
        request = {**self.payload, "messages": _switched(messages, plan.soft_switch), "stream": plan.stream}
        planned = {
            "tool_choice": plan.tool_choice,
            "response_format": plan.response_format,
            "extra_body": plan.body or None,
        }
        request |= {name: value for name, value in planned.items() if value is not None}
        if not plan.stream:
            request.pop("stream_options", None)  # refused without a stream
        elif self.include_usage:
            request["stream_options"] = {"include_usage": True, **(request.get("stream_options") or {})}
        if plan.stream and (request.get("n") or 1) > 1:
            raise ConfigurationError(
                f"n={request['n']} answers can't be streamed, and this call has to be: leave n out"
            )
        for name, value in request.items():
            if name not in _NOT_SENT_AS_JSON:
                check_json(value, name)
        return request

    def formatting(self, answer: str) -> Self:
        """Returns the second call, which does not think and brings the answer of the first into its format."""
        form = self.call.response_format
        messages = formatting_messages(self.call.question, whole(answer), form)
        call = replace(
            self.call,
            policy=ThinkingPolicy(enabled=False),
            has_tools=False,
            tool_choice=None,
            response_format=form if self.call.facts.json_schema else dict(JSON_OBJECT),  # the prompt has the schema too
            user_body=without_thinking(self.call.user_body),
        )
        payload = {name: value for name, value in self.payload.items() if name not in ("tools", "parallel_tool_calls")}
        reasoning = (None,) * len(messages)
        return replace(self, call=call, payload=payload | {"messages": messages}, reasoning=reasoning, formats=True)


def ask(
    payload: Mapping[str, Any],
    *,
    reasoning: Sequence[Reasoning],
    question: str,
    parameters: Collection[str],
    endpoint: Endpoint,
    policy: ThinkingPolicy,
    budget: ThinkingBudget | None = None,
    evidence: Evidence | None = None,
    extra_body: Mapping[str, Any] | None = None,
    stream: bool = False,
    include_usage: bool = True,
) -> Asked:
    """Sorts the arguments of a call.

    Args:
        payload: Arguments of the SDK's `create`, with `model` and `messages`; not changed. `BODY_PARAMETERS` may stand
            among them.
        reasoning: One entry per message.
        question: The question, for `auto`.
        parameters: The names of the arguments that the SDK's `create` knows.
        endpoint: Where it is sent.
        policy: What the user asks for.
        budget: The session's budget.
        evidence: How sure retrieval is.
        extra_body: The call's own `extra_body`, which is merged deeply over the payload's.
        stream: Whether the user reads a stream.
        include_usage: Whether a stream shall end with the token counts.

    Raises:
        ConfigurationError: If the payload has a parameter that nobody knows, no model, or `extra_body` is no mapping.
    """
    rest = dict(payload)
    if not isinstance(rest.get("model"), str):
        raise ConfigurationError(f"model must be the name of a model, got {rest.get('model')!r}")
    if not isinstance(extra_body or {}, Mapping):
        raise ConfigurationError(f"extra_body must be a dict of fields of the request, got {extra_body!r:.80}")
    body = {**(rest.pop("extra_body", None) or {}), **_take_body(rest, parameters)}
    form, choice = rest.pop("response_format", None), rest.pop("tool_choice", None)
    rest.pop("stream", None)
    call = Call(
        model=rest["model"],
        endpoint=endpoint,
        facts=chat_facts(rest["model"]),
        policy=policy,
        budget=budget,
        question=question,
        evidence=evidence,
        stream=stream,
        has_tools=bool(rest.get("tools")),
        tool_choice=choice,
        response_format=form,
        user_body=merge(body, extra_body or {}),
        set_by_user=_SAMPLING & rest.keys(),
    )
    return Asked(call, rest, tuple(reasoning), include_usage)


def _take_body(payload: Json, parameters: Collection[str]) -> Json:
    """Takes out what belongs into the body, and refuses what the SDK would refuse with a `TypeError`."""
    body = {name: payload.pop(name) for name in [*payload] if name in BODY_PARAMETERS}
    if unknown := payload.keys() - set(parameters):
        names = ", ".join(sorted(map(repr, unknown)))
        raise ConfigurationError(
            f"unknown parameter {names}: what only this server knows belongs into extra_body={{…}}"
        )
    return body


def _switched(messages: list[Json], switch: str | None) -> list[Json]:
    """Appends `/think` or `/no_think` to the last message of the user."""
    place = next((i for i in reversed(range(len(messages))) if messages[i]["role"] == "user"), None)
    if switch is None or place is None:
        return messages
    content = messages[place]["content"]
    said = f"{content} {switch}" if isinstance(content, str) else [*content, {"type": "text", "text": switch}]
    return [*messages[:place], {**messages[place], "content": said}, *messages[place + 1 :]]
