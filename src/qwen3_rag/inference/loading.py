"""Tokenizer and weights, once per process, checked before they are believed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from qwen3_rag.errors import ModelCheckError, ModelNotFoundError
from qwen3_rag.inference.device import resolve_device, resolve_dtype
from qwen3_rag.inference.options import ModelOptions
from qwen3_rag.inference.tokens import PromptTokenizer
from qwen3_rag.prompts import RERANK_NO, RERANK_YES


@dataclass(eq=False, weakref_slot=True, slots=True)
class LoadedModel:
    """A decoder in evaluation mode with its tokenizer.

    Attributes:
        name: What the user called it.
        decoder: A `transformers.Qwen3Model`.
        tokenizer: The tokenizer for user text and control text.
        answers: Rows of the language-model head for `yes` and `no`, `(2, hidden_size)` float32; rerankers only.
        lock: Held during a forward pass: one at a time per model.
    """

    name: str
    decoder: Any
    tokenizer: PromptTokenizer
    answers: Tensor | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.embed_tokens.weight.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """What they are computed in."""
        return self.decoder.embed_tokens.weight.dtype  # type: ignore[no-any-return]


_NAMED = 3
"""How many missing weights an error names."""

_loaded: WeakValueDictionary[tuple[Any, ...], LoadedModel] = WeakValueDictionary()
_loading = threading.Lock()


def load(options: ModelOptions, *, reranker: bool) -> LoadedModel:
    """Loads a model, or returns the one that this process holds already under the same options.

    Raises:
        ModelNotFoundError: If the files are nowhere to be had.
        ModelCheckError: If they are not what they were taken for.
    """
    key = (options, reranker)
    with _loading:
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = _load(options, reranker=reranker)
    return found


def _load(options: ModelOptions, *, reranker: bool) -> LoadedModel:
    from transformers import AutoTokenizer, Qwen3ForCausalLM, Qwen3Model

    config = _config(options)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device, config.hidden_size)
    _check_kind(options, reranker=reranker)
    source, where = options.source, options.hub_arguments()
    kind: Any = Qwen3ForCausalLM if reranker else Qwen3Model
    with _reading(options):
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        model, info = kind.from_pretrained(source, config=config, dtype=dtype, output_loading_info=True, **where)
    if missing := sorted(info["missing_keys"]):
        raise ModelCheckError(
            f"{options.model!r} lacks the weights {', '.join(missing[:_NAMED])}{' …' if len(missing) > _NAMED else ''}: they "
            f"would be random, so it can't be used as {'a reranker' if reranker else 'an embedding model'}"
        )
    model = model.eval().requires_grad_(False).to(device)
    prompts = PromptTokenizer(tokenizer, options.model)
    if not reranker:
        return LoadedModel(options.model, model, prompts)
    ids = [prompts.token_id(RERANK_YES), prompts.token_id(RERANK_NO)]
    return LoadedModel(options.model, model.model, prompts, model.lm_head.weight[ids].float())


def _config(options: ModelOptions) -> Any:
    from transformers import AutoConfig

    with _reading(options):
        config = AutoConfig.from_pretrained(options.source, **options.hub_arguments())
    check_config(config, options.model)
    return config


def check_config(config: Any, name: str) -> None:
    """Checks that a decoder is one that the packed forward pass computes exactly.

    Raises:
        ModelCheckError: If it is not the Qwen3 architecture with full attention in every layer.
    """
    if config.model_type != "qwen3":
        raise ModelCheckError(f"{name!r} is a {config.model_type!r} model, this package runs 'qwen3' ones")
    if set(config.layer_types) != {"full_attention"}:
        raise ModelCheckError(
            f"{name!r} has layers {sorted(set(config.layer_types))}: only full attention is supported"
        )


@contextmanager
def _reading(options: ModelOptions) -> Iterator[None]:
    """Says what is wrong with the files, whichever library reads them."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFoundError(
            f"can't load {options.model!r}: {reason} Give a folder with the model, a name in the cache or on the hub, or "
            "'tiny' for the bundled model that needs neither."
        ) from error
    except (ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # Damaged weights, tokenizers and configurations have no error in common: SafetensorError, KeyError, RuntimeError, …
        raise _damaged(options, str(error) or type(error).__name__) from error


def _damaged(options: ModelOptions, reason: str) -> ModelCheckError:
    return ModelCheckError(
        f"can't load {options.model!r}: {reason}; its files are damaged or don't belong together: download them again"
    )


def read_json(options: ModelOptions, name: str) -> Any:
    """Returns a JSON file that lies beside the weights, or `None` where there is none.

    Raises:
        ModelNotFoundError: If the hub does not take the model's name.
        ModelCheckError: If the file is no JSON.
    """
    from transformers.utils.hub import cached_file

    with _reading(options):
        found = cached_file(
            options.source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
            **options.hub_arguments(),
        )
    try:
        return None if found is None else json.loads(Path(found).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(options, f"{name} is no JSON: {error}") from error


def _check_kind(options: ModelOptions, *, reranker: bool) -> None:
    """An embedding model loads as a reranker without a word, as its head is tied; the saved module list tells."""
    saved = read_json(options, "modules.json")
    listed = [m for m in saved if isinstance(m, dict)] if isinstance(saved, list) else []
    modules = [str(m.get("type", "")).rsplit(".", 1)[-1] for m in listed]
    if reranker and "Pooling" in modules:
        raise ModelCheckError(
            f"{options.model!r} is an embedding model: give a reranker such as 'Qwen/Qwen3-Reranker-0.6B'"
        )
    if not reranker and "LogitScore" in modules:
        raise ModelCheckError(
            f"{options.model!r} is a reranker: give an embedding model such as 'Qwen/Qwen3-Embedding-0.6B'"
        )
    if not reranker and "Dense" in modules:
        raise ModelCheckError(f"{options.model!r} has a Dense layer after pooling, which Qwen3-Embedding has not")
