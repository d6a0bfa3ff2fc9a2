"""Structured output that leaves thinking on: by JSON schema, or by a tool with a second call that repairs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, HumanMessage, convert_to_messages
from langchain_core.messages.ai import add_usage
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputKeyToolsParser,
    JsonOutputParser,
    PydanticOutputParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._chat_format import Schema, response_format
from qwen3_rag.thinking.formatting import JSON_OBJECT, formatting_messages

Method: TypeAlias = Literal["function_calling", "json_mode", "json_schema"]
Parser: TypeAlias = BaseOutputParser[Any]

_logger = logging.getLogger("qwen3_rag.thinking")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked of `with_structured_output`.

    Attributes:
        schema: What the answer shall look like; `None` for any JSON object.
        strict: Whether the server shall guarantee it; `None` for the method's default.
        include_raw: Whether to return the message and the error along with the object.
        tools: Tools that the model may call besides.
        options: For `bind`.
    """

    schema: Schema | None
    strict: bool | None = None
    include_raw: bool = False
    tools: Sequence[Any] = ()
    options: Mapping[str, Any]


def structured_output(model: BaseChatModel, wanted: Wanted, method: Method) -> Runnable[LanguageModelInput, Any]:
    """Builds model and parser for one method, as LangChain documents it.

    Raises:
        ConfigurationError: If the method is unknown, or does not go with schema or `strict`.
    """
    llm, parser = _model_and_parser(model, wanted, method)
    if not wanted.include_raw:
        return llm | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=llm) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def repairing_output(model: BaseChatModel, wanted: Wanted) -> Runnable[LanguageModelInput, Any]:
    """Builds a tool call that is repaired: a second call, without thinking, reads what the first one said.

    Raises:
        ConfigurationError: If there is no schema.
    """
    first, parser = _model_and_parser(model, wanted, "function_calling")
    second = model.bind(**{**wanted.options, "thinking": False, "response_format": dict(JSON_OBJECT)})
    repairing = _Repairing(first, parser, second, wanted)
    return RunnableLambda(repairing.run, repairing.arun, name="Qwen3Structured")


def _model_and_parser(
    model: BaseChatModel, wanted: Wanted, method: Method
) -> tuple[Runnable[LanguageModelInput, AIMessage], Parser]:
    schema, strict = wanted.schema, wanted.strict
    trace = {"ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}}
    if method == "json_mode":
        if strict is not None:
            raise ConfigurationError(f"strict={strict} has no meaning in JSON mode, which knows no schema")
        return model.bind(**{"response_format": dict(JSON_OBJECT), **trace, **wanted.options}), _json_parser(schema)
    if schema is None:
        raise ConfigurationError("structured output needs a schema; only method 'json_mode' does without")
    if method == "json_schema":
        bound = {"response_format": response_format(schema, strict=strict is not False), **trace, **wanted.options}
        if wanted.tools:
            bound["tools"] = [convert_to_openai_tool(tool, strict=strict) for tool in wanted.tools]
        return model.bind(**bound), _json_parser(schema)
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        bound = {"tool_choice": name, "parallel_tool_calls": False, **trace, **wanted.options}
        return model.bind_tools([schema, *wanted.tools], strict=strict, **bound), _tool_parser(schema, name)
    raise ConfigurationError(f"method must be 'json_schema', 'function_calling', 'json_mode' or None, got {method!r}")


def _json_parser(schema: Schema | None) -> Parser:
    return PydanticOutputParser(pydantic_object=schema) if _is_pydantic(schema) else JsonOutputParser()


def _tool_parser(schema: Schema, name: str) -> Parser:
    if _is_pydantic(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)


def _is_pydantic(schema: Any) -> bool:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


@dataclass(frozen=True, slots=True)
class _Repairing:
    first: Runnable[LanguageModelInput, AIMessage]
    parser: Parser
    second: Runnable[LanguageModelInput, AIMessage]
    wanted: Wanted

    def run(self, prompt: LanguageModelInput, config: RunnableConfig, **options: Any) -> Any:
        said = self.first.invoke(prompt, config, **options)
        parsed, error = _read(said, self.parser)
        if error is None:
            return self._out(said, parsed, None)
        return self._repaired(said, self.second.invoke(self._task(prompt, said, error), config))

    async def arun(self, prompt: LanguageModelInput, config: RunnableConfig, **options: Any) -> Any:
        said = await self.first.ainvoke(prompt, config, **options)
        parsed, error = _read(said, self.parser)
        if error is None:
            return self._out(said, parsed, None)
        return self._repaired(said, await self.second.ainvoke(self._task(prompt, said, error), config))

    def _task(self, prompt: LanguageModelInput, said: AIMessage, error: Exception) -> list[dict[str, Any]]:
        kind = type(error.__cause__ or error).__name__  # its message quotes the answer
        _logger.warning("the structured answer can't be read (%s): a call without thinking repairs it", kind)
        calls = [json.dumps(call["args"], ensure_ascii=False) for call in said.tool_calls]
        broken = [call["args"] or "" for call in said.invalid_tool_calls]
        answer = "\n".join(filter(None, [said.text, *calls, *broken]))
        return formatting_messages(_question(prompt), answer, response_format(self.wanted.schema or {}, strict=None))

    def _repaired(self, said: AIMessage, again: AIMessage) -> Any:
        parsed, error = _read(again, _json_parser(self.wanted.schema))
        metadata = {**said.response_metadata, "repaired": again.text}
        usage = add_usage(said.usage_metadata, again.usage_metadata)
        raw = said.model_copy(update={"usage_metadata": usage, "response_metadata": metadata})
        return self._out(raw, parsed, error)

    def _out(self, raw: AIMessage, parsed: Any, error: Exception | None) -> Any:
        if self.wanted.include_raw:
            return {"raw": raw, "parsed": parsed, "parsing_error": error}
        if error is not None:
            raise error
        return parsed


def _read(message: AIMessage, parser: Parser) -> tuple[Any, Exception | None]:
    try:
        parsed = parser.parse_result([ChatGeneration(message=message)])
    except ValueError as error:  # of pydantic, of JSON, and LangChain's own, which is one too
        return None, error
    if parsed is None:
        return None, OutputParserException(f"the model did not call the tool, it said: {message.text!r}")
    return parsed, None


def _question(prompt: LanguageModelInput) -> str:
    if isinstance(prompt, str):
        return prompt
    messages = prompt.to_messages() if isinstance(prompt, PromptValue) else convert_to_messages(prompt)
    return next((message.text for message in reversed(messages) if isinstance(message, HumanMessage)), "")
