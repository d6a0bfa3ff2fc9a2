"""Training material of the reranker: prompts as token ids, candidates of every kind, and the first token table."""

# ruff: noqa: PLR2004 - the recipe's numbers stand where they act
from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer

from qwen3_rag import prompts
from qwen3_rag.tiny.build import data as material
from qwen3_rag.tiny.build.reranker_model import SLICE, SpecialIds

#: Teacher's cosine that counts as a coin's throw, and how fast certainty grows away from it.
MIDDLE, SPREAD = 0.42, 0.07
_BAG_BATCH = 1024
_QUERY_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Rows:
    """One batch.

    Attributes:
        prefix: what all rows begin with.
        rows: (rows, tokens) the rest, padded on the right.
        last: index of each row's last token.
        cosine: (rows,) the teacher's cosine of the row's query and document; NaN where it has no opinion.
        label: (rows,) 1 where the document is known to belong to the query, 0 where known not to, NaN elsewhere.
        query: (queries, 384) the teacher's vectors, or None.
        document: (rows, 384) the teacher's vectors, or None.
    """

    prefix: torch.Tensor
    rows: torch.Tensor
    last: torch.Tensor
    cosine: torch.Tensor
    label: torch.Tensor
    query: torch.Tensor | None
    document: torch.Tensor | None


class Frame:
    """Gives the official prompt as token ids; text of users never becomes a control token.

    Args:
        tokenizer: without a post-processor.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True
        self._head = tokenizer.encode(prompts.RERANK_PREFIX).ids
        self.suffix: list[int] = tokenizer.encode(prompts.RERANK_SUFFIX).ids

    def prefix(self, instruction: str = prompts.DEFAULT_INSTRUCTION) -> list[int]:
        """Everything up to `<Query>:`; the space after it belongs to the query's first token."""
        return self._head + self._plain.encode(prompts.rerank_instruct(instruction).rstrip(" ")).ids

    def query(self, text: str) -> list[int]:
        """The query and everything up to `<Document>:`."""
        words = self._plain.encode(f" {text}").ids[:_QUERY_TOKENS]
        return words + self._plain.encode(prompts.RERANK_DOCUMENT).ids

    def document(self, text: str, limit: int) -> list[int]:
        """The document, cut, and the suffix."""
        return self._plain.encode(f" {text}").ids[:limit] + self.suffix

    def words(self, text: str) -> list[int]:
        """Tokens of a text alone."""
        ids: list[int] = self._plain.encode(f" {text}").ids
        return ids

    def special(self) -> SpecialIds:
        """The tokens that the construction treats apart."""
        one = self._tokenizer.token_to_id
        silent = {*self.suffix, *self._tokenizer.encode("<Query>:").ids}
        ids = [one(t) for t in ("Document", "Query", "<|im_start|>", "yes", "no")]
        return SpecialIds(*ids, silent=tuple(sorted(silent - set(ids))))


