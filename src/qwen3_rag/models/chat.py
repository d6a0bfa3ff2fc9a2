"""Facts about chat models: whether they think, what must be streamed, how deep and long. Data and one look-up.

Sources, read in autumn 2026:

* DashScope's API reference and deep-thinking page, for switches, defaults, efforts and what must be streamed:
  https://help.aliyun.com/zh/model-studio/qwen-api-via-openai-chat-completions and
  https://www.alibabacloud.com/help/en/model-studio/deep-thinking
* https://github.com/anomalyco/models.dev (`providers/alibaba-cn`), for lengths and the upper ends of `thinking_budget`.
  Where providers differ, the shorter length stands here.
* The model cards, for sampling presets and templates. An open model's context is the one it has without YaRN.

What is not known for sure stays `None`: the server then decides.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from qwen3_rag.models.chat_types import ChatFacts, Sampling


def chat_facts(model: str) -> ChatFacts:
    """Looks a model up by name; the longest known name inside it wins.

    Args:
        model: A name as any server spells it, in any case: `"qwen3.7-max-2026-05-17"`, `"Qwen/Qwen3-8B"`,
            `"qwen/qwen3.5-397b-a17b:free"`, Ollama's `"qwen3:8b"`, `"Qwen3-8B-Q4_K_M.gguf"`.

    Returns:
        Its facts; those of an unknown model promise nothing.
    """
    name = model.lower().replace(":", "-")
    longest, found = 0, _UNKNOWN
    for pattern, facts in _TABLE:
        length = max((len(match.group()) for match in pattern.finditer(name)), default=0)
        if length >= max(longest, 1):  # of equally long ones, the later entry is the more special
            longest, found = length, facts
    return found


_UNKNOWN: Final = ChatFacts(family="unknown")

# Sampling, from the model cards. Qwen warns of greedy decoding while thinking: it loops.
_SAMPLED_3: Final = Sampling(0.6, 0.95, 20, 0.0)
_SAMPLED_3_ANSWER: Final = Sampling(0.7, 0.8, 20, 0.0)
_SAMPLED_3_5: Final = Sampling(1.0, 0.95, 20, 0.0, 1.5)
_SAMPLED_3_6: Final = Sampling(1.0, 0.95, 20, 0.0, 0.0)
_SAMPLED_3_8: Final = Sampling(1.0, 0.95)
_SAMPLED_ANSWER: Final = Sampling(0.7, 0.8, 20, 0.0, 1.5)

# What the entries of the table begin from.
_NEVER: Final = ChatFacts(family="qwen", thinking="never", history="strip", sampling_answering=_SAMPLED_3_ANSWER)
_HYBRID: Final = ChatFacts(family="qwen", thinking="hybrid", thinks_by_default=True)
_QWEN_3: Final = replace(
    _HYBRID,
    family="qwen3",
    stream_only="thinking",
    max_thinking_tokens=38_912,
    soft_switch=True,
    context_tokens=32_768,
    sampling_thinking=_SAMPLED_3,
    sampling_answering=_SAMPLED_3_ANSWER,
)
_QWEN_3_THINKING: Final = ChatFacts(
    family="qwen3-thinking",
    thinking="always",
    thinks_by_default=True,
    stream_only="always",
    max_thinking_tokens=81_920,
    opens_in_prompt=True,
    context_tokens=131_072,
    max_output_tokens=32_768,
    sampling_thinking=_SAMPLED_3,
)
_QWEN_3_INSTRUCT: Final = replace(_NEVER, family="qwen3-instruct", context_tokens=131_072, max_output_tokens=32_768)
_QWEN_VL: Final = replace(
    _QWEN_3_THINKING,
    family="qwen3-vl",
    stream_only="never",
    images=True,
    sampling_thinking=_SAMPLED_3_6,
)
_QWEN_COMMERCIAL: Final = replace(
    _HYBRID,
    family="qwen-commercial",
    thinks_by_default=False,
    max_thinking_tokens=81_920,
    context_tokens=1_000_000,
    max_output_tokens=32_768,
)
_QWEN_FIRST_HYBRID: Final = replace(
    _QWEN_COMMERCIAL, max_thinking_tokens=38_912, context_tokens=131_072, max_output_tokens=16_384
)
_QWEN_3_5: Final = replace(
    _HYBRID,
    family="qwen3.5",
    opens_in_prompt=True,
    context_tokens=262_144,
    max_output_tokens=65_536,
    images=True,
    sampling_thinking=_SAMPLED_3_5,
    sampling_answering=_SAMPLED_ANSWER,
)
_QWEN_3_5_PLUS: Final = replace(_QWEN_3_5, max_thinking_tokens=81_920, context_tokens=1_000_000)
_QWEN_3_6: Final = replace(_QWEN_3_5, family="qwen3.6", sampling_thinking=_SAMPLED_3_6)
_QWEN_3_7: Final = replace(
    _QWEN_3_6,
    family="qwen3.7",
    max_thinking_tokens=262_144,
    json_schema=True,
    json_while_thinking=True,
    context_tokens=1_000_000,
)
_QWEN_3_8: Final = replace(
    _QWEN_3_6,
    family="qwen3.8",
    max_thinking_tokens=262_144,
    efforts=("low", "medium", "xhigh"),
    max_output_tokens=None,
    sampling_thinking=_SAMPLED_3_8,
)
_QWEN_3_8_MAX: Final = replace(
    _QWEN_3_8, json_schema=True, json_while_thinking=True, history="preserve", context_tokens=None
)
_QWQ: Final = replace(_QWEN_3_THINKING, family="qwq", max_thinking_tokens=None, takes_budget=False)
_OMNI: Final = ChatFacts(family="qwen-omni", stream_only="always", images=True)
_DEEPSEEK: Final = replace(_HYBRID, family="deepseek-v4", takes_budget=False, template_switch="thinking")
_DEEPSEEK_V4: Final = replace(_DEEPSEEK, efforts=("high", "max"), context_tokens=1_000_000, max_output_tokens=384_000)
_DEEPSEEK_V3: Final = replace(
    _DEEPSEEK, family="deepseek-v3", thinks_by_default=False, context_tokens=131_072, max_output_tokens=65_536
)
_DEEPSEEK_R1: Final = replace(
    _DEEPSEEK,
    family="deepseek-r1",
    thinking="always",
    history="strip",
    opens_in_prompt=True,
    context_tokens=131_072,
    max_output_tokens=16_384,
)
_GLM: Final = replace(_HYBRID, family="glm")
_KIMI: Final = replace(
    _HYBRID,
    family="kimi",
    thinks_by_default=False,
    max_thinking_tokens=81_920,
    template_switch="thinking",
    context_tokens=262_144,
    images=True,
)
_KIMI_THINKING: Final = replace(
    _KIMI, thinking="always", thinks_by_default=True, max_thinking_tokens=None, images=False
)
_MINIMAX: Final = ChatFacts(family="minimax", takes_budget=False, context_tokens=204_800, max_output_tokens=131_072)

_SIZE: Final = r"(0\.6|1\.7|4|8|14|30|32|235)b(-a\d+b)?"

_NAMES: Final[tuple[tuple[str, ChatFacts], ...]] = (
    # Qwen3.8
    (r"qwen3\.8", replace(_QWEN_3_8, context_tokens=None)),
    (r"qwen3\.8-27b", _QWEN_3_8),
    (r"qwen3\.8-max", replace(_QWEN_3_8_MAX, context_tokens=1_000_000)),
    (r"qwen3\.8-flash", _QWEN_3_8_MAX),
    (r"qwen3\.8-flash-next", replace(_QWEN_3_8, context_tokens=None)),
    # Documented as hybrid; measured by others, thinking can't be switched off.
    (r"qwen3\.8-2\.4t-a95b", replace(_QWEN_3_8, thinking="always", context_tokens=None)),
    # Qwen3.7, 3.6, 3.5
    (r"qwen3\.7", replace(_QWEN_3_7, context_tokens=None, max_output_tokens=None)),
    (r"qwen3\.7-max", replace(_QWEN_3_7, images=False)),
    (r"qwen3\.7-max-(preview|2026-05-17)", replace(_QWEN_3_7, thinking="always", images=False)),
    (r"qwen3\.7-plus", replace(_QWEN_3_7, max_output_tokens=64_000)),
    (r"qwen3\.6", _QWEN_3_6),
    (
        r"qwen3\.6-max-preview",
        replace(_QWEN_3_6, max_thinking_tokens=131_072, context_tokens=245_800, images=False),
    ),
    (r"qwen3\.6-plus", replace(_QWEN_3_6, max_thinking_tokens=81_920, context_tokens=1_000_000)),
    (r"qwen3\.6-flash", replace(_QWEN_3_6, max_thinking_tokens=131_072, context_tokens=1_000_000)),
    (r"qwen3\.5", _QWEN_3_5),
    (r"qwen3\.5-(plus|flash)", _QWEN_3_5_PLUS),
    (r"qwen3\.5-397b-a17b", replace(_QWEN_3_5, max_thinking_tokens=81_920)),
    (r"qwen3\.5-(0\.8|2)b", replace(_QWEN_3_5, thinks_by_default=False)),
    # Qwen3, open
    (r"qwen3(-latest)?$", _QWEN_3),
    (rf"qwen3-{_SIZE}", _QWEN_3),
    (r"qwen3-(0\.6|1\.7)b", replace(_QWEN_3, max_thinking_tokens=30_720)),
    (rf"qwen3-{_SIZE}-thinking(-2507)?", _QWEN_3_THINKING),
    (rf"qwen3-{_SIZE}-instruct(-2507)?", _QWEN_3_INSTRUCT),
    (r"qwen3-next-80b-a3b-thinking", replace(_QWEN_3_THINKING, stream_only="never")),
    (r"qwen3-next-80b-a3b-instruct", _QWEN_3_INSTRUCT),
    (r"qwen3-coder", replace(_NEVER, family="qwen3-coder", context_tokens=262_144, max_output_tokens=65_536)),
    (
        r"qwen3-coder-(plus|flash)",
        replace(_NEVER, family="qwen3-coder", context_tokens=1_000_000, max_output_tokens=65_536),
    ),
    (r"qwen3-vl", ChatFacts(family="qwen3-vl", images=True)),
    (r"qwen3-vl-\d+b(-a\d+b)?-thinking", _QWEN_VL),
    (
        r"qwen3-vl-\d+b(-a\d+b)?-instruct",
        replace(_NEVER, family="qwen3-vl", context_tokens=131_072, images=True, sampling_answering=_SAMPLED_ANSWER),
    ),
    # Qwen, commercial
    (r"qwen3-max", replace(_QWEN_COMMERCIAL, context_tokens=262_144)),
    (r"qwen-(plus|flash)", _QWEN_COMMERCIAL),
    (r"qwen-turbo", replace(_QWEN_COMMERCIAL, max_thinking_tokens=38_912, max_output_tokens=16_384)),
    (r"qwen-turbo-2025-04-28", _QWEN_FIRST_HYBRID),
    (r"qwen-plus-2025-04-28", replace(_QWEN_FIRST_HYBRID, soft_switch=True)),
    (r"qwen-(plus|turbo)-([01]\d{3}|2024-\d\d-\d\d|2025-0[1-3]-\d\d)", _NEVER),
    (r"qwen3-vl-(plus|flash)", replace(_QWEN_COMMERCIAL, family="qwen3-vl", context_tokens=262_144, images=True)),
    (r"qwen-max", replace(_NEVER, context_tokens=32_768, max_output_tokens=8_192)),
    (r"qwen-long", replace(_NEVER, context_tokens=10_000_000, max_output_tokens=8_192)),
    (r"qwen-(mt|coder|math)", _NEVER),
    (r"qwen-vl-(max|plus)", replace(_NEVER, context_tokens=131_072, max_output_tokens=8_192, images=True)),
    (r"qwen(1\.5|2|2\.5)", replace(_NEVER, family="qwen2.5")),
    (r"qwen(2|2\.5)-vl", replace(_NEVER, family="qwen2.5", images=True)),
    (r"qwen[\d.]*-omni", _OMNI),
    (r"qwen3-omni-flash", replace(_OMNI, thinking="hybrid", thinks_by_default=False, context_tokens=65_536)),
    (r"qwen(-|2\.5-)omni", replace(_OMNI, thinking="never", history="strip", context_tokens=32_768)),
    (r"qwq", replace(_QWQ, max_output_tokens=8_192)),
    (r"qvq", replace(_QWQ, family="qvq", max_output_tokens=8_192, images=True)),
    # Others that DashScope serves
    (r"deepseek-v4", _DEEPSEEK_V4),
    (r"deepseek-v4[\w.-]*-(0731|0813)", replace(_DEEPSEEK_V4, efforts=("low", "high", "max"))),
    (r"deepseek-v3[.-][12]", _DEEPSEEK_V3),
    (r"deepseek-v3", replace(_DEEPSEEK_V3, thinking="never", thinks_by_default=None, history="strip")),
    (r"deepseek-r1", _DEEPSEEK_R1),
    (r"deepseek-r1-distill", replace(_DEEPSEEK_R1, context_tokens=32_768)),
    (r"deepseek-chat", replace(_DEEPSEEK_V4, thinking="never", thinks_by_default=None, efforts=(), history="strip")),
    (r"deepseek-reasoner", replace(_DEEPSEEK_V4, thinking="always")),
    (r"glm-4\.[5-9]v?", _GLM),
    (r"glm-5", replace(_GLM, max_thinking_tokens=32_768, context_tokens=202_752, max_output_tokens=16_384)),
    (r"glm-5\.1", replace(_GLM, max_thinking_tokens=131_072, context_tokens=202_752, max_output_tokens=128_000)),
    (r"glm-5\.[2-9]", replace(_GLM, efforts=("high", "max"))),
    (r"kimi-k2\.[56]", _KIMI),
    (r"kimi-k2-thinking", _KIMI_THINKING),
    (r"kimi-k2\.7-code", _KIMI_THINKING),
    (r"kimi-k2", ChatFacts(family="kimi", thinking="never", history="strip", context_tokens=131_072)),
    (r"kimi-k3", replace(_KIMI_THINKING, takes_budget=False, context_tokens=None)),
    (r"minimax-m2(\.\d)?", replace(_MINIMAX, thinking="always", thinks_by_default=True)),
    (r"minimax-m3", replace(_MINIMAX, family="minimax-m3", thinking="hybrid", context_tokens=None)),
)

# A name ends where no letter or digit follows: `qwen-max` is no `qwen-maximal`, `glm-5` no `glm-5.1`.
_TABLE: Final = tuple((re.compile(rf"(?<![a-z0-9]){name}(?![a-z0-9]|\.\d)"), facts) for name, facts in _NAMES)
