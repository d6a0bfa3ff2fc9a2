"""What a call of `ChatQwen3` can be told about thinking, and where it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from langchain_core.language_models import ModelProfile
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking import EFFORT_BUDGETS, Dialect, Evidence, ThinkingBudget, ThinkingPolicy

CALL_OPTIONS: Final[tuple[str, ...]] = ("thinking", "budget", "evidence")
"""Keywords of a call that are ours and never reach the server."""

_KINDS: Final[Mapping[str, type]] = {"budget": ThinkingBudget, "evidence": Evidence}


def configured(config: RunnableConfig | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Adds what `config["configurable"]` says about thinking to the keywords of a call, which win.

    `thinking` is always ours. `budget` and `evidence` are common words, so other things under these keys belong to somebody
    else in the chain and are left alone.
    """
    said = ensure_config(config).get("configurable", {})
    given: dict[str, Any] = {name: said[name] for name in CALL_OPTIONS if name in said}
    ours = {name: value for name, value in given.items() if isinstance(value, _KINDS.get(name, object))}
    return {**ours, **options}


def call_policy(own: Any, options: Mapping[str, Any]) -> ThinkingPolicy:
    """Returns the policy of a call; a plain value of the call leaves the instance's history mode as it is."""
    policy = ThinkingPolicy.of(own)
    if "thinking" not in options:
        return policy
    value = options["thinking"]
    asked = ThinkingPolicy.of(value)
    return asked if isinstance(value, ThinkingPolicy) else replace(asked, history=policy.history)


def call_option(name: str, own: Any, options: Mapping[str, Any]) -> Any:
    """Returns `budget` or `evidence` of a call.

    Raises:
        ConfigurationError: If it is something else.
    """
    value = options.get(name, own)
    if value is not None and not isinstance(value, _KINDS[name]):
        raise ConfigurationError(f"{name} must be a {_KINDS[name].__name__}, got {value!r}")
    return value


def shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters for a trace, without objects that live on."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value if name not in CALL_OPTIONS or isinstance(value, plain) else repr(value)
        for name, value in params.items()
    }


def model_profile(model: str, facts: ChatFacts, dialect: Dialect) -> ModelProfile:
    """Returns what LangChain wants to know of a model; what is not known is left out."""
    profile = ModelProfile(
        name=model,
        text_inputs=True,
        text_outputs=True,
        tool_calling=True,
        tool_call_streaming=True,
        tool_choice=dialect.forced_tool_choice,
        structured_output=facts.json_schema,
        image_tool_message=False,
        temperature=True,
    )
    if facts.context_tokens is not None:
        profile["max_input_tokens"] = facts.context_tokens
    if facts.max_output_tokens is not None:
        profile["max_output_tokens"] = facts.max_output_tokens
    if facts.family != "unknown":
        profile["image_inputs"] = profile["image_url_inputs"] = facts.images
    if facts.thinking != "unknown":
        profile["reasoning_output"] = facts.thinking != "never"
    if facts.thinking in ("hybrid", "always"):
        profile["reasoning_effort_levels"] = list(EFFORT_BUDGETS)
    return profile
