"""Builds a tiny model: `python -m qwen3_rag.tiny.build embedder --out DIR`."""

import argparse
from importlib import import_module
from pathlib import Path

_MODELS = ("embedder", "reranker")


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m qwen3_rag.tiny.build", description=__doc__)
    parser.add_argument("model", choices=_MODELS)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--cache", type=Path, default=Path(".tiny-build"), help="folder for downloads and vectors")
    parser.add_argument("--steps", type=int, help="number of optimiser steps, fewer for a trial")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    module = import_module(f"qwen3_rag.tiny.build.{arguments.model}")
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    figures = module.build(arguments.out, arguments.cache, **steps)
    print(f"{arguments.out}: {figures}")


if __name__ == "__main__":
    main()
