"""The command `ask` and its options."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from qwen3_rag.cli import ask, ask_view, chat, chat_view, view
from qwen3_rag.cli.chat_commands import (
    BaseUrl,
    Budget,
    Dialect,
    Effort,
    KeyEnv,
    Region,
    System,
    read_prompt,
)
from qwen3_rag.cli.options import (
    COLLECTION,
    AsJson,
    Candidates,
    Collections,
    Instruction,
    Metric,
    Mode,
    Model,
    Reranker,
    Threshold,
    Token,
    Uri,
)
from qwen3_rag.cli.steps import Retrieval
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL

_TOP_N, _DEEP_TOP_N = 3, 10


def ask_command(
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION", help="The question; without one, or with '-', standard input.", show_default=False
        ),
    ] = None,
    *,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking", help="Think, or don't.  [default: as the model does]", show_default=False
        ),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Think where it helps, by the question and by how sure retrieval is.")
    ] = False,
    budget: Budget = None,
    effort: Effort = None,
    no_rag: Annotated[bool, typer.Option("--no-rag", help="Ask the chat model alone.")] = False,
    compare_rag: Annotated[
        bool, typer.Option("--compare-rag", help="Ask it alone and with what is found, side by side.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Have it break the question down and search until it is answered.")
    ] = False,
    k: Candidates = 10,
    top_n: Annotated[
        int | None,
        typer.Option(
            help=f"Passages kept after reranking.  [default: {_TOP_N}, or {_DEEP_TOP_N} with --deep]",
            show_default=False,
        ),
    ] = None,
    score_threshold: Threshold = None,
    instruction: Instruction = None,
    mode: Mode = "dense",
    uri: Uri = "./milvus.db",
    collection: Collections = None,
    token: Token = None,
    metric: Metric = "COSINE",
    model: Model = DEFAULT_EMBEDDING_MODEL,
    reranker: Reranker = None,
    llm: Annotated[str | None, typer.Option(help="The chat model.  [default: qwen-plus]", show_default=False)] = None,
    base_url: BaseUrl = None,
    region: Region = None,
    dialect: Dialect = None,
    key_env: KeyEnv = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Ask a chat model about the documents: what is found goes to it, and its answer cites that."""
    if sum((no_rag, compare_rag, deep)) > 1:
        raise ConfigurationError("--no-rag, --compare-rag and --deep exclude each other: give one of them")
    call = ask.Call(
        chat.Server(model=llm, base_url=base_url, region=region, dialect=dialect, key_env=key_env).open(),
        chat.Question(read_prompt(question), system),
        chat.policy(thinking, budget, effort, auto=auto),
    )
    if no_rag:
        _alone(call, as_json=as_json)
        return
    retrieval = Retrieval(
        uri=uri,
        collections=tuple(collection or [COLLECTION]),
        token=token,
        model=model,
        reranker=reranker,
        k=k,
        top_n=top_n if top_n is not None else _DEEP_TOP_N if deep else _TOP_N,
        score_threshold=score_threshold,
        instruction=instruction,
        mode=mode,
        metric=metric,
    )
    if compare_rag:
        _compare(call, retrieval, as_json=as_json)
    else:
        _from_passages(call, retrieval, deep=deep, as_json=as_json)


def _alone(call: ask.Call, *, as_json: bool) -> None:
    if as_json:
        reply = ask.alone(call, chat_view.Silent())
        view.show_json({"question": call.question.text, **chat_view.reply_dict(reply)})
        return
    with chat_view.Live() as live:
        reply = ask.alone(call, live)
    chat_view.show_summary(reply)


def _from_passages(call: ask.Call, retrieval: Retrieval, *, deep: bool, as_json: bool) -> None:
    searching = None if as_json else ask_view.show_searches
    send = partial(ask.deeply, searching=searching) if deep else ask.from_passages
    with retrieval.open() as retriever:
        if as_json:
            grounded = send(call, retriever, chat_view.Silent())
            view.show_json({"question": call.question.text, **ask_view.grounded_dict(grounded)})
            return
        with chat_view.Live() as live:
            grounded = send(call, retriever, live)
    ask_view.show_sources(grounded)
    ask_view.show_summary(grounded)


def _compare(call: ask.Call, retrieval: Retrieval, *, as_json: bool) -> None:
    with retrieval.open() as retriever, chat_view.watch() as watch:
        comparison = ask.compare(call, retriever, watch)
    if as_json:
        view.show_json(ask_view.comparison_dict(comparison))
    else:
        ask_view.show_comparison(comparison)
