"""Structured output that leaves thinking on: by JSON schema, else by a tool, else repaired by a second call.

The base class forces a tool always, which models refuse while they think, and hands out what came of it unchecked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import BaseModel, Field, ValidationError
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.llm import LLM
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.streaming_utils import process_streaming_content_incremental
from llama_index.core.program.utils import FlexibleModel, process_streaming_objects
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from llama_index.llms.openai import OpenAI
from openai import pydantic_function_tool

from qwen3_rag.errors import Partial, ResponseError
from qwen3_rag.llama_index._llm_options import call_policy
from qwen3_rag.llama_index._llm_tools import ToolCalling
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking.formatting import JSON_OBJECT, formatting_messages

Shown: TypeAlias = Model | list[Model] | FlexibleModel | list[FlexibleModel]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]  # re-exported
_logger = logging.getLogger("qwen3_rag.thinking")

_TOOL_OPTIONS = ("tools", "tool_choice", "tool_required", "allow_parallel_tool_calls", "parallel_tool_calls", "strict")


class _UnreadableError(Exception):
    """An answer is not what was wanted; `said` is all that it holds."""

    def __init__(self, said: str, reason: str) -> None:
        super().__init__(reason)
        self.said = said


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted(Generic[Model]):
    """One object that is wanted: how it is asked for, read, and repaired.

    Attributes:
        output_cls: Its class.
        messages: The prompt.
        options: For the first call.
        again: For the second call, which repairs the first.
    """

    output_cls: type[Model]
    messages: list[ChatMessage]
    options: Mapping[str, Any]
    again: Mapping[str, Any] = field(repr=False)

    def read(self, response: ChatResponse) -> Model:
        """Reads the object from a tool call or, without one, from the text."""
        calls = response.message.additional_kwargs.get("tool_calls")
        said = calls[0]["function"]["arguments"] if calls else response.message.content or ""
        try:
            return self.output_cls.model_validate_json(_unfenced(said))
        except ValidationError as error:
            raise _UnreadableError(said, str(error)) from error

    def repair(self, error: _UnreadableError | ResponseError) -> list[ChatMessage]:
        """Returns the messages of the second call; an answer that holds nothing can't be repaired."""
        said = error.said if isinstance(error, _UnreadableError) else _said(error.partial)
        if not said:
            raise self._failed(error) from error
        kind = type(error.__cause__ or error).__name__  # its message quotes the answer
        _logger.warning("the structured answer can't be read (%s): a second call without thinking repairs it", kind)
        question = "\n".join(message.content or "" for message in self.messages)
        wire = formatting_messages(question, said, _response_format(self.output_cls))
        return [ChatMessage(role=one["role"], content=one["content"]) for one in wire]

    def read_repaired(self, response: ChatResponse) -> Model:
        """Reads the object from the second answer.

        Raises:
            ResponseError: If it is still none.
        """
        try:
            return self.read(response)
        except _UnreadableError as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ResponseError:
        if isinstance(error, ResponseError):
            return error
        said = getattr(error, "said", "")
        return ResponseError(
            f"the answer is no {self.output_cls.__name__}: {error}", partial=Partial(text=said) if said else None
        )

    def show(self, response: ChatResponse, shown: Shown[Model] | None, llm: LLM) -> Shown[Model] | None:
        """Returns as much of the object as has come; `None` while the model still thinks."""
        if response.message.additional_kwargs.get("tool_calls"):
            objects: Any = None if shown is None else [shown]
            return process_streaming_objects(response, self.output_cls, objects, flexible_mode=True, llm=llm)
        if "tools" in self.options or not response.message.content:
            return None
        return process_streaming_content_incremental(response, self.output_cls, shown)  # type: ignore[arg-type]  # its own result


