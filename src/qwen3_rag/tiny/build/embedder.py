"""Distils a Qwen3-architecture embedder of 1.5 million parameters from the teacher."""
# ruff: noqa: PLR2004 - the numbers here are the recipe

import copy
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3Model

from qwen3_rag.tiny.build import bag, dev, tokenizer
from qwen3_rag.tiny.build import corpus as corpora
from qwen3_rag.tiny.build import data as material
from qwen3_rag.tiny.build.teacher import Teacher, common_words
from qwen3_rag.types import FloatArray

WIDTH = 128
LAYERS = 2
STEPS = 3400
RUNS = 2
SEED = 20261121
_TEMPERATURE = 0.07
_PREFIXES = (32, 64)
_RARITY = 0.13  # makes the start's attention scores about equal to the bag's weights


def configuration(vocabulary: int) -> Qwen3Config:
    """The configuration: Qwen3 in small."""
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        use_cache=True,
    )


class Trainer:
    """Holds the student and takes the steps.

    Args:
        data: what to sample from.
        tok: the tokenizer, without a post-processor.
        run: which run it is; all start from the same weights, and each draws batches of its own.
        steps: number of optimiser steps; the learning rate's schedule depends on it.
        rate: the highest learning rate.
    """

    def __init__(
        self, data: material.TrainingSet, tok: Tokenizer, run: int = 0, steps: int = STEPS, rate: float = 2e-3
    ) -> None:
        torch.manual_seed(SEED)
        self.data = data
        self.rng = random.Random(SEED + run)
        self.encoder = material.Encoder(tok, self.rng)
        self.eos: int = tok.get_vocab()[tokenizer.EOS]
        self.steps, self.rate, self.step = steps, rate, 0
        self.model: Any = Qwen3Model(configuration(tok.get_vocab_size()))
        self.model.set_attn_implementation("eager")  # with gradients on a CPU it's the fastest
        self._initialise(tok)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

    def _initialise(self, tok: Tokenizer) -> None:
        """Start as a bag of words: in the last layer EOS attends to weighty entries and copies their vectors."""
        table, weights = self._words(tok)
        table[:, -1] = _RARITY * weights.clamp(-3, 3)
        table[self.eos] = 0
        table[self.eos, -1] = -0.05  # small: only its direction matters to the attention
        with torch.no_grad():
            self.model.embed_tokens.weight.copy_(table)
            for layer in self.model.layers:
                layer.mlp.down_proj.weight.mul_(0.15)
                layer.self_attn.o_proj.weight.mul_(0.15)
            pool = self.model.layers[-1].self_attn
            pool.v_proj.weight.copy_(torch.eye(WIDTH))
            pool.v_proj.weight[-1] = 0  # the weight is for the attention, not for the vector
            pool.o_proj.weight.copy_(torch.eye(WIDTH))
            pool.q_proj.weight[:, -1] = 0
            for head in range(4):
                slow = head * 32 + 15  # hardly turned by RoPE
                pool.q_proj.weight[slow, -1] = -1.0
                pool.k_proj.weight[slow] = 0
                pool.k_proj.weight[slow, -1] = 0.15

    def _words(self, tok: Tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors and weights of the vocabulary: the teacher's word vectors and rarity, refined as a bag of words."""
        data = self.data
        parts = (
            (data.queries, data.query_vectors),
            (data.sentences, data.sentence_vectors),
            (data.documents, data.document_vectors),
            (data.spans, data.span_vectors),
        )
        texts = [ids[:-1] for strings, _ in parts for ids in self.encoder.documents(strings, 512)]
        targets = data.targets.project(torch.cat([rows for _, rows in parts]))
        idf = material.inverse_frequency(texts, tok.get_vocab_size())
        words = data.vocabulary_vectors
        table = F.normalize((words - words.mean(0)) @ data.targets.basis, dim=-1)
        _replace_foreign(table, tok)
        table, weights = bag.fit(table, 0.6 * (idf - idf.mean()), texts, targets)
        first, *frame = tok.encode(f"Instruct: {material.DEFAULT_TASK}\nQuery:").ids
        offset = (weights[frame].clamp(-3, 3).exp()[:, None] * table[frame]).sum(0)
        table[first] = -F.normalize(offset, dim=0)  # "Instruct" cancels the rest of the frame
        weights[first] = offset.norm().log()
        return table, weights

    def embed(self, sequences: list[list[int]]) -> torch.Tensor:
        """Unit vectors of token sequences: the hidden state of the last token."""
        ids, mask = material.pad(sequences, self.eos)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, -1]
        return F.normalize(hidden.float(), dim=-1)

    def train(self) -> None:
        """Take all steps, saying every 100 steps how it goes."""
        self.model.train()
        for step in range(self.steps):
            self.step = step
            scale = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * max(scale, 0.01)
            loss = self._loss()
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            if step % 100 == 99:
                print(f"step {step + 1} loss {loss.item():.4f}", flush=True)

    def _loss(self) -> torch.Tensor:
        kind = self.step % 8
        if kind == 7:
            return self._chinese()
        if kind in {1, 4, 6}:
            return self._short()
        return self._pairs()

    def _short(self) -> torch.Tensor:
        """Short questions, phrases and sentences: the teacher's vectors and similarities."""
        data, rng = self.data, self.rng
        asked = rng.sample(range(len(data.spans)), 64)
        bare = rng.sample(range(len(data.spans)), 64)
        other = rng.sample(range(len(data.sentences)), 32)
        student = torch.cat(
            [
                self.embed(self.encoder.queries([data.spans[i] for i in asked], other=rng.random() < 0.2)),
                self.embed(self.encoder.documents([data.spans[i] for i in bare], 96)),
                self.embed(self.encoder.documents([data.sentences[i] for i in other], 96)),
            ]
        )
        teacher = torch.cat([data.span_vectors[asked], data.span_vectors[bare], data.sentence_vectors[other]])
        return self._vectors(student, teacher) + self._similarities(student, student, teacher, teacher)

    def _pairs(self) -> torch.Tensor:
        """Questions with their sections among near neighbours."""
        data, rng = self.data, self.rng
        rows = material.neighbour_batch(data, 6, 6, rng)
        q = self.embed(self.encoder.queries([data.queries[i] for i in rows], other=rng.random() < 0.2))
        limit = 288 if self.step % 8 == 0 else 112
        d = self.embed(self.encoder.documents([data.documents[i] for i in rows], limit))
        tq, td = data.query_vectors[rows], data.document_vectors[rows]
        loss = self._vectors(torch.cat([q, d]), torch.cat([tq, td])) + self._similarities(q, d, tq, td)
        return loss + self._similarities(d, d, td, td) * 0.5 + 0.1 * self._contrast(q, d)

    def _chinese(self) -> torch.Tensor:
        """A snippet against the passages of the batch; half of the snippets come without the query frame."""
        snippets, passages = material.chinese_batch(self.data.chinese, 40, self.rng)
        if self.rng.random() < 0.7:
            q = self.embed(self.encoder.queries(snippets))
        else:
            q = self.embed(self.encoder.documents(snippets, material.QUERY_TOKENS))
        d = self.embed(self.encoder.documents(passages, 160))
        return self._contrast(q, d) + 0.3 * self._contrast(_cut(q, 64), _cut(d, 64))

    def _vectors(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        target = self.data.targets.project(teacher)
        loss = 5 * (1 - (student * target).sum(1)).mean()
        for width in _PREFIXES:
            loss = loss + (1 - (_cut(student, width) * _cut(target, width)).sum(1)).mean()
        return loss

    def _similarities(
        self, left: torch.Tensor, right: torch.Tensor, teacher_left: torch.Tensor, teacher_right: torch.Tensor
    ) -> torch.Tensor:
        """How far the student's rankings inside the batch are from the teacher's."""
        project = self.data.targets.project
        wanted = F.softmax(project(teacher_left) @ project(teacher_right).T / _TEMPERATURE, dim=1)
        loss = F.kl_div(F.log_softmax(left @ right.T / _TEMPERATURE, dim=1), wanted, reduction="batchmean")
        cut = _cut(left, 64) @ _cut(right, 64).T / _TEMPERATURE
        return loss + 0.3 * F.kl_div(F.log_softmax(cut, dim=1), wanted, reduction="batchmean")

    @staticmethod
    def _contrast(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        scores = left @ right.T / _TEMPERATURE
        truth = torch.arange(len(left))
        return 0.5 * (F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth))

    def take(self, states: Sequence[dict[str, torch.Tensor]]) -> None:
        """Take the mean of weights that were trained apart from the same start; it does better than either."""
        mean = {name: torch.stack([s[name].double() for s in states]).mean(0) for name in states[0]}
        self.model.load_state_dict({name: weight.half() for name, weight in mean.items()})

    def encode(self, texts: Sequence[str], *, query: bool, limit: int = 512) -> FloatArray:
        """Encode texts without training, for development figures."""
        task = f"Instruct: {material.DEFAULT_TASK}\nQuery:" if query else ""
        ids = self.encoder.documents([task + t for t in texts], limit)
        with torch.inference_mode():
            rows = torch.cat([self.embed(ids[i : i + 16]) for i in range(0, len(ids), 16)])
        out: FloatArray = rows.numpy().astype(np.float32)
        return out


def _cut(rows: torch.Tensor, width: int) -> torch.Tensor:
    return F.normalize(rows[:, :width], dim=-1)


def _replace_foreign(table: torch.Tensor, tok: Tokenizer) -> None:
    """Give entries that the teacher can't read a vector of their own: the sum of one random vector per character."""
    generator = torch.Generator().manual_seed(SEED)
    letters: dict[str, torch.Tensor] = {}
    for row in range(len(table)):
        text = tok.decode([row]).strip()
        if text and text.isascii() and "�" not in text:
            continue
        total = torch.zeros(table.shape[1])
        for letter in text or "�":
            if letter not in letters or letter == "�":
                letters[letter] = torch.randn(table.shape[1], generator=generator)
            total += letters[letter]
        table[row] = F.normalize(total, dim=0)


def build(out: Path, cache: Path, steps: int = STEPS) -> dict[str, float]:
    """Build the embedder and write its folder.

    Args:
        out: where the model goes.
        cache: keeps downloads, text and the teacher's vectors.
        steps: optimiser steps of each run.

    Returns:
        The figures on the development questions.
    """
    torch.set_num_threads(1)
    text = corpora.load(cache)
    tok = tokenizer.load_or_train_words(text, common_words(), cache)
    data = material.prepare(text, tok, Teacher(cache), WIDTH)
    states = []
    for run in range(RUNS):
        trainer = Trainer(data, tok, run, steps)
        trainer.train()
        states.append(copy.deepcopy(trainer.model).half().state_dict())
    trainer.take(states)
    trainer.model.eval()
    save(trainer.model, tok, out)
    return dev.score(text, lambda t: trainer.encode(t, query=True), lambda t: trainer.encode(t, query=False))


def save(model: Any, tok: Tokenizer, out: Path) -> None:
    """Write the folder as Qwen3-Embedding's is laid out, for transformers and sentence-transformers."""
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tokenizer.save(tokenizer.with_eos(tok), out, eos_token=tokenizer.EOS)
    prompt = f"Instruct: {material.DEFAULT_TASK}\nQuery:"
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_lasttoken": True, "include_prompt": True}
    for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"):
        pooling[f"pooling_mode_{mode}"] = False
    prompts = {"prompts": {"query": prompt, "document": ""}, "default_prompt_name": None}
    (out / "1_Pooling").mkdir(exist_ok=True)
    for name, content in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", {**prompts, "similarity_fn_name": "cosine"}),
    ):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
