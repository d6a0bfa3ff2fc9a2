"""What an ingest tells: how far it is, what it has done, and what it could not do."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwen3_rag.chunking import END_LINE, SOURCE, START_LINE
from qwen3_rag.types import Passage, Truncation


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file that was not read; the rest was ingested all the same.

    Attributes:
        path: The file or folder; a file of an archive is `archive.zip!/path`.
        reason: Why.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A passage that could not be embedded or stored; the others of its file were.

    Attributes:
        id: Its id.
        source: The source it was cut from.
        start_line: Its first line, from 1, if that is known.
        end_line: Its last line.
        reason: What the model or the store has against it.
    """

    id: str
    source: str
    start_line: int | None
    end_line: int | None
    reason: str

    @classmethod
    def of(cls, passage: Passage, error: Exception) -> RowFailure:
        """Builds it from the passage and what was raised for it."""
        about = passage.metadata
        return cls(
            passage.id,
            str(about.get(SOURCE, "")),
            about.get(START_LINE),
            about.get(END_LINE),
            " ".join(str(error).split()),
        )

    @property
    def where(self) -> str:
        """The source with the lines, as far as they are known."""
        return self.source if self.start_line is None else f"{self.source}:{self.start_line}-{self.end_line}"


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest has come, after every batch that was stored.

    Attributes:
        fraction: Share of the files' bytes that is done, 0 to 1.
        passages: Passages done so far, of which `added` are new.
        added: Passages embedded and stored so far.
        tokens: Tokens that the model has read so far.
    """

    fraction: float
    passages: int
    added: int
    tokens: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest has done. `passages == added + unchanged + len(failed_rows)`.

    Attributes:
        files: Files read, the empty ones included.
        passages: Passages that they were cut into.
        added: Passages that were embedded and stored.
        unchanged: Passages that the collection had already, or that a file repeats under the same source.
        tokens: Tokens that the model has read.
        truncated: The passages that were longer than the model's limit or than BM25 has room for, by id, with what they
            lost: tokens for the model (`part` is `"document"`), words for BM25 (`part` is `"full text"`).
        empty: Files without any text.
        failed: Files and folders that could not be read or cut.
        seconds: Wall-clock time.
        skipped: What an archive holds and nobody opened on purpose: archives inside it and links.
        failed_rows: Passages that could not be embedded or stored, whose id another passage of this ingest has, or that have no
            room for the label of what they are in now.
        removed: Passages that pruning deleted.
        released: Stale passages that stay, because something else that was ingested has them too.
        not_pruned: Why nothing was pruned although it was asked for; empty otherwise.
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
    skipped: tuple[FileFailure, ...] = ()
    failed_rows: tuple[RowFailure, ...] = ()
    removed: int = 0
    released: int = 0
    not_pruned: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything that was given is in the collection now."""
        return not self.failed and not self.failed_rows


@dataclass(slots=True)
class Reading:
    """What was met while finding and reading files; changed by one thread at a time.

    Attributes:
        files: Files read.
        empty: Files without text.
        failed: What could not be read.
        skipped: What was passed over on purpose.
    """

    files: int = 0
    empty: list[str] = field(default_factory=list)
    failed: list[FileFailure] = field(default_factory=list)
    skipped: list[FileFailure] = field(default_factory=list)

    def fail(self, path: str, reason: object) -> None:
        """Notes a file that can't be read."""
        self.failed.append(FileFailure(path, str(reason)))

    def skip(self, path: str, reason: str) -> None:
        """Notes something that is passed over."""
        self.skipped.append(FileFailure(path, reason))


@dataclass(slots=True)
class Tally:
    """The counters of what was embedded and stored."""

    passages: int = 0
    added: int = 0
    tokens: int = 0
    fraction: float = 0.0
    claimed: bool = False
    removed: int = 0
    released: int = 0
    not_pruned: str = ""
    truncated: list[tuple[str, Truncation]] = field(default_factory=list)
    failed_rows: list[RowFailure] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the collection was written to."""
        return bool(self.added or self.claimed or self.removed or self.released)

    def progress(self) -> IngestProgress:
        """Returns how far it is."""
        return IngestProgress(self.fraction, self.passages, self.added, self.tokens)

    def report(self, reading: Reading, seconds: float) -> IngestReport:
        """Returns what was done."""
        return IngestReport(
            files=reading.files,
            passages=self.passages,
            added=self.added,
            unchanged=self.passages - self.added - len(self.failed_rows),
            tokens=self.tokens,
            truncated=tuple(self.truncated),
            empty=tuple(reading.empty),
            failed=tuple(reading.failed),
            seconds=seconds,
            skipped=tuple(reading.skipped),
            failed_rows=tuple(self.failed_rows),
            removed=self.removed,
            released=self.released,
            not_pruned=self.not_pruned,
        )
