"""HTTP connections for asyncio that belong to the running event loop.

`langchain-openai` keeps one client for the process, but a kept-alive connection belongs to the loop that opened it: the
second `asyncio.run` of a program would send its request on a dead connection, fail to read the answer, and send, and pay,
again.
"""

from __future__ import annotations

import asyncio
import threading
from weakref import WeakKeyDictionary

import openai

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, openai.DefaultAsyncHttpxClient] = WeakKeyDictionary()
_lock = threading.Lock()


def in_this_loop(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    """Returns a copy of a client that uses the connections of the running loop; all such copies share them."""
    loop = asyncio.get_running_loop()
    with _lock:
        connections = _clients.get(loop)
        if connections is None:
            connections = _clients[loop] = openai.DefaultAsyncHttpxClient()
    copied = client.copy(http_client=connections)
    copied.organization, copied.project = client.organization, client.project  # else OpenAI's, from the environment
    return copied