def pad(sequences: list[list[int]], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad to the right; return ids and the index of the last token."""
    longest = max(map(len, sequences))
    rows = torch.full((len(sequences), longest), filler)
    for row, sequence in enumerate(sequences):
        rows[row, : len(sequence)] = torch.tensor(sequence)
    return rows, torch.tensor([len(s) - 1 for s in sequences])


@dataclass(frozen=True, slots=True)
class Bag:
    """A trained bag of tokens.

    Attributes:
        content: (vocabulary, 84) unit rows.
        identity: (vocabulary, 84) unit rows.
        weight: (vocabulary,) 1 on average.
    """

    content: torch.Tensor
    identity: torch.Tensor
    weight: torch.Tensor


def train_bag(data: material.TrainingSet, tokenizer: Tokenizer, steps: int, seed: int) -> Bag:
    """Train vectors of tokens whose plain mean is near the teacher's vector of the text.

    This takes half a minute and is where most of the first quality comes from.

    Args:
        data: texts and the teacher's vectors.
        tokenizer: without a post-processor.
        steps: optimiser steps.
        seed: for the choice of texts.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = [*data.queries, *data.sentences, *data.documents]
    target = data.targets.project(torch.cat([data.query_vectors, data.sentence_vectors, data.document_vectors]))
    target = F.normalize(target[:, :SLICE], dim=1)
    ids = [torch.tensor(e.ids[:160]) for e in tokenizer.encode_batch([f" {t}" for t in texts])]
    idf = material.inverse_frequency([i.tolist() for i in ids[len(data.queries) :]], tokenizer.get_vocab_size())
    words = data.vocabulary_vectors
    space = F.normalize((words - words.mean(0)) @ data.targets.basis, dim=-1)
    foreign = [i for i in range(len(space)) if not (text := tokenizer.decode([i]).strip()).isascii() or not text]
    space[foreign] = F.normalize(torch.randn(len(foreign), space.shape[1], generator=generator), dim=1)
    first = F.normalize(space[:, :SLICE], dim=1) * (idf / idf.mean())[:, None]
    bag = torch.nn.EmbeddingBag(len(first), SLICE, mode="sum", include_last_offset=True)
    bag.weight.data.copy_(first)
    optimiser = torch.optim.Adam(bag.parameters(), lr=0.02)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.02 * (1 - step / steps)
        chosen = torch.randint(len(ids), (_BAG_BATCH,), generator=generator).tolist()
        flat = torch.cat([ids[i] for i in chosen])
        offsets = torch.tensor([0, *(len(ids[i]) for i in chosen)]).cumsum(0)
        keep = (torch.rand(len(flat), generator=generator) > 0.15).float()
        h, y = F.normalize(bag(flat, offsets, per_sample_weights=keep), dim=1), target[chosen]
        wanted = F.softmax(y @ y.T / 0.1, 1)
        loss = 5 * (1 - (h * y).sum(1)).mean()
        loss = loss + F.kl_div(F.log_softmax(h @ h.T / 0.1, 1), wanted, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    table = bag.weight.detach()
    weight = table.norm(dim=1)
    return Bag(F.normalize(table, dim=1), F.normalize(space[:, SLICE:], dim=1), weight / weight.mean())


class Sampler:
    """Draws batches.

    Args:
        data: texts, the teacher's vectors, neighbours.
        frame: makes prompts.

    Attributes:
        rng: makes all choices.
    """

    def __init__(self, data: material.TrainingSet, frame: Frame) -> None:
        self._data, self._frame = data, frame
        self.rng = random.Random(0)
        self._default = torch.tensor(frame.prefix())
        self._others = [torch.tensor(frame.prefix(task)) for task in material.OTHER_TASKS]
        self._postings: dict[int, list[int]] = {}
        for number, text in enumerate(data.documents):
            for token in dict.fromkeys(frame.words(text)):
                self._postings.setdefault(token, []).append(number)

    def _prefix(self) -> torch.Tensor:
        return self._default if self.rng.random() < 0.8 else self.rng.choice(self._others)

    def _sharing(self, row: int) -> int:
        """A document that shares one of the three rarest tokens of a question, as a lexical search would find it."""
        found = [p for t in set(self._frame.words(self._data.queries[row])) if len(p := self._postings.get(t, [])) > 1]
        rare = sorted(found, key=lambda p: (len(p), p[0]))[:3]
        return self.rng.choice(self.rng.choice(rare)) if rare else self.rng.randrange(len(self._data.documents))

    def _vary(self, text: str) -> str:
        """Sometimes without its question mark or in lower case, as people type."""
        if self.rng.random() < 0.2:
            text = text.rstrip("?")
        return text.lower() if self.rng.random() < 0.2 else text

    def _pad(self, pairs: list[tuple[str, str]], limit: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids = [self._frame.query(q) + self._frame.document(d, limit) for q, d in pairs]
        return self._prefix(), *pad(ids, self._frame.suffix[-1])

    def pairs(self, queries: int, each: int, limit: int) -> Rows:
        """Questions, each with its own section, near neighbours of it, one that shares rare words, and any other.

        Args:
            queries: how many questions.
            each: candidates per question, at least 4.
            limit: tokens of a document.
        """
        data, rng = self._data, self.rng
        rows = rng.sample(range(len(data.queries)), queries)
        if rng.random() < 0.5:  # some of the questions are about nearly the same
            near: list[int] = data.neighbours[rows[0]].tolist()
            rows = list(dict.fromkeys([*near[: queries // 3], *rows]))[:queries]
        candidates: list[int] = []
        for i in rows:
            neighbours: list[int] = [j for j in data.neighbours[i].tolist() if j != i]
            near_ones = rng.sample(neighbours, each - 3)
            candidates += [i, *near_ones, self._sharing(i), rng.randrange(len(data.documents))]
        owners = [i for i in rows for _ in range(each)]
        vectors = data.document_vectors[candidates]
        cosine = (data.query_vectors[owners] * vectors).sum(1)
        label = torch.tensor([1.0 if i == j else float("nan") for i, j in zip(owners, candidates, strict=True)])
        said = {i: self._vary(data.queries[i]) for i in rows}
        pairs = [(said[i], data.documents[j]) for i, j in zip(owners, candidates, strict=True)]
        return Rows(*self._pad(pairs, limit), cosine, label, data.query_vectors[rows], vectors)

    def short(self, count: int) -> Rows:
        """Questions with single sentences, for many steps in little time."""
        data, rng = self._data, self.rng
        left = rng.sample(range(len(data.queries)), count)
        right = rng.sample(range(len(data.sentences)), count)
        q, d = data.query_vectors[left], data.sentence_vectors[right]
        pairs = [(self._vary(data.queries[i]), data.sentences[j]) for i, j in zip(left, right, strict=True)]
        return Rows(*self._pad(pairs, 64), (q * d).sum(1), torch.full((count,), float("nan")), q, d)

    def chinese(self, count: int, limit: int) -> Rows:
        """Chinese snippets, each with the passage that it's from and another; the teacher reads no Chinese."""
        snippets, passages = material.chinese_batch(self._data.chinese, count, self.rng)
        pairs = [p for i, s in enumerate(snippets) for p in ((s, passages[i]), (s, passages[i - 1]))]
        label = torch.tensor([1.0, 0.0] * count)
        return Rows(*self._pad(pairs, limit), torch.full((2 * count,), float("nan")), label, None, None)
