"""The command `mcp`: serves collections to agents."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from qwen3_rag.cli import chat, view
from qwen3_rag.cli.chat_commands import BaseUrl, Dialect, KeyEnv, Region
from qwen3_rag.cli.options import (
    COLLECTION,
    Candidates,
    Collections,
    Instruction,
    Metric,
    Mode,
    Model,
    Reranker,
    Threshold,
    Token,
    TopN,
    Uri,
)
from qwen3_rag.cli.steps import Retrieval
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL

if TYPE_CHECKING:
    from qwen3_rag.langchain import Qwen3Retriever
    from qwen3_rag.langchain.chains import RagChain

_SIGNALLED: Final = 128
"""Exit status of a process that a signal ended, before the signal's number."""


def mcp_command(
    *,
    uri: Uri = "./milvus.db",
    collection: Collections = None,
    token: Token = None,
    metric: Metric = "COSINE",
    model: Model = DEFAULT_EMBEDDING_MODEL,
    reranker: Reranker = None,
    mode: Mode = "dense",
    k: Candidates = 10,
    top_n: TopN = 3,
    score_threshold: Threshold = None,
    instruction: Instruction = None,
    llm: Annotated[
        str | None, typer.Option(help="Chat model; with one there is the tool `ask`.", show_default=False)
    ] = None,
    base_url: BaseUrl = None,
    region: Region = None,
    dialect: Dialect = None,
    key_env: KeyEnv = None,
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP instead of standard input.")] = False,
    host: Annotated[str, typer.Option(help="Address of --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of --http; 0 takes a free one.")] = 8000,
    warm_up: Annotated[bool, typer.Option("--warm-up", help="Load the models before serving.")] = False,
) -> None:
    """Serve collections to agents by the Model Context Protocol: the tools `search` and, with --llm, `ask`."""
    server = chat.Server(model=llm, base_url=base_url, region=region, dialect=dialect, key_env=key_env)
    if llm is None and server != chat.Server():
        raise ConfigurationError(
            "--base-url, --region, --dialect and --key-env are about a chat model: name it by --llm"
        )
    retrieval = Retrieval(
        uri=uri,
        collections=tuple(collection or [COLLECTION]),
        token=token,
        model=model,
        reranker=reranker,
        k=k,
        top_n=top_n,
        score_threshold=score_threshold,
        instruction=instruction,
        mode=mode,
        metric=metric,
    )
    from qwen3_rag.serving import create_mcp_server, serve_http, serve_stdio

    with ExitStack() as stack:
        with redirect_stdout(sys.stderr):  # what libraries print while they load a model is no message
            retriever = stack.enter_context(retrieval.open(warm=warm_up))
            served = create_mcp_server(retriever, None if llm is None else _chain(retriever, server))
        with _ended_by_signals(stack.close):
            if http:
                serve_http(served, host, port, ready=lambda url: view.line("serving", url))
            else:
                serve_stdio(served)


def _chain(retriever: Qwen3Retriever, server: chat.Server) -> RagChain:
    from qwen3_rag.langchain import create_rag_chain

    return create_rag_chain(retriever, server.open())


@contextmanager
def _ended_by_signals(close: Callable[[], None]) -> Iterator[None]:
    """Lets a signal close the collections and end the process, whatever its threads wait for.

    The one that reads standard input can't be interrupted, so that an ordinary exit would wait for the client.
    """

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        close()
        sys.stderr.flush()
        os._exit(_SIGNALLED + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
