"""A tiny chat model of the Qwen3 architecture that knows one thing by heart: to think, and then to answer.

Whatever it is asked, it says `<think>`, THOUGHT, `</think>` and AFTER_THINKING. With an empty block in the prompt, which is
how Qwen3's template switches thinking off, it says AT_ONCE. So a test knows every character that a real server, which
loads, runs and parses it like any other Qwen3, has to send.
"""

from __future__ import annotations

import copy
import random
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tests.qwen_models import ADDED, PATTERN, SPECIAL

THOUGHT: Final = "A short question: 答案 is “ja”, no more."
AFTER_THINKING: Final = "Yes, after a thought: 可以。"
AT_ONCE: Final = "No need to think — ça va."

# As the hybrids' own: earlier turns are shown without what was thought, and an empty block stands for "don't think".
HYBRID: Final = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""
# As from Thinking-2507 on: the prompt opens the block.
OPENING: Final = HYBRID.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")

# With this in the tokenizer a server passes all that the model says on as content, tags and all; without, it parses.
UNPARSED: Final[Mapping[str, Any]] = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": r"<\|im_start\|>assistant\n(?:<think>\n(?:\n</think>\n\n)?)?",
    "fields": {"content": {"content": "text", "close": "<|im_end|>"}},
}

_LETTERS: Final = string.printable + "äöüßéñçø你好世界什么是向量数据库のです한국"
_STEPS: Final = 200
_BATCH: Final = 8
_LEARNT: Final = 0.003  # mean loss in nats per token; every token is then far likelier than all others together


@cache
def make_tokenizer() -> PreTrainedTokenizerFast:
    """Qwen's way to split text and its control tokens, over a few dozen merges."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    # Other characters stay bytes, so that a server has to put them together from several tokens.
    lines = [line.encode("ascii", "ignore").decode() for line in (THOUGHT, AFTER_THINKING, AT_ONCE)]
    made.train_from_iterator([*lines, "system user assistant\n\n\n"], trainer)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    made.add_tokens([AddedToken(token, normalized=False) for token in ADDED])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=32_768,
        chat_template=HYBRID,
    )


def train(seed: int = 0) -> Qwen3ForCausalLM:
    """Trains the model, in a few seconds; the same seed gives the same model, and torch is left as it was."""
    tokenizer, chance = make_tokenizer(), random.Random(seed)
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    conversations = _conversations(tokenizer, chance)
    with _one_seeded_thread(seed):
        model = Qwen3ForCausalLM(_config(len(tokenizer), end, pad))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
        for _ in range(_STEPS):
            ids, labels = _batch([next(conversations) for _ in range(_BATCH)], pad)
            loss = model(input_ids=ids, labels=labels).loss
            if loss.item() < _LEARNT:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        else:
            raise AssertionError(f"the model has not learnt its lines in {_STEPS} steps: the loss is {loss.item():.4f}")
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=[end, pad], pad_token_id=pad)
    return model.eval()


def save(model: Qwen3ForCausalLM, folder: Path, *, template: str = HYBRID, parsed: bool = True) -> None:
    """Writes model and tokenizer as a server loads them."""
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer.chat_template = template
    if not parsed:
        tokenizer.response_template = dict(UNPARSED)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _config(vocabulary: int, end: int, pad: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=32_768,
        # It looks back a few tokens only: enough to know its lines, and no prompt, however long, can distract it.
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=0,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        eos_token_id=end,
        bos_token_id=pad,
        pad_token_id=pad,
    )


@contextmanager
def _one_seeded_thread(seed: int) -> Iterator[None]:
    """More threads than one only wait for each other in a model of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _conversations(tokenizer: PreTrainedTokenizerFast, chance: random.Random) -> Iterator[tuple[list[int], int]]:
    """Yields random conversations, as token ids and the length of the prompt, in both modes by turns."""

    def noise() -> str:
        return "".join(chance.choices(_LETTERS, k=chance.randint(1, 40)))

    while True:
        for thinks in (True, False):
            messages = [{"role": "system", "content": noise()}] if chance.random() < 0.3 else []
            for _ in range(chance.choice((0, 0, 1, 2))):
                said = chance.choice((AFTER_THINKING, AT_ONCE, noise()))
                messages += [{"role": "user", "content": noise()}, {"role": "assistant", "content": said}]
            messages.append({"role": "user", "content": noise()})
            prompt = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, enable_thinking=thinks, tokenize=False
            )
            line = f"<think>\n{THOUGHT}\n</think>\n\n{AFTER_THINKING}" if thinks else AT_ONCE
            head, tail = (tokenizer.encode(text, add_special_tokens=False) for text in (prompt, f"{line}<|im_end|>"))
            yield [*head, *tail], len(head)


def _batch(rows: list[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads on the right, where causal attention does not look; only what the model says is to be learnt."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids, _ in rows])
    labels = torch.tensor([[*[-100] * n, *ids[n:], *[-100] * (width - len(ids))] for ids, n in rows])
    return ids, labels
