"""The kinds of servers: how each spells thinking, where it puts the reasoning, and how to tell it by its URL."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import ChatFacts
from qwen3_rag.models.hosts import DASHSCOPE_KEY_ENV, is_dashscope_host
from qwen3_rag.thinking import spellings
from qwen3_rag.thinking.policy import Decision
from qwen3_rag.thinking.spellings import Request, SoftSwitch, Spelling, Wish

__all__ = ["DIALECTS", "Dialect", "ReasoningField", "Request", "SoftSwitch", "find_dialect", "match_host", "match_port"]

ReasoningField: TypeAlias = Literal["reasoning_content", "reasoning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of server speaks.

    Attributes:
        name: The name that users give.
        label: The name that users read.
        base_url: Where such a server is found if nothing else is said.
        self_hosted: The server has no sampling defaults of the model's vendor, so presets are sent.
        reasoning_field: Field of an assistant message in which the server wants earlier reasoning back.
        key_env: Environment variables that may hold its key, the first one first.
        needs_key: It answers nobody without a key.
        forced_tool_choice: Takes a `tool_choice` that forces a tool while thinking; where only some models do, it is tried.
        inline_reasoning: Reasoning may come as raw tags in the content, depending on how the server was started.
        budget_range: Smallest and largest reasoning budget that the server accepts.
    """

    name: str
    label: str
    spell: Spelling = field(repr=False)
    base_url: str | None = None
    self_hosted: bool = False
    reasoning_field: ReasoningField = "reasoning_content"
    key_env: tuple[str, ...] = ()
    needs_key: bool = False
    forced_tool_choice: bool = True
    inline_reasoning: bool = False
    budget_range: tuple[int, int | None] = (1, None)

    def request(self, decision: Decision, facts: ChatFacts) -> Request:
        """Translates a decision for a model on this server.

        Args:
            decision: What the call is to do.
            facts: What is known of the model.

        Returns:
            The fields to send, with a note for each thing that was asked and can't be had.
        """
        if not decision.asks:
            return Request()
        if facts.thinking == "never":
            note = f"{facts.family} never thinks: the wish for thinking was not sent"
            return Request(notes=() if decision.enabled is False else (note,))
        always = facts.thinking == "always"
        if always and decision.enabled is False:
            return Request(notes=(f"{facts.family} always thinks: it can't be told not to",))
        wish, notes = self._fit(Wish(None if always else decision.enabled, decision.effort, decision.budget), facts)
        if wish == Wish(None):  # told to think, and it does
            return Request()
        request = self.spell(wish, facts)
        return Request(request.body, request.soft_switch, (*notes, *request.notes))

    def _fit(self, wish: Wish, facts: ChatFacts) -> tuple[Wish, tuple[str, ...]]:
        """Brings the budget into the range of model and server."""
        if wish.budget is None:
            return wish, ()
        least, most = self.budget_range
        limits = [limit for limit in (facts.max_thinking_tokens, most) if limit is not None]
        budget = max(least, min([wish.budget, *limits]))
        if budget == wish.budget:
            return wish, ()
        end = "above" if budget < wish.budget else "below"
        note = f"a budget of {wish.budget} tokens is {end} the range of the model on {self.label}: {budget} was sent"
        return Wish(wish.switch, budget=budget), (note,)


