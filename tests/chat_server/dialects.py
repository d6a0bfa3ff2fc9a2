"""The faces of the server: how each of the servers reads its switches, what it refuses, and how it spells what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chat_server import dashscope, overflow
from tests.chat_server.catalogue import Served, find
from tests.chat_server.refusals import Refusal
from tests.chat_server.wire import Spelling

Body = Mapping[str, Any]
Switch = tuple[bool, int | None]  # thinks, budget
LOCAL = Served(forced="any", json="obeyed", schema=True, lists=True, images=True, stream="never")
_EFFORTS = {
    "minimal": 4096,
    "low": 4096,
    "medium": 16384,
    "high": 262144,
    "xhigh": 262144,
    "max": 262144,
    "ultra": 262144,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One dialect.

    Attributes:
        name: As `ChatServer.url_for` takes it.
        path: What its URLs begin with.
        spelling: How answers are written.
        switch: Reads whether a request thinks, and its budget.
        check: Refuses a request for a model that is known, or returns None.
        cloud: Wants the key, and knows only the models of the catalogue.
        hub_names: A cloud whose names are those of the model hub.
        obeys_choice: Takes `tool_choice`; Ollama doesn't.
        usage: "details", "plain" (no reasoning tokens), "cost" (OpenRouter).
        hidden: Whether a request wants its reasoning left out of the answer.
        raw: Whether a request wants its reasoning inline.
        comment: What a stream begins with.
    """

    name: str
    path: str
    spelling: Spelling
    switch: Callable[[Body, Served], Switch]
    check: Callable[[Body, Served], Refusal | None] = lambda body, served: None
    cloud: bool = False
    hub_names: bool = False
    obeys_choice: bool = True
    usage: str = "plain"
    hidden: Callable[[Body], bool] = lambda body: False
    raw: Callable[[Body], bool] = lambda body: False
    comment: str = ""
    too_long: Callable[[int, int], Refusal] = overflow.dashscope


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _settle(body: Body, served: Served, on: bool | None, budget: int | None = None) -> Switch:
    """What a switch comes to: models that can't be switched do what they do, 2504 models obey the text too."""
    on = served.on if on is None else on
    if served.thinking != "hybrid":
        on = served.thinking == "always"
    elif on and served.soft_switch:
        on = dashscope.soft_switch(body.get("messages", ()), default=True)
    return on, budget


def _template(body: Body) -> bool | None:
    value = _mapping(body.get("chat_template_kwargs")).get("enable_thinking")
    return None if value is None else bool(value)


def _vllm(body: Body, served: Served) -> Switch:
    return _settle(body, served, _template(body), body.get("thinking_token_budget"))


def _sglang(body: Body, served: Served) -> Switch:
    return _settle(body, served, _template(body), _mapping(body.get("custom_params")).get("thinking_budget"))


def _llamacpp(body: Body, served: Served) -> Switch:
    on = False if body.get("reasoning_effort") == "none" else _template(body)
    budget = body.get("thinking_budget_tokens", body.get("reasoning_budget_tokens"))
    return _settle(body, served, on, budget if budget != -1 else None)


def _by_text(body: Body, served: Served) -> Switch:
    return _settle(body, served, None)


def _ollama(body: Body, served: Served) -> Switch:
    effort = body.get("reasoning_effort") or _mapping(body.get("reasoning")).get("effort")
    return _settle(body, served, None if effort is None else effort != "none", _EFFORTS.get(effort))


def _check_ollama(body: Body, served: Served) -> Refusal | None:
    effort = body.get("reasoning_effort") or _mapping(body.get("reasoning")).get("effort")
    if effort is not None and effort not in {"none", "low", "medium", "high"}:
        message = f'invalid reasoning value: \'{effort}\' (must be "high", "medium", "low", or "none")'
        return Refusal(400, None, message)
    return None


def _openrouter(body: Body, served: Served) -> Switch:
    asked = _mapping(body.get("reasoning"))
    effort, budget = asked.get("effort"), asked.get("max_tokens")
    on = asked.get("enabled")
    if on is None and (effort is not None or budget is not None):
        on = effort != "none"
    return _settle(body, served, on, budget or _EFFORTS.get(effort))


def _check_openrouter(body: Body, served: Served) -> Refusal | None:
    asked = _mapping(body.get("reasoning"))
    if asked.get("effort") is not None and asked.get("max_tokens") is not None:
        message = 'Only one of "reasoning.effort" and "reasoning.max_tokens" can be specified'
        return Refusal(400, 400, message, style="openrouter")
    return None


def _deepseek(body: Body, served: Served) -> Switch:
    kind = _mapping(body.get("thinking")).get("type", "enabled")
    return _settle(body, served, kind != "disabled", _EFFORTS.get(body.get("reasoning_effort", "")))


MISSING_REASONING = "The `reasoning_content` in the thinking mode must be passed back to the API."
DEEPSEEK_FORCED = "Thinking mode does not support this tool_choice"


