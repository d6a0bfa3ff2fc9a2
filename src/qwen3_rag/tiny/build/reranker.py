"""Trains the tiny reranker: a hand-written start, then distillation of the teacher's similarities end to end."""

# ruff: noqa: PLR2004 - the recipe's numbers stand where they act
from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from qwen3_rag.tiny.build import corpus as corpora
from qwen3_rag.tiny.build import data as material
from qwen3_rag.tiny.build import dev, tokenizer
from qwen3_rag.tiny.build.reranker_data import MIDDLE, SPREAD, Frame, Rows, Sampler, pad, train_bag
from qwen3_rag.tiny.build.reranker_model import SLICE, construct, rows_forward, strengthen
from qwen3_rag.tiny.build.teacher import Teacher

STEPS = 1000
SEED = 20261122
PAIRS = 20480
_BAG_STEPS = 200
_TEMPERATURE = 0.06
_RATE = 7e-4
_REPORT = 50
_INNER = 0.2  # the layers are written by hand and learn more slowly than the table


class Trainer:
    """Holds the student and takes the steps.

    Args:
        data: what to sample from.
        tok: the tokenizer, without a post-processor.
        steps: number of optimiser steps of the first phase; the second has an eighth of them.
    """

    def __init__(self, data: material.TrainingSet, tok: Tokenizer, steps: int = STEPS) -> None:
        torch.manual_seed(SEED)
        self.data, self.steps, self.middle = data, steps, MIDDLE
        self.frame = Frame(tok)
        self.ids = self.frame.special()
        self.sampler = Sampler(data, self.frame)
        bag = train_bag(data, tok, _BAG_STEPS, SEED)
        self.model: Qwen3ForCausalLM = construct(bag.content, bag.identity, bag.weight, self.ids)

    def train(self) -> None:
        """Distil; then let matches count for more and go on, on long documents, for the scores above all."""
        self.sampler.rng = random.Random(SEED)
        self._phase(self.steps, _RATE, self._first)
        strengthen(self.model)
        self.second()

    def second(self) -> None:
        """The second phase alone."""
        self.sampler.rng = random.Random(SEED + 1)
        self.middle = MIDDLE - 0.06  # sections that answer in other words should come out above a half
        self._phase(self.steps // 8, _RATE * 0.4, self._second)

    def _phase(self, steps: int, rate: float, draw: Callable[[int, int], tuple[Rows, float]]) -> None:
        self.model.train()
        table = self.model.get_input_embeddings().weight
        inner = [p for p in self.model.parameters() if p is not table]
        groups = [{"params": [table], "rate": rate}, {"params": inner, "rate": rate * _INNER}]
        optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
        began, sums = time.monotonic(), [0.0] * 4
        for step in range(steps):
            scale = min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * max(scale, 0.01)
            batch, share = draw(step, steps)
            parts = self._losses(batch)
            loss = share * (parts[0] + parts[1]) + parts[2] + parts[3]
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step()
            sums = [a + b.item() / _REPORT for a, b in zip(sums, parts, strict=True)]
            if step % _REPORT == _REPORT - 1:
                shown = " ".join(f"{value:.3f}" for value in sums)
                print(f"step {step + 1} losses {shown} {time.monotonic() - began:.0f} s", flush=True)
                sums = [0.0] * 4

    def _first(self, step: int, steps: int) -> tuple[Rows, float]:
        """From short texts to long ones; the share is that of the auxiliary losses."""
        done, kind = step / steps, step % 8
        if step % 16 == 5:
            return self.sampler.chinese(14, 96), 1.0
        if kind in {1, 3} and done < 0.8:
            return self.sampler.short(56), 1.0
        if done < 0.5:
            return self.sampler.pairs(12, 4, 64), 1.0
        if done < 0.85:
            return self.sampler.pairs(9, 5, 112), 1.0
        return self.sampler.pairs(6, 5, 224), 1.0

    def _second(self, step: int, steps: int) -> tuple[Rows, float]:
        if step % 16 == 5:
            return self.sampler.chinese(14, 96), 0.3
        return (
            self.sampler.pairs(6, 5, 224) if step % 4 == 0 or step > 0.8 * steps else self.sampler.pairs(9, 5, 112)
        ), 0.3

    def _losses(self, batch: Rows) -> list[torch.Tensor]:
        """Vectors, similarities inside of the batch, calibrated score, order of each query's candidates."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = rows_forward(self.model, batch.prefix, batch.rows, batch.last, self.ids)
        wanted = torch.sigmoid((batch.cosine - self.middle) / SPREAD)
        wanted = torch.where(batch.label == 1, wanted.nan_to_num(0.0).clamp(min=0.85), wanted)
        wanted = torch.where(batch.label == 0, torch.full_like(wanted, 0.03), wanted)
        score = F.binary_cross_entropy_with_logits(result.logit, wanted)
        each = len(batch.rows) // len(batch.query) if batch.query is not None else 2
        d, q = F.normalize(result.document, dim=1), F.normalize(result.query, dim=1)
        if batch.query is None or batch.document is None:
            truth = torch.arange(0, len(d), each)
            similar = 0.5 * F.cross_entropy(q[::each] @ d.T / _TEMPERATURE, truth)
            return [torch.zeros(()), similar, 2 * score, torch.zeros(())]
        goal = self.data.targets.project(torch.cat([batch.query, batch.document]))
        goal = F.normalize(goal[:, :SLICE], dim=1)
        goal_q, goal_d = goal[: len(batch.query)].repeat_interleave(each, 0), goal[len(batch.query) :]
        vectors = 3 * (2 - (q * goal_q).sum(1).mean() - (d * goal_d).sum(1).mean())
        teacher = F.softmax(batch.query @ batch.document.T / _TEMPERATURE, 1)
        similar = F.kl_div(F.log_softmax(q[::each] @ d.T / _TEMPERATURE, 1), teacher, reduction="batchmean")
        if each == 1:
            return [vectors, similar, 2 * score, torch.zeros(())]
        order = F.softmax(batch.cosine.view(-1, each) / SPREAD, 1)
        listwise = F.kl_div(F.log_softmax(result.logit.view(-1, each), 1), order, reduction="batchmean")
        return [vectors, similar, 2 * score, 2 * listwise]

    def scores(self, pairs: list[tuple[str, str]], limit: int = 512) -> list[float]:
        """Logits of (query, document) pairs, for development figures."""
        ids = [self.frame.query(q) + self.frame.document(d, limit) for q, d in pairs]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        prefix, out = torch.tensor(self.frame.prefix()), [0.0] * len(ids)
        with torch.inference_mode():
            for start in range(0, len(order), 32):
                chosen = order[start : start + 32]
                rows, last = pad([ids[i] for i in chosen], self.frame.suffix[-1])
                logits = rows_forward(self.model, prefix, rows, last, self.ids).logit.tolist()
                for i, logit in zip(chosen, logits, strict=True):
                    out[i] = logit
        return out


def build(out: Path, cache: Path, steps: int = STEPS) -> dict[str, float]:
    """Build the reranker and write its folder.

    Args:
        out: where the model goes.
        cache: keeps downloads, text and the teacher's vectors.
        steps: optimiser steps of the first phase.

    Returns:
        The figures on the development questions, all sections ranked.
    """
    torch.set_num_threads(1)
    text = corpora.load(cache)
    tok = tokenizer.load_or_train(text, cache)
    text = replace(text, pairs=text.pairs[:PAIRS])
    trainer = Trainer(material.prepare(text, tok, Teacher(cache), 2 * SLICE), tok, steps)
    trainer.train()
    trainer.model.train(mode=False)
    documents, truth = dev.documents(text), dev.relevant(text)
    ranks = []
    for (question, _), right in zip(dev.QUESTIONS, truth, strict=True):
        logits = trainer.scores([(question, d) for d in documents])
        best = max(logits[i] for i in right)
        ranks.append(1 + sum(logit > best for logit in logits))
    save(trainer.model, tok, out)
    return {
        "recall@1": sum(r <= 1 for r in ranks) / len(ranks),
        "recall@3": sum(r <= 3 for r in ranks) / len(ranks),
        "mrr@10": sum(1 / r for r in ranks if r <= 10) / len(ranks),
    }


def save(model: Qwen3ForCausalLM, tok: Tokenizer, out: Path) -> None:
    """Write the folder as Qwen3-Reranker's is laid out."""
    out.mkdir(parents=True, exist_ok=True)
    ends = {"bos_token_id": tok.token_to_id(tokenizer.EOS), "eos_token_id": tok.token_to_id("<|im_end|>")}
    for name, value in ends.items():
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
    model.config.pad_token_id = tok.token_to_id(tokenizer.EOS)
    model.generation_config.pad_token_id = tok.token_to_id(tokenizer.EOS)
    model.train(mode=False).half().save_pretrained(out)
    tokenizer.save(tok, out, eos_token="<|im_end|>")
