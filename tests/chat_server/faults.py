"""Everything that can go wrong on the wire, in one table, and what each has to end in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from tests.chat_server.outages import BUSY, MODERATED, PASSING, REFUSALS, STREAM_ONLY
from tests.chat_server.refusals import Refusal, invalid
from tests.chat_server.script import MARK, Answer, ToolCall

if TYPE_CHECKING:
    from tests.chat_server.exchange import Exchange

SUCCESS = "success"
_THOUGHTS, _WORDS = f"{MARK} about this one", "The answer begins with"
_CALL = ToolCall("get_weather", '{"city": "Pa', "call_cut")


@dataclass(frozen=True, slots=True)
class Heard:
    """What had arrived in a stream when it broke; `tool` is the name of the tool whose call had begun."""

    reasoning: str = ""
    text: str = ""
    tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail.

    Attributes:
        play: Does it, for one request.
        whole: What a call that is not streamed ends in: "success", the name of a class of `qwen3_rag.errors`, or None
            where the fault makes no sense there.
        streamed: The same for a streamed call.
        times: How many requests fail; None for all.
        heard: What had arrived.
        slow: The client needs a timeout below `ChatServer.delay`.
        waits: Seconds that a client has to wait at least before it tries again (`Retry-After`).
    """

    name: str
    play: Callable[[Exchange], None]
    whole: str | None
    streamed: str | None
    times: int | None = None
    heard: Heard = field(default_factory=Heard)
    slow: bool = False
    waits: float = 0.0

    def ends(self, *, stream: bool) -> str:
        """What a call has to end in."""
        out = self.streamed if stream else self.whole
        assert out is not None, f"{self.name} makes no sense with stream={stream}"
        return out


def _refuse(refusal: Refusal) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.refuse(refusal)


def _both(name: str, ends: str, play: Callable[[Exchange], None], **more: Any) -> Fault:
    return Fault(name=name, play=play, whole=ends, streamed=ends, **more)


def _date(exchange: Exchange) -> None:
    when = formatdate(time.time() + 2, usegmt=True)  # whole seconds: from 1 to 2 seconds ahead
    exchange.refuse(replace(BUSY, headers={"Retry-After": when}))


def _needs_stream(message: str) -> Callable[[Exchange], None]:
    def play(exchange: Exchange) -> None:
        if exchange.stream:
            exchange.answer()
        else:
            exchange.refuse(invalid(message))

    return play


def _slow_headers(exchange: Exchange) -> None:
    exchange.wait()
    exchange.answer()


def _slow_body(exchange: Exchange) -> None:
    if exchange.stream:
        _begin(exchange, Answer(_WORDS, _THOUGHTS))
        exchange.wait()
        exchange.cut()
    else:
        exchange.cut_body(wait=True)


def _begin(exchange: Exchange, answer: Answer) -> None:
    """Opens a stream and sends an answer without its end."""
    exchange.open_stream()
    *parts, _ = exchange.deltas(replace(answer, finish="length"))
    for part in parts:
        exchange.event(exchange.chunk(part))


def _cut(answer: Answer) -> Callable[[Exchange], None]:
    def play(exchange: Exchange) -> None:
        if exchange.stream:
            _begin(exchange, answer)
            exchange.cut()
        else:
            exchange.cut_body()

    return play


def _error_event(code: str, message: str) -> Callable[[Exchange], None]:
    def play(exchange: Exchange) -> None:
        _begin(exchange, Answer(_WORDS, _THOUGHTS))
        exchange.event(Refusal(200, code, message, code).body(exchange.request.request_id))
        exchange.end_stream(done=False)

    return play


def _events(*events: str | Callable[[Exchange], Any], done: bool) -> Callable[[Exchange], None]:
    """A stream that begins well and goes on with these events: text as it is, or made for the exchange."""

    def play(exchange: Exchange) -> None:
        _begin(exchange, Answer(_WORDS, _THOUGHTS))
        for event in events:
            exchange.event(event if isinstance(event, str) else event(exchange))
        exchange.end_stream(done=done)

    return play


