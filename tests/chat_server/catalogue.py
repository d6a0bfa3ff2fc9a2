"""What the loopback server knows about models: as Alibaba Cloud documents them, written without the package's table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One model of the server.

    Attributes:
        thinking: Whether `enable_thinking` switches it ("hybrid"), or it always or never thinks.
        on: Whether a hybrid thinks when nothing is said.
        stream: When it must be streamed.
        stream_text: What the server says when it is not.
        budget: Upper end of `thinking_budget`; 0 where that is an error.
        efforts: Documented `reasoning_effort` -> tokens, None for "does not think"; empty where it is ignored.
        schema: Whether `json_schema` is obeyed.
        json: What a response format does while it thinks.
        forced: Which `tool_choice` it takes: any, no forced one while it thinks, or never "required".
        lists: Whether user and system content may be a list of parts.
        details: How much of the usage details is filled in.
        both_limited: `max_tokens` counts reasoning too.
        soft_switch: Obeys `/think` and `/no_think`.
        lone_tag: Its template puts `<think>` in the prompt, so raw output has only `</think>`.
        preserves: `preserve_thinking` is on by default.
    """

    thinking: Literal["hybrid", "always", "never"] = "hybrid"
    on: bool = True
    stream: Literal["never", "thinking", "always"] = "never"
    stream_text: str = "parameter.enable_thinking must be set to false for non-streaming calls"
    budget: int = 81920
    efforts: tuple[tuple[str, int | None], ...] = ()
    schema: bool = False
    json: Literal["obeyed", "ignored", "refused"] = "refused"
    forced: Literal["any", "not-thinking", "never"] = "any"
    lists: bool = True
    images: bool = False
    details: Literal["full", "some", "null"] = "some"
    both_limited: bool = False
    soft_switch: bool = False
    lone_tag: bool = True
    preserves: bool = False


ONLY_STREAM = "This model only support stream mode, please enable the stream parameter to access the model. "
EFFORTS_38 = (
    ("none", None),
    *(("minimal", 4096), ("low", 4096), ("medium", 16384)),
    *(("high", 262144), ("xhigh", 262144), ("max", 262144)),
)
EFFORTS_OTHERS = (("low", 4096), ("medium", 16384), ("high", 32768), ("max", 81920))

_NEVER = Served(thinking="never", json="obeyed", details="null")
_QWQ = Served(thinking="always", stream="always", stream_text=ONLY_STREAM, lists=False, forced="never", budget=32768)
_38 = {"budget": 262144, "efforts": EFFORTS_38, "schema": True, "json": "obeyed", "images": True, "details": "full"}
_37 = {"budget": 262144, "schema": True, "json": "obeyed", "details": "full"}

# The first pattern found in the lower-case name decides.
_TABLE: tuple[tuple[str, Served], ...] = (
    (r"qwen3\.8-2\.4t-a95b", Served(thinking="always", **_38)),  # documented as hybrid, measured as forced
    (r"qwen3\.8-max", Served(both_limited=True, preserves=True, **_38)),
    (r"qwen3\.8-(flash|plus)", Served(forced="not-thinking", preserves=True, **_38)),
    (r"qwen3\.7-max-(preview|2026-05-17)", Served(thinking="always", **_37)),
    (r"qwen3\.7-plus", Served(forced="not-thinking", images=True, **_37)),
    (r"qwen3\.7-flash", Served(images=True, **_37)),
    (r"qwen3\.7-max", Served(**_37)),
    (r"qwen3\.6-max", Served(json="ignored", budget=131072)),
    (r"qwen3\.6-flash", Served(json="ignored", budget=131072, images=True)),
    (r"qwen3\.6-", Served(json="ignored", images=True)),
    (r"qwen3\.5-flash", Served(json="ignored", images=True, forced="not-thinking")),
    (r"qwen3\.5-", Served(json="ignored", images=True)),
    (r"qwen3-omni-flash", Served(on=False, stream="always", stream_text=ONLY_STREAM, images=True)),
    (r"omni", Served(thinking="never", stream="always", stream_text=ONLY_STREAM, images=True, json="obeyed")),
    (r"qwen3-vl-.*-thinking", Served(thinking="always", images=True, forced="never")),
    (r"qwen3-next.*-thinking", Served(thinking="always")),
    (
        r"thinking-2507",
        Served(
            thinking="always",
            stream="always",
            lists=False,
            forced="never",
            stream_text="parameter.enable_thinking only support stream call",
        ),
    ),
    (r"instruct|qwen3-coder|qwen-max|qwen2\.?5|qwen-long|qwen-mt", _NEVER),
    (r"qwen3-vl-(plus|flash)", Served(on=False, images=True)),
    (r"qwen-plus-2025-04-28", Served(on=False, budget=38912, soft_switch=True)),
    (r"qwen3-max|qwen-plus|qwen-flash", Served(on=False)),
    (r"qwen-turbo", Served(on=False, details="null", budget=38912, forced="never")),
    (r"qwq", _QWQ),
    (
        r"qvq",
        Served(
            thinking="always", stream="always", stream_text="current user api does not support http call.", images=True
        ),
    ),
    (
        r"qwen3[-:_]\d+(\.\d+)?b",  # the open models of April 2025
        Served(
            stream="thinking",
            budget=38912,
            lists=False,
            forced="never",
            details="null",
            soft_switch=True,
            lone_tag=False,
        ),
    ),
    (r"deepseek-v4", Served(efforts=EFFORTS_OTHERS, both_limited=True, json="obeyed", forced="not-thinking")),
    (r"deepseek-(v3|chat)", Served(on=False)),
    (r"deepseek-r1|deepseek-reasoner", Served(thinking="always")),
    (r"glm-(4\.[5-9]|[5-9])", Served(efforts=EFFORTS_OTHERS)),
    (r"kimi-(k2-thinking|k2\.7-code)", Served(thinking="always")),
    (r"kimi-k3", Served(budget=0)),
    (r"kimi-k2", Served(on=False, images=True)),
    (r"minimax-m", Served(thinking="always")),
)


def find(name: str) -> Served | None:
    """Returns what is known about a model, by the name that any server gives it; None for one that nobody serves."""
    for pattern, served in _TABLE:
        if re.search(pattern, name.lower()):
            return served
    return None