def _of_tool_turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The assistant messages of turns, between two user messages, in which tools were called.

    Their reasoning "must be fully passed back in all subsequent requests", that of other turns is ignored
    (https://api-docs.deepseek.com/guides/thinking_mode). An empty one may be there, but must be.
    """
    turn: list[Mapping[str, Any]] = []
    for one in (*messages, {"role": "user"}):
        if one.get("role") == "assistant":
            turn.append(one)
        elif one.get("role") == "user":
            if any(m.get("tool_calls") for m in turn):
                yield from turn
            turn = []


def _check_deepseek(body: Body, served: Served) -> Refusal | None:
    effort = body.get("reasoning_effort")
    code = "invalid_request_error"
    if effort is not None and effort not in _EFFORTS:
        return Refusal(400, code, f"unknown variant `{effort}`, expected one of `low`, `high`, `max`")
    if not _deepseek(body, served)[0]:
        return None
    if dashscope.forced(body):
        return Refusal(400, code, DEEPSEEK_FORCED)
    if any(m.get("reasoning_content") is None for m in _of_tool_turns(body.get("messages", ()))):
        return Refusal(400, code, MISSING_REASONING)
    return None


def _modelscope(body: Body, served: Served) -> Switch:
    return dashscope.thinking(body, served)


def _check_modelscope(body: Body, served: Served) -> Refusal | None:
    if dashscope.thinking(body, served)[0] and not body.get("stream"):
        return Refusal(400, None, "enable thinking can not be support when `stream=False`.")
    return None


_CONTENT, _REASONING = Spelling(), Spelling(field="reasoning")
_INLINE = Spelling(field="inline")
_DASHSCOPE = Spelling(nulls=True)
_CLOUD: dict[str, Any] = {"cloud": True, "usage": "details"}

FACES: Mapping[str, Face] = {
    face.name: face
    for face in (
        Face(
            name="dashscope",
            path="/compatible-mode/v1",
            spelling=_DASHSCOPE,
            switch=dashscope.thinking,
            check=dashscope.check,
            **_CLOUD,
        ),
        Face(
            name="modelscope",
            path="/modelscope/v1",
            spelling=_DASHSCOPE,
            switch=_modelscope,
            check=_check_modelscope,
            hub_names=True,
            **_CLOUD,
        ),
        Face(
            name="siliconflow",
            path="/siliconflow/v1",
            spelling=_DASHSCOPE,
            switch=_modelscope,
            hub_names=True,
            **_CLOUD,
        ),
        Face(name="vllm", path="/vllm/v1", spelling=_REASONING, switch=_vllm, too_long=overflow.vllm),
        Face(name="vllm-legacy", path="/vllm-legacy/v1", spelling=_CONTENT, switch=_vllm, too_long=overflow.vllm),
        Face(
            name="sglang",
            path="/sglang/v1",
            spelling=_CONTENT,
            switch=_sglang,
            raw=lambda body: body.get("separate_reasoning") is False,
            too_long=overflow.sglang,
        ),
        Face(
            name="llamacpp",
            path="/llamacpp/v1",
            spelling=_CONTENT,
            switch=_llamacpp,
            raw=lambda body: body.get("reasoning_format") == "none",
            too_long=overflow.llamacpp,
        ),
        Face(
            name="ollama",
            path="/ollama/v1",
            spelling=Spelling(field="reasoning", whole_calls=True),
            switch=_ollama,
            check=_check_ollama,
            obeys_choice=False,
            too_long=overflow.llamacpp,
        ),
        Face(
            name="openrouter",
            path="/openrouter/api/v1",
            spelling=Spelling(field="reasoning", details=True),
            switch=_openrouter,
            check=_check_openrouter,
            cloud=True,
            hub_names=True,
            usage="cost",
            hidden=lambda body: bool(_mapping(body.get("reasoning")).get("exclude")),
            comment=": OPENROUTER PROCESSING\n\n",
            too_long=overflow.openrouter,
        ),
        Face(
            name="deepseek",
            path="/deepseek/v1",
            spelling=_CONTENT,
            switch=_deepseek,
            check=_check_deepseek,
            too_long=overflow.deepseek,
            **_CLOUD,
        ),
        Face(name="lmstudio", path="/lmstudio/v1", spelling=_INLINE, switch=_by_text, too_long=overflow.lmstudio),
        Face(
            name="lmstudio-separate",
            path="/lmstudio-separate/v1",
            spelling=_CONTENT,
            switch=_by_text,
            too_long=overflow.lmstudio,
        ),
        Face(name="tgi", path="/tgi/v1", spelling=_INLINE, switch=_by_text, too_long=overflow.tgi),
    )
}


def served_by(face: Face, name: str) -> Served | None:
    """What a face serves under a name; a local server serves anything, and thinks by default if nobody knows better."""
    known = find(name)
    if face.cloud:
        return known
    if known is None:
        return LOCAL
    return Served(
        thinking=known.thinking,
        on=True if known.thinking == "hybrid" else known.on,
        soft_switch=known.soft_switch,
        lone_tag=known.lone_tag,
        schema=True,
        json="obeyed",
        images=True,
    )
