"""How each kind of server spells a wish to think: plain functions from the wish and the model's facts to JSON.

Sources: DashScope https://help.aliyun.com/zh/model-studio/qwen-api-via-openai-chat-completions ·
vLLM https://docs.vllm.ai/en/v0.26.0/features/reasoning_outputs/ ·
SGLang https://docs.sglang.io/docs/advanced_features/thinking_budget ·
llama.cpp https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md ·
Ollama https://docs.ollama.com/api/openai-compatibility ·
OpenRouter https://openrouter.ai/docs/guides/best-practices/reasoning-tokens ·
DeepSeek https://api-docs.deepseek.com/guides/thinking_mode ·
transformers https://github.com/huggingface/transformers/blob/main/src/transformers/cli/serve.py ·
LM Studio https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/1990 ·
TGI https://github.com/huggingface/text-generation-inference/issues/3259
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking.policy import EFFORT_BUDGETS, Effort, nearest_effort

SoftSwitch: TypeAlias = Literal["/think", "/no_think"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a decision becomes on the wire.

    Attributes:
        body: Fields of the request's JSON, on its upper level; what goes to `extra_body` of the `openai` package.
        soft_switch: Text that is appended to the last user message, where the server has no other switch.
        notes: What this server or model can't do of what was asked, as sentences.
    """

    body: dict[str, Any] = field(default_factory=dict)
    soft_switch: SoftSwitch | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """A decision after it was fitted to the model.

    Attributes:
        switch: Whether to switch thinking on or off; `None`: leave the switch alone.
        effort: How hard.
        budget: Reasoning tokens at most, within the model's range. Never together with `effort`.
    """

    switch: bool | None
    effort: Effort | None = None
    budget: int | None = None


Spelling: TypeAlias = Callable[[Wish, ChatFacts], Request]

_LADDER: Final = ("minimal", "low", "medium", "high", "xhigh", "max")
_DEEPSEEK_EFFORTS: Final = ("low", "high", "max")


def dashscope(wish: Wish, facts: ChatFacts) -> Request:
    """`enable_thinking` with either `reasoning_effort` or `thinking_budget`: together they are a 400 on Qwen3.8."""
    body: dict[str, Any] = {}
    if wish.switch is not None and facts.family == "minimax-m3":
        body["thinking"] = _typed(wish.switch)
    elif wish.switch is not None:
        body["enable_thinking"] = wish.switch
    if _has_effort(wish.effort, facts.efforts):
        return Request(body | {"reasoning_effort": _nearest(wish.effort, facts.efforts)})
    if facts.takes_budget:
        return Request(body | _numbered("thinking_budget", wish, facts))
    if (wish.effort or wish.budget) and facts.efforts:
        effort, notes = _effort(wish, facts.efforts, f"{facts.family} on DashScope")
        return Request(body | {"reasoning_effort": effort}, notes=notes)
    return Request(body, notes=_no_depth(wish, f"{facts.family} on DashScope"))


def switch_and_budget(wish: Wish, facts: ChatFacts) -> Request:
    """ModelScope and SiliconFlow: DashScope's `enable_thinking` and `thinking_budget`, no efforts."""
    body = {} if wish.switch is None else {"enable_thinking": wish.switch}
    return Request(body | _numbered("thinking_budget", wish, facts))


def vllm(wish: Wish, facts: ChatFacts) -> Request:
    """A variable of the chat template, and `thinking_token_budget`."""
    number = _template_number("thinking_token_budget", wish, facts)
    note = "vLLM enforces thinking_token_budget only if it was started with --reasoning-parser and a reasoning config"
    return Request(_template(wish, facts) | number, notes=(note,) if number else ())


def sglang(wish: Wish, facts: ChatFacts) -> Request:
    """A variable of the chat template, and `custom_params`, which the server may or may not enforce."""
    number = _template_number("thinking_budget", wish, facts)
    note = "SGLang enforces a thinking budget only if it was started with --enable-strict-thinking"
    custom: dict[str, Any] = {"custom_params": number} if number else {}
    return Request(_template(wish, facts) | custom, notes=(note,) if number else ())


def llamacpp(wish: Wish, facts: ChatFacts) -> Request:
    """A variable of the chat template, and `thinking_budget_tokens`."""
    return Request(_template(wish, facts) | _template_number("thinking_budget_tokens", wish, facts))


def transformers(wish: Wish, facts: ChatFacts) -> Request:
    """A variable of the chat template and nothing else: `transformers serve` refuses fields that it does not know."""
    body = _template(wish, facts)
    return Request(body, notes=() if _has_effort(wish.effort, facts.efforts) else _no_depth(wish, "transformers serve"))


