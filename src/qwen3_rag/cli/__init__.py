"""The command `qwen3-rag`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments after the command's name; those of the process by default.

    Returns:
        The exit status: 0, 1 for an error (told in one line on standard error), 2 for wrong usage.
    """
    try:
        from qwen3_rag.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.stderr.write(
            f"qwen3-rag: {error.name.partition('.')[0]!r} is not installed: pip install 'qwen3-rag[cli]'\n"
        )
        return 1
    return run(sys.argv[1:] if argv is None else argv)