_ALL: Final = (
    Dialect(
        name="dashscope",
        label="DashScope",
        spell=spellings.dashscope,
        key_env=(DASHSCOPE_KEY_ENV,),
        needs_key=True,
    ),
    Dialect(
        name="modelscope",
        label="ModelScope",
        spell=spellings.switch_and_budget,
        base_url="https://api-inference.modelscope.cn/v1",
        key_env=("MODELSCOPE_API_KEY", "MODELSCOPE_SDK_TOKEN"),
        needs_key=True,
    ),
    Dialect(
        name="siliconflow",
        label="SiliconFlow",
        spell=spellings.switch_and_budget,
        base_url="https://api.siliconflow.cn/v1",
        key_env=("SILICONFLOW_API_KEY",),
        needs_key=True,
        # https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions
        budget_range=(128, 32_768),
    ),
    Dialect(
        name="vllm",
        label="vLLM",
        spell=spellings.vllm,
        base_url="http://localhost:8000/v1",
        self_hosted=True,
        reasoning_field="reasoning",
        inline_reasoning=True,
    ),
    Dialect(
        name="sglang",
        label="SGLang",
        spell=spellings.sglang,
        base_url="http://localhost:30000/v1",
        self_hosted=True,
        inline_reasoning=True,
    ),
    Dialect(
        name="llamacpp",
        label="llama.cpp",
        spell=spellings.llamacpp,
        base_url="http://localhost:8080/v1",
        self_hosted=True,
        inline_reasoning=True,
    ),
    Dialect(
        name="ollama",
        label="Ollama",
        spell=spellings.ollama,
        base_url="http://localhost:11434/v1",
        self_hosted=True,
        reasoning_field="reasoning",
        forced_tool_choice=False,
        inline_reasoning=True,
    ),
    Dialect(
        name="openrouter",
        label="OpenRouter",
        spell=spellings.openrouter,
        base_url="https://openrouter.ai/api/v1",
        reasoning_field="reasoning",
        key_env=("OPENROUTER_API_KEY",),
        needs_key=True,
    ),
    Dialect(
        name="deepseek",
        label="DeepSeek",
        spell=spellings.deepseek,
        base_url="https://api.deepseek.com",
        key_env=("DEEPSEEK_API_KEY",),
        needs_key=True,
        forced_tool_choice=False,
    ),
    Dialect(
        name="transformers",
        label="transformers serve",
        spell=spellings.transformers,
        base_url="http://localhost:8000/v1",
        # Not self_hosted: it reads the defaults that lie beside the weights, and refuses top_k and min_p.
        forced_tool_choice=False,
        inline_reasoning=True,
    ),
    Dialect(
        name="lmstudio",
        label="LM Studio",
        spell=partial(spellings.soft_switch, "LM Studio"),
        base_url="http://localhost:1234/v1",
        self_hosted=True,
        inline_reasoning=True,
    ),
    Dialect(
        name="tgi",
        label="TGI",
        spell=partial(spellings.soft_switch, "TGI"),
        self_hosted=True,
        inline_reasoning=True,
    ),
    Dialect(
        name="openai",
        label="this server",
        spell=spellings.nothing,
        key_env=("OPENAI_API_KEY",),
        inline_reasoning=True,
    ),
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({dialect.name: dialect for dialect in _ALL})
"""Every known kind of server by its name; `"openai"` is any other one and is sent nothing."""

_HOSTS: Final[Mapping[str, str]] = {
    "api-inference.modelscope.cn": "modelscope",
    "api-inference.modelscope.ai": "modelscope",
    "api.siliconflow.cn": "siliconflow",
    "api.siliconflow.com": "siliconflow",
    "openrouter.ai": "openrouter",
    "api.deepseek.com": "deepseek",
    "api.openai.com": "openai",
}

_PORTS: Final[Mapping[int, str]] = {11434: "ollama", 1234: "lmstudio", 30000: "sglang", 8080: "llamacpp", 8000: "vllm"}


def find_dialect(base_url: str, name: str | None = None) -> Dialect:
    """Finds out how a server speaks: by its name if given, else its host, its port, and whether it is a local one.

    Args:
        base_url: The server's URL.
        name: Name of the dialect, which then is not guessed.

    Returns:
        The dialect. A local server on no usual port is taken for vLLM, any other server for one that is sent nothing.

    Raises:
        ConfigurationError: If there is no dialect of that name, or the URL has no host.
    """
    if name is not None:
        if name not in DIALECTS:
            raise ConfigurationError(f"unknown dialect {name!r}, use one of {', '.join(DIALECTS)}")
        return DIALECTS[name]
    host, _ = _address(base_url)
    return match_host(base_url) or match_port(base_url) or DIALECTS["vllm" if _is_local(host) else "openai"]


def match_host(base_url: str) -> Dialect | None:
    """Returns the dialect of the vendor that owns the host, if it is a known one.

    Raises:
        ConfigurationError: If the URL has no host.
    """
    host, _ = _address(base_url)
    name = "dashscope" if is_dashscope_host(host) else _HOSTS.get(host)
    return DIALECTS[name] if name else None


def match_port(base_url: str) -> Dialect | None:
    """Returns the dialect of the server that usually listens on the port, if there is one.

    Raises:
        ConfigurationError: If the URL has no host.
    """
    _, port = _address(base_url)
    return DIALECTS[_PORTS[port]] if port in _PORTS else None


def _address(base_url: str) -> tuple[str, int]:
    """Returns host and port; port 0 is the scheme's own."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, a bracket too many
        host, port = None, None
    if not host:
        raise ConfigurationError(f"base_url must be a URL such as http://localhost:8000/v1, got {base_url!r}")
    return host.rstrip("."), port or 0


def _is_local(host: str) -> bool:
    """Whether a host is on this machine or in this network: a private address, or a name without a public domain."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))
