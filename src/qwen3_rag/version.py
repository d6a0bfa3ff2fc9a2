"""Which version of this package is installed."""

from __future__ import annotations


def package_version() -> str:
    """Returns the version in the package's metadata, or `"0+unknown"` for a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes longer to import than the package itself

    try:
        return version("qwen3-rag")
    except PackageNotFoundError:
        return "0+unknown"
