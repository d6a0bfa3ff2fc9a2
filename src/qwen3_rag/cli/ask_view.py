"""How an answer over passages is shown: its sources with both scores under it, or two answers side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qwen3_rag.cli import chat_view, view
from qwen3_rag.cli.ask import Grounded, RagComparison

if TYPE_CHECKING:
    from qwen3_rag.answering import SourcePassage
    from qwen3_rag.deep_search import SearchPiece, SearchTrace


def show_searches(piece: SearchPiece) -> None:
    """Writes to standard error what a round of a deep search looks for."""
    for question in piece.sub_questions:
        view.line(f"search {piece.round}", view.shown(question))


def show_sources(grounded: Grounded) -> None:
    """Prints the passages that the model was given, by their number, and which it does not cite."""
    answer, out = grounded.answer, view.console()
    cited = {passage.number for passage in answer.cited}
    if answer.given:
        out.print()
    for passage in answer.given:
        plain: dict[str, Any] = {"soft_wrap": True, "markup": False, "emoji": False}
        out.print(f"[{passage.number}] {_source(passage)}", style="bold", end="", **plain)
        out.print(f"  {_scores(passage)}{'' if passage.number in cited else '  not cited'}", **plain)


def show_summary(grounded: Grounded) -> None:
    """Writes to standard error what one should know of an answer, why it thought or not, and what it took."""
    answer = grounded.answer
    for note in answer.notes:
        view.line("note", note)
    if answer.thinking is not None and answer.thinking.reason:
        does = {True: "yes", False: "no", None: "as the model does"}[answer.thinking.enabled]
        view.line("thinking", f"{does}: {answer.thinking.reason}")
    if (trace := _trace(grounded)) is not None:
        ended = "by itself" if trace.limit is None else f"by {trace.limit}"
        view.line(
            "searched",
            f"{len(trace.sub_questions)} questions in {len(trace.rounds)} rounds, {trace.candidates} passages found, "
            f"{trace.calls} calls of the model; ended {ended}",
        )
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in answer.timings.items())
    took = [] if answer.found else ["nothing was found, so no model was asked to answer"]
    if answer.found or answer.usage is not None:  # a deep search asks a model before anything is found
        took.append(chat_view.summary(grounded.reply))
    view.line("done", "; ".join([*took, stages]))


def show_comparison(comparison: RagComparison) -> None:
    """Prints both answers side by side, with what they took, and the sources of one of them."""
    grounded = comparison.grounded
    replies = {"without retrieval": comparison.without, "with retrieval": grounded.reply}
    found = f"{len(grounded.answer.given)} given, {len(grounded.answer.cited)} cited"
    chat_view.show_side_by_side(replies, {"passages": ["none", found]})
    show_sources(grounded)
    for note in grounded.answer.notes:
        view.line("note", f"with retrieval: {note}")


def grounded_dict(grounded: Grounded) -> dict[str, Any]:
    """Returns an answer over passages as JSON has it."""
    answer, reply = grounded.answer, chat_view.reply_dict(grounded.reply)
    seconds = {**reply["seconds"], "stages": {name: round(value, 4) for name, value in answer.timings.items()}}
    return {
        **{name: reply[name] for name in ("model", "reasoning", "answer", "thinking", "notes", "tokens")},
        "seconds": seconds,
        "found": answer.found,
        "searched": answer.question,
        "citations": [{"number": one.number, "start": one.start, "end": one.end} for one in answer.citations],
        "invalid_citations": list(answer.invalid_citations),
        "sources": [_source_dict(passage) for passage in answer.given],
        **({} if (trace := _trace(grounded)) is None else {"trace": asdict(trace)}),
    }


def comparison_dict(comparison: RagComparison) -> dict[str, Any]:
    """Returns a comparison as JSON has it."""
    return {
        "question": comparison.question.text,
        "without_retrieval": chat_view.reply_dict(comparison.without),
        "with_retrieval": grounded_dict(comparison.grounded),
    }


def _trace(grounded: Grounded) -> SearchTrace | None:
    """How the passages were searched for, if it was a deep search."""
    from qwen3_rag.deep_search import DeepAnswer

    return grounded.answer.trace if isinstance(grounded.answer, DeepAnswer) else None


def _source_dict(passage: SourcePassage) -> dict[str, Any]:
    return {
        "number": passage.number,
        "id": passage.id,
        "source": passage.source,
        "relevance_score": passage.relevance_score,
        "retrieval_score": passage.retrieval_score,
        "text": passage.text,
        "metadata": dict(passage.metadata),
    }


def _source(passage: SourcePassage) -> str:
    return view.shown(" ".join((passage.source or passage.id or "").split()))


def _scores(passage: SourcePassage) -> str:
    scores = {"P(yes)": passage.relevance_score, "retrieval": passage.retrieval_score}
    return "  ".join(f"{name} {score:.3f}" for name, score in scores.items() if score is not None)
