"""HTTP connections for asyncio that belong to the running event loop.

`langchain-openai` keeps one client for the process, but a kept-alive connection belongs to the loop that opened it: the
second `asyncio.run` of a program would send its request on a dead connection, fail to read the answer, and send, and pay,
again.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TypeAlias
from weakref import WeakKeyDictionary

import openai

from qwen3_rag.thinking.loops import at_shutdown, forget_closed

_Kept: TypeAlias = tuple[openai.DefaultAsyncHttpxClient, object]
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()
_lock = threading.Lock()


def in_this_loop(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    """Returns a copy of a client that uses the connections of the running loop; all such copies share them."""
    loop = asyncio.get_running_loop()
    with _lock:
        forget_closed(_clients)
        if loop not in _clients:
            opened = openai.DefaultAsyncHttpxClient()
            _clients[loop] = opened, at_shutdown(opened.aclose)
        connections, _ = _clients[loop]
    copied = client.copy(http_client=connections)
    copied.organization, copied.project = client.organization, client.project  # else OpenAI's, from the environment
    return copied
