"""`Qwen3LLM`: Qwen3 and its kin on DashScope, or on any server that speaks the same protocol, as a LlamaIndex LLM."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import Field, SecretStr

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index._llm_exchange import exchanges
from qwen3_rag.llama_index._llm_messages import question_of, reasoning_of, to_wire
from qwen3_rag.llama_index._llm_options import (
    call_policy,
    check_arguments,
    checked,
    one_url,
    read_policy,
    refusals,
    sdk_parameters,
    sort_options,
)
from qwen3_rag.llama_index._llm_structured import StructuredCalling
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking import Evidence, Pieces, Thinking, ThinkingBudget, resolve_endpoint
from qwen3_rag.thinking.asked import Asked, ask
from qwen3_rag.thinking.bodies import merge
from qwen3_rag.thinking.endpoints import NO_KEY

DEFAULT_MODEL: Final = "qwen-plus"

SAFE_CONTEXT: Final = 32_768
"""Context of a model that is not in the table: every Qwen3 has at least this much."""

_NOT_PICKLED: Final = frozenset({"api_key", "api_base", "callback_manager"})


class Qwen3LLM(StructuredCalling):
    """A chat model that thinks as much as it is told to, on any server that serves Qwen3.

    Every call may have its own `thinking`, `budget`, `evidence`, `extra_body`, `model`, `temperature` and so on, and never
    changes the instance. Reasoning is a `ThinkingBlock` before the text, and in a stream
    `additional_kwargs["thinking_delta"]`; it goes back to the server where the model's contract wants it. The last response
    of a call holds in `additional_kwargs` the tokens (`prompt_tokens`, `completion_tokens`, `total_tokens`,
    `reasoning_tokens`, `cached_tokens`, `cache_creation_tokens`) and what was done and why (`thinking`, `notes`, `healed`,
    `finish_reason`, `request_id`). Text up to a `CachePoint` block is kept in DashScope's explicit context cache.

    Failures of the server are raised as `qwen3_rag.errors.ChatError`s, inside streams too, with what had arrived.

    Example:
        ```python
        from llama_index.core.llms import ChatMessage
        from qwen3_rag.llama_index import Qwen3LLM
        from qwen3_rag.thinking import ThinkingBudget

        llm = Qwen3LLM("qwen-plus", thinking="auto", budget=ThinkingBudget(100_000))
        response = llm.chat([ChatMessage("Is 9.11 larger than 9.9?")], thinking=2048)
        local = Qwen3LLM("Qwen/Qwen3-8B", base_url="http://localhost:8000/v1", thinking=False)
        ```

    Args:
        model: The model's name, as its server knows it.
        thinking: `True`, `False`, `"low"`, `"medium"`, `"high"`, a number of tokens, `"auto"`, a `ThinkingPolicy`, or
            `None` for the model's own default.
        budget: A session's budget of reasoning tokens, shared with other calls and models.
        base_url: The server; else it follows from `region` and `workspace_id`, or the environment. See
            `qwen3_rag.thinking.resolve_endpoint`.
        region: A region of DashScope.
        workspace_id: A workspace of DashScope.
        dialect: Name of the server's dialect; else it follows from the URL.
        api_key: The key; else it comes from the environment. It is in no repr, and neither serialised nor pickled.
        temperature: Sampling temperature; `None` leaves it to the server. (LlamaIndex's own default, 0.1, is near to greedy
            decoding, which Qwen3's cards warn about.)
        extra_body: Fields of the request that the `openai` package does not know; they win over ours. A call's own are
            merged deeply over these.
        additional_kwargs: Arguments of every call that have no field here, `top_p` for example.
        context_window: The model's context, if it is not known.
        timeout: Seconds to wait for an answer, and in a stream for the next piece of it.
        api_base: Another name of `base_url`.
        **options: What `OpenAILike` takes: `max_tokens`, `max_retries`, `strict`, `system_prompt`, `callback_manager`,
            `default_headers`, `http_client`, `async_http_client`, `is_function_calling_model`, …

    Raises:
        ConfigurationError: If an argument has a value that cannot work, or a key is missing.
    """

    budget: Any = Field(default=None, exclude=True, description="A ThinkingBudget that calls share.")
    base_url: str | None = Field(default=None, description="The server, as it was given.")
    region: str | None = Field(default=None, description="DashScope's region, as it was given.")
    workspace_id: str | None = Field(default=None, description="DashScope's workspace, as it was given.")
    dialect: str | None = Field(default=None, description="The server's dialect, as it was given.")
    temperature: float | None = Field(default=None, ge=0, le=2)  # type: ignore[assignment]  # the base always sends one
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]  # shown as str
    api_base: str | None = Field(default=None, exclude=True, description="The server that was found.")

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        thinking: Thinking = None,
        budget: ThinkingBudget | None = None,
        base_url: str | None = None,
        region: str | None = None,
        workspace_id: str | None = None,
        dialect: str | None = None,
        api_key: str | SecretStr | None = None,
        temperature: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        additional_kwargs: Mapping[str, Any] | None = None,
        context_window: int | None = None,
        timeout: float = 600.0,
        api_base: str | None = None,
        **options: Any,
    ) -> None:
        base_url = one_url(base_url, api_base)
        endpoint = resolve_endpoint(
            base_url=base_url, region=region, workspace_id=workspace_id, dialect=dialect, api_key=api_key
        )
        rest, body = sort_options(options, type(self).model_fields)
        given = dict(additional_kwargs or {})
        check_arguments(given)
        body = merge({**(given.pop("extra_body", None) or {}), **body}, extra_body or {})
        fields = {**rest, "is_function_calling_model": rest.get("is_function_calling_model", True)}
        with refusals():
            super().__init__(
                model=model,
                thinking=read_policy(thinking),
                budget=checked("budget", budget, ThinkingBudget),
                base_url=base_url,
                region=region,
                workspace_id=workspace_id,
                dialect=dialect,
                temperature=temperature,  # None is not sent
                additional_kwargs=given | ({"extra_body": body} if body else {}),
                context_window=context_window or chat_facts(model).context_tokens or SAFE_CONTEXT,
                timeout=timeout,
                api_base=endpoint.base_url,
                api_key=NO_KEY,  # the base class would look for OpenAI's
                is_chat_model=True,
                **fields,
            )
        self.api_key = endpoint.api_key
        self._endpoint = endpoint

    @classmethod
    def class_name(cls) -> str:
        """Returns the name that LlamaIndex serialises."""
        return "Qwen3LLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks about a model."""
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens or -1,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model,
        )

    # Sending and reading: sync and async differ in nothing but the sending.

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return deque(self._exchange(self._ask(messages, kwargs, stream=False)), maxlen=1).pop()

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        responses = [response async for response in self._aexchange(self._ask(messages, kwargs, stream=False))]
        return responses[-1]

    def _stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        return self._exchange(self._ask(messages, kwargs, stream=True))

    async def _astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        return self._aexchange(self._ask(messages, kwargs, stream=True))

    def _exchange(self, asked: Asked) -> Generator[ChatResponse, None, None]:
        for exchange in exchanges(asked):
            with exchange, self._connected() as client:
                if exchange.plan.stream:
                    with client.chat.completions.create(**exchange.request()) as stream:
                        exchange.opened(stream.response.headers)
                        for chunk in stream:
                            yield from exchange.read(chunk)
                else:
                    raw = client.chat.completions.with_raw_response.create(**exchange.request())
                    exchange.opened(raw.headers)
                    yield from exchange.read(raw.parse())
                yield from exchange.end()

    async def _aexchange(self, asked: Asked) -> AsyncGenerator[ChatResponse, None]:
        for exchange in exchanges(asked):
            with exchange:
                async with self._aconnected() as client:
                    if exchange.plan.stream:
                        async with await client.chat.completions.create(**exchange.request()) as stream:
                            exchange.opened(stream.response.headers)
                            async for chunk in stream:
                                for response in exchange.read(chunk):
                                    yield response
                    else:
                        raw = await client.chat.completions.with_raw_response.create(**exchange.request())
                        exchange.opened(raw.headers)
                        for response in exchange.read(raw.parse()):
                            yield response
                    for response in exchange.end():
                        yield response

    def _ask(self, messages: Sequence[ChatMessage], options: Mapping[str, Any], *, stream: bool) -> Asked:
        taken = {"thinking", "budget", "evidence", "extra_body"}
        rest = {name: value for name, value in options.items() if name not in taken}
        if (several := rest.get("n")) not in (None, 1):
            raise ConfigurationError(f"n={several!r}: a ChatResponse of LlamaIndex has room for one answer; call again")
        logprobs = {"logprobs": True, "top_logprobs": self.top_logprobs} if self.logprobs else {}
        fields = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens, **logprobs}
        payload = {**fields, **self.additional_kwargs, **rest}
        return ask(
            {**{name: value for name, value in payload.items() if value is not None}, "messages": to_wire(messages)},
            reasoning=[Pieces(reasoning=text, details=details) for text, details in map(reasoning_of, messages)],
            question=question_of(messages),
            parameters=sdk_parameters(),
            endpoint=self._endpoint,
            policy=call_policy(self.thinking, options),
            budget=checked("budget", options.get("budget", self.budget), ThinkingBudget),
            evidence=checked("evidence", options.get("evidence"), Evidence),
            extra_body=options.get("extra_body"),
            stream=stream,
        )

    def _use_chat_completions(self, kwargs: dict[str, Any]) -> bool:  # noqa: ARG002 - the base class asks per call
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle has no key: that comes from the environment again.
        settings = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_PICKLED}
        clients = {"http_client": self._http_client, "async_http_client": self._async_http_client}
        return _restore, (
            type(self),
            settings | {name: client for name, client in clients.items() if client is not None},
        )


def _restore(cls: type[Qwen3LLM], settings: Mapping[str, Any]) -> Qwen3LLM:
    return cls(**settings)