def _empty_choices(exchange: Exchange) -> None:
    if exchange.stream:
        exchange.open_stream()
        exchange.event({**exchange.chunk({}), "choices": []})
        exchange.end_stream()
    else:
        exchange.send_json(200, {**exchange.completion(Answer()), "choices": []})


def _malformed(exchange: Exchange) -> None:
    exchange.send(200, json.dumps(exchange.completion(Answer(_WORDS)))[:-40].encode(), "application/json")


def _html(status: int) -> Callable[[Exchange], None]:
    page = b"<html><head><title>Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
    return lambda exchange: exchange.send(status, page, "text/html")


def _error_in_200(exchange: Exchange) -> None:
    exchange.send_json(200, {"error": {"message": "Provider returned error", "code": 502}, "user_id": "user_1"})


_HEARD = Heard(_THOUGHTS, _WORDS)


def _table() -> Iterable[Fault]:
    for name, (ends, refusal) in REFUSALS.items():
        yield _both(name, ends, _refuse(refusal))
    for name, refusal in PASSING.items():
        yield _both(name, SUCCESS, _refuse(refusal), times=1)
    seconds = replace(BUSY, headers={"Retry-After": "1"})
    yield _both("rate_limit_seconds_once", SUCCESS, _refuse(seconds), times=1, waits=0.9)
    yield _both("rate_limit_date_once", SUCCESS, _date, times=1, waits=0.9)
    for name, message in STREAM_ONLY.items():
        yield _both(name, SUCCESS, _needs_stream(message))
    yield _both("slow_headers", "ServerTimeoutError", _slow_headers, slow=True)
    yield Fault(
        name="slow_body",
        play=_slow_body,
        whole="ServerTimeoutError",
        streamed="StreamError",
        heard=_HEARD,
        slow=True,
    )
    yield _both("cut_before_headers", "ServerConnectionError", lambda exchange: exchange.cut())
    yield _both("cut_before_headers_once", SUCCESS, lambda exchange: exchange.cut(), times=1)
    for name, said, heard in (
        ("cut_in_reasoning", Answer("", _THOUGHTS), Heard(_THOUGHTS)),
        ("cut_in_answer", Answer(_WORDS, _THOUGHTS), _HEARD),
        ("cut_in_tool_call", Answer("", _THOUGHTS, (_CALL,)), Heard(_THOUGHTS, "", _CALL.name)),
    ):
        yield Fault(name=name, play=_cut(said), whole="ServerConnectionError", streamed="StreamError", heard=heard)
    for name, ends, code, message in (
        ("error_event", "StreamError", "internal_error", "An internal error has occured."),
        ("error_event_moderation", "ModerationError", "data_inspection_failed", f"Output {MODERATED}"),
    ):
        yield Fault(name=name, play=_error_event(code, message), whole=None, streamed=ends, heard=_HEARD)
    yield Fault(name="malformed_json", play=_malformed, whole="ResponseError", streamed=None)
    broken = _events('{"id": "chatcmpl-1", "choices": [{"delta"', done=True)
    yield Fault(name="malformed_chunk", play=broken, whole=None, streamed="ResponseError", heard=_HEARD)
    yield _both("empty_choices", "ResponseError", _empty_choices)
    yield _both("no_usage", SUCCESS, lambda exchange: exchange.answer(usage=None))
    yield Fault(name="no_done", play=lambda exchange: exchange.answer(done=False), whole=None, streamed=SUCCESS)
    yield Fault(name="no_finish", play=_events(done=False), whole=None, streamed="StreamError", heard=_HEARD)
    yield _both("html_error_page", "ServerError", _html(502))
    yield Fault(name="html_page", play=_html(200), whole="ResponseError", streamed=None)
    yield Fault(name="error_in_200", play=_error_in_200, whole="ServerError", streamed=None)


FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _table()}


def fault_names(*, stream: bool, slow: bool = True) -> list[str]:
    """The names of the faults that make sense for a call that is (not) streamed; without the slow ones if asked."""
    chosen = (f for f in FAULTS.values() if (f.streamed if stream else f.whole) is not None and (slow or not f.slow))
    return [fault.name for fault in chosen]
