"""How answers are shown: reasoning dim on standard error, the answer on standard output, two of them side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final, TextIO

from rich import box
from rich.status import Status
from rich.table import Table
from rich.text import Text

from qwen3_rag.cli import view
from qwen3_rag.cli.chat import Comparison, Listener, Reply

_UNKNOWN: Final = "not said"
_DIM: Final = "\x1b[2m", "\x1b[22m"
_EXCERPT: Final = 500  # characters of reasoning that a comparison shows


class Live:
    """Shows an answer while it comes; a `Listener`, and a context manager that ends the last lines."""

    def __init__(self) -> None:
        self._reasoning = _Stream(sys.stderr, dim=True)
        self._answer = _Stream(sys.stdout)

    def reasoning(self, text: str) -> None:
        """Shows more of the reasoning."""
        self._reasoning.write(text)

    def answer(self, text: str) -> None:
        """Shows more of the answer."""
        self._reasoning.end()
        self._answer.write(text)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exception: object) -> None:
        self._reasoning.end()
        self._answer.end()


class Silent:
    """A `Listener` that shows nothing."""

    def reasoning(self, text: str) -> None:
        """Shows nothing."""

    def answer(self, text: str) -> None:
        """Shows nothing."""


class _Stream:
    """A standard stream, to which text is written as it is unless it is a terminal."""

    def __init__(self, stream: TextIO, *, dim: bool = False) -> None:
        self._stream = stream
        self._last = "\n"
        self._is_terminal = stream.isatty()
        # `rich` knows which terminals can be dim; it would expand tabs, so it does not write.
        self._dim = dim and self._is_terminal and view.console(stderr=dim).color_system is not None

    def write(self, text: str) -> None:
        self._last = text[-1]
        shown = text.translate(view.CONTROLS) if self._is_terminal else text
        self._stream.write(shown.join(_DIM) if self._dim else shown)
        self._stream.flush()

    def end(self) -> None:
        if self._last != "\n":
            self.write("\n")


@contextmanager
def watch() -> Iterator[Callable[[str], Listener]]:
    """Shows on standard error, if that is a terminal, what is going on; gives who listens to a named call."""
    out = view.console(stderr=True)
    with out.status("starting") as status:
        yield lambda name: _Watch(status, name)


class _Watch:
    def __init__(self, status: Status, name: str) -> None:
        self._status = status
        self._name = name
        self._count = 0
        self._show("waiting")

    def reasoning(self, text: str) -> None:
        self._count += len(text)
        self._show(f"thinking, {self._count} characters")

    def answer(self, text: str) -> None:
        self._count += len(text)
        self._show(f"answering, {self._count} characters")

    def _show(self, what: str) -> None:
        self._status.update(f"{self._name}: {what}")


def show_summary(reply: Reply) -> None:
    """Writes one line about tokens and time to standard error, after a warning if the answer is not whole."""
    if reply.ended_early:
        view.line("warning", f"the answer is not whole: the server ended it with {reply.ended_early!r}")
    view.line("done", summary(reply))


def summary(reply: Reply) -> str:
    """Returns what there is to say of an answer in a line: the model, its tokens, its times."""
    parts = [str(reply.metadata.get("model_name", "")), _tokens(reply), _times(reply)]
    return "; ".join(filter(None, parts))


def reply_dict(reply: Reply) -> dict[str, Any]:
    """Returns an answer as JSON has it."""
    usage, split, about = reply.usage, reply.split, reply.metadata
    reasoning, answer = split or (None, None)
    return {
        "model": about.get("model_name"),
        "reasoning": reply.reasoning,
        "answer": reply.answer,
        "finish_reason": about.get("finish_reason"),
        "thinking": about.get("thinking"),
        "notes": about.get("notes", []),
        "healed": about.get("healed", []),
        "tokens": usage
        and {
            "input": usage.input,
            "output": usage.output,
            "reasoning": reasoning,
            "answer": answer,
            "cached": usage.cached,
            "cache_creation": usage.cache_creation,
        },
        "seconds": {name: None if value is None else round(value, 4) for name, value in asdict(reply.seconds).items()},
        "request_id": about.get("request_id"),
    }


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """Returns a comparison as JSON has it."""
    return {
        "question": comparison.question.text,
        "without_thinking": {**reply_dict(comparison.without), "cost": comparison.cost(comparison.without)},
        "with_thinking": {**reply_dict(comparison.thinking), "cost": comparison.cost(comparison.thinking)},
    }


def show_comparison(comparison: Comparison) -> None:
    """Prints both answers side by side, with what they took."""
    replies = {"without thinking": comparison.without, "with thinking": comparison.thinking}
    rows = {}
    if comparison.price is not None:
        costs = map(comparison.cost, replies.values())
        rows["cost"] = [_UNKNOWN if cost is None else f"{cost:.6f}" for cost in costs]
    show_side_by_side(replies, rows)


def show_side_by_side(replies: Mapping[str, Reply], rows: Mapping[str, Sequence[str]]) -> None:
    """Prints answers to one question side by side.

    Args:
        replies: The answers, by what stands above them.
        rows: What else is told of each, by its name.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False)
    table.add_column("")
    for name in replies:
        table.add_column(name, ratio=1)
    for name, tell in _ROWS.items():
        table.add_row(name, *map(tell, replies.values()))
    for name, cells in rows.items():
        table.add_row(name, *cells)
    table.add_section()
    if any(reply.reasoning for reply in replies.values()):
        table.add_row("reasoning", *(Text(_beginning(reply.reasoning), style="dim") for reply in replies.values()))
    table.add_row("answer", *(Text(view.shown(reply.answer)) for reply in replies.values()))
    view.console().print(table)
    for name, reply in replies.items():
        if reply.ended_early:
            view.line("warning", f"the answer {name} is not whole: {reply.ended_early!r}")


_ROWS: Final[dict[str, Callable[[Reply], str]]] = {
    "first token": lambda reply: _seconds(reply.seconds.first_token),
    "first of the answer": lambda reply: _seconds(reply.seconds.first_answer),
    "all of it": lambda reply: _seconds(reply.seconds.total),
    "reasoning tokens": lambda reply: _UNKNOWN if reply.split is None else str(reply.split[0]),
    "answer tokens": lambda reply: _UNKNOWN if reply.split is None else str(reply.split[1]),
}


def _tokens(reply: Reply) -> str:
    usage, split = reply.usage, reply.split
    if usage is None:
        return "tokens not said"
    if split is None:
        return f"{usage.input} tokens in, {usage.output} out, reasoning included"
    return f"{usage.input} tokens in, {split[0]} of reasoning, {split[1]} of answer"


def _times(reply: Reply) -> str:
    seconds = reply.seconds
    if seconds.first_token is None:
        return f"{_seconds(seconds.total)}, nothing came"
    return (
        f"first token after {_seconds(seconds.first_token)}, answer after {_seconds(seconds.first_answer)}, "
        f"{_seconds(seconds.total)} in all"
    )


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _beginning(text: str) -> str:
    safe = view.shown(text)
    return safe if len(safe) <= _EXCERPT else f"{safe[:_EXCERPT].rstrip()} …"
