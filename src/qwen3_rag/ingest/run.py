"""The ingest itself: what is found is read, cut, embedded and stored, and what is gone can be removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from qwen3_rag.chunking import MAX_CHARS
from qwen3_rag.errors import ConfigurationError, Qwen3RagError, StoreError
from qwen3_rag.ingest.embedding import embed_with
from qwen3_rag.ingest.files import TextFile, UnreadableError, Wanted
from qwen3_rag.ingest.limits import Limits
from qwen3_rag.ingest.lookup import InFlight, Lookup, Placed
from qwen3_rag.ingest.pipeline import Pipeline, Writer
from qwen3_rag.ingest.report import IngestProgress, IngestReport, Reading, Tally
from qwen3_rag.ingest.roots import ROOTS, SeenIds, remove_stale
from qwen3_rag.ingest.sources import Given, find
from qwen3_rag.ingest.splitting import Split, Splitter, normalized, resolve_splitter
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Embedder, Passage

BATCH_SIZE = 64
"""Default number of passages that are embedded and stored in one step. At most six batches are in memory at once, and the
passages of one file."""


def ingest(
    paths: Given | Iterable[Given],
    embedder: Embedder,
    collection: MilvusCollection,
    *,
    splitter: Splitter | None = None,
    max_chars: int = MAX_CHARS,
    batch_size: int = BATCH_SIZE,
    include: str | None = None,
    label: str | None = None,
    prune: bool = False,
    limits: Limits | None = None,
    progress: Callable[[IngestProgress], None] | None = None,
) -> IngestReport:
    """Reads Markdown and text files into a collection.

    Reading and writing go on in threads of their own while this one embeds, so that embedding does not wait for Milvus.
    Passages are named by their content, so what the collection holds already is neither embedded nor written again: an
    ingest that was interrupted, or killed, goes on where it stopped. A passage that is no longer in its file stays until it
    is pruned or deleted, and one that has only moved keeps the line numbers of the ingest that added it.

    A passage's source is the path below what was given. `roots` in its metadata names what that was; see
    `qwen3_rag.ingest.roots`. Pruning removes what was read under the same label before and is not there any more: the
    passages of files that are gone, and the old ones of files that changed or are cut in another way. It never touches what
    was ingested from elsewhere, and it is left out, with a reason in the report, if anything could not be read or stored.
    Nor is anything removed for a folder without a single text file, which is an error: it may just not be mounted.

    Args:
        paths: Files, folders that are searched for `SUFFIXES` in the order of their names, patterns such as
            `docs/**/*.md`, `.zip` archives, and http(s) addresses of a file or an archive; one or many. Hidden files and
            folders and links to folders are passed over. Archives are read without being unpacked to disk.
        embedder: What embeds.
        collection: Where the passages go; created at the first of them, flushed once at the end.
        splitter: What cuts the files: `None` for Markdown at its headings and other text at its paragraphs,
            `split_at("# ")`, a LangChain splitter, `qwen3_rag.llama_index.node_parser_splitter(parser)`, or a function of
            a text and its source that returns texts, `Piece`s or passages.
        max_chars: Longest passage, in characters, of the default splitter.
        batch_size: Passages embedded and stored in one step.
        include: Pattern for the paths below folders, archives and patterns: `en/faq/*.md`, `**/*.txt`.
        label: Name of what is given, wherever it lies, in place of its path: for a folder that moves, or that other
            machines have elsewhere. What is given under one label is pruned as one.
        prune: Whether to remove what is not there any more.
        limits: What is too large to be read.
        progress: Called after every batch, in this thread.

    Returns:
        What was done. A file that can't be read or cut is in `failed`, a passage that can't be embedded or stored in
        `failed_rows`; neither stops the others.

    Raises:
        ConfigurationError: If an option has no meaning, or no path is given.
        InputError: If a path does not exist, is not a text file or an archive, or holds no text file; before anything is
            read.
        DownloadError: If an address can't be downloaded; before anything is read.
        CollectionError: If another model wrote the collection, its vectors have another dimension, or another tool laid it
            out in its own way; before anything is embedded.
        Qwen3RagError: What the embedder or the store raises. The batches before it are kept; a note on the error
            (`__notes__`) says how many passages that are.
    """
    started = time.perf_counter()
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"batch_size must be a positive integer, got {batch_size!r}")
    wanted, split = Wanted(label, include, limits or Limits()), resolve_splitter(splitter, max_chars)
    reading, tally = Reading(), Tally()
    with ExitStack() as stack:
        files = find(paths, wanted, reading, stack)
        collection.check_writable()
        collection.verify(embedder, dimensions=embedder.dimensions)
        seen = stack.enter_context(SeenIds.open())
        flying = InFlight()
        lookup = Lookup(collection, flying, seen)
        pipeline = Pipeline(embed_with(embedder, collection), Writer(collection, embedder, flying), tally, progress)
        try:
            pipeline.run(lookup.batches(_passages(files, split, reading), batch_size))
            if prune:
                _prune(collection, files, seen, reading, tally)
        except BaseException as error:
            error.add_note(
                f"The ingest stopped after {tally.passages} passages: {tally.added} were embedded, stored and kept. "
                "Started again, it goes on from there."
            )
            with suppress(StoreError):  # the first error is the one to tell
                _flush(collection, tally)
            raise
        _flush(collection, tally)
    return tally.report(reading, time.perf_counter() - started)


def _flush(collection: MilvusCollection, tally: Tally) -> None:
    if tally.changed:
        collection.flush()


def _passages(files: Sequence[TextFile], split: Split, reading: Reading) -> Iterator[Placed]:
    """Yields the passages of all files, one file in memory at a time."""
    total = sum(file.size for file in files) or 1
    done = 0
    for file in files:
        passages = _cut(file, split, reading)
        for number, passage in enumerate(passages, start=1):
            about = {**passage.metadata, ROOTS: [file.root]}
            fraction = min(1.0, (done + file.size * number / len(passages)) / total)
            yield Placed(replace(passage, metadata=about), file.root, fraction)
        done += file.size


def _cut(file: TextFile, split: Split, reading: Reading) -> list[Passage]:
    try:
        text = file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        reading.fail(file.path, f"not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}")
    except UnreadableError as error:
        reading.fail(file.path, error)
    except OSError as error:
        reading.fail(file.path, error.strerror or error)
    else:
        return _split(normalized(text), file, split, reading)
    return []


def _split(text: str, file: TextFile, split: Split, reading: Reading) -> list[Passage]:
    try:
        passages = split(text, file.source, file.markdown)
    except Qwen3RagError:  # of a setting, or of a splitter that does not do what one has to
        raise
    except Exception as error:  # noqa: BLE001 - somebody else's splitter on one text: tiktoken refuses `<|endoftext|>`
        reading.fail(file.path, f"the splitter raised {type(error).__name__}: {' '.join(str(error).split())}")
        return []
    reading.files += 1
    if not passages:
        reading.empty.append(file.path)
    return passages


def _prune(
    collection: MilvusCollection, files: Sequence[TextFile], seen: SeenIds, reading: Reading, tally: Tally
) -> None:
    if reading.failed or tally.failed_rows:
        tally.not_pruned = (
            f"{len(reading.failed)} files could not be read and {len(tally.failed_rows)} passages could not be stored, so "
            "what is gone can't be told from what failed"
        )
        return
    remove_stale(collection, (file.root for file in files), seen, tally)
