"""What can be said of a chat model; `chat.py` says it of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ThinkingMode: TypeAlias = Literal["hybrid", "always", "never", "unknown"]
StreamOnly: TypeAlias = Literal["never", "thinking", "always"]
HistoryContract: TypeAlias = Literal["strip", "tools", "preserve"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampling preset; what is `None` is left to the server."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None

    def as_body(self) -> dict[str, float | int]:
        """Returns what is set, under its name on the wire."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFacts:
    """What is known of a chat model before it is called.

    Attributes:
        family: The model's family, `"unknown"` for a model that is not in the table.
        thinking: `"hybrid"` models can be told to think or not, the others can't.
        thinks_by_default: What a hybrid model does on DashScope when nothing is said.
        stream_only: What DashScope refuses unless it is streamed.
        max_thinking_tokens: Upper end of the reasoning budget.
        takes_budget: Whether DashScope limits the model's reasoning by `thinking_budget`.
        efforts: Names that the model has for `reasoning_effort`, lowest first; empty if it has none.
        json_schema: `response_format` of type `json_schema` is guaranteed, thinking or not.
        json_while_thinking: `response_format` of type `json_object` is guaranteed while thinking.
        history: What the model's contract wants of earlier reasoning: nothing, that of the running tool loop, or all.
        soft_switch: Understands `/think` and `/no_think` in a user message.
        opens_in_prompt: The template ends the prompt with `<think>`, so raw output holds only `</think>`.
        template_switch: Variable of the chat template that switches thinking.
        context_tokens: Input and output together.
        max_output_tokens: Longest answer.
        images: Takes images.
        sampling_thinking: The model card's sampling while thinking.
        sampling_answering: The model card's sampling without thinking.
    """

    family: str
    thinking: ThinkingMode = "unknown"
    thinks_by_default: bool | None = None
    stream_only: StreamOnly = "never"
    max_thinking_tokens: int | None = None
    takes_budget: bool = True
    efforts: tuple[str, ...] = ()
    json_schema: bool = False
    json_while_thinking: bool = False
    history: HistoryContract = "tools"
    soft_switch: bool = False
    opens_in_prompt: bool = False
    template_switch: Literal["enable_thinking", "thinking"] = "enable_thinking"
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    images: bool = False
    sampling_thinking: Sampling | None = None
    sampling_answering: Sampling | None = None
