"""The commands and their options."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

import qwen3_rag
from qwen3_rag.cli import (
    ask_commands,
    chat_commands,
    collections_command,
    evaluate_command,
    mcp_command,
    steps,
    view,
)
from qwen3_rag.cli.options import (
    COLLECTION,
    AsJson,
    Candidates,
    Instruction,
    Metric,
    Model,
    Reranker,
    Threshold,
    Token,
    TopN,
    Uri,
)
from qwen3_rag.demo import CORPUS, QUESTIONS
from qwen3_rag.errors import InputError, Qwen3RagError, TruncationWarning
from qwen3_rag.ingest import IngestReport, ingest
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL
from qwen3_rag.types import Embedder

_FAILED, _WRONG_USAGE, _INTERRUPTED = 1, 2, 130
# Typer exports BadParameter but not its base, which is click's or Typer's own copy of it, depending on the version.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="qwen3-rag",
    help="Qwen3 over Milvus: a folder of Markdown goes in, the right passages come out. And chat models that think.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Collection = Annotated[str, typer.Option(help="Name of the collection.")]


def run(argv: Sequence[str]) -> int:
    """Runs one command and returns its exit status.

    Args:
        argv: The arguments after the command's name.

    Returns:
        0, or 1 for an error of this package, 2 for wrong usage, 130 when interrupted.
    """
    view.prepare_streams()
    with _told_in_one_line():
        try:
            status = get_command(app).main(list(argv) or ["--help"], prog_name="qwen3-rag", standalone_mode=False)
        except _UsageError as error:
            view.line("usage error", f"{error.format_message()} (see qwen3-rag --help)")  # type: ignore[attr-defined]
            return _WRONG_USAGE
        except Qwen3RagError as error:
            view.line("error", error)
            return _FAILED
        except (KeyboardInterrupt, typer.Abort):
            status = _INTERRUPTED
        # Some versions of Typer turn an interruption into this status themselves.
        if status == _INTERRUPTED:
            view.line("error", "interrupted" + (" (it goes on where it stopped)" if "ingest" in argv[:1] else ""))
    return status if isinstance(status, int) else 0


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    """What the package warns of and logs is told as errors are."""
    logger, handler = logging.getLogger("qwen3_rag"), view.LineHandler(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_kwargs: view.line("warning", message)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qwen3-rag {qwen3_rag.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("ingest")
def ingest_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Markdown or text files, folders, patterns such as 'docs/**/*.md', .zip archives, or http(s) addresses.",
        ),
    ],
    *,
    include: Annotated[
        str | None,
        typer.Option(help="Only paths of folders and archives that match, such as 'en/faq/*.md'.", show_default=False),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove what was ingested from these paths before and is not there any more."),
    ] = False,
    label: Annotated[
        str | None,
        typer.Option(help="Name of these paths for --prune, wherever they lie.", show_default=False),
    ] = None,
    uri: Uri = "./milvus.db",
    collection: Collection = COLLECTION,
    token: Token = None,
    model: Model = DEFAULT_EMBEDDING_MODEL,
) -> int:
    """Read files, embed what is new and store it. The same folder twice changes nothing."""
    if blank := [path for path in paths if not path.strip()]:  # such as that of a variable that is not set
        raise InputError(f"path {blank[0]!r} is empty: give a file or a folder; the present one is '.'")
    choice = steps.embedder(model)
    report = _ingest(paths, steps.Place(uri, collection, token), choice, include=include, prune=prune, label=label)
    return 0 if report.complete else _FAILED


@app.command()
def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for.")],
    *,
    k: Candidates = 10,
    top_n: TopN = 3,
    score_threshold: Threshold = None,
    instruction: Instruction = None,
    uri: Uri = "./milvus.db",
    collection: Collection = COLLECTION,
    token: Token = None,
    metric: Metric = "COSINE",
    model: Model = DEFAULT_EMBEDDING_MODEL,
    reranker: Reranker = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question: dense search, then reranking, side by side."""
    request = steps.Search(question, k, top_n, score_threshold, instruction)
    with steps.Place(uri, collection, token, metric).open() as opened:
        found = steps.find(request, opened, steps.embedder(model), steps.reranker(reranker, model))
    if as_json:
        view.show_json(view.as_dict(found))
    else:
        view.show_found(found, passages=top_n)


@app.command()
def demo(
    *,
    uri: Annotated[str | None, typer.Option(help="Keep the collection here.  [default: a temporary file]")] = None,
    token: Token = None,
    model: Model = steps.TINY,
    reranker: Reranker = None,
) -> None:
    """Ingest a small bundled corpus and ask it three questions, offline."""
    if model == steps.TINY:
        typer.echo(
            "The bundled tiny models run offline, to show how everything fits together.\n"
            "They are no measure of what Qwen3-Embedding and Qwen3-Reranker find.\n"
        )
    embedder, second = steps.embedder(model), steps.reranker(reranker, model)
    with tempfile.TemporaryDirectory(prefix="qwen3-rag-") as folder:
        place = steps.Place(uri or str(Path(folder, "demo.db")), "qwen3_rag_demo", token if uri else None)
        _ingest([str(CORPUS)], place, embedder)
        with place.open() as opened:
            for question in QUESTIONS:
                typer.echo(f"\nQ: {question}")
                view.show_found(steps.find(steps.Search(question, k=10), opened, embedder, second), passages=1)


app.command("chat")(chat_commands.chat_command)
app.command("compare")(chat_commands.compare_command)
app.command("ask")(ask_commands.ask_command)
app.command("collections")(collections_command.collections_command)
app.command("evaluate")(evaluate_command.evaluate_command)
app.command("mcp")(mcp_command.mcp_command)


def _ingest(
    paths: Sequence[str],
    place: steps.Place,
    embedder: Embedder,
    *,
    include: str | None = None,
    prune: bool = False,
    label: str | None = None,
) -> IngestReport:
    with warnings.catch_warnings(), view.progress_bar("embedding") as progress, place.open() as opened:
        # The report sums up what each batch would warn of.
        warnings.simplefilter("ignore", TruncationWarning)
        try:
            report = ingest(paths, embedder, opened, include=include, prune=prune, label=label, progress=progress)
        except Qwen3RagError as error:
            for note in getattr(error, "__notes__", ()):
                view.line("note", note)
            raise
    # A path as it was given; an address without its credentials.
    view.show_report(report, f"{opened.uri if '://' in place.uri else place.uri} [{place.collection}]")
    return report
