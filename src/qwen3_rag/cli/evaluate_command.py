"""The command `evaluate`: how well questions with known answers are answered, in every way to search, side by side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.progress import Progress
from rich.table import Table

from qwen3_rag.cli import steps, view
from qwen3_rag.cli.options import COLLECTION, AsJson, Metric, Reranker, Token
from qwen3_rag.demo import CORPUS, EVALUATION
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.evaluation import Evaluation, evaluate_collection, read_questions
from qwen3_rag.evaluation.plot import check_plot, save_plot
from qwen3_rag.evaluation.run import check_candidates
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL
from qwen3_rag.retrieval import DEFAULT_K
from qwen3_rag.types import Embedder

_DEMO: Final = "qwen3_rag_demo"


def evaluate_command(
    questions: Annotated[
        Path | None,
        typer.Argument(
            metavar="QUESTIONS",
            help="JSONL: question, and passages (ids), sections (source and heading) or answer (texts).  "
            "[default: the demo's corpus and questions]",
            show_default=False,
        ),
    ] = None,
    *,
    uri: Annotated[
        str | None,
        typer.Option(
            help="A file of Milvus Lite, or a server's address.  [default: $MILVUS_URI or ./milvus.db; for the demo, a "
            "temporary file]",
            show_default=False,
        ),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            help=f"Name of the collection that the questions are about.  [default: {COLLECTION}]", show_default=False
        ),
    ] = None,
    token: Token = None,
    metric: Metric = "COSINE",
    model: Annotated[
        str | None,
        typer.Option(
            help=f"The embedding model that filled it.  [default: {DEFAULT_EMBEDDING_MODEL}; for the demo, 'tiny']",
            show_default=False,
        ),
    ] = None,
    reranker: Reranker = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Candidates of each search, which are reranked.")] = DEFAULT_K,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the figures into this picture, .png or .svg.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval on questions with known answers: dense, BM25, hybrid and reranked, side by side."""
    check_candidates(k)
    if questions is None and collection is not None:
        raise ConfigurationError(
            f"--collection {collection!r} needs QUESTIONS about it; without, the demo's corpus is used"
        )
    asked = read_questions(questions or EVALUATION)
    if plot is not None:
        check_plot(plot)
    name = model or (DEFAULT_EMBEDDING_MODEL if questions else steps.TINY)
    embedder, second = steps.embedder(name), steps.reranker(reranker, name)
    demo = None if questions else embedder
    with _opened(uri, collection, token, metric, demo=demo) as opened, _progress_bar() as progress:
        found = evaluate_collection(asked, opened, embedder, second, k=k, progress=progress)
        place = f"{opened.uri} [{opened.name}]" if questions else f"the demo corpus, models {name!r}"
    if as_json:
        view.show_json(_as_dict(found))
    else:
        _show(found, place)
    if plot is not None:  # at last: if it can't be written, the figures are there all the same
        save_plot(found, plot)


@contextmanager
def _opened(
    uri: str | None, collection: str | None, token: str | None, metric: str, *, demo: Embedder | None
) -> Iterator[MilvusCollection]:
    """Opens the collection; for the demo, it is filled before by that model."""
    if demo is None:
        # The demo is not for whatever server the environment names, so the option does not read it.
        where = uri or os.environ.get("MILVUS_URI") or "./milvus.db"
        with steps.Place(where, collection or COLLECTION, token, metric).open() as opened:
            steps.check_exists(opened)
            yield opened
        return
    with tempfile.TemporaryDirectory(prefix="qwen3-rag-") as folder:
        place = steps.Place(uri or str(Path(folder, "demo.db")), _DEMO, token if uri else None)
        with place.open() as opened:
            ingest([CORPUS], demo, opened)
            yield opened


def _show(found: Evaluation, place: str) -> None:
    out = view.console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("search")
    for name in next(iter(found.reports.values())).figures():
        table.add_column(name, justify="right")
    for way, report in found.reports.items():
        table.add_row(way, *(f"{value:.3f}" for value in report.figures().values()))
    out.print(
        f"{len(found.questions)} questions, {found.k} candidates each, on {place}\n", markup=False, soft_wrap=True
    )
    out.print(table)


def _as_dict(found: Evaluation) -> dict[str, Any]:
    return {
        "k": found.k,
        "figures": {way: report.figures() for way, report in found.reports.items()},
        "questions": [
            {
                "id": question.id,
                "question": question.text,
                "ranks": {way: ranks[i] for way, ranks in found.ranks.items()},
            }
            for i, question in enumerate(found.questions)
        ],
    }


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    out = view.console(stderr=True)
    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("asking")
        yield lambda done, total: bar.update(task, completed=done, total=total)
