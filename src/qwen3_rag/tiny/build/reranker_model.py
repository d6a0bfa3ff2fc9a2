"""The reranker's network: a Qwen3 of three layers whose first weights are written by hand.

Trained from random weights, a cross-encoder of this size learns little in the minutes that a build may take. So it
starts as something that works already, a bi-encoder inside a cross-encoder, and training only improves it:

- Layer 1 marks the segments. One head looks for the token `Query` of `<Query>:`, another for `Document` of
  `<Document>:`; whoever sees the marker gets a flag, whoever doesn't looks at the first token and gets nothing.
- Layer 2 matches. Every token of the document looks for the most similar token of the query, or at the first token if
  there is none, and notes how much the match weighs.
- Layer 3 works at the last token. One head averages the document's tokens by importance into slice A, another the
  query's into slice B, a third collects the matches. The SwiGLU multiplies A and B exactly, dimension by dimension,
  because silu(x) - silu(-x) = x, and adds the products up in one direction, in which the rows of "yes" and "no" differ.

The hand-written heads use dimensions that RoPE hardly turns. Around them all weights are small and random.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import Qwen3Config, Qwen3ForCausalLM

WIDTH = 184
HEAD = 92
HEADS = 4
SLICE = 84
#: Directions of the hidden state after the slices A and B.
BIAS, MARK_D, MARK_Q, FIRST, FLAG_D, FLAG_Q, IMPORTANCE, WEIGHT, MATCH, OUT = range(2 * SLICE, 2 * SLICE + 10)
_HALF = HEAD // 2
_CALM = 20  # RoPE turns the dimensions 20 to 45 and 66 to 91 of a head by less than 1.3 in 500 positions
_SLOT = 34  # and those from 34 and 80 by less than 0.02
_NOISE = 0.0002


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Tokens that the construction treats apart.

    Attributes:
        document: `Document`, as `<Document>:` has it.
        query: `Query`, as `<Query>:` has it.
        first: `<|im_start|>`, the first token of all.
        yes: the positive answer.
        no: the negative answer.
        silent: tokens of the frame, which carry no content.
    """

    document: int
    query: int
    first: int
    yes: int
    no: int
    silent: tuple[int, ...]


def configuration(vocabulary: int, layers: int = 3, inner: int = 208) -> Qwen3Config:
    """The configuration: Qwen3 in small."""
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=HEAD,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        use_cache=True,
    )


def construct(content: torch.Tensor, identity: torch.Tensor, weight: torch.Tensor, ids: SpecialIds) -> Qwen3ForCausalLM:
    """Write the first weights.

    Args:
        content: (vocabulary, 84) unit rows in the space of the teacher's sentences.
        identity: (vocabulary, 84) unit rows that tell similar tokens apart.
        weight: (vocabulary,) how much a token counts in a bag of tokens, 1 on average.
        ids: tokens that are treated apart.
    """
    model = Qwen3ForCausalLM(configuration(len(content)))
    with torch.no_grad():
        for layer in model.model.layers:
            for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                linear.weight.normal_(0, 0.05)
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.gate_proj.weight.normal_(0, 0.05)
            layer.mlp.up_proj.weight.normal_(0, 0.05)
            layer.mlp.down_proj.weight.zero_()
        _table(model.model.embed_tokens.weight, content, identity, weight, ids)
        first, *_, last = model.model.layers
        _mark_segments(first.self_attn)
        _match(model.model.layers[-2].self_attn)
        _pool(last.self_attn)
        _multiply(last.mlp)
    return model


def _table(
    table: torch.Tensor, content: torch.Tensor, identity: torch.Tensor, weight: torch.Tensor, ids: SpecialIds
) -> None:
    table.normal_(0, 0.005)
    table[:, :SLICE] = content
    table[:, SLICE : 2 * SLICE] = 0.7 * identity
    table[:, BIAS] = 1
    table[:, MARK_D : OUT + 1] = 0
    table[:, IMPORTANCE] = 0.3 * weight.clamp(min=0.05).log()
    table[:, WEIGHT] = 0.3 * weight.clamp(max=3)
    for token in (*ids.silent, ids.document, ids.query, ids.first):
        table[token, : 2 * SLICE] = 0
        table[token, IMPORTANCE] = -1.0
        table[token, WEIGHT] = 0
    table[ids.document, MARK_D] = table[ids.query, MARK_Q] = table[ids.first, FIRST] = 1
    table[ids.yes, OUT], table[ids.no, OUT] = 0.5, -0.5
    table[ids.yes, BIAS], table[ids.no, BIAS] = 0.5, 1.5


