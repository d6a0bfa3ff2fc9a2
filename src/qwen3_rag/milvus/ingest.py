"""Files into a collection: read, cut, embed what is new, store. The same folder twice changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_rag.chunking import MAX_CHARS, split_markdown, split_text
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.types import Embedder, Passage, Truncation

if TYPE_CHECKING:
    from qwen3_rag.milvus import MilvusCollection

MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})
SUFFIXES = MARKDOWN_SUFFIXES | {".txt"}
"""Files that are read, whatever the case of their suffix."""

BATCH_SIZE = 64
"""Default number of passages that are embedded and stored in one step, and the most that are held in memory besides
those of one file."""


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file that could not be read; the rest was ingested all the same.

    Attributes:
        path: The file or folder.
        reason: What is wrong with it.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest has come, after every batch.

    Attributes:
        fraction: Share of the files' bytes that is done, 0 to 1.
        passages: Passages seen so far, of which `added` are new.
        added: Passages embedded and stored so far.
        tokens: Tokens that the model has read so far.
    """

    fraction: float
    passages: int
    added: int
    tokens: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest has done. `passages == added + unchanged`.

    Attributes:
        files: Files read, the empty ones included.
        passages: Passages that they were cut into.
        added: Passages that were embedded and stored.
        unchanged: Passages that the collection had already, or that a file repeats under the same source.
        tokens: Tokens that the model has read.
        truncated: The passages that were longer than the model's limit or than BM25 has room for, by id, with what they
            lost: tokens for the model (`part` is `"document"`), words for BM25 (`part` is `"full text"`).
        empty: Files without any text.
        failed: Files and folders that could not be read.
        seconds: Wall-clock time.
    """

    files: int
    passages: int
    added: int
    unchanged: int
    tokens: int
    truncated: tuple[tuple[str, Truncation], ...]
    empty: tuple[str, ...]
    failed: tuple[FileFailure, ...]
    seconds: float


def ingest(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    embedder: Embedder,
    collection: MilvusCollection,
    *,
    max_chars: int = MAX_CHARS,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[IngestProgress], None] | None = None,
) -> IngestReport:
    """Reads Markdown and text files into a collection.

    Passages are named by their content, so what the collection holds already is neither embedded nor written again:
    an ingest that was interrupted goes on where it stopped. A passage that is no longer in its file stays until it is
    deleted, and one that has only moved keeps the line numbers of the ingest that added it.

    Args:
        paths: Files, or folders that are searched for `SUFFIXES` in the order of their names. Hidden files and folders
            and links to folders are passed over. A passage's source is the path below the folder that was given.
        embedder: What embeds.
        collection: Where the passages go; created at the first of them, flushed once at the end.
        max_chars: Longest passage, in characters.
        batch_size: Passages embedded and stored in one step.
        progress: Called after every batch, in this thread.

    Returns:
        What was done. A file that can't be read is in `failed` and does not stop the others.

    Raises:
        ConfigurationError: If an option has no meaning, or no path is given.
        InputError: If a path does not exist, is not a text file, or is a folder without one; before anything is read.
        CollectionError: If another model wrote the collection, or its vectors have another dimension.
        Qwen3RagError: What the embedder or the store raises; the batches before it are kept.
    """
    started = time.perf_counter()
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"batch_size must be a positive integer, got {batch_size!r}")
    tally = _Tally()
    files = _find(paths, tally)
    collection.verify(embedder, dimensions=embedder.dimensions)
    tally.total_bytes = sum(file.size for file in files)
    try:
        for batch in _batches(_read(files, max_chars, tally), batch_size):
            _store([passage for passage, _ in batch], embedder, collection, tally)
            tally.done_bytes += sum(share for _, share in batch)
            if progress is not None:
                progress(tally.progress())
    finally:
        if tally.added:
            collection.flush()
    return tally.report(time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    source: str
    size: int


@dataclass(slots=True)
class _Tally:
    """The counters of one ingest."""

    files: int = 0
    passages: int = 0
    added: int = 0
    tokens: int = 0
    total_bytes: int = 0
    done_bytes: float = 0.0
    truncated: list[tuple[str, Truncation]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: list[FileFailure] = field(default_factory=list)

    def progress(self) -> IngestProgress:
        fraction = min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 1.0
        return IngestProgress(fraction, self.passages, self.added, self.tokens)

    def report(self, seconds: float) -> IngestReport:
        return IngestReport(
            files=self.files,
            passages=self.passages,
            added=self.added,
            unchanged=self.passages - self.added,
            tokens=self.tokens,
            truncated=tuple(self.truncated),
            empty=tuple(self.empty),
            failed=tuple(self.failed),
            seconds=seconds,
        )


def _find(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], tally: _Tally) -> list[_File]:
    """Lists the files to read; one that is given twice is read once."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise ConfigurationError("no path to ingest: give files or folders")
    found: dict[Path, _File] = {}
    for path in map(Path, given):
        for file in _find_below(path.expanduser(), tally):
            found.setdefault(file.path.resolve(), file)
    return list(found.values())


def _find_below(path: Path, tally: _Tally) -> list[_File]:
    suffixes = ", ".join(sorted(SUFFIXES))
    if path.is_dir():
        failed_before = len(tally.failed)
        files = [_File(file, file.relative_to(path).as_posix(), file.stat().st_size) for file in _walk(path, tally)]
        if not files and len(tally.failed) == failed_before:
            raise InputError(f"no {suffixes} file in folder {str(path)!r}")
        return sorted(files, key=lambda file: file.source)
    if not path.is_file():
        problem = "is no file" if path.exists() else "does not exist"
        raise InputError(f"path {str(path)!r} {problem}: give a {suffixes} file or a folder of them")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"can't read {str(path)!r}: only {suffixes} files are text that can be ingested")
    return [_File(path, path.name, path.stat().st_size)]


def _walk(folder: Path, tally: _Tally) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        tally.failed.append(FileFailure(str(error.filename), error.strerror or str(error)))

    for here, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(here, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _read(files: Iterable[_File], max_chars: int, tally: _Tally) -> Iterator[tuple[Passage, float]]:
    """Yields passages, each with its share of its file's bytes."""
    for file in files:
        try:
            text = file.path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            tally.failed.append(FileFailure(str(file.path), f"not UTF-8: byte 0x{byte:02x} at offset {error.start}"))
        except OSError as error:
            tally.failed.append(FileFailure(str(file.path), error.strerror or str(error)))
        else:
            split = split_markdown if file.path.suffix.lower() in MARKDOWN_SUFFIXES else split_text
            passages = split(text, file.source, max_chars=max_chars)
            tally.files += 1
            if passages:
                yield from ((passage, file.size / len(passages)) for passage in passages)
                continue
            tally.empty.append(str(file.path))
        tally.done_bytes += file.size


def _batches(items: Iterator[tuple[Passage, float]], size: int) -> Iterator[list[tuple[Passage, float]]]:
    while batch := list(islice(items, size)):
        yield batch


def _store(passages: Sequence[Passage], embedder: Embedder, collection: MilvusCollection, tally: _Tally) -> None:
    known = collection.existing_ids([passage.id for passage in passages])
    fresh = list({passage.id: passage for passage in passages if passage.id not in known}.values())
    if fresh:
        result = embedder.embed_documents([passage.text for passage in fresh])
        unseen = collection.upsert(fresh, result.vectors, embedder=embedder)
        tally.added += len(fresh)
        tally.tokens += result.tokens
        tally.truncated.extend((fresh[cut.index].id, cut) for cut in (*result.truncated, *unseen))
    tally.passages += len(passages)
