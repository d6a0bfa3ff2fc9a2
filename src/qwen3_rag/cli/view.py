"""How results are shown: tables for people on standard output, JSON for programs, everything else on standard error."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from qwen3_rag.chunking import END_LINE, HEADINGS, SOURCE, START_LINE
from qwen3_rag.cli.steps import Found
from qwen3_rag.ingest import IngestProgress, IngestReport
from qwen3_rag.milvus.records import FULL_TEXT
from qwen3_rag.retrieval import RETRIEVAL_SCORE
from qwen3_rag.types import Passage

_PLAIN_WIDTH = 110  # columns, where the output is no terminal
_EXCERPT = 320  # characters

CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}
"""For `str.translate`: what a model, a server or a passage writes may be anything, and on a terminal it must not move the
cursor or ring the bell."""


def prepare_streams() -> None:
    """Makes the standard streams safe to write any text to, and keeps libraries from writing to them.

    The libraries read these variables when they are imported, which happens when a model is first used.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Its connection errors arrive as ours; the bars of a download are worth seeing, on a terminal.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def console(*, stderr: bool = False) -> Console:
    """Returns a console on the present standard streams; it colours terminals only."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PLAIN_WIDTH)


def line(kind: str, message: object) -> None:
    """Writes one line to standard error, however many the message has."""
    sys.stderr.write(f"{kind}: {_in_one_line(str(message))}\n")


def shown(text: str) -> str:
    """Returns a text as it may stand on a terminal: without what would move the cursor."""
    return text.strip().translate(CONTROLS)


class LineHandler(logging.Handler):
    """Writes what is logged to standard error, a line each, and the traceback of an exception that is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        line(record.levelname.lower(), record.getMessage())
        if record.exc_info:
            sys.stderr.write(f"{logging.Formatter().formatException(record.exc_info)}\n")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[IngestProgress], None]]:
    """Shows a bar on standard error, if that is a terminal, and gives what moves it."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda _state: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(
            "{task.fields[passages]} passages, {task.fields[tokens]} tokens, {task.fields[rate]:.0f} passages/s"
        ),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(title, total=1.0, passages=0, tokens=0, rate=0.0)

        def move(state: IngestProgress) -> None:
            rate = state.passages / (bar.tasks[0].elapsed or math.inf)
            bar.update(task, completed=state.fraction, passages=state.passages, tokens=state.tokens, rate=rate)

        yield move


def show_report(report: IngestReport, place: str) -> None:
    """Prints what an ingest has done, and names on standard error what it could not."""
    rate = f" ({report.tokens / report.seconds:,.0f} tokens/s)" if report.added and report.seconds else ""
    removed = f"{report.removed} removed, " if report.removed else ""
    console().print(
        f"{report.files} files, {report.passages} passages: {report.added} added, {report.unchanged} unchanged, "
        f"{removed}{report.tokens:,} tokens in {report.seconds:.1f} s{rate} -> {escape(place)}",
        soft_wrap=True,
    )
    for path in report.empty:
        line("warning", f"no text in {path!r}")
    for whole, unit, cuts in (
        ("the model's limit", "tokens", [cut for _, cut in report.truncated if cut.part != FULL_TEXT]),
        ("BM25 has room for", "words", [cut for _, cut in report.truncated if cut.part == FULL_TEXT]),
    ):
        if cuts:
            lost = sum(cut.lost for cut in cuts)
            line("warning", f"{len(cuts)} passages were longer than {whole} and lost {lost} {unit}")
    for passed in report.skipped:
        line("warning", f"passed over {passed.path!r}: {passed.reason}")
    for failure in report.failed:
        line("error", f"could not read {failure.path!r}: {failure.reason}")
    for row in report.failed_rows:
        line("error", f"could not store {row.where!r} (passage {row.id}): {row.reason}")
    if report.not_pruned:
        line("warning", f"nothing was removed: {report.not_pruned}")
    if report.released:
        line(
            "warning",
            f"{report.released} passages that are gone here stay, because something else ingested has them too",
        )


def show_found(found: Found, *, passages: int) -> None:
    """Prints the two orders side by side, then the text of the best passages."""
    out = console()
    if not found.dense:
        out.print("Nothing found: the collection is empty.")
        return
    out.print(_table(found))
    out.print()
    if not found.reranked:
        out.print(f"No passage reaches P(yes) >= {found.search.score_threshold}.")
    for number, ranked in enumerate(found.reranked[:passages], start=1):
        passage = ranked.item.passage
        out.print(Text.assemble((f"{number}. {_citation(passage)}", "bold"), f"  P(yes) {ranked.score:.3f}"))
        out.print(Padding(Text(_excerpt(passage.text), style="dim"), (0, 0, 0, 3), expand=False))
        out.print()


def show_json(result: dict[str, Any]) -> None:
    """Writes a result as one JSON object; nothing else is written to standard output."""
    utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
    json.dump(result, sys.stdout, ensure_ascii=not utf8, indent=2)
    sys.stdout.write("\n")


def as_dict(found: Found) -> dict[str, Any]:
    """Returns a result as JSON has it: the dense order by id, the reranked passages in full."""
    return {
        "question": found.search.question,
        "dense": [
            {"rank": rank, "id": hit.passage.id, RETRIEVAL_SCORE: hit.score}
            for rank, hit in enumerate(found.dense, start=1)
        ],
        "reranked": [
            {
                "rank": rank,
                "id": ranked.item.passage.id,
                **ranked.annotations(),
                RETRIEVAL_SCORE: ranked.item.score,
                "text": ranked.item.passage.text,
                "metadata": dict(ranked.item.passage.metadata),
            }
            for rank, ranked in enumerate(found.reranked, start=1)
        ],
    }


def _table(found: Found) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("dense order", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("cosine", justify="right")
    table.add_column("reranked", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("P(yes)", justify="right")
    table.add_column("was", justify="right")
    for index, hit in enumerate(found.dense):
        right = ["", "", ""]
        if index < len(found.reranked):
            ranked = found.reranked[index]
            right = [_label(ranked.item.passage), f"{ranked.score:.3f}", str(ranked.rank_before)]
        table.add_row(str(index + 1), *map(Text, [_label(hit.passage), f"{hit.score:.3f}", *right]))
    return table


def _label(passage: Passage) -> str:
    headings = _headings(passage)
    return _in_one_line(headings[-1] if headings else passage.text)


def _citation(passage: Passage) -> str:
    about = passage.metadata
    source = str(about.get(SOURCE, passage.id))
    lines = f":{about[START_LINE]}-{about[END_LINE]}" if {START_LINE, END_LINE} <= about.keys() else ""
    return _in_one_line(" › ".join([source + lines, *_headings(passage)]))


def _headings(passage: Passage) -> list[str]:
    """The headings that a passage stands under; who else wrote it may mean something else by the key."""
    given = passage.metadata.get(HEADINGS)
    return [str(heading) for heading in given] if isinstance(given, list | tuple) else []


def _excerpt(text: str) -> str:
    """The beginning of a passage, without the headings, which the citation has."""
    body = text.lstrip()
    while body.startswith("#") and "\n" in body:
        body = body.partition("\n")[2].lstrip()
    flat = _in_one_line(body)
    return flat if len(flat) <= _EXCERPT else f"{flat[:_EXCERPT].rstrip()} …"


def _in_one_line(text: str) -> str:
    return " ".join(text.split()).translate(CONTROLS)
