"""One request being answered: reading it, making the answer, writing it to the socket."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Literal

from tests.chat_server import dashscope, script, wire
from tests.chat_server.catalogue import Served
from tests.chat_server.dialects import LOCAL, Face, served_by
from tests.chat_server.refusals import Refusal
from tests.chat_server.script import Answer, Ask, ToolCall

if TYPE_CHECKING:
    from tests.chat_server.server import ChatServer

Usage = Mapping[str, Any] | Literal["auto"] | None


class ClientGoneError(Exception):
    """The client closed the connection, or the server cut it."""


@dataclass(slots=True)
class Recorded:
    """A request as it came, and what became of it."""

    method: str
    path: str
    face: str | None
    headers: Mapping[str, str]  # names in lower case
    body: Any  # parsed JSON; None without one
    at: float = field(default_factory=time.monotonic)  # seconds
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: int | None = None  # None while it runs, or when it was cut before its headers
    thinks: bool | None = None  # what the server made of the switch; None if it was refused before
    aborted: bool = False  # the client went away before the answer was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a test scripted; see the package's docstring."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    deltas: tuple[Mapping[str, Any], ...] | None = None
    message: Mapping[str, Any] | None = None
    usage: Usage = "auto"
    raw: bytes | None = None
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0
    done: bool = True

    def answer(self) -> Answer:
        finish = self.finish_reason or ("tool_calls" if self.tool_calls else "stop")
        return Answer(self.text, self.reasoning, self.tool_calls, finish)

    def finish(self, message: Mapping[str, Any]) -> str:
        return self.finish_reason or ("tool_calls" if message.get("tool_calls") else "stop")


class Exchange:
    """One chat request and its answer, in one dialect."""

    def __init__(self, server: ChatServer, handler: BaseHTTPRequestHandler, face: Face, request: Recorded) -> None:
        self.server, self.face, self.request = server, face, request
        self._handler = handler
        self.body: Mapping[str, Any] = request.body if isinstance(request.body, Mapping) else {}
        self.stream = bool(self.body.get("stream"))
        self.model = str(self.body.get("model"))
        self.served: Served = served_by(face, self.model) or LOCAL
        self._created = int(time.time())

    # --- making the answer

    def refusal(self) -> Refusal | None:
        """What this server refuses about the request, or None."""
        if self.face.cloud:
            if self.request.headers.get("authorization") != f"Bearer {self.server.key}":
                return dashscope.WRONG_KEY
            hub_name_here = "/" in self.model and not self.face.hub_names
            if hub_name_here or served_by(self.face, self.model) is None:
                return dashscope.unknown_model(self.model)
        size = sum(wire.count_prompt(self.body.get("messages") or ()))
        if self.server.context_tokens is not None and size > self.server.context_tokens:
            return self.face.too_long(self.server.context_tokens, size)
        return self.face.check(self.body, self.served)

    def ask(self) -> Ask:
        """The request, read in this dialect."""
        body = self.body
        thinks, budget = self.face.switch(body, self.served)
        limit, both = body.get("max_tokens"), self.served.both_limited or not self.face.cloud
        stop = body.get("stop") or ()
        obeys = dashscope.obeys_format(body, self.served) if self.face.name == "dashscope" else True
        return Ask(
            model=self.model,
            messages=body.get("messages") or (),
            thinks=thinks,
            budget=budget,
            tools=body.get("tools") or (),
            tool_choice=body.get("tool_choice") if self.face.obeys_choice else None,
            parallel=body.get("parallel_tool_calls") is not False,
            response_format=body.get("response_format"),
            obeys_format=obeys,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            max_answer=None if both else limit,
            max_all=body.get("max_completion_tokens") or (limit if both else None),
        )

    def written(self, answer: Answer) -> Answer:
        """The answer with its reasoning where this dialect, and this request, want it."""
        if self.face.spelling.field == "inline":
            return wire.inline(answer, lone=self.served.lone_tag, empty=self.served.soft_switch)
        if self.face.raw(self.body):
            return wire.inline(answer, lone=self.served.lone_tag)
        return replace(answer, reasoning="") if self.face.hidden(self.body) else answer

    def deltas(self, answer: Answer) -> Iterable[dict[str, Any]]:
        return wire.deltas(self.written(answer), self.face.spelling)

    def usage(self, answers: Iterable[Answer]) -> dict[str, Any]:
        messages = self.body.get("messages") or ()
        out = wire.usage(list(answers), messages, self.served, self.server.look_in_cache(messages))
        if self.face.usage == "plain":
            out.pop("completion_tokens_details")
            out.pop("prompt_tokens_details")
        if self.face.name == "deepseek":
            read = (out["prompt_tokens_details"] or {}).get("cached_tokens", 0)
            out |= {"prompt_cache_hit_tokens": read, "prompt_cache_miss_tokens": out["prompt_tokens"] - read}
        return {**out, "cost": 0.0001 * out["total_tokens"]} if self.face.usage == "cost" else out

    def _envelope(self, kind: str) -> dict[str, Any]:
        out = {
            "id": f"chatcmpl-{self.request.request_id}",
            "object": kind,
            "created": self._created,
            "model": self.model,
            "system_fingerprint": None,
        }
        return {**out, "provider": "Alibaba"} if self.face.name == "openrouter" else out

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
        choice = {"index": index, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        return {**self._envelope("chat.completion.chunk"), "choices": [choice], "usage": None}

    def completion(self, *answers: Answer, usage: Usage = "auto") -> dict[str, Any]:
        messages = [(wire.message(self.written(a), self.face.spelling), a.finish) for a in answers]
        return self._whole(messages, self.usage(answers) if usage == "auto" else usage)

    def _whole(self, messages: Iterable[tuple[Mapping[str, Any], str]], usage: Any) -> dict[str, Any]:
        choices = [
            {"index": i, "message": dict(m), "finish_reason": finish, "logprobs": None}
            for i, (m, finish) in enumerate(messages)
        ]
        return {**self._envelope("chat.completion"), "choices": choices, "usage": usage}

    # --- sending it

    def answer(self, reply: Reply | None = None, *, usage: Usage = "auto", done: bool = True) -> None:
        """Checks the request and answers it: by the script of a test, or by the model."""
        refusal = self.refusal()
        if refusal is not None:
            self.refuse(refusal)
            return
        ask = self.ask()
        self.request.thinks = ask.thinks
        reply = reply or self.server.next_reply(self.request)
        if reply is not None and (reply.deltas is not None or reply.message is not None):
            self._scripted(reply)
            return
        if reply is not None:
            answers, usage, done, pause = [reply.answer()], reply.usage, reply.done, reply.pause
        else:
            first = script.answer(ask)
            count = 1 if ask.thinks else self.body.get("n") or 1
            answers = [first, *(replace(first, text=f"{first.text} ({i + 1})") for i in range(1, count))]
            pause = 0.0
        if self.stream:
            parts = [(i, part, a.finish) for i, a in enumerate(answers) for part in _ends(self.deltas(a))]
            self._send_stream(parts, self.usage(answers) if usage == "auto" else usage, pause=pause, done=done)
        else:
            self.wait(pause)
            self.send_json(200, self.completion(*answers, usage=usage))

    def _scripted(self, reply: Reply) -> None:
        message = dict(reply.message) if reply.message is not None else wire.merge(reply.deltas or ())
        finish = reply.finish(message)
        told = Answer(
            str(message.get("content") or ""), str(message.get("reasoning_content") or message.get("reasoning") or "")
        )
        usage = self.usage([told]) if reply.usage == "auto" else reply.usage
        if self.stream:
            deltas = reply.deltas if reply.deltas is not None else wire.split(message)
            parts = [(0, part, finish) for part in _ends([*deltas, {}])]
            self._send_stream(parts, usage, pause=reply.pause, done=reply.done)
        else:
            self.wait(reply.pause)
            self.send_json(200, self._whole([(message, finish)], usage))

    def _send_stream(self, parts: Iterable[tuple[int, Any, str]], usage: Any, *, pause: float, done: bool) -> None:
        self.open_stream()
        for index, (part, last), finish in parts:
            self.wait(pause)
            self.event(self.chunk(part, finish if last else None, index))
        asked = (self.body.get("stream_options") or {}).get("include_usage") or self.face.usage == "cost"
        if asked and usage is not None:
            self.event({**self.chunk({}), "choices": [], "usage": usage})
        self.end_stream(done=done)

    def refuse(self, refusal: Refusal) -> None:
        self.send_json(refusal.status, refusal.body(self.request.request_id), refusal.headers)

    def send_json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self.send(status, json.dumps(value, ensure_ascii=False).encode(), "application/json", headers)

    def send(self, status: int, content: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, {"Content-Type": content_type, "Content-Length": str(len(content)), **(headers or {})})
        self._write(content)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.request.status = status
        handler = self._handler
        handler.send_response(status)
        for name, value in {"x-request-id": self.request.request_id, **headers}.items():
            handler.send_header(name, value)
        self._guard(handler.end_headers)

    def _write(self, content: bytes) -> None:
        self._guard(lambda: self._handler.wfile.write(content))

    def _guard(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            self.request.aborted = True
            raise ClientGoneError from error

    def open_stream(self) -> None:
        self._head(200, {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked"})
        if self.face.comment:
            self._piece(self.face.comment)

    def _piece(self, text: str) -> None:
        content = text.encode()
        self._write(b"%x\r\n%s\r\n" % (len(content), content))

    def event(self, value: Any) -> None:
        """Sends one event: JSON, or a text as it is."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self._piece(f"data: {text}\n\n")

    def end_stream(self, *, done: bool = True) -> None:
        if done:
            self.event("[DONE]")
        self._write(b"0\r\n\r\n")

    def cut_body(self, *, wait: bool = False) -> None:
        """Sends half of an answer that is not streamed, then nothing for a while if asked, then cuts."""
        content = json.dumps(self.completion(Answer("An answer that nobody reads to its end."))).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        self._write(content[: len(content) // 2])
        if wait:
            self.wait()
        self.cut()

    def cut(self) -> None:
        """Closes the connection in the middle."""
        self._handler.close_connection = True
        with suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)
        raise ClientGoneError

    def wait(self, seconds: float | None = None) -> None:
        """Waits, `ChatServer.delay` if nothing is said, or until the server closes."""
        self.server.wait(self.server.delay if seconds is None else seconds)


def _ends(deltas: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], bool]]:
    """Each delta, and whether it is the last one."""
    parts = list(deltas)
    return [(part, i == len(parts) - 1) for i, part in enumerate(parts)]
