"""A bare HTTP client of the server, for tests that look at bytes rather than at an adapter."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.chat_server.server import KEY, ChatServer
from tests.chat_server.wire import merge

HELLO = [{"role": "user", "content": "Hello there"}]


def post(server: ChatServer, face: str = "dashscope", key: str = KEY, **body: Any) -> httpx.Response:
    """Sends a chat request; the model and the messages have defaults."""
    body = {"model": "qwen-plus", "messages": HELLO, **body}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(verify=False, timeout=10) as http:  # building a TLS context would take longer than the call
        return http.post(f"{server.url_for(face)}/chat/completions", json=body, headers=headers)


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream; the last one has to be [DONE]."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def said(response: httpx.Response) -> dict[str, Any]:
    """The message of a response, streamed or not."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"] == "application/json":
        return dict(response.json()["choices"][0]["message"])
    return merge([chunk["choices"][0]["delta"] for chunk in events(response) if chunk["choices"]])
