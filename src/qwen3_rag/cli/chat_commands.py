"""The commands `chat` and `compare` and their options."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from qwen3_rag.cli import chat, chat_view, view
from qwen3_rag.cli.options import AsJson
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.thinking import Price

Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT", help="The question; without one, or with '-', standard input.", show_default=False
    ),
]
Model = Annotated[str | None, typer.Option(help="Name of the model.  [default: qwen-plus]", show_default=False)]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="The server's URL, up to /v1.  [default: DashScope's, from the environment]", show_default=False),
]
Region = Annotated[str | None, typer.Option(help="A region of DashScope instead: cn, intl, us, …", show_default=False)]
Dialect = Annotated[
    str | None,
    typer.Option(help="How the server speaks, if its URL doesn't tell: vllm, ollama, deepseek, …", show_default=False),
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Environment variable that holds the key, if not the usual one.", show_default=False
    ),
]
System = Annotated[str | None, typer.Option(help="The system prompt.", show_default=False)]
Budget = Annotated[int | None, typer.Option(help="Most tokens of reasoning; means to think.", show_default=False)]
Effort = Annotated[str | None, typer.Option(help="low, medium or high; means to think.", show_default=False)]


def chat_command(
    prompt: Prompt = None,
    *,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking", help="Think, or don't.  [default: as the model does]", show_default=False
        ),
    ] = None,
    budget: Budget = None,
    effort: Effort = None,
    system: System = None,
    model: Model = None,
    base_url: BaseUrl = None,
    region: Region = None,
    dialect: Dialect = None,
    key_env: KeyEnv = None,
    as_json: AsJson = False,
) -> None:
    """Ask a chat model. Its reasoning goes to standard error as it comes, its answer to standard output."""
    question = chat.Question(read_prompt(prompt), system)
    server = chat.Server(model=model, base_url=base_url, region=region, dialect=dialect, key_env=key_env)
    policy = chat.policy(thinking, budget, effort)
    chat_model = server.open()
    if as_json:
        reply = chat.ask(chat_model, question, policy, chat_view.Silent())
        view.show_json({"question": question.text, **chat_view.reply_dict(reply)})
        return
    with chat_view.Live() as live:
        reply = chat.ask(chat_model, question, policy, live)
    chat_view.show_summary(reply)


def compare_command(
    prompt: Prompt = None,
    *,
    budget: Budget = None,
    effort: Effort = None,
    price_in: Annotated[
        float | None, typer.Option(help="Price of 1,000,000 tokens of input, for the cost.", show_default=False)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="Price of 1,000,000 tokens of output.", show_default=False)
    ] = None,
    system: System = None,
    model: Model = None,
    base_url: BaseUrl = None,
    region: Region = None,
    dialect: Dialect = None,
    key_env: KeyEnv = None,
    as_json: AsJson = False,
) -> None:
    """Ask the same question without and with thinking, and show both answers, their tokens and times side by side."""
    question = chat.Question(read_prompt(prompt), system)
    server = chat.Server(model=model, base_url=base_url, region=region, dialect=dialect, key_env=key_env)
    policy, price = chat.policy(True, budget, effort), _price(price_in, price_out)
    with chat_view.watch() as watch:
        comparison = chat.compare(server, question, policy, price, watch)
    if as_json:
        view.show_json(chat_view.comparison_dict(comparison))
    else:
        chat_view.show_comparison(comparison)


def read_prompt(prompt: str | None) -> str:
    """Returns what was asked: standard input for `-`, or where nothing was given and something is piped in.

    Raises:
        BadParameter: If nothing was given and nothing is.
        InputError: If what is piped in is no text.
    """
    if prompt not in (None, "-"):
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise typer.BadParameter("give one, or '-' to write it here and end it with Ctrl-D", param_hint="PROMPT")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InputError(f"the prompt on standard input is no {error.encoding}: {error}") from error


def _price(price_in: float | None, price_out: float | None) -> Price | None:
    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        missing = "--price-in" if price_in is None else "--price-out"
        raise ConfigurationError(f"a cost needs both prices: give {missing} too")
    return Price(price_in, price_out, currency="")
