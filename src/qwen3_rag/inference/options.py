"""Which model, from where, on what: validated at construction, without a file or the network being touched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qwen3_rag.errors import ConfigurationError, missing_dependency

TINY = "tiny"
"""Name of the bundled models."""

_DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Everything that decides which weights lie where in memory.

    Attributes:
        model: The name as the user gave it.
        source: What transformers loads: a hub name or a folder.
        revision: Branch, tag or commit on the hub.
        cache_folder: Where the hub's files are kept; `None` is the hub's default.
        local_files_only: Never ask the hub.
        device: A PyTorch device or `"auto"`.
        dtype: `"auto"`, `"float32"`, `"float16"` or `"bfloat16"`.
    """

    model: str
    source: str
    revision: str | None
    cache_folder: str | None
    local_files_only: bool
    device: str
    dtype: str

    @classmethod
    def create(
        cls,
        model: str | os.PathLike[str],
        *,
        tiny: str,
        revision: str | None,
        cache_folder: str | os.PathLike[str] | None,
        local_files_only: bool,
        device: str,
        dtype: str,
    ) -> ModelOptions:
        """Validates and stores.

        Args:
            model: A hub name, a folder, or `"tiny"`.
            tiny: Which bundled model `"tiny"` is: `"embedder"` or `"reranker"`.
            revision: Branch, tag or commit on the hub.
            cache_folder: Where the hub's files are kept.
            local_files_only: Never ask the hub.
            device: A PyTorch device or `"auto"`.
            dtype: One of the four names.

        Raises:
            ConfigurationError: If a value can't work.
            MissingDependencyError: If torch or transformers is not installed.
        """
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise missing_dependency(package, "local")
        if dtype not in _DTYPES:
            raise ConfigurationError(f"dtype must be one of {', '.join(map(repr, _DTYPES))}, got {dtype!r}")
        name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else ""
        if not name.strip():
            raise ConfigurationError(f"model must be a hub name, a folder or 'tiny', got {model!r}")
        source = name
        if name == TINY:
            source, local_files_only = str(files("qwen3_rag").joinpath(TINY, tiny)), True
        elif (folder := _path(name)).is_dir():
            source = str(folder.resolve())
        cache = None if cache_folder is None else str(_path(cache_folder))
        return cls(name, source, revision, cache, local_files_only, str(device), dtype)

    @property
    def identity(self) -> str:
        """What names the weights: part of every cache key."""
        name = self.model if self.model == TINY else self.source
        return f"{name}@{self.revision}" if self.revision else name

    def hub_arguments(self) -> dict[str, Any]:
        """Keyword arguments for transformers' `from_pretrained`. Remote code is never needed, so never trusted."""
        return {
            "revision": self.revision or "main",
            "cache_dir": self.cache_folder,
            "local_files_only": self.local_files_only,
        }


def _path(name: str | os.PathLike[str]) -> Path:
    """Returns a path, `~` resolved, that the file system can be asked about.

    Raises:
        ConfigurationError: If it can't: there is no such user, or the name is too long.
    """
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(f"{os.fspath(name)!r} can't be looked up on this machine: {error}") from error
    return path
