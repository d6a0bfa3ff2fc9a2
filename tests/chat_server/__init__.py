"""A chat server on the loopback that behaves as DashScope, and eight other servers, are documented to.

Real sockets, HTTP/1.1 keep-alive, server-sent events in chunked encoding. One server has a *face* per dialect: the
same small deterministic model (`script.py`), spelled as that server spells it, in and out. A switch in the wrong
spelling is ignored, as real servers do, so a wrong translation shows as an answer that thinks.

Use::

    from tests.chat_server import KEY, ChatServer

    @pytest.fixture
    def server():
        with ChatServer() as server:          # or ChatServer(context_tokens=200) to provoke overflows
            yield server

    server.url                                # DashScope's face: http://127.0.0.1:PORT/compatible-mode/v1
    server.url_for("vllm")                    # FACES: dashscope modelscope siliconflow vllm vllm-legacy sglang llamacpp
                                              #   ollama openrouter deepseek lmstudio lmstudio-separate tgi
    KEY                                       # the only key that the cloud faces accept; local faces take any

Models of DashScope's face are those of `catalogue.py`, e.g. qwen3.8-flash (hybrid, refuses a forced tool), qwen3.7-max
(hybrid, json_schema while thinking), qwen-plus (hybrid, off by default), qwen3-8b (stream-only while it thinks),
qwq-plus (thinks always, stream-only), qwen3-max, qwen3-coder-plus (never thinks), qwen3-vl-plus (images); an unknown one
is a 404. Local faces serve any name (qwen3-coder and *-instruct-2507 never think, *-thinking-2507 always does).

What was asked::

    server.requests                           # list of Recorded: method, path, face, headers (lower case), body (JSON),
                                              #   status, thinks (what the server made of the switch), aborted
    server.last                               # the latest one;  server.bodies: the bodies of all chat requests
    server.clear()                            # forgets the requests, the scripted replies and the faults
    server.settled()                          # waits until nothing is being answered, e.g. after a cancellation
    post(server, "vllm", model="qwen3:8b", stream=True)   # `raw.py`: post, said, events, a bare HTTP client

What is answered. Without a script: reasoning that begins with `MARK` ("Let me think") where the request thinks, then an
answer of a few sentences that names the model and quotes the question; a tool is called when it is forced, named, or its
description has words of the question; tool results are repeated in the answer; response formats are obeyed. Scripted
replies are what the model says, once the request passed the checks (a 400 uses none up), first in, first out::

    server.reply("The answer.", reasoning="Let me think.")
    server.reply(tool_calls=[("get_weather", {"city": "Paris"})])         # args may be a str, also broken JSON
    server.reply(deltas=[{"role": "assistant", "content": ""}, {"content": "<thi"}, {"content": "nk>a</think>b"}])
    server.reply(message={"role": "assistant", "content": "whole"}, finish_reason="length", usage=None)
    server.reply(raw=b"...", status=200, content_type="text/html")        # bytes as they are, no check before
    #   deltas and message are sent as they are, and are turned into each other for a call that is (not) streamed
    #   times=3 | None (for ever); pause=0.05 seconds before each event; when=lambda request: ... chooses the requests

DeepSeek's face wants `reasoning_content` back on every assistant message of a turn with tool calls, in later turns too.

Faults, `FAULTS` (name -> Fault), before any check::

    server.fail("rate_limit_seconds_once")    # as often as the fault says (`_once`: once), or times=..., None: for ever
    for name in fault_names(stream=True):     # those that make sense in a stream
        FAULTS[name].ends(stream=True)        # "success" or the name of a class of qwen3_rag.errors
        FAULTS[name].heard                    # Heard(reasoning, text, tool): what had arrived before a cut
        FAULTS[name].slow                     # needs a client timeout (the server waits `server.delay` = 3 s)
"""

from tests.chat_server.faults import FAULTS, Fault, Heard, fault_names
from tests.chat_server.script import MARK
from tests.chat_server.server import FACES, KEY, ChatServer, Recorded

__all__ = ["FACES", "FAULTS", "KEY", "MARK", "ChatServer", "Fault", "Heard", "Recorded", "fault_names"]
