"""`ChatQwen3`: Qwen3 and its kin on DashScope, or on any server that speaks the same protocol, as a LangChain chat model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwen3_rag.errors import ConfigurationError, missing_dependency

try:
    import langchain_openai  # noqa: F401 - says at once which extra is missing
except ImportError as error:
    raise missing_dependency("langchain-openai", "langchain") from error

from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, SecretStr
from typing_extensions import override

from qwen3_rag.langchain._chat_format import Schema
from qwen3_rag.langchain._chat_options import call_option, call_policy, model_profile, shown
from qwen3_rag.langchain._chat_request import check_arguments, question_of, reasoning_of, sdk_parameters, tidy_payload
from qwen3_rag.langchain._chat_sending import SendingChat
from qwen3_rag.langchain._chat_tokens import count_messages
from qwen3_rag.langchain._structured import Method, Wanted, repairing_output, structured_output
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking import DIALECTS, Endpoint, Thinking, ThinkingBudget, ThinkingPolicy, resolve_endpoint
from qwen3_rag.thinking.asked import BODY_PARAMETERS, Asked, ask
from qwen3_rag.thinking.attempt import Attempt
from qwen3_rag.thinking.endpoints import NO_KEY
from qwen3_rag.tokens import estimate_tokens


class ChatQwen3(SendingChat):
    """A chat model that thinks when told to, on whatever server.

    `thinking` is one knob for all servers: `True`, `False`, `"low"`, `"medium"`, `"high"`, a number of reasoning tokens,
    `"auto"`, a `ThinkingPolicy`, or `None` for the model's own default. It can be given here, in `bind`, in a single call,
    or as `config={"configurable": {"thinking": ...}}`, also to a chain that the model is part of; the call (or `bind`) wins
    over the config, and the config over the instance, which no call ever changes. `budget` can be given in the same places,
    and in all but the first `evidence`: how sure retrieval is, for `"auto"`.

    Reasoning comes as standard `reasoning` blocks in `message.content_blocks` and as a string in
    `message.additional_kwargs["reasoning_content"]`, never in the text. What a call did, and why, is in
    `message.response_metadata`: `thinking`, `notes` (what the server could not do of what was asked), `healed` (what its
    refusals have taught), `reasoning_tokens`.

    Args:
        model: Name of the model, as its server has it.
        thinking: Whether, how hard and when to think.
        budget: Reasoning tokens that this model shares with whoever else has the same `ThinkingBudget`.
        region: A region of DashScope: `"cn-beijing"`, `"intl"`, `"us"`, …
        workspace_id: A workspace of DashScope, whose own host is used then.
        base_url: Another server, up to `/v1`.
        api_key: The key; else `DASHSCOPE_API_KEY`, or the variable of the vendor whose host it is. Local servers need none.
        dialect: How the server spells thinking, where its URL does not tell: `"dashscope"`, `"vllm"`, `"sglang"`,
            `"llamacpp"`, `"ollama"`, `"openrouter"`, `"deepseek"`, `"lmstudio"`, `"tgi"`, …
        **options: As for `langchain_openai.ChatOpenAI`: `temperature`, `max_tokens`, `timeout` (600 s by default),
            `max_retries`, `stop`, `extra_body` (merged deeply over what we send, and wins), `output_version`, …; also
            DashScope's own `top_k`, `repetition_penalty`, `enable_search`, … A tokenizer for exact token counts is given
            as `custom_get_token_ids=tokenizer.encode`.

    Raises:
        ConfigurationError: If an option is unknown or can't work, or a key is missing.
        MissingDependencyError: If `langchain-openai` is not installed.

    Example:
        ```python
        from qwen3_rag.langchain import ChatQwen3

        model = ChatQwen3("qwen-plus", thinking="low")
        message = model.invoke("How many r's are in strawberry?")
        print(message.additional_kwargs.get("reasoning_content"), message.text)
        model.invoke("Hello", thinking=False)
        ```
    """

    model_name: str = Field(default="qwen-plus", alias="model")
    thinking: Any = None
    budget: ThinkingBudget | None = Field(default=None, exclude=True)
    dialect: str = "dashscope"
    request_timeout: float | tuple[float, float] | Any | None = Field(default=600.0, alias="timeout")
    stream_usage: bool | None = True
    use_responses_api: bool | None = False

    def __init__(
        self,
        model: str | None = None,
        *,
        thinking: Thinking = None,
        budget: ThinkingBudget | None = None,
        region: str | None = None,
        workspace_id: str | None = None,
        base_url: str | None = None,
        api_key: str | SecretStr | Callable[[], Any] | None = None,
        dialect: str | None = None,
        **options: Any,
    ) -> None:
        ThinkingPolicy.of(thinking)  # to be told now rather than at the first call
        key = options.pop("openai_api_key", None) if api_key is None else api_key
        endpoint = resolve_endpoint(
            base_url=options.pop("openai_api_base", None) if base_url is None else base_url,
            region=region,
            workspace_id=workspace_id,
            dialect=dialect,
            api_key=NO_KEY if callable(key) else key,
        )
        if model is not None:
            options["model_name"] = model
        super().__init__(
            thinking=thinking,
            budget=call_option("budget", budget, {}),
            dialect=endpoint.dialect.name,
            openai_api_base=endpoint.base_url,
            openai_api_key=key if callable(key) else endpoint.api_key,
            **_sorted_options(type(self), options),
        )
        # The SDK and langchain-openai take OpenAI's own from the environment, which is nobody else's business.
        self.openai_organization = options.get("openai_organization", options.get("organization"))
        for client in (self.root_client, self.root_async_client):
            if client is not None:
                client.organization, client.project = self.openai_organization, None

    @property
    def _endpoint(self) -> Endpoint:
        key = self.openai_api_key if isinstance(self.openai_api_key, SecretStr) else SecretStr(NO_KEY)
        return Endpoint(self.openai_api_base or "", DIALECTS[self.dialect], key)

    # What LangChain asks about a model.

    @property
    def _llm_type(self) -> str:
        return "qwen3-chat"

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where a serialised model finds its key again."""
        return {"openai_api_key": next(iter(DIALECTS[self.dialect].key_env), "QWEN3_API_KEY")}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """LangChain can save the model, without its key."""
        return True

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = self.dialect
        return params

    @override
    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        own = {} if self.thinking is None else {"thinking": self.thinking}
        return shown({**own, **super()._get_invocation_params(stop=stop, **kwargs)})

    @override
    def _resolve_model_profile(self) -> ModelProfile:
        return model_profile(self.model_name, chat_facts(self.model_name), DIALECTS[self.dialect])

    def _ask(
        self, messages: LanguageModelInput, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool
    ) -> Asked:
        include_usage = self._should_stream_usage(**options)
        taken = {"thinking", "budget", "evidence", "extra_body", "stream_usage"}
        rest = {name: value for name, value in options.items() if name not in taken}
        converted = self._convert_input(messages).to_messages()
        check_arguments(converted)
        return ask(
            tidy_payload(super()._get_request_payload(converted, stop=stop, **rest)),
            reasoning=[reasoning_of(message) for message in converted],
            question=question_of(converted),
            parameters=sdk_parameters(),
            endpoint=self._endpoint,
            policy=call_policy(self.thinking, options),
            budget=call_option("budget", self.budget, options),
            evidence=call_option("evidence", None, options),
            extra_body=options.get("extra_body"),
            stream=stream,
            include_usage=include_usage,
        )

    @override
    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Returns what a call would send; nothing is reserved or sent."""
        asked = self._ask(input_, stop, {**kwargs, "budget": None}, stream=bool(kwargs.get("stream")))
        return Attempt(asked).request()

    # Tools, structured output, token counts.

    @override
    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: list[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Wraps the model so that it returns objects; thinking stays as it is.

        Args:
            schema: A Pydantic or TypedDict class, a JSON schema or a tool definition.
            method: `"json_schema"`, `"function_calling"` or `"json_mode"`, as for every LangChain model. `None` takes
                `json_schema` where the model guarantees it. Otherwise the schema is offered as a tool; what comes without a
                call of it, or can't be read, is put into JSON by a second call that does not think, with a warning. Such
                a runnable streams its object in one piece.
            include_raw: Whether to return `{"raw", "parsed", "parsing_error"}` instead of raising what can't be parsed.
            strict: Whether the server shall guarantee the schema; by default for `json_schema` only.
            tools: Tools that the model may call besides.
            **kwargs: For `bind`.

        Raises:
            ConfigurationError: If the method is unknown, or does not go with schema or `strict`.
        """
        wanted = Wanted(schema=schema, strict=strict, include_raw=include_raw, tools=tools or (), options=kwargs)
        if method is None and not chat_facts(kwargs.get("model", self.model_name)).json_schema:
            return repairing_output(self, wanted)
        return structured_output(self, wanted, method or "json_schema")

    @override
    def get_num_tokens(self, text: str) -> int:
        """Counts tokens: exactly with `custom_get_token_ids`, else by an estimate that is rather too high."""
        return len(self.custom_get_token_ids(text)) if self.custom_get_token_ids else estimate_tokens(text)

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """Returns token ids.

        Raises:
            ConfigurationError: If the model was given no tokenizer.
        """
        if self.custom_get_token_ids is None:
            raise ConfigurationError(
                "token ids need the model's own tokenizer: pass custom_get_token_ids=tokenizer.encode; get_num_tokens "
                "does without"
            )
        return self.custom_get_token_ids(text)

    @override
    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        *,
        allow_fetching_images: bool = True,
    ) -> int:
        """Counts the tokens of a request in Qwen's chat format, without a download.

        Text counts as `get_num_tokens` does it, an image as a fixed allowance, whatever `allow_fetching_images`.
        """
        wire = super()._get_request_payload(list(messages))["messages"]
        return count_messages(wire, [convert_to_openai_tool(tool) for tool in tools or ()], self.get_num_tokens)


def _sorted_options(cls: type[SendingChat], options: Mapping[str, Any]) -> dict[str, Any]:
    """Puts what is a parameter of the request, but no field of the class, where it belongs, and refuses what is neither."""
    fields = {*cls.model_fields, *(field.alias for field in cls.model_fields.values())}
    kept = {name: value for name, value in options.items() if name in fields}
    body = {name: options[name] for name in options.keys() - fields if name in BODY_PARAMETERS}
    more = {name: options[name] for name in options.keys() - fields - body.keys() if name in sdk_parameters()}
    if unknown := options.keys() - kept.keys() - body.keys() - more.keys():
        names = ", ".join(sorted(map(repr, unknown)))
        raise ConfigurationError(f"unknown option {names}: what only this server knows belongs into extra_body={{…}}")
    if body:
        kept["extra_body"] = {**body, **(kept.get("extra_body") or {})}
    if more:
        kept["model_kwargs"] = {**more, **(kept.get("model_kwargs") or {})}
    return kept
