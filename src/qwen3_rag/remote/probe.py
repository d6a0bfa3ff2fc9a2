"""What a self-hosted server does with a text, found out with the published examples. Pure: answers in, verdict out.

Sources of the numbers: the model card of Qwen/Qwen3-Embedding-0.6B (transformers, float32), and sentence-transformers'
own test of Qwen/Qwen3-Reranker-0.6B (float32). Only that size has these values; the larger ones, quantised or not, must
order the examples as any working model does. Where a server counts tokens, the count tells most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from qwen3_rag.errors import ModelCheckError
from qwen3_rag.types import FloatArray


class _EmbeddingExample(NamedTuple):
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    similarities: tuple[tuple[float, ...], ...]
    tokens: int  # in Qwen's vocabulary, the queries with the default instruction, without end tokens


class _RerankExample(NamedTuple):
    query: str
    documents: tuple[str, ...]
    probabilities: tuple[float, ...]
    tokens: int  # in Qwen's vocabulary, of the bare texts, the query once for each document
    framed_tokens: int  # with the prompt around each pair


EMBEDDING_EXAMPLE = _EmbeddingExample(
    queries=("What is the capital of China?", "Explain gravity"),
    documents=(
        "The capital of China is Beijing.",
        (
            "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
            "responsible for the movement of planets around the sun."
        ),
    ),
    similarities=((0.7645568, 0.1414251), (0.1354974, 0.5999550)),
    tokens=85,
)

RERANK_EXAMPLE = _RerankExample(
    query="Which planet is known as the Red Planet?",
    documents=(
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    ),
    probabilities=(0.0427, 0.9992, 0.4064, 0.9718),
    tokens=104,
    framed_tokens=384,
)
OTHER_INSTRUCTION = "Given a cooking question, retrieve recipes that answer it"
"""Another one than the default, to see whether a server uses it."""

_PUBLISHED = 0.05
"""How far from the published values quantised weights may be."""

_LEAST_MARGIN = 0.05
"""Cosines of a query with its own document and with the other one differ by 0.4 and more in a working model."""

_LEAST_LOGIT_MARGIN = 1.0
"""Logits of the right planet and a wrong one differ by 7 and more in a working model."""


@dataclass(frozen=True, slots=True)
class EmbeddingProbe:
    """What an embedding server does with a text.

    Attributes:
        append_eos: Whether the client has to write `<|endoftext|>` after a text.
        normalizes: Whether vectors come with unit length.
        published: Whether the similarities are those published for Qwen3-Embedding-0.6B.
        similarities: Of the example's two queries with its two documents.
    """

    append_eos: bool
    normalizes: bool
    published: bool
    similarities: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class RerankProbe:
    """What a reranking server does with a pair.

    Attributes:
        template: Who has to put the Qwen3 prompt around the texts.
        scores: Whether scores are probabilities or logits.
        instructions: Whether a server that puts the prompt uses an instruction sent with the request.
        published: Whether the scores are those published for Qwen3-Reranker-0.6B.
        probabilities: Of the example's four documents.
    """

    template: Literal["server", "client"]
    scores: Literal["probability", "logit"]
    instructions: bool
    published: bool
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingEvidence:
    """Unnormalised vectors of the example, and the tokens that the server counted (0 if it counts none)."""

    queries: Sequence[FloatArray]
    documents: Sequence[FloatArray]
    tokens: int

    def similarities(self) -> FloatArray:
        """Returns the cosines, shape `(2, 2)`."""
        queries, documents = (
            np.stack([vector / np.linalg.norm(vector) for vector in rows]) for rows in (self.queries, self.documents)
        )
        return np.asarray(queries @ documents.T, np.float32)

    @property
    def has_ends(self) -> bool:
        """Whether the token count is that of the texts with one end token each."""
        return self.tokens == EMBEDDING_EXAMPLE.tokens + len(self.queries) + len(self.documents)

    @property
    def distance(self) -> float:
        """How far the farthest cosine is from the published one."""
        return float(np.abs(self.similarities() - EMBEDDING_EXAMPLE.similarities).max())

    @property
    def margin(self) -> float:
        """How much nearer each query is to its own document than to the other's."""
        similarities = self.similarities()
        return float(similarities.diagonal().min() - max(similarities[0, 1], similarities[1, 0]))


def is_conclusive(tried: Mapping[bool, EmbeddingEvidence]) -> bool:
    """Whether what was tried so far leaves no reason to try with another end of text."""
    return any(evidence.has_ends or evidence.distance <= _PUBLISHED for evidence in tried.values())