class StructuredCalling(ToolCalling):
    """What `Qwen3LLM` does for structured output.

    `pydantic_program_mode` decides: by default a JSON schema where the model is known to keep to it (or
    `should_use_structured_outputs` says so), and else a tool; `FUNCTION` always a tool; the others are LlamaIndex's own.
    """

    thinking: Any = Field(default=None, description="How much to think; None is the model's own default.")

    @dispatcher.span
    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Asks for an object of a class.

        Args:
            output_cls: The class.
            prompt: The prompt.
            llm_kwargs: What `chat` takes, `thinking` for example; not changed.
            **prompt_args: The prompt's variables.

        Raises:
            ResponseError: If the answer is no such object, nor after a second call was to repair it.
        """
        if not self._own_program():
            result: Model = super(OpenAI, self).structured_predict(
                output_cls, prompt, llm_kwargs=llm_kwargs, **prompt_args
            )
            return result
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        )
        wanted = self._wanted(output_cls, prompt, llm_kwargs, prompt_args)
        try:
            result = wanted.read(self.chat(wanted.messages, **wanted.options))
        except (_UnreadableError, ResponseError) as error:
            result = wanted.read_repaired(self.chat(wanted.repair(error), **wanted.again))
        dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        return result

    @dispatcher.span
    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Async twin of `structured_predict`."""
        if not self._own_program():
            result: Model = await LLM.astructured_predict(
                self, output_cls, prompt, llm_kwargs=llm_kwargs, **prompt_args
            )
            return result
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        )
        wanted = self._wanted(output_cls, prompt, llm_kwargs, prompt_args)
        try:
            result = wanted.read(await self.achat(wanted.messages, **wanted.options))
        except (_UnreadableError, ResponseError) as error:
            result = wanted.read_repaired(await self.achat(wanted.repair(error), **wanted.again))
        dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        return result

    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Shown[Model], None, None]:
        if not self._own_program():
            yield from super(OpenAI, self)._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        wanted = self._wanted(output_cls, prompt, llm_kwargs, prompt_args)
        shown: Shown[Model] | None = None
        response = ChatResponse(message=ChatMessage())
        try:
            for response in self.stream_chat(wanted.messages, **wanted.options):
                news = wanted.show(response, shown, self)
                if news is not None and news != shown:
                    yield (shown := news)
            result = wanted.read(response)
        except (_UnreadableError, ResponseError) as error:
            result = wanted.read_repaired(self.chat(wanted.repair(error), **wanted.again))
        if result != shown:
            yield result

    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Shown[Model], None]:
        if not self._own_program():
            return await super(OpenAI, self)._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        wanted = self._wanted(output_cls, prompt, llm_kwargs, prompt_args)

        async def objects() -> AsyncGenerator[Shown[Model], None]:
            shown: Shown[Model] | None = None
            response = ChatResponse(message=ChatMessage())
            try:
                async for response in await self.astream_chat(wanted.messages, **wanted.options):
                    news = wanted.show(response, shown, self)
                    if news is not None and news != shown:
                        yield (shown := news)
                result = wanted.read(response)
            except (_UnreadableError, ResponseError) as error:
                result = wanted.read_repaired(await self.achat(wanted.repair(error), **wanted.again))
            if result != shown:
                yield result

        return objects()

    def _own_program(self) -> bool:
        return self.pydantic_program_mode in (PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION)

    def _wanted(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> _Wanted[Model]:
        messages = self._extend_messages(prompt.format_messages(llm=self, **prompt_args))
        given = dict(llm_kwargs or {})
        plain = {name: value for name, value in given.items() if name not in _TOOL_OPTIONS}
        if self._by_schema(given):
            options = {**plain, "response_format": _response_format(output_cls)}
        else:
            options = self._tool_options(output_cls, given)
        again = {**plain, "thinking": False, "response_format": dict(JSON_OBJECT)}
        return _Wanted(output_cls=output_cls, messages=messages, options=options, again=again)

    def _by_schema(self, given: Mapping[str, Any]) -> bool:
        if self.pydantic_program_mode is PydanticProgramMode.FUNCTION:
            return False
        model = given.get("model", self.model)
        return self.should_use_structured_outputs or chat_facts(model).json_schema or not self.is_function_calling_model

    def _tool_options(self, output_cls: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
        tool = get_function_tool(output_cls)
        prepared = self._prepare_chat_with_tools(
            [tool], **{"tool_choice": tool.metadata.name, **given, "allow_parallel_tool_calls": False}
        )
        del prepared["messages"]
        policy = call_policy(self.thinking, given)
        by_default = chat_facts(given.get("model", self.model)).thinks_by_default
        if by_default and policy.enabled is None and not policy.auto:
            # Said, so that it is the choice of the tool that gives way where both can't be had.
            prepared["thinking"] = replace(policy, enabled=True)
        return prepared


def _response_format(output_cls: type[BaseModel]) -> dict[str, Any]:
    function = pydantic_function_tool(output_cls)["function"]
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", function["name"])
    return {"type": "json_schema", "json_schema": {"name": name, "schema": function["parameters"], "strict": True}}


def _unfenced(text: str) -> str:
    """Models that are asked in words like to put JSON into a Markdown fence."""
    match = re.fullmatch(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", text, re.DOTALL)
    return match.group(1) if match else text


def _said(partial: Partial | None) -> str:
    if partial is None:
        return ""
    return "\n".join(filter(None, [partial.text, *(call["arguments"] for call in partial.tool_calls)]))