def _clear(attention: torch.nn.Module, heads: int) -> None:
    """Make the first heads nearly zero, to be written to."""
    attention.get_submodule("q_proj").weight[: heads * HEAD].normal_(0, _NOISE)
    attention.get_submodule("o_proj").weight[:, : heads * HEAD] = 0


def _weights(attention: torch.nn.Module) -> list[torch.Tensor]:
    return [attention.get_parameter(f"{name}_proj.weight") for name in "qkvo"]


def _mark_segments(attention: torch.nn.Module) -> None:
    _clear(attention, 2)
    q, k, v, o = _weights(attention)
    attention.get_parameter("q_norm.weight")[_SLOT:_HALF] = 2.5
    k[_SLOT:_HALF].normal_(0, _NOISE)
    for slot, source, size in ((0, BIAS, 0.3), (1, MARK_D, 1.5), (2, MARK_Q, 1.5), (3, FIRST, 1.5)):
        k[_SLOT + slot, source] = size
    v[1:3].normal_(0, _NOISE)
    v[1, MARK_D] = v[2, MARK_Q] = 1 / 9
    for head, slot, flag in ((0, 1, FLAG_D), (1, 2, FLAG_Q)):
        q[head * HEAD + _SLOT + slot, BIAS] = 1.0
        q[head * HEAD + _SLOT + 3, BIAS] = 0.6
        o[flag, head * HEAD + slot] = 1.0


def _match(attention: torch.nn.Module) -> None:
    _clear(attention, 1)
    q, k, v, o = _weights(attention)
    scale = attention.get_parameter("q_norm.weight")
    scale[_CALM:_HALF] = scale[_HALF + _CALM :] = 4.0
    dims = [*range(_CALM, _SLOT), *range(_HALF + _CALM, _HALF + _SLOT)]
    spread = torch.linalg.qr(torch.randn(2 * SLICE, len(dims)))[0].T * (2 * SLICE / len(dims)) ** 0.5 * 0.8
    k[_SLOT:_HALF].normal_(0, _NOISE)
    k[dims] = 0
    for row, dim in enumerate(dims):
        q[dim, : 2 * SLICE] = k[dim, : 2 * SLICE] = spread[row]
    q[_SLOT, BIAS] = 1.0
    q[_SLOT + 1, BIAS] = 1.1
    k[_SLOT, FLAG_Q], k[_SLOT, FLAG_D] = 1.0, -2.0
    k[_SLOT + 1, FIRST] = 1.0
    v[0].normal_(0, _NOISE)
    v[0, WEIGHT] = 0.4
    o[MATCH, 0] = 1.0


def _pool(attention: torch.nn.Module) -> None:
    _clear(attention, 4)
    q, k, v, o = _weights(attention)
    attention.get_parameter("q_norm.weight")[_SLOT:_HALF] = 4.0
    k.normal_(0, _NOISE)
    v.normal_(0, _NOISE)
    sources = ((BIAS, 1.0), (FLAG_D, 0.7), (FLAG_Q, 0.7), (IMPORTANCE, 0.25), (MATCH, 0.3))
    for slot, (source, size) in enumerate(sources):
        k[_SLOT + slot, source] = size
    wanted = ((1.6, 0.0, 1.0, 0.0), (-2.0, 1.6, 1.0, 0.0), (1.6, 0.0, 1.0, 0.0), (1.6, 0.0, 0.0, 0.2))
    for head, sizes in enumerate(wanted):
        for slot, size in enumerate(sizes, 1):
            q[head * HEAD + _SLOT + slot, BIAS] = size
    for i in range(SLICE):
        v[i, i] = 0.13
        o[i, i] = o[SLICE + i, HEAD + i] = 4.0
    v[SLICE, MATCH] = 0.13
    o[OUT, 2 * HEAD + SLICE] = 2.0


def strengthen(model: Qwen3ForCausalLM) -> None:
    """Let matches count for more: the document's average leans to tokens that match, and the sum of matches grows.

    Distillation makes too little of matching words by itself, since the teacher has no eye for them. The last phase of
    training starts from here.
    """
    q, _, _, o = _weights(model.model.layers[-1].self_attn)
    with torch.no_grad():
        q[_SLOT + 4, BIAS] = 1.5
        o[OUT, 2 * HEAD + SLICE] *= 4.0


