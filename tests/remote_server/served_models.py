"""The bundled tiny models in the form that servers on transformers 4 read: for real servers in an environment of their own."""

from __future__ import annotations

import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file


def save_embedder(folder: Path) -> Path:
    """A copy of the embedder."""
    _copy("embedder", folder)
    _edit_config(folder, {})
    return folder


def save_classifier(folder: Path) -> Path:
    """The reranker as a classifier with one label, whose row is that of `yes` less that of `no`.

    Source of the conversion: https://huggingface.co/Qwen/Qwen3-Reranker-0.6B/discussions/3
    """
    _copy("reranker", folder)
    weights = load_file(folder / "model.safetensors")
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).float()
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    score = (head[vocabulary["yes"]] - head[vocabulary["no"]])[None]
    body = {name: tensor.float() for name, tensor in weights.items() if name != "lm_head.weight"}
    save_file({**body, "score.weight": score.contiguous()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "generation_config.json").unlink(missing_ok=True)
    labels = {"id2label": {"0": "yes"}, "label2id": {"yes": 0}, "num_labels": 1}
    _edit_config(folder, {"architectures": ["Qwen3ForSequenceClassification"], **labels})
    return folder


def _copy(kind: str, folder: Path) -> None:
    with as_file(files("qwen3_rag").joinpath("tiny", kind)) as source:
        shutil.copytree(source, folder)


def _edit_config(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    theta = config["rope_parameters"]["rope_theta"]  # where transformers 5 has it; 4 looks for it at the top
    path.write_text(
        json.dumps({**config, "rope_theta": theta, "torch_dtype": "float32", "dtype": "float32", **changes})
    )
    path = folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**tokenizer, "tokenizer_class": "PreTrainedTokenizerFast"}))
