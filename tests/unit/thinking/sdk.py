"""What the real SDK raises for what a server sends; only the network is left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai

KEY = "sk-0123456789abcdef0123456789abcdef"
URL = "https://dashscope.aliyuncs.com/compatible-mode/v1"


def dashscope_body(message: str, code: str = "invalid_parameter_error") -> dict[str, Any]:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return {"error": error, "id": "chatcmpl-1", "request_id": "req-body"}


def refused(status: int, body: Any, headers: dict[str, str] | None = None) -> openai.APIError:
    """Returns the exception of a call that is answered with this status and body."""
    content = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return _raised(lambda request: httpx.Response(status, content=content, headers=headers))


def failed(error: Exception) -> openai.APIError:
    """Returns the exception of a call on whose way this httpx error happens."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    return _raised(fail)


def _raised(handler: Any) -> openai.APIError:
    client = openai.OpenAI(
        api_key=KEY, base_url=URL, max_retries=0, http_client=httpx.Client(transport=httpx.MockTransport(handler))
    )
    with client:
        try:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        except openai.APIError as error:
            return error
    raise AssertionError("the SDK raised nothing")


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response body whose lines come one by one, and which may break off."""

    def __init__(self, lines: list[str], end: Exception | None = None) -> None:
        self._lines, self._end = lines, end

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            yield f"{line}\n\n".encode()
        if self._end is not None:
            raise self._end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def event(delta: dict[str, Any]) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return "data: " + json.dumps(
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    )


def broken_stream(lines: list[str], end: Exception | None = None, *, sync: bool = True) -> tuple[list[dict], Exception]:
    """Streams the lines through the SDK and returns the deltas that came, and what it raised then."""

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(lines, end))

    transport = httpx.MockTransport(handler)
    messages = [{"role": "user", "content": "Hi"}]
    deltas: list[dict] = []

    def run() -> None:
        with openai.OpenAI(api_key=KEY, base_url=URL, http_client=httpx.Client(transport=transport)) as client:
            for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
                deltas.append(chunk.choices[0].delta.model_dump(exclude_none=True))

    async def arun() -> None:
        http_client = httpx.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(api_key=KEY, base_url=URL, http_client=http_client) as client:
            async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True):
                deltas.append(chunk.choices[0].delta.model_dump(exclude_none=True))

    try:
        run() if sync else asyncio.run(arun())
    except (openai.APIError, httpx.HTTPError, ValueError) as error:
        return deltas, error
    raise AssertionError("the stream ended well")
