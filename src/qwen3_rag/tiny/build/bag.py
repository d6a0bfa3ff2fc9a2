"""Trains the table of token vectors alone, as a weighted bag of tokens; a matter of seconds.

A text's vector is the sum of its tokens' unit vectors, weighted by a softmax over one learned number per token. That
is what the embedder's last attention layer computes when it starts, so the transformer begins where this ends.
"""

import random

import torch
import torch.nn.functional as F  # noqa: N812

STEPS = 500
BATCH = 512
_SEED = 7
_TOKENS = 64
_TEMPERATURE = 0.07


def fit(
    table: torch.Tensor, weights: torch.Tensor, texts: list[list[int]], targets: torch.Tensor, steps: int = STEPS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit token vectors and weights to the teacher's vectors.

    Args:
        table: (vocabulary, width) vectors to start from.
        weights: (vocabulary,) logarithms of the weights to start from.
        texts: token ids of every text, without EOS.
        targets: the teacher's vector of every text, in the student's space.
        steps: optimiser steps.

    Returns:
        Unit vectors and the weights' logarithms.
    """
    rng = random.Random(_SEED)
    vectors = table.clone().requires_grad_()
    scores = weights.clone().requires_grad_()
    optimiser = torch.optim.Adam([{"params": [vectors], "lr": 0.02}, {"params": [scores], "lr": 0.02}])
    usable = [i for i, ids in enumerate(texts) if ids]
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.02 * (1 - step / steps)
        rows = rng.sample(usable, BATCH)
        student = _pool(vectors, scores, [texts[i][:_TOKENS] for i in rows])
        teacher = targets[rows]
        loss = 5 * (1 - (student * teacher).sum(1)).mean()
        wanted = F.softmax(teacher @ teacher.T / _TEMPERATURE, dim=1)
        loss = loss + F.kl_div(F.log_softmax(student @ student.T / _TEMPERATURE, dim=1), wanted, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return F.normalize(vectors.detach(), dim=-1), scores.detach()


def _pool(vectors: torch.Tensor, scores: torch.Tensor, texts: list[list[int]]) -> torch.Tensor:
    flat = torch.tensor([i for ids in texts for i in ids])
    starts = torch.tensor([0, *(len(ids) for ids in texts[:-1])]).cumsum(0)
    weighted = F.normalize(vectors, dim=-1) * scores.clamp(-3, 3).exp()[:, None]
    return F.normalize(F.embedding_bag(flat, weighted, starts, mode="sum"), dim=-1)
