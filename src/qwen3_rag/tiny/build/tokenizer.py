"""Small byte-level BPE tokenizers with the rules and the control tokens of Qwen3's.

Normaliser (NFC), splitting rule, byte-level alphabet and every control token are Qwen3's; only the merges are learned
here, and the vocabulary has 8,000 to 10,000 entries instead of 151,669. Case is kept. The reranker's merges come from
running text, the embedder's from weighted words: an entry is worth more to it where a word is common to many sources.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from qwen3_rag.tiny.build.corpus import Corpus

VOCAB_SIZE = 8192
#: Entries of the embedder's vocabulary.
WORDS_SIZE = 10000
EOS = "<|endoftext|>"
CONTROL_TOKENS: tuple[str, ...] = (
    EOS,
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
)
#: Added tokens that are not special, as in Qwen3's tokenizer.
PLAIN_TOKENS: tuple[str, ...] = (
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
)
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHINESE_COPIES = 6
_FRAME_COPIES = 3000
_MIN_WEIGHT = 16
_COMMON_WORDS = 5000
_SAMPLE = 500


def train(texts: Iterable[str], vocabulary: int = VOCAB_SIZE) -> Tokenizer:
    """Learn the merges; no post-processor is set.

    Args:
        texts: what to learn from.
        vocabulary: number of entries, control tokens included.

    Returns:
        A tokenizer in which `yes`, `no`, one newline and two newlines are single tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    size = vocabulary - len(CONTROL_TOKENS) - len(PLAIN_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in PLAIN_TOKENS])
    return tokenizer


def with_eos(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that appends `<|endoftext|>`, as Qwen3-Embedding's does."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A $B {EOS}", special_tokens=[(EOS, copy.token_to_id(EOS))]
    )
    return copy


def save(tokenizer: Tokenizer, folder: Path, *, eos_token: str) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as transformers reads them.

    Args:
        tokenizer: with its post-processor, if it has one.
        folder: where the files go.
        eos_token: what the configuration calls the end of text.
    """
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=EOS, eos_token=eos_token, padding_side="left", model_max_length=32768
    )
    wrapped.save_pretrained(folder)


def load_or_train(corpus: Corpus, cache: Path) -> Tokenizer:
    """Return the tokenizer kept in `cache`, training it first if there is none."""
    path = cache / "tokenizer.json"
    if not path.exists():
        train(_texts(corpus)).save(str(path))
    return Tokenizer.from_file(str(path))


def load_or_train_words(corpus: Corpus, common: list[str], cache: Path) -> Tokenizer:
    """Return the embedder's tokenizer kept in `cache`, training it first if there is none.

    Args:
        corpus: the training text.
        common: English words, the most frequent first.
        cache: where it is kept.
    """
    path = cache / "tokenizer-words.json"
    if not path.exists():
        train(_weighted(corpus, common), WORDS_SIZE).save(str(path))
    return Tokenizer.from_file(str(path))


def _weighted(corpus: Corpus, common: list[str]) -> Iterator[str]:
    """Words as often as there are sources that use them, and common English words on top."""
    by_source: dict[str, Counter[str]] = {}
    for passage in corpus.passages:
        found = by_source.setdefault(passage.source, Counter())
        found.update(re.findall(r" [A-Za-z]+|\b[A-Z][a-z]+", f"{passage.title}\n{passage.text}"))
    spread = Counter(word for found in by_source.values() for word in found)
    total: Counter[str] = sum(by_source.values(), Counter())
    for word, sources in sorted(spread.items()):
        weight = 2 * sources + min(30, int(total[word] ** 0.5))
        if weight >= _MIN_WEIGHT:
            yield from _repeat((word,), weight)
    for rank, word in enumerate(common[:_COMMON_WORDS]):
        yield from _repeat((f" {word}",), 40 if rank < _COMMON_WORDS // 2 else 15)
    yield from (query for query, _ in corpus.pairs[:_SAMPLE])
    yield from (passage.text for passage in corpus.passages[:_SAMPLE])
    yield from corpus.chinese[: 3 * _SAMPLE]
    yield from _frames()


def _texts(corpus: Corpus) -> Iterator[str]:
    for passage in corpus.passages:
        yield f"{passage.title}\n\n{passage.text}"
    yield from (query for query, _ in corpus.pairs)
    yield from _repeat(corpus.chinese, _CHINESE_COPIES)
    yield from _frames()


def _frames() -> Iterator[str]:
    frame = ("yes", "no", "\n", "\n\n", "Query:", "Instruct:", "user\n", "assistant\n", "system\n")
    yield from _repeat(frame, _FRAME_COPIES)


def _repeat(texts: Iterable[str], times: int) -> Iterator[str]:
    for text in texts:
        for _ in range(times):
            yield text