def judge_embeddings(tried: Mapping[bool, EmbeddingEvidence], server: str) -> EmbeddingProbe:
    """Concludes what a server does.

    Args:
        tried: What came back without and with `<|endoftext|>` written after each text.
        server: How the error calls the server.

    Raises:
        ModelCheckError: If neither way orders the example.
    """
    append_eos = min(tried, key=lambda key: _rank(tried[key]))
    chosen = tried[append_eos]
    (a, b), (c, d) = chosen.similarities().tolist()
    if chosen.margin < _LEAST_MARGIN:
        raise ModelCheckError(
            f"{server} gives near-random vectors: similarities {a:.2f} {b:.2f} / {c:.2f} {d:.2f}, where "
            "Qwen3-Embedding-0.6B has 0.76 0.14 / 0.14 0.60. Start it with a Qwen3 embedding model and last-token pooling "
            "(llama.cpp: --pooling last; vLLM: --runner pooling), or pass probe=False if this is another model"
        )
    lengths = [np.linalg.norm(vector) for vector in (*chosen.queries, *chosen.documents)]
    return EmbeddingProbe(
        append_eos=append_eos,
        normalizes=bool(np.allclose(lengths, 1, atol=1e-2)),
        published=chosen.distance <= _PUBLISHED,
        similarities=((a, b), (c, d)),
    )


def _rank(evidence: EmbeddingEvidence) -> tuple[bool, float]:
    """Orders what was tried, best first: a token count that fits, then the published values, then the margin."""
    quality = evidence.distance - 1 if evidence.distance <= _PUBLISHED else -evidence.margin
    return not evidence.has_ends, quality


@dataclass(frozen=True, slots=True)
class RerankEvidence:
    """Scores of the example as they came, and the tokens that the server counted (0 if it counts none)."""

    scores: Sequence[float]
    tokens: int

    @property
    def kind(self) -> Literal["probability", "logit"]:
        """What the scores can be."""
        return "probability" if all(0 <= score <= 1 for score in self.scores) else "logit"

    @property
    def logits(self) -> FloatArray:
        """The scores as logits."""
        return to_logits(self.scores) if self.kind == "probability" else np.asarray(self.scores, np.float32)

    @property
    def margin(self) -> float:
        """By how much the right planet is before the wrong ones, which are the first and the third document."""
        logits = self.logits
        return float(logits[1] - max(logits[0], logits[2])) if logits[1] >= logits.max() else -1.0

    @property
    def published(self) -> bool:
        """Whether the scores are the published ones."""
        return bool(np.abs(to_probabilities(self.logits) - RERANK_EXAMPLE.probabilities).max() <= _PUBLISHED)

    @property
    def is_framed(self) -> bool | None:
        """Whether the server put its prompt around bare texts, as far as the token count tells."""
        if self.tokens >= (RERANK_EXAMPLE.tokens + RERANK_EXAMPLE.framed_tokens) / 2:
            return True
        return False if RERANK_EXAMPLE.tokens <= self.tokens else None


def judge_scores(
    tried: Mapping[Literal["server", "client"], RerankEvidence], server: str, *, instructions: bool
) -> RerankProbe:
    """Concludes what a server does.

    Args:
        tried: What came back for bare texts, and for texts with the prompt around them.
        server: How the error calls the server.
        instructions: Whether the server was seen to use an instruction.

    Raises:
        ModelCheckError: If neither way orders the example.
    """
    bare = tried.get("server")
    fitting = dict(tried)
    if bare is not None and len(tried) > 1 and bare.is_framed is not None:
        fitting.pop("client" if bare.is_framed else "server")
    template = max(fitting, key=lambda key: (fitting[key].published, fitting[key].margin))
    chosen = fitting[template]
    probabilities = to_probabilities(chosen.logits).tolist()
    if chosen.margin < _LEAST_LOGIT_MARGIN:
        raise ModelCheckError(_refusal(server, probabilities, framed=bare is not None and bool(bare.is_framed)))
    return RerankProbe(
        template=template,
        scores=chosen.kind,
        instructions=instructions and template == "server",
        published=chosen.published,
        probabilities=tuple(probabilities),
    )


def to_logits(probabilities: Sequence[float]) -> FloatArray:
    """Returns the logits of probabilities; those of 0 and 1, which are infinite, at the last digit of a double."""
    exact = np.clip(np.asarray(probabilities, np.float64), 2.0**-53, 1 - 2.0**-53)
    return np.log(exact / (1 - exact)).astype(np.float32)


def to_probabilities(logits: Sequence[float] | FloatArray) -> FloatArray:
    """Returns the sigmoid."""
    return (1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32)


def _refusal(server: str, probabilities: Sequence[float], *, framed: bool) -> str:
    found = ", ".join(f"{value:.2f}" for value in probabilities)
    reason = (
        "It puts a prompt around the texts, so the weights are not a reranker's: llama.cpp needs a GGUF file with cls.output"
        if framed
        else "It scores text without the Qwen3 prompt, or not with a reranker's head: start vLLM with --hf-overrides "
        '\'{"architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], '
        '"is_original_qwen3_reranker": true}\', SGLang with its qwen3_reranker.jinja'
    )
    return (
        f"{server} gives near-random scores: {found} for Venus, Mars, Jupiter and Saturn as the Red Planet, where "
        f"Qwen3-Reranker-0.6B has 0.04, 1.00, 0.41, 0.97. {reason}. Pass probe=False if this is another model"
    )