def ollama(wish: Wish, facts: ChatFacts) -> Request:  # noqa: ARG001 - one signature for all spellings
    """`reasoning_effort` for everything; `enable_thinking` and `think` are ignored on this face of Ollama."""
    if wish.switch is False:
        return Request({"reasoning_effort": "none"})
    if wish.effort is None and wish.budget is None:
        return Request({"reasoning_effort": "medium"} if wish.switch else {})
    effort, notes = _effort(wish, tuple(EFFORT_BUDGETS), "Ollama")
    return Request({"reasoning_effort": effort}, notes=notes)


def openrouter(wish: Wish, facts: ChatFacts) -> Request:  # noqa: ARG001
    """One object, `reasoning`, that takes an effort or a number, not both; either one switches thinking on."""
    if wish.effort is not None:
        return Request({"reasoning": {"effort": wish.effort}})
    if wish.budget is not None:
        return Request({"reasoning": {"max_tokens": wish.budget}})
    return Request({} if wish.switch is None else {"reasoning": {"enabled": wish.switch}})


def deepseek(wish: Wish, facts: ChatFacts) -> Request:  # noqa: ARG001
    """`thinking: {type}` and `reasoning_effort`."""
    body: dict[str, Any] = {} if wish.switch is None else {"thinking": _typed(wish.switch)}
    if wish.effort is None and wish.budget is None:
        return Request(body)
    effort, notes = _effort(wish, _DEEPSEEK_EFFORTS, "DeepSeek")
    return Request(body | {"reasoning_effort": effort}, notes=notes)


def soft_switch(label: str, wish: Wish, facts: ChatFacts) -> Request:
    """LM Studio and TGI: no field at all, only the words that the Qwen3 hybrids of April 2025 understand."""
    notes = _no_depth(wish, label)
    if wish.switch is None:
        return Request(notes=notes)
    if not facts.soft_switch:
        asked = "on" if wish.switch else "off"
        note = f"{label} can't switch thinking {asked} by request, and the model knows no /think and /no_think"
        return Request(notes=(note, *notes))
    return Request(soft_switch="/think" if wish.switch else "/no_think", notes=notes)


def nothing(wish: Wish, facts: ChatFacts) -> Request:  # noqa: ARG001
    """A server of which nothing is known is sent nothing."""
    note = (
        "this server is not known to have a switch for thinking, so nothing was sent; if it is one of the known kinds, "
        "name it with dialect="
    )
    return Request(notes=(note,))


def _template(wish: Wish, facts: ChatFacts) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    if wish.switch is not None:
        variables[facts.template_switch] = wish.switch
    if _has_effort(wish.effort, facts.efforts):
        variables["reasoning_effort"] = _nearest(wish.effort, facts.efforts)
    return {"chat_template_kwargs": variables} if variables else {}


def _template_number(name: str, wish: Wish, facts: ChatFacts) -> dict[str, int]:
    """An effort is a number here, unless the model's own template has a word for it."""
    return {} if _has_effort(wish.effort, facts.efforts) else _numbered(name, wish, facts)


def _numbered(name: str, wish: Wish, facts: ChatFacts) -> dict[str, int]:
    """Spells budget or effort as a number of tokens.

    `"high"` is the model's own maximum, and what every server does unasked: no number is sent, so none can be out of the
    range of a model that is not known.
    """
    if wish.budget is not None:
        return {name: wish.budget}
    if wish.effort is None or wish.effort == "high":
        return {}
    tokens = EFFORT_BUDGETS[wish.effort]
    return {name: min(tokens, facts.max_thinking_tokens or tokens)}


def _typed(switch: bool) -> dict[str, str]:
    return {"type": "enabled" if switch else "disabled"}


def _has_effort(effort: Effort | None, names: Sequence[str]) -> bool:
    """Whether a model has a word for the effort; `xhigh` is documented to be what others call `high`."""
    return effort in names or (effort == "high" and "xhigh" in names)


def _nearest(effort: Effort | None, names: Sequence[str]) -> str:
    """Returns the nearest of the names, of two as near the higher one."""
    place = _LADDER.index(effort or "medium")
    return min(names, key=lambda name: (abs(_LADDER.index(name) - place), -_LADDER.index(name)))


def _effort(wish: Wish, names: Sequence[str], label: str) -> tuple[str, tuple[str, ...]]:
    """Spells effort or budget as one of the efforts that there are, with a note where that is not what was asked."""
    effort = wish.effort or nearest_effort(wish.budget or 1)
    name = _nearest(effort, names)
    if wish.budget is not None:
        return name, (f"{label} takes efforts, no numbers: a budget of {wish.budget} tokens was sent as {name!r}",)
    if _has_effort(effort, names):
        return name, ()
    return name, (f"{label} has no effort {effort!r}, only {', '.join(names)}: {name!r} was sent",)


def _no_depth(wish: Wish, label: str) -> tuple[str, ...]:
    if wish.effort is None and wish.budget is None:
        return ()
    asked = f"the effort {wish.effort!r}" if wish.effort else f"the budget of {wish.budget} tokens"
    return (f"{label} can't limit reasoning, so {asked} was not sent",)
