"""What an embedding call will send: checked, marked as query or document, made to fit, each distinct text once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import MIN_DIMENSIONS
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, check_instruction, query_text
from qwen3_rag.remote.answers import check_widths, embedding, in_order
from qwen3_rag.remote.api import Embedding, EmbeddingCall, Output, Role, Rows
from qwen3_rag.remote.batching import Outcome
from qwen3_rag.remote.dashscope import COMPATIBLE_EMBEDDINGS_PATH
from qwen3_rag.remote.inputs import TooLong, fit
from qwen3_rag.remote.openai_compatible import OpenAIEmbeddings
from qwen3_rag.remote.servers import EmbeddingProfile
from qwen3_rag.texts import check_texts
from qwen3_rag.tokens import TokenCounter
from qwen3_rag.types import FloatArray, Truncation


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingJob:
    """One call, ready to be sent.

    Attributes:
        call: All distinct texts, as one request without limits would hold them.
        costs: Tokens of each of them.
        inputs: For each input, which of them it is.
        truncated: The inputs that were cut.
        keep: How many values of each vector to keep, where the client cuts.
        width: The width that vectors must have, if that is known.
    """

    call: EmbeddingCall
    costs: tuple[int, ...]
    inputs: tuple[tuple[int], ...]
    truncated: tuple[Truncation, ...]
    keep: int | None
    width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSettings:
    """What an embedder was made with.

    Attributes:
        profile: How the model is used at its server.
        model: Its name there.
        instruction: The query instruction when a call names no other.
        dimensions: The width when a call names no other.
        normalize: Whether vectors have unit length.
        too_long: What happens to a text over the limit.
        count: Counts tokens.
    """

    profile: EmbeddingProfile
    model: str
    instruction: str
    dimensions: int | None
    normalize: bool
    too_long: TooLong
    count: TokenCounter

    def __post_init__(self) -> None:
        self.usable(self.instruction)
        self.width(self.dimensions)

    def marks(self) -> list[str]:
        """Returns what of the settings changes vectors, for the model's identity."""
        marks = {
            "compatible": isinstance(self.profile.api, OpenAIEmbeddings)
            and self.profile.api.path == COMPATIBLE_EMBEDDINGS_PATH,
            "not normalized": not self.normalize,
            f"max_tokens={self.profile.tokens}": self.too_long == "truncate",
        }
        return [mark for mark, holds in marks.items() if holds]

    def usable(self, instruction: str) -> str:
        """Returns an instruction that this model can be given.

        Raises:
            ConfigurationError: If it is blank, or another than the default and the model takes none.
        """
        if check_instruction(instruction) != DEFAULT_INSTRUCTION and not self.profile.instructions:
            raise ConfigurationError(f"{self.model!r} takes no instruction, got {instruction!r:.80}")
        return instruction

    def width(self, dimensions: int | None) -> int | None:
        """Returns the width of vectors for which a width is or is not asked; `None` if only the server knows it.

        Raises:
            ConfigurationError: If the model has no such width.
        """
        known, most = self.profile.widths, self.profile.default_width
        if dimensions is None:
            return most
        whole = isinstance(dimensions, int) and not isinstance(dimensions, bool)
        if known and not (whole and dimensions in known):
            named = ", ".join(map(str, known))
            raise ConfigurationError(f"{self.model!r} makes vectors of {named} values, got dimensions={dimensions!r}")
        if not known and not (whole and MIN_DIMENSIONS <= dimensions <= (most or dimensions)):
            limit = most or "the model's own width"
            raise ConfigurationError(f"dimensions must be between {MIN_DIMENSIONS} and {limit}, got {dimensions!r}")
        return dimensions

    def plan(
        self,
        texts: Sequence[str],
        role: Role,
        instruction: str | None = None,
        dimensions: int | None = None,
        output: Output = "dense",
    ) -> EmbeddingJob:
        """Prepares one call.

        Raises:
            InputError: If a text can't be sent.
            ConfigurationError: If the model has no such width, instruction or output.
        """
        profile = self.profile
        if output != "dense" and not profile.sparse:
            raise ConfigurationError(f"{self.model!r} has no sparse vectors here, got output={output!r}")
        if output not in get_args(Output):
            raise ConfigurationError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}")
        asked = self.dimensions if dimensions is None else dimensions
        width = self.width(asked)
        check_texts(texts, empty=profile.empty_texts)
        chosen = self.usable(self.instruction if instruction is None else instruction)
        if role == "query" and profile.queries == "client":
            texts = [query_text(text, chosen) for text in texts]
        distinct = list(dict.fromkeys(texts))
        where = {text: row for row, text in enumerate(distinct)}
        inputs = tuple((where[text],) for text in texts)
        first = {row: position for position, (row,) in reversed(list(enumerate(inputs)))}
        fitted = [
            fit(text, profile.tokens, self.count, self.too_long, f"{role} {first[row]}")
            for row, text in enumerate(distinct)
        ]
        by_server = profile.shortens == "server"
        call = EmbeddingCall(
            model=self.model,
            texts=tuple(item.text for item in fitted),
            role=role,
            instruction=chosen if role == "query" and profile.queries == "server" and profile.instructions else None,
            width=width if by_server and (asked is not None or len(profile.widths) > 1) else None,
            output=output,
        )
        return EmbeddingJob(
            call=call,
            costs=tuple(item.tokens for item in fitted),
            inputs=inputs,
            truncated=tuple(
                Truncation(position, role, fitted[row].before, fitted[row].tokens)
                for position, (row,) in enumerate(inputs)
                if fitted[row].was_cut
            ),
            keep=None if by_server else asked,
            width=width,
        )


def read_embeddings(job: EmbeddingJob, rows: Rows, count: int, *, server: str, normalize: bool) -> list[Embedding]:
    """Checks one answer.

    Args:
        job: The call.
        rows: The answer, decoded.
        count: How many texts the request had.
        server: How errors call the server.
        normalize: Whether to return unit length.

    Raises:
        RemoteAnswerError: If a vector is missing, doubled, malformed, or of another width.
    """
    output, keep = job.call.output, job.keep
    found = [
        embedding(value, output, server, keep=keep, normalize=normalize) for value in in_order(rows, count, server)
    ]
    check_widths([item.dense for item in found if item.dense is not None], job.width, server)
    return found


def dense_rows(job: EmbeddingJob, outcome: Outcome[Embedding], server: str, seen: int | None) -> FloatArray:
    """Returns the dense vectors of all inputs, in order.

    Args:
        job: The call.
        outcome: What came back.
        server: How errors call the server.
        seen: The width of earlier answers, for a call without texts.

    Raises:
        RemoteAnswerError: If requests of one call returned different widths.
    """
    if not job.inputs:
        return np.zeros((0, job.width or seen or 0), np.float32)
    vectors = [vector for (row,) in job.inputs if (vector := outcome.done[row].dense) is not None]
    check_widths(vectors, job.width, server)
    return np.stack(vectors)