def _multiply(mlp: torch.nn.Module) -> None:
    gate, up, down = (mlp.get_submodule(n).weight for n in ("gate_proj", "up_proj", "down_proj"))
    gate[: 2 * SLICE] = up[: 2 * SLICE] = 0
    for sign, start in ((1.0, 0), (-1.0, SLICE)):
        for i in range(SLICE):
            gate[start + i, i] = 0.5 * sign
            up[start + i, SLICE + i] = 0.5 * sign
    down[OUT, : 2 * SLICE] = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    """What a batch of rows gives.

    Attributes:
        logit: (rows,) logit of yes minus logit of no.
        document: (rows, 84) slice A before the last MLP.
        query: (rows, 84) slice B before the last MLP.
    """

    logit: torch.Tensor
    document: torch.Tensor
    query: torch.Tensor


def _norm(x: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), module.weight, 1e-6)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def rows_forward(
    model: Qwen3ForCausalLM, prefix: torch.Tensor, rows: torch.Tensor, last: torch.Tensor, ids: SpecialIds
) -> Result:
    """Run rows that share a prefix, as the model itself would, at a fraction of the cost.

    The prefix is run once, the last layer only at the last token, and of the vocabulary only two rows are used.

    Args:
        model: the student.
        prefix: (tokens,) what all rows begin with.
        rows: (rows, tokens) the rest, padded on the right.
        last: (rows,) index of the last token of each row.
        ids: has the ids of yes and no.
    """
    base = model.model
    n, size = len(prefix), rows.shape[1]
    x, y = base.embed_tokens(prefix[None]), base.embed_tokens(rows)
    cos, sin = base.rotary_emb(x, torch.arange(n + size)[None])
    cos, sin = cos[:, None], sin[:, None]
    mask = torch.ones(size, n + size, dtype=torch.bool).tril(n)
    pick = torch.arange(len(rows))
    for number, layer in enumerate(base.layers):
        final = number == len(base.layers) - 1
        attention = layer.self_attn
        parts = []
        for state, at in ((x, slice(0, n)), (y, slice(n, n + size))):
            h = _norm(state, layer.input_layernorm)
            shape = (*h.shape[:2], -1, HEAD)
            q = _norm(attention.q_proj(h).view(shape), attention.q_norm).transpose(1, 2)
            k = _norm(attention.k_proj(h).view(shape), attention.k_norm).transpose(1, 2)
            v = attention.v_proj(h).view(shape).transpose(1, 2)
            parts.append((_rotate(q, cos[:, :, at], sin[:, :, at]), _rotate(k, cos[:, :, at], sin[:, :, at]), v))
        (qx, kx, vx), (qy, ky, vy) = parts
        k = torch.cat([kx.expand(len(rows), -1, -1, -1), ky], 2).expand(-1, HEADS, -1, -1)
        v = torch.cat([vx.expand(len(rows), -1, -1, -1), vy], 2).expand(-1, HEADS, -1, -1)
        if final:
            qy, y = qy[pick, :, last][:, :, None], y[pick, last][:, None]
            allowed = (torch.arange(n + size)[None] <= (n + last)[:, None])[:, None, None]
            out = F.scaled_dot_product_attention(qy.to(v.dtype), k.to(v.dtype), v, attn_mask=allowed)
        else:
            out = F.scaled_dot_product_attention(qy.to(v.dtype), k.to(v.dtype), v, attn_mask=mask)
            k, v = kx.expand(-1, HEADS, -1, -1), vx.expand(-1, HEADS, -1, -1)
            seen = F.scaled_dot_product_attention(qx.to(v.dtype), k.to(v.dtype), v, is_causal=True)
            x = x + attention.o_proj(seen.transpose(1, 2).flatten(2))
            x = x + layer.mlp(_norm(x, layer.post_attention_layernorm))
        y = y + attention.o_proj(out.transpose(1, 2).flatten(2))
        document, query = y[..., :SLICE], y[..., SLICE : 2 * SLICE]
        y = y + layer.mlp(_norm(y, layer.post_attention_layernorm))
    table = base.embed_tokens.weight
    hidden = _norm(y, base.norm)[:, 0].float()
    return Result(hidden @ (table[ids.yes] - table[ids.no]), document[:, 0].float(), query[:, 0].float())
