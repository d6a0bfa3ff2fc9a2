"""What sentence-transformers saved or holds: a model in memory, and the query prompt beside the weights."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from qwen3_rag.errors import ConfigurationError, ModelCheckError
from qwen3_rag.inference.loading import LoadedModel, check_config, read_json
from qwen3_rag.inference.options import ModelOptions
from qwen3_rag.inference.tokens import PromptTokenizer

_START, _END = "Instruct: ", "\nQuery:"

_given: WeakKeyDictionary[Any, LoadedModel] = WeakKeyDictionary()


def given_model(model: Any) -> LoadedModel:
    """Takes weights and tokenizer of a loaded `SentenceTransformer`, which is not changed.

    Raises:
        ConfigurationError: If it is no `SentenceTransformer`.
        ModelCheckError: If it is not built as Qwen3-Embedding is: a Qwen3 decoder, last-token pooling, no Dense layer.
    """
    theirs = any(kind.__module__.startswith("sentence_transformers") for kind in type(model).__mro__)
    if not theirs or not hasattr(model, "encode"):
        raise ConfigurationError(
            f"model must be a hub name, a folder, 'tiny' or a SentenceTransformer, got {type(model).__name__}"
        )
    if model not in _given:
        first, *rest = model
        decoder = getattr(first, "auto_model", None)
        if decoder is None:
            raise ModelCheckError(
                f"a SentenceTransformer that begins with {type(first).__name__} is no Qwen3-Embedding: that is a Transformer"
            )
        name = str(getattr(decoder.config, "_name_or_path", "") or "sentence-transformers model")
        check_config(decoder.config, name)
        pooling = [m for m in rest if type(m).__name__ == "Pooling"]
        extra = [type(m).__name__ for m in rest if type(m).__name__ not in ("Pooling", "Normalize")]
        modes = [getattr(m, "pooling_mode", None) for m in pooling]
        if extra or not modes or not all(_is_last_token(mode) for mode in modes):
            raise ModelCheckError(
                f"{name!r} pools by {modes} and has {extra}: Qwen3-Embedding takes the last token only"
            )
        _given[model] = LoadedModel(name, decoder, PromptTokenizer(model.tokenizer, name))
    return _given[model]


def check_no_place(**options: Any) -> None:
    """Checks that nothing is asked that a model in memory has settled already.

    Raises:
        ConfigurationError: If an option is not `None`.
    """
    if given := [name for name, value in options.items() if value is not None]:
        raise ConfigurationError(
            f"the SentenceTransformer is loaded already, so {', '.join(map(repr, given))} can't be set: set it where it is made"
        )


def _is_last_token(mode: Any) -> bool:
    modes = (mode,) if isinstance(mode, str) else tuple(mode or ())
    return modes == ("lasttoken",)


def given_prompt(model: Any) -> str | None:
    """Returns the query instruction of a loaded `SentenceTransformer`, or `None` where it has none."""
    return parse_instruction((getattr(model, "prompts", None) or {}).get("query"), "the SentenceTransformer")


def saved_instruction(options: ModelOptions) -> str | None:
    """Returns the query instruction saved beside the weights, or `None` where there is none."""
    saved = read_json(options, "config_sentence_transformers.json")
    prompts = saved.get("prompts") if isinstance(saved, dict) else None
    return parse_instruction(prompts.get("query") if isinstance(prompts, dict) else None, options.model)


def parse_instruction(prompt: Any, name: str) -> str | None:
    """Reads the instruction out of a saved query prompt.

    Raises:
        ModelCheckError: If there is a prompt of another form: leaving it out would be silently wrong.
    """
    if not prompt:
        return None
    if isinstance(prompt, str) and prompt.startswith(_START) and prompt.endswith(_END):
        return prompt[len(_START) : -len(_END)]
    raise ModelCheckError(
        f"{name!r} was saved with the query prompt {prompt!r}, not 'Instruct: …\\nQuery:': give instruction= to say what to use"
    )
