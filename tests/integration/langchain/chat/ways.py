"""The four ways to call a model, as one function each from model and prompt to the whole message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage

Way = Callable[..., AIMessage]


def invoke(model: Any, prompt: Any, **options: Any) -> AIMessage:
    return model.invoke(prompt, **options)


def ainvoke(model: Any, prompt: Any, **options: Any) -> AIMessage:
    return asyncio.run(model.ainvoke(prompt, **options))


def stream(model: Any, prompt: Any, **options: Any) -> AIMessage:
    chunks = list(model.stream(prompt, **options))
    return sum(chunks[1:], chunks[0])


def astream(model: Any, prompt: Any, **options: Any) -> AIMessage:
    async def run() -> AIMessage:
        chunks = [chunk async for chunk in model.astream(prompt, **options)]
        return sum(chunks[1:], chunks[0])

    return asyncio.run(run())


WAYS: dict[str, Way] = {"invoke": invoke, "ainvoke": ainvoke, "stream": stream, "astream": astream}
STREAMED: dict[str, Way] = {name: way for name, way in WAYS.items() if "stream" in name}
WHOLE: dict[str, Way] = {name: way for name, way in WAYS.items() if "invoke" in name}
