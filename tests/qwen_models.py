"""Random-weight models of the real architecture, with the real vocabulary, and the official computation as a reference.

The vocabulary is the file `qwen.tiktoken` that the `dashscope` wheel carries (Apache-2.0). The reference follows
QwenLM/Qwen3-Embedding's examples step by step: pad on the left, run transformers' model, take the last position.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
ADDED = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
CHAT_TEMPLATE = (
    "{%- set ns = namespace(i='" + WEB_SEARCH + "', q='', d='') -%}{%- for m in messages -%}"
    "{%- if m.role == 'system' -%}{%- set ns.i = m.content -%}{%- elif m.role == 'query' -%}{%- set ns.q = m.content -%}"
    "{%- elif m.role == 'document' -%}{%- set ns.d = m.content -%}{%- endif -%}{%- endfor -%}"
    + "{{- '" + PREFIX.replace("\n", "\\n") + "<Instruct>: ' + ns.i + '\\n<Query>: ' + ns.q + '\\n<Document>: ' + ns.d + '"
    + SUFFIX.replace("\n", "\\n") + "' -}}"
)  # fmt: skip


def vocabulary_file() -> Path:
    """The real vocabulary; skips where the wheel that carries it is not installed."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the real vocabulary needs: pip install --no-deps dashscope")
    return Path(spec.submodule_search_locations[0], "resources", "qwen.tiktoken")


@cache
def real_tokenizer_json() -> str:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    vocab, merges = TikTokenConverter(str(vocabulary_file())).extract_vocab_merges_from_model(str(vocabulary_file()))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ADDED])
    return tokenizer.to_str()


def real_tokenizer(*, eos: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer.from_str(real_tokenizer_json())
    if eos:
        end = tokenizer.token_to_id("<|endoftext|>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=131072,
        chat_template=None if eos else CHAT_TEMPLATE,
    )


def make_model(folder: Path, kind: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **shape: Any) -> Path:
    """Writes a random `embedder` or `reranker` in the hub's layout (the sentence-transformers files too)."""
    tokenizer = real_tokenizer(eos=kind == "embedder")
    defaults: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    }
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        **(defaults | shape),
    )
    torch.manual_seed(seed)
    auto = AutoModel if kind == "embedder" else AutoModelForCausalLM
    model = auto.from_config(config)
    for name, weight in model.named_parameters():  # the default init of 0.02 makes nearly equal states: spread them
        if weight.ndim > 1 and "embed" not in name:
            weight.data.mul_(4 if config.hidden_size < 256 else 1)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kind == "embedder":
        _write_embedder_files(folder, config.hidden_size)
    return folder


def _write_embedder_files(folder: Path, width: int) -> None:
    module = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{module}Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}Normalize"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    prompts = {"query": f"Instruct: {WEB_SEARCH}\nQuery:", "document": ""}
    saved = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    pooling = folder / "1_Pooling"
    pooling.mkdir(exist_ok=True)
    config = {"word_embedding_dimension": width, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
    (pooling / "config.json").write_text(json.dumps(config | {"include_prompt": True}))


@cache
class OfficialEmbedder:
    """The official sample: tokenizer with EOS, left padding, last position, L2."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, max_length: int = 8192) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModel.from_pretrained(folder, dtype=dtype).eval()
        self.max_length = max_length

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return F.normalize(self.model(**batch).last_hidden_state[:, -1].float(), dim=1)

    @torch.no_grad()
    def embed_ids(self, ids: Sequence[int]) -> torch.Tensor:
        return F.normalize(self.model(torch.tensor([list(ids)])).last_hidden_state[:, -1].float(), dim=1)[0]


@cache
class OfficialReranker:
    """The official sample: frame around the tokenised pair, left padding, full logits, softmax over no and yes."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, max_length: int = 8192) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.prefix = self.tokenizer.encode(PREFIX, add_special_tokens=False)
        self.suffix = self.tokenizer.encode(SUFFIX, add_special_tokens=False)
        self.yes, self.no = self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        self.max_length = max_length

    def frame(self, ids: Sequence[int]) -> list[int]:
        return [*self.prefix, *ids, *self.suffix]

    def score(self, query: str, documents: Sequence[str], instruction: str = WEB_SEARCH) -> tuple[Any, Any]:
        bodies = [f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {d}" for d in documents]
        room = self.max_length - len(self.prefix) - len(self.suffix)
        ids = self.tokenizer(bodies, truncation="longest_first", max_length=room)["input_ids"]
        return self.score_ids([self.frame(row) for row in ids])

    @torch.no_grad()
    def score_ids(self, rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        batch = self.tokenizer.pad({"input_ids": [list(r) for r in rows]}, padding=True, return_tensors="pt")
        # The sample computes every position and takes the last; keeping only that one is the same number.
        last = self.model(**batch, logits_to_keep=1).logits[:, -1].float()
        pair = torch.stack([last[:, self.no], last[:, self.yes]], dim=1)
        return pair.softmax(1)[:, 1].numpy(), (pair[:, 1] - pair[:, 0]).numpy()
