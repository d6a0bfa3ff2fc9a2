"""Training material of the embedder: token ids, the teacher's targets, and batches of neighbours."""
# ruff: noqa: PLR2004 - the numbers here are the recipe

import random
import re
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from qwen3_rag.tiny.build.corpus import Corpus
from qwen3_rag.tiny.build.teacher import Teacher
from qwen3_rag.tiny.build.tokenizer import EOS

DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
OTHER_TASKS: tuple[str, ...] = (
    "Retrieve passages of documentation that answer the question",
    "Given a question, find the section of the manual that answers it",
    "Retrieve semantically similar text",
    "Given a question about software, retrieve relevant answers",
    "Find the passage that explains the problem",
)
QUERY_TOKENS = 96
PAIRS = 20480
SPANS = 163840
_SPAN_SEED = 40960
_STARTS: tuple[str, ...] = (
    "How do I", "How can I", "How to", "What is", "What happens with", "Why does", "Why is", "Can I", "Is it possible",
    "Where is", "When should I", "Which", "Does it", "Do I need", "I want", "problem with", "My", "the", "is there",
)  # fmt: skip
NEIGHBOURS = 24


@dataclass(frozen=True, slots=True)
class Targets:
    """The teacher's vectors in the student's space, and how to get there.

    Attributes:
        mean: the mean of the teacher's vectors.
        basis: (384, width) principal directions, the strongest first.
    """

    mean: torch.Tensor
    basis: torch.Tensor

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """Centre, project and normalise rows of the teacher."""
        return torch.nn.functional.normalize((rows - self.mean) @ self.basis, dim=-1)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Everything that the training loop samples from; rows of a field and of its vectors belong together."""

    queries: list[str]
    query_vectors: torch.Tensor
    documents: list[str]
    document_vectors: torch.Tensor
    neighbours: torch.Tensor
    sentences: list[str]
    sentence_vectors: torch.Tensor
    spans: list[str]
    span_vectors: torch.Tensor
    vocabulary_vectors: torch.Tensor
    chinese: list[str]
    targets: Targets


def prepare(corpus: Corpus, tokenizer: Tokenizer, teacher: Teacher, width: int) -> TrainingSet:
    """Encode the corpus with the teacher and fit the projection.

    Args:
        corpus: the text.
        tokenizer: gives the vocabulary whose entries are encoded too.
        teacher: encodes or reads the cache.
        width: size of the student's vectors.
    """
    words = [tokenizer.decode([i]).strip() for i in range(tokenizer.get_vocab_size())]
    pairs = corpus.pairs[:PAIRS]
    queries, documents = [q for q, _ in pairs], [d for _, d in pairs]
    phrases = spans(corpus)
    q, d, s, p, w = (
        torch.from_numpy(teacher.vectors(name, texts))
        for name, texts in (
            ("queries", queries),
            ("documents", documents),
            ("sentences", corpus.sentences),
            ("spans", phrases),
            ("vocabulary", words),
        )
    )
    rows = torch.cat([q, d, s, p])
    mean = rows.mean(0)
    _, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean))
    basis = vectors.flip(1)[:, :width].contiguous()
    targets = Targets(mean, basis)
    return TrainingSet(
        queries, q, documents, d, _neighbours(d), corpus.sentences, s, phrases, p, w, corpus.chinese, targets
    )


def spans(corpus: Corpus) -> list[str]:
    """A few running words from anywhere in the corpus, half of them behind the start of a question.

    They cover more of the language than headings do, and they cost the teacher little.
    """
    rng = random.Random(_SPAN_SEED)
    found: list[str] = []
    while len(found) < SPANS:
        words = re.findall(r"[A-Za-z][\w'-]*", rng.choice(corpus.passages).text)
        if len(words) < 10:
            continue
        start, size = rng.randrange(len(words) - 4), rng.randint(2, 9)
        phrase = " ".join(words[start : start + size])
        found.append(f"{rng.choice(_STARTS)} {phrase}{rng.choice(('?', '?', ''))}" if rng.random() < 0.5 else phrase)
    return found


def _neighbours(rows: torch.Tensor) -> torch.Tensor:
    found = [(block @ rows.T).topk(NEIGHBOURS, dim=1).indices for block in torch.split(rows, 1024)]
    return torch.cat(found)


class Encoder:
    """Gives token ids with EOS, in the official frames.

    Args:
        tokenizer: without a post-processor.
        rng: chooses lengths and instructions.
    """

    def __init__(self, tokenizer: Tokenizer, rng: random.Random) -> None:
        self._tokenizer = tokenizer
        self._eos: int = tokenizer.get_vocab()[EOS]
        self._rng = rng

    def queries(self, texts: list[str], *, other: bool = False) -> list[list[int]]:
        """Ids of queries in the official frame, with one unusual instruction if `other`."""
        task = self._rng.choice(OTHER_TASKS) if other else DEFAULT_TASK
        return self.documents([f"Instruct: {task}\nQuery:{self._vary(t)}" for t in texts], QUERY_TOKENS)

    def documents(self, texts: list[str], limit: int) -> list[list[int]]:
        """Ids of bare texts."""
        return [[*e.ids[: limit - 1], self._eos] for e in self._tokenizer.encode_batch(texts)]

    def _vary(self, text: str) -> str:
        """Sometimes without its question mark or in lower case, as people type."""
        if self._rng.random() < 0.15:
            text = text.rstrip("?")
        return text.lower() if self._rng.random() < 0.15 else text


def pad(sequences: list[list[int]], eos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad to the left; return ids and mask."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), eos, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(sequence)
        mask[row, longest - len(sequence) :] = 1
    return ids, mask


def neighbour_batch(data: TrainingSet, seeds: int, each: int, rng: random.Random) -> list[int]:
    """Rows of the pairs: a few seeds, each with some of its nearest documents, so that telling apart is hard."""
    chosen: dict[int, None] = {}
    for _ in range(seeds):
        seed = rng.randrange(len(data.documents))
        near: list[int] = data.neighbours[seed].tolist()
        chosen.update(dict.fromkeys([seed, *rng.sample(near[1:], each - 1)]))
    return list(chosen)


def chinese_batch(texts: list[str], size: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """Pairs of a snippet and the passage it is from (inverse cloze); half of the time it's cut out of the passage."""
    snippets, passages = [], []
    for text in rng.sample(texts, size):
        parts = [p for p in re.split(r"(?<=[。！？；，\n])", text) if len(p.strip()) >= 5]
        if len(parts) >= 3:
            chosen = rng.randrange(len(parts))
            snippet = parts[chosen]
            rest = "".join(p for i, p in enumerate(parts) if i != chosen) if rng.random() < 0.5 else text
        else:
            start = rng.randrange(max(1, len(text) // 2))
            snippet, rest = text[start : start + rng.randint(6, 30)], text
        if rng.random() < 0.5 and len(snippet) > 12:
            start = rng.randrange(len(snippet) - 8)
            snippet = snippet[start : start + rng.randint(6, 24)]
        snippets.append(snippet.strip("。，； \n"))
        passages.append(rest)
    return snippets, passages


def inverse_frequency(texts: list[list[int]], size: int) -> torch.Tensor:
    """log(1 + N / (1 + documents with the entry)) of every vocabulary entry."""
    counts = np.zeros(size)
    for ids in texts:
        counts[list(set(ids))] += 1
    return torch.from_numpy(np.log(1 + len(texts) / (1 + counts))).float()
