"""What a reranking call will send: checked, made to fit, each distinct pair once, in windows if asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, check_instruction
from qwen3_rag.remote.batching import pack
from qwen3_rag.remote.inputs import TooLong, fit
from qwen3_rag.remote.servers import RerankProfile
from qwen3_rag.tokens import TokenCounter, windows
from qwen3_rag.types import Truncation

_FRAME_TOKENS = 64
"""Prefix (39), suffix (9), the three labels and their newlines; the instruction comes on top."""


@dataclass(frozen=True, slots=True)
class RerankJob:
    """One call, ready to be sent.

    Attributes:
        queries: The query of each row.
        documents: The document, or window of one, of each row.
        costs: Tokens of each row's query and document together.
        inputs: For each pair of the call, its rows; the best of them is its score.
        truncated: The texts that were cut.
        instruction: What counts as relevant.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    costs: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    truncated: tuple[Truncation, ...]
    instruction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankSettings:
    """What a reranker was made with.

    Attributes:
        profile: How the model is used at its server.
        model: Its name there.
        instruction: The instruction when a call names no other.
        too_long: What happens to a document over the limit.
        count: Counts tokens.
    """

    profile: RerankProfile
    model: str
    instruction: str
    too_long: TooLong
    count: TokenCounter

    def __post_init__(self) -> None:
        check_instruction(self.instruction)
        if self.too_long not in get_args(TooLong):
            raise ConfigurationError(f"too_long must be one of {', '.join(get_args(TooLong))}, got {self.too_long!r}")
        if self.profile.template not in {"server", "client", "auto"}:
            raise ConfigurationError(f"template must be 'server', 'client' or 'auto', got {self.profile.template!r}")

    def marks(self) -> list[str]:
        """Returns what of the settings changes scores, for the model's identity."""
        return [] if self.too_long == "error" else [f"{self.too_long}={self.profile.tokens}"]

    def plan(self, pairs: Sequence[tuple[str, str]], instruction: str | None) -> RerankJob:
        """Prepares one call.

        Raises:
            InputError: If a text can't be sent.
            ConfigurationError: If the instruction is blank.
        """
        chosen = check_instruction(self.instruction if instruction is None else instruction)
        builder = _Builder(self, chosen)
        inputs = tuple(builder.rows_of(position, query, document) for position, (query, document) in enumerate(pairs))
        rows = list(builder.rows)
        return RerankJob(
            queries=tuple(query for query, _ in rows),
            documents=tuple(document for _, document in rows),
            costs=tuple(builder.rows[row][1] for row in rows),
            inputs=inputs,
            truncated=tuple(builder.truncated),
            instruction=chosen,
        )

    def batches(self, job: RerankJob, missing: Sequence[int]) -> list[tuple[int, ...]]:
        """Groups rows into requests: one query in each, unless the server takes pairs and there are several."""
        profile = self.profile
        queries = {job.queries[row] for row in missing}
        together = profile.pairs is not None and len(queries) > 1
        groups: dict[str, list[int]] = {}
        for row in missing:
            groups.setdefault("" if together else job.queries[row], []).append(row)
        return [
            tuple(rows[position] for position in part)
            for rows in groups.values()
            for part in pack([job.costs[row] for row in rows], rows=profile.documents, tokens=profile.request_tokens)
        ]


class _Builder:
    """Collects the rows of one call."""

    def __init__(self, settings: RerankSettings, instruction: str) -> None:
        self._settings = settings
        self._frame = settings.count(instruction) + _FRAME_TOKENS
        self._queries: dict[str, tuple[str, int]] = {}
        self._pieces: dict[tuple[str, str], tuple[int, ...]] = {}
        self.rows: dict[tuple[str, str], tuple[int, int]] = {}
        self.truncated: list[Truncation] = []
        self._cuts: dict[tuple[str, str], tuple[int, int]] = {}

    def rows_of(self, position: int, query: str, document: str) -> tuple[int, ...]:
        """Returns the rows of one pair, and makes those that are new."""
        key = (query, document)
        if key not in self._pieces:
            self._pieces[key] = self._make(position, query, document)
        if cut := self._cuts.get(key):
            self.truncated.append(Truncation(position, "document", *cut))
        return self._pieces[key]

    def _make(self, position: int, query: str, document: str) -> tuple[int, ...]:
        settings = self._settings
        asked, cost = self._query(position, query)
        limit = settings.profile.tokens
        if limit is not None and settings.profile.tokens_of == "pair":
            limit -= self._frame + cost
            if limit < 1:
                raise InputError(
                    f"query {position} and the instruction take {cost + self._frame} tokens and leave no room for a document "
                    f"within {settings.profile.tokens}: shorten them, or raise max_tokens"
                )
        if settings.too_long == "best_window" and limit is not None:
            return tuple(self._row(asked, piece, cost) for piece in windows(document, limit, settings.count))
        fitted = fit(document, limit, settings.count, settings.too_long, f"document {position}")
        if fitted.was_cut:
            self._cuts[query, document] = (fitted.before, fitted.tokens)
        return (self._row(asked, fitted.text, cost, fitted.tokens),)

    def _query(self, position: int, query: str) -> tuple[str, int]:
        if query not in self._queries:
            profile = self._settings.profile
            # Of a limit on the whole pair a query may take a quarter, so that it can't squeeze the document out.
            most = profile.tokens if profile.tokens_of == "text" or profile.tokens is None else profile.tokens // 4
            too_long: TooLong = "truncate" if self._settings.too_long == "truncate" else "error"
            fitted = fit(query, most, self._settings.count, too_long, f"query {position}")
            if fitted.was_cut:
                self.truncated.append(Truncation(position, "query", fitted.before, fitted.tokens))
            self._queries[query] = (fitted.text, fitted.tokens)
        return self._queries[query]

    def _row(self, query: str, document: str, query_tokens: int, tokens: int | None = None) -> int:
        count = self._settings.count(document) if tokens is None else tokens
        return self.rows.setdefault((query, document), (len(self.rows), query_tokens + count))[0]


def needs_instruction(job: RerankJob, model: str) -> str | None:
    """Returns the instruction to send: always to a Qwen model, to others only if it is not the default."""
    return job.instruction if "qwen" in model.lower() or job.instruction != DEFAULT_INSTRUCTION else None
