"""What the constructor of `Qwen3LLM` and its calls take: checked, for Pydantic would leave out what it does not know."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from llama_index.core.bridge.pydantic import ValidationError
from llama_index.llms.openai import OpenAI
from openai.resources.chat import Completions

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.thinking import ThinkingPolicy
from qwen3_rag.thinking.asked import BODY_PARAMETERS

# What the base class takes and this one has no use for, with the values that a serialised instance may hold.
_UNSET: Final = (None,)
_NOT_TAKEN: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "is_chat_model": (None, True),
        "api_version": (None, ""),
        "modalities": _UNSET,
        "audio_config": _UNSET,
        "openai_client": _UNSET,
        "async_openai_client": _UNSET,
    }
)


def read_policy(thinking: Any) -> Any:
    """Checks a spelling of `thinking`; a policy that was serialised is a mapping.

    Raises:
        ConfigurationError: If it is none.
    """
    given = ThinkingPolicy(**thinking) if isinstance(thinking, Mapping) else thinking
    ThinkingPolicy.of(given)
    return given


def call_policy(own: Any, options: Mapping[str, Any]) -> ThinkingPolicy:
    """Returns the policy of a call.

    Args:
        own: The instance's `thinking`.
        options: The call's keywords.
    """
    policy = ThinkingPolicy.of(own)
    return policy.overruled(options["thinking"]) if "thinking" in options else policy


def checked(name: str, value: Any, kind: type) -> Any:
    """Returns an option that must be of a class, or `None`.

    Raises:
        ConfigurationError: If it is neither.
    """
    if value is None or isinstance(value, kind):
        return value
    hint = "; the tokens of one call are thinking=" if name == "budget" else ""
    raise ConfigurationError(f"{name} must be a qwen3_rag.thinking.{kind.__name__}, got {value!r}{hint}")


@contextmanager
def refusals() -> Iterator[None]:
    """Makes what pydantic refuses this package's error."""
    try:
        yield
    except ValidationError as error:
        told = (f"{'.'.join(map(str, one['loc']))}={one['input']!r}: {one['msg']}" for one in error.errors())
        raise ConfigurationError("; ".join(told)) from error


def one_url(base_url: str | None, api_base: str | None) -> str | None:
    """Returns the server's URL, which has two names.

    Raises:
        ConfigurationError: If both are given.
    """
    if base_url is not None and api_base is not None:
        raise ConfigurationError(f"base_url {base_url!r} and api_base {api_base!r} are the same option: give one")
    return base_url if api_base is None else api_base


def sort_options(options: Mapping[str, Any], fields: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tells options of the base class from fields of the request's body, which may stand among them.

    Args:
        options: What the constructor got besides its own parameters.
        fields: The names of the model's fields.

    Returns:
        The options, and the body.

    Raises:
        ConfigurationError: If nobody knows an option, or it has no use here.
    """
    known = {*inspect.signature(OpenAI.__init__).parameters, *fields}
    body = {name: value for name, value in options.items() if name in BODY_PARAMETERS and value is not None}
    rest = {name: value for name, value in options.items() if name not in BODY_PARAMETERS}
    _refuse([name for name in rest if name not in known])
    useless = [f"{name}={rest[name]!r}" for name in rest if name in _NOT_TAKEN and rest[name] not in _NOT_TAKEN[name]]
    if useless:
        raise ConfigurationError(f"{', '.join(useless)} has no meaning for Qwen3LLM")
    return {name: value for name, value in rest.items() if name not in _NOT_TAKEN}, body


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Checks the names in `additional_kwargs`.

    Raises:
        ConfigurationError: If nobody knows one.
    """
    _refuse([name for name in arguments if name not in sdk_parameters() | BODY_PARAMETERS])


def _refuse(unknown: Collection[str]) -> None:
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise ConfigurationError(f"unknown option {names}: what only this server knows belongs into extra_body")


@cache
def sdk_parameters() -> frozenset[str]:
    """Returns the names of the arguments that the SDK's `create` knows."""
    return frozenset(inspect.signature(Completions.create).parameters) - {"self"}
